"""The tokenizer part: encoder, quantizer and decoder as one."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from muse_studio.images.pixels import divided
from muse_studio.nn.layers import check_codes
from muse_studio.runtime import weights as files
from muse_studio.sampling.arguments import check_images, check_tokens
from muse_vqgan.network import Decoder, Encoder, Layout, from_range, to_range
from muse_vqgan.quantizers import FSQ, LFQ, VQ, Projected, Quantized

QuantizerName = Literal["vq", "lfq", "fsq", "projected"]
Quantizer: TypeAlias = VQ | LFQ | FSQ | Projected


class VQGAN(nn.Module):
    """Muse's fully convolutional tokenizer (section 2.2), every size a setting.

    The stride, pixels a token, is patch x 2^(len(multipliers) - 1). Muse has codebook_size 8192 at stride 16 (256 px)
    and stride 8 (512 px), channels 128 and 2 residual blocks a resolution (appendix A.2); what it leaves open follows
    MaskGIT: multipliers [1, 1, 2, 2, 4] and codes of width 256.

    latent_width: what encoder and decoder are wide at the tokens' resolution, that of the codes by default; 1x1
        convolutions lead from the one to the other.
    channels, multipliers, blocks: width at full resolution, its factor at each level, residual blocks a level.
    decoder_channels, decoder_blocks: the decoder's own; by default the encoder's channels and one block more.
    patch: folds patch x patch pixels into channels first, which makes a small tokenizer fast.
    quantizer: vq (a learned codebook), lfq (signs; width follows), fsq (`levels`, whose product is codebook_size),
        projected (the greatest of a linear layer's logits).
    signed: the network's pixels are -1..1, as in most VQGANs; false leaves them in 0..1, as MaskGIT's and aMUSEd's have
        them.
    attention: self-attention of the places behind each block at the smallest resolution, and in the middle, as in the
        VQGANs of taming-transformers and LlamaGen. Time and memory then grow with the square of the tokens.
    maskgit: MaskGIT's own network: residual convolutions without bias, means in place of strided convolutions, no 1x1
        convolutions around the codes, and the slip that `muse_vqgan.network.EchoResidual` describes.
    cosine, ema, revive_after: of vq; see muse_vqgan.quantizers.VQ. `ema: 0` learns the codebook by gradient.
    weights: an address of safetensors to start from.
    """

    encodes_by = ("encoder.", "pre.", "quantizer.")
    """What the names of the weights begin with that make tokens; the decoder's may change, and tokens stay the same."""

    def __init__(
        self,
        codebook_size: int = 8192,
        code_width: int = 256,
        latent_width: int | None = None,
        channels: int = 128,
        multipliers: list[int] | None = None,
        blocks: int = 2,
        decoder_channels: int | None = None,
        decoder_blocks: int | None = None,
        patch: int = 1,
        quantizer: QuantizerName = "vq",
        levels: list[int] | None = None,
        cosine: bool = True,
        ema: float = 0.99,
        revive_after: int = 100,
        signed: bool = True,
        attention: bool = False,
        maskgit: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        multipliers = multipliers or [1, 1, 2, 2, 4]
        decoder_blocks = blocks + 1 if decoder_blocks is None else decoder_blocks
        decoder_channels = decoder_channels or channels
        if min(codebook_size, code_width, channels, decoder_channels, patch, *multipliers) < 1:
            raise ValueError(
                "codebook_size, code_width, channels, decoder_channels, patch and multipliers must be 1 or more"
            )
        if min(blocks, decoder_blocks, revive_after) < 0 or not 0 <= ema < 1:
            raise ValueError("blocks, decoder_blocks and revive_after must be 0 or more, ema in 0..1 without 1")
        if latent_width is not None and (latent_width < 1 or maskgit):
            raise ValueError(f"latent_width is {latent_width}; give 1 or more, or null, as with maskgit")
        if (quantizer == "fsq") != (levels is not None):
            raise ValueError("levels belong to quantizer fsq, which needs them: give both or neither")
        self.signed = signed
        self.codebook_size, self.stride = codebook_size, patch * 2 ** (len(multipliers) - 1)
        self.quantizer = _make_quantizer(quantizer, codebook_size, code_width, levels or [], cosine, ema, revive_after)
        width = self.quantizer.width
        layout = Layout(attention, maskgit)
        latents = latent_width or width
        self.encoder = Encoder(channels, multipliers, blocks, patch, latents, layout)
        self.pre = nn.Identity() if maskgit else nn.Conv2d(latents, width, 1)
        self.post = nn.Identity() if maskgit else nn.Conv2d(width, latents, 1)
        self.decoder = Decoder(decoder_channels, multipliers, decoder_blocks, patch, latents, layout)
        if weights is not None:
            files.load(self, weights)

    def grid_shape(self, height: int, width: int) -> tuple[int, int]:
        """The token grid of a picture of height x width pixels, which must be multiples of the stride."""
        return divided(height, width, self.stride)

    def encode(self, images: Tensor) -> Tensor:
        """float32[B, 3, H, W] in 0..1 to int64[B, h, w]."""
        check_images(images)
        self.grid_shape(*images.shape[-2:])
        with torch.no_grad():
            return self.quantizer.tokens(self.latents(images))

    def decode(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float32[B, 3, H, W] in 0..1; ValueError where a token is no code (MASK, say)."""
        check_tokens(tokens)
        check_codes(tokens, self.codebook_size)
        with torch.no_grad():
            return self.pixels(self.quantizer.lookup(tokens)).clamp(0, 1).float()

    def latents(self, images: Tensor) -> Tensor:
        """float[B, 3, H, W] in 0..1 to what is quantized, float[B, D, h, w]."""
        return self.pre(self.encoder(to_range(images) if self.signed else images))

    def pixels(self, latents: Tensor) -> Tensor:
        """Codes' vectors float[B, D, h, w] to float[B, 3, H, W], about 0..1: not cut off, so that gradients pass."""
        images = self.decoder(self.post(latents))
        return from_range(images) if self.signed else images

    def forward(self, images: Tensor, entropy: bool = False) -> tuple[Tensor, Quantized]:
        """What training calls: float[B, 3, H, W] in 0..1 to its reconstruction and what the quantizer made."""
        quantized = self.quantizer(self.latents(images), entropy)
        return self.pixels(quantized.latents), quantized


def _make_quantizer(
    name: QuantizerName, size: int, width: int, levels: list[int], cosine: bool, ema: float, revive_after: int
) -> Quantizer:
    """The quantizer of `size` codes; `width`, cosine, ema and revive_after are of those that learn a codebook."""
    match name:
        case "lfq":
            return LFQ(size)
        case "fsq":
            return FSQ(size, levels)
        case "projected":
            return Projected(size, width)
        case _:
            return VQ(size, width, cosine, ema, revive_after)
