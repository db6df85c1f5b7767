"""Learned codebooks, of which the nearest code wins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.contracts import Quantized
from muse_studio.runtime.device import gather_rows

Gradient = Literal["straight", "rotation"]

SCORES = 2**26
"""Numbers that a search for nearest codes holds at once: 256 MB."""


@dataclass
class VectorQuantizer:
    """A learned codebook of K vectors (van den Oord et al., 2017), the nearest one wins.

    cosine: latents and codes are compared as unit vectors (ViT-VQGAN, Yu et al., 2022).
    ema: the codebook follows a moving average of the latents that chose each code, with this decay (van den Oord,
        appendix A.1), and a code that none chose stays as it is; 0 learns it by gradient through the "codebook" loss,
        as MaskGIT does.
    revive_after: a code that no latent chose for so many steps is put onto one of the latents that lie farthest from
        any code, which is what keeps a codebook from collapsing; 0 never does.
    gradient: how the decoder's gradient passes a code: straight, as it comes; or rotation, turned and scaled as the
        latent would have to be to lie on its code (the rotation trick, Fifty et al., 2024, 2410.06424).
    """

    cosine: bool = True
    ema: float = 0.99
    revive_after: int = 100
    gradient: Gradient = "straight"

    def __post_init__(self) -> None:
        if self.revive_after < 0 or not 0 <= self.ema < 1:
            raise ValueError("revive_after must be 0 or more, ema in 0..1 without 1")

    def __call__(self, size: int, width: int) -> VQ:
        """The module of so many codes of that width."""
        return VQ(size, width, self.cosine, self.ema, self.revive_after, self.gradient)


@dataclass
class SimpleVector:
    """SimVQ (Zhu et al., 2024, 2411.02038): a frozen random codebook, of which one learned matrix makes the codes.

    A step moves all codes at once, chosen or not, so that none is left behind. The nearest one wins.

    gradient: as of `vq`.
    """

    gradient: Gradient = "straight"

    def __call__(self, size: int, width: int) -> SimVQ:
        """The module of so many codes of that width."""
        return SimVQ(size, width, self.gradient)


class VQ(nn.Module):
    """What `vq` makes."""

    counts: Tensor
    sums: Tensor
    idle: Tensor

    def __init__(
        self, size: int, width: int, cosine: bool, ema: float, revive_after: int, gradient: Gradient = "straight"
    ) -> None:
        super().__init__()
        self.size, self.width, self.cosine, self.ema, self.revive_after = size, width, cosine, ema, revive_after
        self.gradient = gradient
        codes = torch.randn(size, width) / math.sqrt(width)
        self.codes = nn.Parameter(F.normalize(codes, dim=-1) if cosine else codes, requires_grad=ema == 0)
        if ema > 0:
            self.register_buffer("counts", torch.ones(size))
            self.register_buffer("sums", self.codes.detach().clone())
        self.register_buffer("idle", torch.zeros(size))
        self._assigned: list[tuple[Tensor, Tensor]] = []

    def lookup(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float[B, D, h, w]."""
        return F.embedding(tokens, self._compared_codes()).movedim(-1, 1)

    def tokens(self, latents: Tensor) -> Tensor:
        """float[B, D, h, w] to int64[B, h, w]."""
        flat = latents.float().movedim(1, -1)
        return nearest(F.normalize(flat, dim=-1) if self.cosine else flat, self._compared_codes())[1]

    def forward(self, latents: Tensor, entropy: bool = False) -> Quantized:
        """float[B, D, h, w]; in training mode `update_codebook` uses it later. The entropy loss is costly."""
        latents = F.normalize(latents.float(), dim=1) if self.cosine else latents.float()
        flat = latents.movedim(1, -1).reshape(-1, self.width)
        with torch.autocast(latents.device.type, enabled=False):  # bfloat16 would confuse near codes
            scores = minus_distances(flat, self._compared_codes()) if entropy else None
            chosen = nearest(flat, self._compared_codes())[1] if scores is None else scores.argmax(-1)
        tokens = chosen.view(latents.shape[0], *latents.shape[2:])
        found = self.lookup(tokens)
        losses = {"commitment": F.mse_loss(latents, found.detach())}
        if scores is not None:
            losses["entropy"] = _entropy(scores)
        if self.ema == 0:
            losses["codebook"] = F.mse_loss(found, latents.detach())
        if self.training:
            self._assigned.append((flat.detach(), tokens.flatten()))
        return Quantized(passed(latents, found, self.gradient), tokens, losses)

    @torch.no_grad()
    def update_codebook(self) -> None:
        """The codebook's own step, towards all latents since the last one, those of other processes among them."""
        if not self._assigned:
            return
        flat, tokens = (gather_rows(torch.cat(each)) for each in zip(*self._assigned, strict=True))
        self._assigned.clear()
        counts = torch.zeros_like(self.idle).index_add_(0, tokens, torch.ones_like(tokens, dtype=self.idle.dtype))
        self.idle.copy_(torch.where(counts > 0, 0.0, self.idle + 1))
        if self.ema > 0:
            sums = torch.zeros(self.size, self.width, device=flat.device).index_add_(0, tokens, flat)
            chosen = counts > 0  # what nothing chose stays as it is: its sum would shrink to 0, which attracts latents
            self.counts.copy_(torch.where(chosen, self.counts.lerp(counts, 1 - self.ema), self.counts))
            rows = chosen.unsqueeze(-1)
            self.sums.copy_(torch.where(rows, self.sums.lerp(sums, 1 - self.ema), self.sums))
            means = self.sums / self.counts.unsqueeze(-1)
            self.codes.copy_(torch.where(rows, F.normalize(means, dim=-1) if self.cosine else means, self.codes))
        if self.revive_after > 0:
            self._revive(flat)

    def _compared_codes(self) -> Tensor:
        """The codes as they are compared: float[K, D]."""
        return F.normalize(self.codes, dim=-1) if self.cosine else self.codes

    def _revive(self, flat: Tensor) -> None:
        dead = self.idle >= self.revive_after
        # The latents that lie farthest from any code, the first dead code taking the farthest: what the codebook lacks
        # most, and a function of the batch alone, so that resuming needs no random state.
        order = nearest(flat, self._compared_codes())[0].argsort()
        rank = (dead.cumsum(0) - 1).clamp(0, flat.shape[0] - 1)
        chosen = flat[order[rank]]
        self.codes.copy_(torch.where(dead.unsqueeze(-1), chosen, self.codes))
        if self.ema > 0:
            self.sums.copy_(torch.where(dead.unsqueeze(-1), chosen, self.sums))
            self.counts.copy_(torch.where(dead, 1.0, self.counts))
        self.idle.masked_fill_(dead, 0)


