"""Signs: a code is a row of bits, and nothing is looked up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.contracts import Quantized
from muse_vqgan.quantizers.entropy import entropy_of


@dataclass
class LookupFree:
    """Lookup-free quantization: each of log2(K) latents becomes its sign (MAGVIT-v2, Yu et al., 2024, section 3.1).

    temperature: of the chances in the entropy loss (equation 5), which are those of -(z - c)^2 / temperature; MAGVIT-v2
        and MaskBit have 0.01, at which it is a step.
    group: how many bits the batch's entropy takes together, at 2^group numbers a place. 1 is even bits alone, which
        leaves their pairs as uneven as they like; all of them is the entropy of the codes.
    """

    temperature: float = 1.0
    group: int = 1

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; give a number above 0")
        if not 1 <= self.group <= MOST_BITS:
            raise ValueError(f"group is {self.group}; give 1 bit to {MOST_BITS}")

    def __call__(self, size: int, width: int) -> LFQ:
        """The module of so many codes; as many latents as bits, whatever the width."""
        return LFQ(size, self.temperature, self.group)


MOST_BITS = 16
"""That are taken together: 65,536 numbers a place."""


class LFQ(nn.Module):
    """What `lfq` makes."""

    powers: Tensor

    def __init__(self, size: int, temperature: float = 1.0, group: int = 1) -> None:
        super().__init__()
        bits = size.bit_length() - 1
        if size != 1 << bits or bits < 1:
            raise ValueError(f"codebook_size is {size}; lfq takes a power of two, such as {1 << max(bits, 1)}")
        if bits % group:
            raise ValueError(f"group is {group}, which does not divide the {bits} bits of {size} codes")
        self.size, self.width, self.temperature, self.group = size, bits, temperature, group
        self.register_buffer("powers", 2 ** torch.arange(bits), persistent=False)

    def lookup(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float[B, log2 K, h, w] of -1 and 1."""
        return ((tokens.unsqueeze(-1) & self.powers) > 0).float().mul(2).sub(1).movedim(-1, 1)

    def tokens(self, latents: Tensor) -> Tensor:
        """float[B, log2 K, h, w] to int64[B, h, w]."""
        return ((latents > 0).movedim(1, -1) * self.powers).sum(-1)

    def forward(self, latents: Tensor, entropy: bool = False) -> Quantized:
        """float[B, log2 K, h, w]; entropy: sure places, evenly used codes."""
        latents = latents.float()
        tokens = self.tokens(latents)
        found = self.lookup(tokens)
        losses = {"commitment": F.mse_loss(latents, found)}
        if entropy:
            losses["entropy"] = self._entropy(latents)
        return Quantized(latents + (found - latents).detach(), tokens, losses)

    def _entropy(self, latents: Tensor) -> Tensor:
        """E[H(p)] - H(E[p]), the latter group by group; places are of independent bits, so the former is a sum."""
        share = torch.sigmoid(latents * 4 / self.temperature).clamp(1e-6, 1 - 1e-6)  # softmax over {-1, 1}
        bits = torch.stack([1 - share, share], -1).movedim(1, -2).flatten(0, 2)  # [places, log2 K, 2]
        joint = bits[:, :: self.group]
        for offset in range(1, self.group):
            joint = (joint.unsqueeze(-1) * bits[:, offset :: self.group].unsqueeze(-2)).flatten(-2)
        return entropy_of(bits).sum(1).mean() - entropy_of(joint.mean(0)).sum()
