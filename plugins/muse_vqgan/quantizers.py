"""Latents to codes: a learned codebook (VQ), signs (LFQ), rounded numbers (FSQ)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.runtime.device import gather_rows

ENTROPY_TEMPERATURE = 0.01
"""MaskGIT's configs/vqgan_config.py."""


SCORES = 2**26
"""Numbers that a search for nearest codes holds at once: 256 MB."""


class Quantized(NamedTuple):
    """What a quantizer makes of latents float[B, D, h, w].

    latents: the same shape, each place at its code, gradients passed straight through.
    tokens: int64[B, h, w]. losses: scalars by name, still to be weighted.
    """

    latents: Tensor
    tokens: Tensor
    losses: dict[str, Tensor]


class VQ(nn.Module):
    """A learned codebook of K vectors (van den Oord et al., 2017), the nearest one wins.

    ema: the codebook follows a moving average of the latents that chose each code, with this decay (same paper,
    appendix A.1), and a code that none chose stays as it is; 0 learns it by gradient through the "codebook" loss, as
    MaskGIT does.
    revive_after: a code that no latent chose for so many steps is put onto one of the latents that lie farthest from
    any code, which is what keeps a codebook from collapsing; 0 never does.
    cosine: latents and codes are compared as unit vectors (ViT-VQGAN, Yu et al., 2022).
    """

    counts: Tensor
    sums: Tensor
    idle: Tensor

    def __init__(self, size: int, width: int, cosine: bool, ema: float, revive_after: int) -> None:
        super().__init__()
        self.size, self.width, self.cosine, self.ema, self.revive_after = size, width, cosine, ema, revive_after
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
        return self._nearest(F.normalize(flat, dim=-1) if self.cosine else flat)[1]

    def forward(self, latents: Tensor, entropy: bool = False) -> Quantized:
        """float[B, D, h, w]; in training mode `update_codebook` uses it later. The entropy loss is costly."""
        latents = F.normalize(latents.float(), dim=1) if self.cosine else latents.float()
        flat = latents.movedim(1, -1).reshape(-1, self.width)
        with torch.autocast(latents.device.type, enabled=False):  # bfloat16 would confuse near codes
            scores = self._scores(flat) if entropy else None
            nearest = self._nearest(flat)[1] if scores is None else scores.argmax(-1)
        tokens = nearest.view(latents.shape[0], *latents.shape[2:])
        found = self.lookup(tokens)
        losses = {"commitment": F.mse_loss(latents, found.detach())}
        if scores is not None:
            losses["entropy"] = entropy_loss(scores / ENTROPY_TEMPERATURE)
        if self.ema == 0:
            losses["codebook"] = F.mse_loss(found, latents.detach())
        if self.training:
            self._assigned.append((flat.detach(), tokens.flatten()))
        return Quantized(latents + (found - latents).detach(), tokens, losses)

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

    def _scores(self, flat: Tensor) -> Tensor:
        """Minus the squared distance to each code: float[..., D] to float[..., K]."""
        codes = self._compared_codes()
        return 2 * flat @ codes.t() - flat.pow(2).sum(-1, keepdim=True) - codes.pow(2).sum(-1)

    @torch.no_grad()
    def _nearest(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """float[..., D] to each one's best score float[...] and its code int64[...].

        So many at a time that the scores of all codes stay within `SCORES` numbers: those of 256 pictures of 64x64
        tokens would be 34 GB at once.
        """
        rows = flat.reshape(-1, self.width)
        found = [self._scores(few).max(-1) for few in rows.split(max(1, SCORES // self.size))]
        best, codes = (torch.cat(each).view(flat.shape[:-1]) for each in zip(*found, strict=True))
        return best, codes

    def _revive(self, flat: Tensor) -> None:
        dead = self.idle >= self.revive_after
        # The latents that lie farthest from any code, the first dead code taking the farthest: what the codebook lacks
        # most, and a function of the batch alone, so that resuming needs no random state.
        order = self._nearest(flat)[0].argsort()
        rank = (dead.cumsum(0) - 1).clamp(0, flat.shape[0] - 1)
        chosen = flat[order[rank]]
        self.codes.copy_(torch.where(dead.unsqueeze(-1), chosen, self.codes))
        if self.ema > 0:
            self.sums.copy_(torch.where(dead.unsqueeze(-1), chosen, self.sums))
            self.counts.copy_(torch.where(dead, 1.0, self.counts))
        self.idle.masked_fill_(dead, 0)


class LFQ(nn.Module):
    """Lookup-free quantization: each of log2(K) latents becomes its sign (MAGVIT-v2, Yu et al., 2024, section 3.1)."""

    powers: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        bits = size.bit_length() - 1
        if size != 1 << bits or bits < 1:
            raise ValueError(f"codebook_size is {size}; lfq takes a power of two, such as {1 << max(bits, 1)}")
        self.size, self.width = size, bits
        self.register_buffer("powers", 2 ** torch.arange(bits), persistent=False)

    def lookup(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float[B, log2 K, h, w] of -1 and 1."""
        return ((tokens.unsqueeze(-1) & self.powers) > 0).float().mul(2).sub(1).movedim(-1, 1)

    def tokens(self, latents: Tensor) -> Tensor:
        """float[B, log2 K, h, w] to int64[B, h, w]."""
        return ((latents > 0).movedim(1, -1) * self.powers).sum(-1)

    def forward(self, latents: Tensor, entropy: bool = False) -> Quantized:
        """float[B, log2 K, h, w]; entropy: confident places, evenly used bits (same paper, equation 5, bit by bit)."""
        latents = latents.float()
        tokens = self.tokens(latents)
        found = self.lookup(tokens)
        losses = {"commitment": F.mse_loss(latents, found)}
        if entropy:
            share = torch.sigmoid(latents * 4).clamp(1e-6, 1 - 1e-6)  # softmax over {-1, 1} of -(z - c)^2
            losses["entropy"] = _bit_entropy(share).sum(1).mean() - _bit_entropy(share.mean((0, 2, 3))).sum()
        return Quantized(latents + (found - latents).detach(), tokens, losses)


class FSQ(nn.Module):
    """Finite scalar quantization: each latent is bounded and rounded to a few levels (Mentzer et al., 2024)."""

    levels: Tensor
    basis: Tensor

    def __init__(self, size: int, levels: list[int]) -> None:
        super().__init__()
        if not levels or min(levels) < 2 or math.prod(levels) != size:
            raise ValueError(
                f"levels {levels} make {math.prod(levels)} codes, codebook_size is {size}; fsq needs both equal, "
                "levels of 2 or more, such as [8, 5, 5, 5] for 1000"
            )
        self.size, self.width = size, len(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer(
            "basis", torch.tensor([math.prod(levels[:i]) for i in range(len(levels))]), persistent=False
        )

    def lookup(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float[B, levels, h, w] in -1..1."""
        digits = (tokens.unsqueeze(-1) // self.basis) % self.levels
        return ((digits - self._half) / self._half).movedim(-1, 1)

    def tokens(self, latents: Tensor) -> Tensor:
        """float[B, levels, h, w] to int64[B, h, w]."""
        return ((self._bound(latents).round() + self._half).long() * self.basis).sum(-1)

    def forward(self, latents: Tensor, entropy: bool = False) -> Quantized:
        """float[B, levels, h, w]; no losses are needed."""
        bounded = self._bound(latents)
        rounded = bounded + (bounded.round() - bounded).detach()
        tokens = ((bounded.detach().round() + self._half).long() * self.basis).sum(-1)
        return Quantized((rounded / self._half).movedim(-1, 1), tokens, {})

    @property
    def _half(self) -> Tensor:
        return torch.div(self.levels, 2, rounding_mode="floor")

    def _bound(self, latents: Tensor) -> Tensor:
        """float[B, levels, h, w] to float[B, h, w, levels] within the levels, centred (listing of appendix A.1)."""
        reach = (self.levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        shift = torch.atanh(offset / reach)
        return torch.tanh(latents.float().movedim(1, -1) + shift) * reach - offset


def entropy_loss(logits: Tensor) -> Tensor:
    """E[H(p)] - H(E[p]) over logits float[N, K]: sure of each place, even over the codebook (MaskGIT, losses.py)."""
    logs = F.log_softmax(logits, -1)
    share = logs.exp()
    mean = share.mean(0)
    return (mean * mean.clamp(min=1e-9).log()).sum() - (share * logs).sum(-1).mean()


def _bit_entropy(share: Tensor) -> Tensor:
    return -(share * share.log() + (1 - share) * (1 - share).log())


class Projected(nn.Module):
    """A linear layer gives each latent a logit a code; the greatest wins (DALL-E's dVAE, Ramesh et al., 2021).

    Trained straight through: the pictures are those of the winners, the gradient that of the codes' mean by softmax.
    (Published ones were trained with Gumbel noise on the logits.) There is no loss of its own but the entropy.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.size, self.width = size, width
        self.project = nn.Linear(width, size)
        self.codes = nn.Parameter(torch.randn(size, width) / math.sqrt(width))

    @property
    def classifier(self) -> nn.Linear:
        """The layer whose rows are codes."""
        return self.project

    def lookup(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float[B, D, h, w]."""
        return nn.functional.embedding(tokens, self.codes).movedim(-1, 1)

    def tokens(self, latents: Tensor) -> Tensor:
        """float[B, D, h, w] to int64[B, h, w]."""
        return self.project(latents.float().movedim(1, -1)).argmax(-1)

    def forward(self, latents: Tensor, entropy: bool = False) -> Quantized:
        """float[B, D, h, w]; the entropy loss is costly."""
        with torch.autocast(latents.device.type, enabled=False):  # bfloat16 would confuse near logits
            logits = self.project(latents.float().movedim(1, -1))
        tokens = logits.argmax(-1)
        mean = (logits.softmax(-1) @ self.codes).movedim(-1, 1)
        losses = {"entropy": entropy_loss(logits.flatten(0, -2))} if entropy else {}
        return Quantized(mean + (self.lookup(tokens) - mean).detach(), tokens, losses)
