"""What masked-token training hides, and what it pays for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from muse_studio.contracts import MASK, MaskSchedule, TextEmbedding, Transformer


def mask_tokens(count: int, grid: Sequence[int], schedule: MaskSchedule, generator: torch.Generator) -> Tensor:
    """Which tokens are hidden: bool[count, h, w], in each row ceil(r * h * w) of them, at least one, places by lot.

    r = schedule(u) of a uniform u a row; the cosine schedule gives Muse's density (2/pi)(1 - r^2)^(-1/2), section 2.6.
    Drawn on the generator's device, for all rows of a step: each process takes its own, and knows how many are hidden
    in all.
    """
    places = math.prod(grid)
    ratio = schedule(torch.rand(count, generator=generator, device=generator.device))
    hidden = (ratio * places).ceil().clamp(min=1).unsqueeze(-1)
    rank = torch.rand(count, places, generator=generator, device=generator.device).argsort(-1).argsort(-1)
    return (rank < hidden).view(count, *grid)


def hide(tokens: Tensor, hidden: Tensor) -> Tensor:
    """The tokens with MASK where hidden."""
    return torch.where(hidden, MASK, tokens)


def keep_text(count: int, share: float, generator: torch.Generator) -> Tensor:
    """Which captions are kept, bool[count]: all but about `share` of them (section 2.7).

    Muse drops 10% of the captions: a share of 0.1 keeps nine in ten.
    """
    return torch.rand(count, generator=generator, device=generator.device) >= share


def drop_text(text: TextEmbedding, kept: Tensor) -> TextEmbedding:
    """The text with those rows made null that are not kept, so that the model learns to draw without; kept: bool[B]."""
    kept = kept.unsqueeze(-1)
    pooled = None if text.pooled is None else text.pooled * kept
    return TextEmbedding(text.states, text.mask & kept, pooled, text.micro)


def corruption(count: int, grid: Sequence[int], codes: int, most: float, generator: torch.Generator) -> Tensor:
    """What low-resolution tokens are replaced by: int64[count, h', w'], any of `codes` by lot, MASK for not at all.

    Which share of a row is replaced is itself drawn, evenly from 0 to `most`: the model learns to forgive what the
    stage before it gets wrong, and still to trust what is right (as noise augmentation does in cascaded diffusion, Ho
    et al., 2022).
    """

    def lot(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=generator.device)

    share = lot(count, 1, 1) * most
    replaced = lot(count, *grid) < share
    return torch.where(replaced, (lot(count, *grid) * codes).long(), MASK)


def corrupt(low: Tensor, by: Tensor) -> Tensor:
    """Low-resolution tokens int64[B, h', w'] with those of `by` in their place, where it has any."""
    return torch.where(by >= 0, by, low)


def masked_loss(logits: Tensor, tokens: Tensor, hidden: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Sums over hidden tokens alone; float[B, h, w, K], int64[B, h, w], bool[B, h, w].

    The first is the cross-entropy of all of them, the second, float[B], how many of each row were guessed right. Every
    shape is fixed: known tokens weigh nothing, they are not cut out.
    """
    weight = hidden.flatten().float()
    each = _cross_entropy(logits, tokens, smoothing)
    right = ((logits.detach().argmax(-1) == tokens) & hidden).flatten(1).sum(-1)
    return (each * weight).sum(), right.float()


def hidden_loss(logits: Tensor, tokens: Tensor, hidden: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """As `masked_loss`, but the first is the sum of each picture for itself, float[B]."""
    each = _cross_entropy(logits, tokens, smoothing)
    right = ((logits.detach().argmax(-1) == tokens) & hidden).flatten(1).sum(-1)
    return (each.view_as(tokens) * hidden).flatten(1).sum(1), right.float()


def _cross_entropy(logits: Tensor, tokens: Tensor, smoothing: float) -> Tensor:
    """Of each place: float32[B h w], float64 of such logits."""
    flat = logits.flatten(0, 2)
    flat = flat if flat.dtype == torch.float64 else flat.float()
    return F.cross_entropy(flat, tokens.flatten(), reduction="none", label_smoothing=smoothing)


def predicted_loss(
    transformer: Transformer,
    tokens: Tensor,
    hidden: Tensor,
    text: TextEmbedding,
    low: Tensor | None = None,
    smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The sums of `masked_loss` for what a transformer predicts of int64[B, h, w] of which bool[B, h, w] are hidden."""
    logits = transformer(hide(tokens, hidden), transformer.condition(text, low))
    return masked_loss(logits, tokens, hidden, smoothing)
