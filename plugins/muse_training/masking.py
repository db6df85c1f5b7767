"""What masked-token training hides, and what it pays for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from muse_studio.contracts import MASK, MaskSchedule, TextEmbedding


def mask_tokens(tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator) -> Tensor:
    """Which tokens are hidden: bool[B, h, w], in each row ceil(r * h * w) of them, at least one, places by lot.

    r = schedule(u) of a uniform u a row; the cosine schedule gives Muse's density (2/pi)(1 - r^2)^(-1/2), section 2.6.
    Drawn on the generator's device, then moved.
    """
    count, places = tokens.shape[0], tokens[0].numel()
    ratio = schedule(torch.rand(count, generator=generator, device=generator.device))
    hidden = (ratio * places).ceil().clamp(min=1).unsqueeze(-1)
    rank = torch.rand(count, places, generator=generator, device=generator.device).argsort(-1).argsort(-1)
    return (rank < hidden).view(tokens.shape).to(tokens.device)


def hide(tokens: Tensor, hidden: Tensor) -> Tensor:
    """The tokens with MASK where hidden."""
    return torch.where(hidden, MASK, tokens)


def drop_text(text: TextEmbedding, share: float, generator: torch.Generator) -> TextEmbedding:
    """The text with about `share` of the rows made null, so that the model learns to draw without (section 2.7).

    Muse drops 10% of the captions: a share of 0.1 keeps nine in ten.
    """
    drawn = torch.rand(text.mask.shape[0], generator=generator, device=generator.device)
    kept = (drawn >= share).to(text.mask.device)
    pooled = None if text.pooled is None else text.pooled * kept.unsqueeze(-1)
    return TextEmbedding(text.states, text.mask & kept.unsqueeze(-1), pooled)


def corrupt(low: Tensor, codes: int, most: float, generator: torch.Generator) -> Tensor:
    """Low-resolution tokens int64[B, h', w'] with some of each row's replaced by any of `codes`, by lot.

    Which share of a row is replaced is itself drawn, evenly from 0 to `most`: the model learns to forgive what the
    stage before it gets wrong, and still to trust what is right (as noise augmentation does in cascaded diffusion, Ho
    et al., 2022).
    """

    def lot(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=generator.device)

    share = lot(len(low), 1, 1) * most
    replaced = (lot(*low.shape) < share).to(low.device)
    other = (lot(*low.shape) * codes).long().to(low.device)
    return torch.where(replaced, other, low)


def masked_loss(logits: Tensor, tokens: Tensor, hidden: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and accuracy over hidden tokens alone; float[B, h, w, K], int64[B, h, w], bool[B, h, w].

    Every shape is fixed: known tokens weigh nothing, they are not cut out.
    """
    weight = hidden.flatten().float()
    each = F.cross_entropy(logits.flatten(0, 2).float(), tokens.flatten(), reduction="none", label_smoothing=smoothing)
    right = (logits.detach().argmax(-1) == tokens).flatten().float()
    total = weight.sum()
    return (each * weight).sum() / total, (right * weight).sum() / total
