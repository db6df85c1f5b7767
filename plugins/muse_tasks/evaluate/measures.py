"""Measures of a tokenizer and of a masked transformer, on real pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from muse_studio.contracts import MASK, Conditioning
from muse_studio.sampling.stage import Stage


def count_codes(tokens: Tensor, codebook_size: int) -> Tensor:
    """int64[B, h, w] to int64[K]: how often each code stands in them."""
    return torch.bincount(tokens.flatten(), minlength=codebook_size)


def usage(counts: Tensor) -> float:
    """The share of codes that occur at all."""
    return (counts > 0).double().mean().item()


def perplexity(counts: Tensor) -> float:
    """exp of the entropy of the codes' frequencies: K where all are equally frequent, 1 where there is but one."""
    share = counts.double() / counts.sum()
    return torch.exp(-torch.special.xlogy(share, share).sum()).item()


@torch.inference_mode()
def predict_masked(
    stage: Stage, tokens: Tensor, conditioning: Conditioning, ratio: float, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Hide a share of each grid and let the transformer say what stood there, without guidance.

    tokens: int64[B, h, w]; noise: float[B, h * w], the smallest of which are hidden, so that a higher ratio hides the
    same places and more. Returns, for the round(ratio * h * w) hidden places (at least one), whether the likeliest
    code is the right one, bool[B, m], and the cross-entropy in nats over all K codes, float32[B, m].
    """
    flat = tokens.flatten(1)
    hidden = noise.argsort(dim=1)[:, : max(1, round(ratio * flat.shape[1]))].to(tokens.device)
    grid = flat.scatter(1, hidden, MASK).view_as(tokens)
    logits = stage.logits(grid, conditioning).flatten(1, 2)
    logits = logits.gather(1, hidden[:, :, None].expand(-1, -1, logits.shape[-1]))
    truth = flat.gather(1, hidden)
    loss = -logits.log_softmax(-1).gather(-1, truth[:, :, None])[:, :, 0]
    return logits.argmax(-1) == truth, loss


@contextmanager
def counting(stages: dict[str, Stage], forwards: dict[str, list[int]]) -> Iterator[None]:
    """Add, by stage, how many forward passes its networks do within: transformer, critic, and what guidance asks.

    A batch is one pass, and so are the two halves of guidance. Of a network that is no torch module nothing is known.
    """
    counts: dict[str, int] = defaultdict(int)

    def count(name: str) -> None:
        counts[name] += 1

    with ExitStack() as hooks:
        for name, stage in stages.items():
            networks = list(stage.models().values())
            modules = [each for each in networks if isinstance(each, nn.Module)]
            if len(modules) == len(networks):
                counts[name] = 0
                for module in {id(each): each for each in modules}.values():
                    hooks.enter_context(module.register_forward_pre_hook(lambda *_, name=name: count(name)))
        yield
    for name, found in counts.items():
        forwards[name].append(found)
