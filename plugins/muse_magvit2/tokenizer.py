"""The tokenizer part: encoder, signs and decoder as one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from muse_magvit2.network import GROUPS, Decoder, Encoder
from muse_studio.images.pixels import divided
from muse_studio.nn.layers import check_codes
from muse_studio.runtime import weights as files
from muse_studio.sampling.arguments import check_images, check_tokens


class Magvit2(nn.Module):
    """Open-MAGVIT2's tokenizer (Luo et al., 2024): a code is the signs of `bits` latents (MAGVIT-v2, section 3.1).

    It is here for its published weights; what trains it is not. Its decoder looks at a picture's codes as a whole, so
    that parts of a picture decoded apart differ from the same in the whole.

    The default is the published one of 262,144 codes and 16 pixels a token, of 115.1M parameters.

    bits: log2 of codebook_size. channels, multipliers, blocks: width at full resolution, its factor at each level,
        residual blocks a level, and as many in the middle. Pixels a token: 2^(len(multipliers) - 1).
    weights: an address of safetensors to start from.
    """

    powers: Tensor

    def __init__(
        self,
        bits: int = 18,
        channels: int = 128,
        multipliers: list[int] | None = None,
        blocks: int = 4,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        multipliers = multipliers or [1, 1, 2, 2, 4]
        if not 1 <= bits <= 62:
            raise ValueError(f"bits is {bits}; give 1 to 62")
        if min(blocks, *multipliers) < 1:
            raise ValueError(f"blocks is {blocks}, multipliers are {multipliers}; give 1 or more each")
        if channels < 1 or channels % GROUPS:
            raise ValueError(f"channels is {channels}; give a multiple of {GROUPS}, which its norms have as groups")
        self.codebook_size, self.stride = 1 << bits, 2 ** (len(multipliers) - 1)
        self.encoder = Encoder(channels, multipliers, blocks, bits)
        self.decoder = Decoder(channels, multipliers, blocks, bits)
        self.register_buffer("powers", 2 ** torch.arange(bits), persistent=False)
        if weights is not None:
            files.load(self, weights)

    def grid_shape(self, height: int, width: int) -> tuple[int, int]:
        """The token grid of a picture of height x width pixels, which must be multiples of the stride."""
        return divided(height, width, self.stride)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """float32[B, 3, H, W] in 0..1 to int64[B, h, w]."""
        check_images(images)
        self.grid_shape(*images.shape[-2:])
        return ((self.encoder(images * 2 - 1) > 0).movedim(1, -1) * self.powers).sum(-1)

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float32[B, 3, H, W] in 0..1; ValueError where a token is no code (MASK, say)."""
        check_tokens(tokens)
        check_codes(tokens, self.codebook_size)
        signs = ((tokens.unsqueeze(-1) & self.powers) > 0).movedim(-1, 1).to(self.decoder.first.weight.dtype) * 2 - 1
        return ((self.decoder(signs) + 1) / 2).clamp(0, 1).float()