class SimVQ(nn.Module):
    """What `simvq` makes."""

    basis: Tensor

    def __init__(self, size: int, width: int, gradient: Gradient = "straight") -> None:
        super().__init__()
        self.size, self.width, self.gradient = size, width, gradient
        self.register_buffer("basis", torch.randn(size, width) / math.sqrt(width))
        self.project = nn.Linear(width, width)

    def lookup(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float[B, D, h, w]."""
        return F.embedding(tokens, self._codes()).movedim(-1, 1)

    def tokens(self, latents: Tensor) -> Tensor:
        """float[B, D, h, w] to int64[B, h, w]."""
        with torch.autocast(latents.device.type, enabled=False):  # bfloat16 would confuse near codes
            return nearest(latents.float().movedim(1, -1), self._codes())[1]

    def forward(self, latents: Tensor, entropy: bool = False) -> Quantized:
        """float[B, D, h, w]; the entropy loss is costly."""
        latents = latents.float()
        flat = latents.movedim(1, -1)
        with torch.autocast(latents.device.type, enabled=False):
            codes = self._codes()
            tokens = nearest(flat, codes)[1]
        found = F.embedding(tokens, codes).movedim(-1, 1)
        losses = {"commitment": F.mse_loss(latents, found.detach()), "codebook": F.mse_loss(found, latents.detach())}
        if entropy:
            scores = minus_distances(flat.reshape(-1, self.width), codes)
            losses["entropy"] = _entropy(scores)
        return Quantized(passed(latents, found, self.gradient), tokens, losses)

    def _codes(self) -> Tensor:
        """float[K, D]."""
        with torch.autocast(self.basis.device.type, enabled=False):
            codes: Tensor = self.project(self.basis)
        return codes


def minus_distances(flat: Tensor, codes: Tensor) -> Tensor:
    """Minus the squared distance to each code: float[..., D] and float[K, D] to float[..., K]."""
    return 2 * flat @ codes.t() - flat.pow(2).sum(-1, keepdim=True) - codes.pow(2).sum(-1)


@torch.no_grad()
def nearest(flat: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """float[..., D] and float[K, D] to each one's minus squared distance float[...] to its nearest code int64[...].

    So many at a time that the distances to all codes stay within `SCORES` numbers: those of 256 pictures of 64x64
    tokens would be 34 GB at once.
    """
    rows = flat.reshape(-1, flat.shape[-1])
    found = [minus_distances(few, codes).max(-1) for few in rows.split(max(1, SCORES // len(codes)))]
    best, chosen = (torch.cat(each).view(flat.shape[:-1]) for each in zip(*found, strict=True))
    return best, chosen


def passed(latents: Tensor, found: Tensor, gradient: Gradient) -> Tensor:
    """The codes float[B, D, h, w] of latents of that shape, through which the decoder's gradient passes to them."""
    if gradient == "straight":
        return latents + (found - latents).detach()
    turned = rotated(latents.movedim(1, -1), found.detach().movedim(1, -1)).movedim(-1, 1)
    return turned + (found - turned).detach()  # to the bit, whatever the turning rounds


def rotated(latents: Tensor, codes: Tensor) -> Tensor:
    """Latents float[..., D] turned and scaled onto their codes, by what counts as constant (Fifty et al., section 4).

    The plane of both is turned by the angle between them, by two reflections, and nothing else is.
    """
    with torch.no_grad():
        scale = codes.norm(dim=-1, keepdim=True) / latents.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        start, end = F.normalize(latents, dim=-1), F.normalize(codes, dim=-1)
        between = F.normalize(start + end, dim=-1)

    def along(direction: Tensor) -> Tensor:
        return (latents * direction).sum(-1, keepdim=True)

    return scale * (latents - 2 * along(between) * between + 2 * along(start) * end)


def _entropy(scores: Tensor) -> Tensor:
    """The entropy loss of scores float[N, K], at MaskGIT's temperature."""
    from muse_vqgan.quantizers.entropy import ENTROPY_TEMPERATURE, entropy_loss  # which drawing never wants

    return entropy_loss(scores / ENTROPY_TEMPERATURE)
