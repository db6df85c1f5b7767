"""The tokenizer part: encoder, quantizer and decoder as one."""

from __future__ import annotations

import warnings
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.contracts import Quantized, Quantizer
from muse_studio.images.pixels import divided
from muse_studio.nn.layers import check_codes
from muse_studio.runtime import weights as files
from muse_studio.sampling.arguments import check_images, check_tokens
from muse_vqgan.network import Decoder, Encoder, Layout, from_range, to_range
from muse_vqgan.plugin import muse_quantizers


class VQGAN(nn.Module):
    """Muse's fully convolutional tokenizer (section 2.2), every size a setting.

    The stride, pixels a token, is patch x 2^(levels of the decoder - 1). Muse has codebook_size 8192 at stride 16
    (256 px) and stride 8 (512 px), channels 128 and 2 residual blocks a resolution (appendix A.2); what it leaves open
    follows MaskGIT: multipliers [1, 1, 2, 2, 4] and codes of width 256.

    latent_width: what encoder and decoder are wide at the tokens' resolution, that of the codes by default; 1x1
        convolutions lead from the one to the other.
    channels, multipliers, blocks: width at full resolution, its factor at each level, residual blocks a level.
    decoder_channels, decoder_blocks: the decoder's own; by default the encoder's channels and one block more.
    decoder_multipliers: the decoder's own; by default the encoder's. With further levels, which come first, it draws
        larger than the encoder reads: pictures are averaged to half the side for each before they are read.
    patch: folds patch x patch pixels into channels first, which makes a small tokenizer fast.
    quantizer: what makes codes of latents, `vq` by default; a part of its kind: see muse parts quantizer.
    signed: the network's pixels are -1..1, as in most VQGANs; false leaves them in 0..1, as MaskGIT's and aMUSEd's have
        them.
    attention: self-attention of the places behind each block at the smallest resolution, and in the middle, as in the
        VQGANs of taming-transformers and LlamaGen. Time and memory then grow with the square of the tokens.
    maskgit: MaskGIT's own network: residual convolutions without bias, means in place of strided convolutions, no 1x1
        convolutions around the codes, and the slip that `muse_vqgan.network.EchoResidual` describes.
    levels, cosine, ema, revive_after: deprecated; they are settings of quantizer fsq, and of vq.
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
        decoder_multipliers: list[int] | None = None,
        patch: int = 1,
        quantizer: Quantizer | None = None,
        levels: list[int] | None = None,
        cosine: bool | None = None,
        ema: float | None = None,
        revive_after: int | None = None,
        signed: bool = True,
        attention: bool = False,
        maskgit: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        multipliers = multipliers or [1, 1, 2, 2, 4]
        decoder_blocks = blocks + 1 if decoder_blocks is None else decoder_blocks
        decoder_channels, decoder_multipliers = decoder_channels or channels, decoder_multipliers or multipliers
        sizes = (codebook_size, code_width, channels, decoder_channels, patch, *multipliers, *decoder_multipliers)
        if min(sizes) < 1:
            raise ValueError(
                "codebook_size, code_width, channels, decoder_channels, patch, multipliers and decoder_multipliers "
                "must be 1 or more"
            )
        if len(decoder_multipliers) < len(multipliers):
            raise ValueError(
                f"decoder_multipliers are {decoder_multipliers}; give as many as multipliers, {multipliers}, or more"
            )
        if min(blocks, decoder_blocks) < 0:
            raise ValueError("blocks and decoder_blocks must be 0 or more")
        if latent_width is not None and (latent_width < 1 or maskgit):
            raise ValueError(f"latent_width is {latent_width}; give 1 or more, or null, as with maskgit")
        self.signed = signed
        self.codebook_size, self.stride = codebook_size, patch * 2 ** (len(decoder_multipliers) - 1)
        self._reduced = 2 ** (len(decoder_multipliers) - len(multipliers))
        former = {"levels": levels, "cosine": cosine, "ema": ema, "revive_after": revive_after}
        self.quantizer: Any = _with_former(_made(quantizer), former)(codebook_size, code_width)
        width = self.quantizer.width
        layout = Layout(attention, maskgit)
        latents = latent_width or width
        self.encoder = Encoder(channels, multipliers, blocks, patch, latents, layout)
        self.pre = nn.Identity() if maskgit else nn.Conv2d(latents, width, 1)
        self.post = nn.Identity() if maskgit else nn.Conv2d(width, latents, 1)
        self.decoder = Decoder(decoder_channels, decoder_multipliers, decoder_blocks, patch, latents, layout)
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
        images = F.avg_pool2d(images, self._reduced) if self._reduced > 1 else images
        return self.pre(self.encoder(to_range(images) if self.signed else images))

    def pixels(self, latents: Tensor) -> Tensor:
        """Codes' vectors float[B, D, h, w] to float[B, 3, H, W], about 0..1: not cut off, so that gradients pass."""
        images = self.decoder(self.post(latents))
        return from_range(images) if self.signed else images

    def reconstruct(self, images: Tensor, entropy: bool = False) -> tuple[Tensor, Quantized]:
        """What training calls: float[B, 3, H, W] in 0..1 to its reconstruction and what the quantizer made."""
        quantized = self.quantizer(self.latents(images), entropy)
        return self.pixels(quantized.latents), quantized

    def update_codebook(self) -> None:
        """After a step of training: the codebook's own, where it has one."""
        update = getattr(self.quantizer, "update_codebook", None)
        if update is not None:
            update()


def _made(quantizer: Any) -> Quantizer:
    """The quantizer: `vq` for None; one of our own by its name or table, as the settings of dialects have it."""
    quantizer = quantizer or "vq"
    if not isinstance(quantizer, str | dict):
        return quantizer
    table = {"use": quantizer} if isinstance(quantizer, str) else dict(quantizer)
    module, _, name = muse_quantizers()[table.pop("use")].partition(":")
    made: Quantizer = getattr(import_module(module), name)(**table)
    return made


def _with_former(quantizer: Quantizer, former: dict[str, Any]) -> Quantizer:
    """The quantizer, with those settings that the VQGAN had for it before it was a part of its own."""
    given = {name: value for name, value in former.items() if value is not None}
    if not given:
        return quantizer
    offered: set[str] = {field.name for field in fields(quantizer)} if is_dataclass(quantizer) else set()
    if "levels" in given.keys() - offered:
        raise ValueError("levels belong to the quantizer fsq; give quantizer: {use: fsq, levels: ...}")
    taken = {name: value for name, value in given.items() if name in offered}
    told = [f"write quantizer: {{use: ..., {', '.join(f'{each}: {value}' for each, value in taken.items())}}}"] * bool(
        taken
    )
    told += [
        f"leave out {each}, which the quantizer {type(quantizer).__name__} has not" for each in given.keys() - taken
    ]
    warnings.warn(f"{', '.join(given)} of vqgan are deprecated; {', and '.join(told)}", DeprecationWarning, 4)
    return replace(quantizer, **taken) if taken else quantizer  # type: ignore[type-var]  # it is a dataclass
