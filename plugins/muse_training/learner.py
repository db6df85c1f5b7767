"""One step of masked-token training, on one device or shared by many processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from muse_studio.contracts import Optimizer, TextEmbedding, Transformer
from muse_studio.nn.lora import KEY
from muse_studio.runtime import device
from muse_studio.runtime.device import put_rows
from muse_studio.sampling.masking import corrupt, corruption, drop_text, keep_text, mask_tokens, predicted_loss
from muse_studio.sampling.stage import Stage
from muse_studio.training.distributed import World
from muse_studio.training.fit import Fit
from muse_studio.training.learner import Learner
from muse_studio.training.parallel import distribute, layers_of, optimizer_step
from muse_training.adapters import LoRA
from muse_training.data.encoder import Encoder, TrainingBatch, collate

BUCKETS = 4
"""Accuracy is logged for so many equal ranges of the share of tokens that are hidden."""


@dataclass(frozen=True)
class Setup:
    """What is trained, and how: the settings of `train` that a step needs, checked.

    stage: whose transformer, or critic, learns; either is an nn.Module. before: the stage whose tokens it refines, None
    for the first.
    """

    fit: Fit
    optimizer: Optimizer
    stage: Stage
    before: Stage | None = None
    text_dropout: float = 0.0
    corruption: float = 0.0
    smoothing: float = 0.0
    adapter: LoRA | None = None


class Objective(nn.Module):
    """A transformer and its loss as one forward pass, which is what processes that share it must call."""

    transformer: Transformer

    def __init__(self, transformer: Transformer, smoothing: float) -> None:
        super().__init__()
        self.transformer, self.smoothing = transformer, smoothing

    def forward(self, tokens: Tensor, hidden: Tensor, text: TextEmbedding, low: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sums of `masked_loss` for int64[B, h, w] of which bool[B, h, w] are hidden."""
        return predicted_loss(self.transformer, tokens, hidden, text, low, self.smoothing)


class TransformerLearner(Learner):
    """One step of masked-token training, as the shared loop wants it.

    All that is drawn by lot is drawn for the whole step in every process, on the host, and each takes its rows. The
    loss is divided by the hidden tokens of the whole step: how many processes share it, and in how many parts they
    work through it, changes nothing.
    """

    def __init__(self, setup: Setup, encoder: Encoder, world: World) -> None:
        self.setup, self.fit, self.encoder, self.world = setup, setup.fit, encoder, world
        self.tokens_per_record, self.collate = math.prod(setup.stage.grid), collate
        self.modules, objective = self.prepare()
        (self.model,) = self.modules.values()
        settings = device.compile_settings(world.device)
        if self.fit.compile == "blocks":
            for layer in layers_of(objective):
                layer.compile(**settings)
        self.objective = distribute(objective, world, self.fit.parallel)
        self.optimizers = {"transformer": setup.optimizer(self.model)}
        self.score = torch.compile(self.objective, **settings) if self.fit.compile is True else self.objective

    def prepare(self) -> tuple[dict[str, nn.Module], nn.Module]:
        """What is trained, by its name in a checkpoint, and what makes its loss."""
        transformer = self.setup.stage.transformer
        assert isinstance(transformer, nn.Module)  # the task refuses all else
        objective = Objective(transformer.train(), self.setup.smoothing)
        if self.setup.adapter is None:
            return {"transformer": transformer}, objective
        return {KEY: self.setup.adapter.attach(transformer, self.fit.generator(0, "adapter"))}, objective

    def noise(self, count: int, step: int) -> tuple[Tensor, ...]:
        """What else the loss draws by lot, for the whole step: tensors that lead with `count`, the last it is given."""
        return ()

    def counted(self, masks: Tensor) -> Tensor:
        """Which tokens the loss weighs, bool[count, h, w], of those that are hidden by `masks`."""
        return masks

    def step(self, batch: dict[str, Any], step: int) -> Mapping[str, Tensor]:
        """This process's rows: pictures and captions, or tokens and text states."""
        seen = self.encoder(batch)
        rows, count, on = self.world.rows(self.fit.batch), self.fit.batch, self.world.device
        masks = mask_tokens(count, seen.tokens.shape[1:], self.setup.stage.schedule, self.fit.generator(step, "mask"))
        kept = keep_text(count, self.setup.text_dropout, self.fit.generator(step, "text"))
        low, before = seen.low, self.setup.before
        if low is not None and before is not None and self.setup.corruption > 0:
            codes, most = before.tokenizer.codebook_size, self.setup.corruption
            by = corruption(count, low.shape[1:], codes, most, self.fit.generator(step, "low"))
            low = corrupt(low, put_rows(by[rows], on))
        seen = TrainingBatch(seen.tokens, drop_text(seen.text, put_rows(kept[rows], on)), low)
        counted = self.counted(masks)
        scale = self.world.size / counted.sum().to(on)
        right: list[Tensor] = []

        def loss_of(part: tuple[TrainingBatch, Tensor, tuple[Tensor, ...]]) -> Tensor:
            (tokens, text, low), hidden, noise = part
            with self.fit.autocast(on):
                summed, guessed = self.score(tokens, hidden, text, low, *noise)
            right.append(guessed)
            return summed * scale

        parts = self._parts(seen, *(put_rows(each[rows], on) for each in (masks, *self.noise(count, step))))
        loss, norm = optimizer_step(self.optimizers["transformer"], parts, loss_of, self.objective, self.fit.clip)
        shares = self._by_share(right, masks, counted)
        return {"loss": loss, "accuracy": torch.cat(right).sum() * scale, "norm": norm} | shares

    def _parts(self, seen: TrainingBatch, *drawn: Tensor) -> list[tuple[TrainingBatch, Tensor, tuple[Tensor, ...]]]:
        """This process's rows in `fit.accumulate` equal parts; drawn: what is hidden, and further noise."""
        tensors = (seen.tokens, seen.low, *seen.text, *drawn)
        cut = [[None] * self.fit.accumulate if t is None else t.chunk(self.fit.accumulate) for t in tensors]
        last = 2 + len(seen.text)
        return [
            (TrainingBatch(part[0], TextEmbedding(*part[2:last]), part[1]), part[last], part[last + 1 :])
            for part in zip(*cut, strict=True)
        ]

    def _by_share(self, right: list[Tensor], masks: Tensor, counted: Tensor) -> dict[str, Tensor]:
        """Accuracy where few tokens are hidden, and where many are; NaN for a range that no row of the step is in."""
        bucket = (masks.flatten(1).sum(-1) / masks[0].numel() * BUCKETS).ceil().long() - 1
        member = torch.arange(BUCKETS).unsqueeze(-1) == bucket
        totals = (member * counted.flatten(1).sum(-1)).sum(-1).to(self.world.device)
        mine = put_rows(member[:, self.world.rows(len(masks))].t().contiguous(), self.world.device)
        shares = (torch.cat(right).unsqueeze(-1) * mine).sum(0) * self.world.size / totals
        names = [f"accuracy {100 * n // BUCKETS}-{100 * (n + 1) // BUCKETS}%" for n in range(BUCKETS)]
        return dict(zip(names, shares.unbind(), strict=True))
