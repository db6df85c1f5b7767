"""VQGANs in one torch file: taming-transformers', and MaskGIT's in the forms that name its blocks as taming does."""

from __future__ import annotations

from typing import Any

from muse_studio.runtime.dialects import Dialect, Found, Piece, Rule, single_part
from muse_vqgan.dialects.layout import MODULE, STARTS, attention, places, settings

ENDS = (
    Rule(r"(encoder|decoder)\.(conv_in|norm_out|conv_out)\.(weight|bias)", r"\1.\2.\3"),
    Rule(r"quantize\.embedding\.weight", "quantizer.codes"),
)
AROUND = (Rule(r"quant_conv\.(weight|bias)", r"pre.\1"), Rule(r"post_quant_conv\.(weight|bias)", r"post.\1"))
LEVELS = (
    Rule(rf"encoder\.down\.(\d+)\.block\.(\d+)\.{MODULE}", r"encoder.\1.\2.\3.\4"),
    Rule(rf"decoder\.up\.(\d+)\.block\.(\d+)\.{MODULE}", r"decoder.up\1.\2.\3.\4"),
    Rule(r"encoder\.down\.(\d+)\.block\.(\d+)\.nin_shortcut\.(weight|bias)", r"encoder.\1.\2.shortcut.\3"),
    Rule(r"decoder\.up\.(\d+)\.block\.(\d+)\.nin_shortcut\.(weight|bias)", r"decoder.up\1.\2.shortcut.\3"),
    Rule(r"encoder\.down\.(\d+)\.downsample\.conv\.(weight|bias)", r"encoder.\1.change.conv.\2"),
    Rule(r"decoder\.up\.(\d+)\.upsample\.conv\.(weight|bias)", r"decoder.up\1.change.conv.\2"),
    *(Rule(rf"(encoder|decoder)\.mid\.block_{n + 1}\.{MODULE}", rf"\1.middle.{n}.\2.\3") for n in range(2)),
)
TAMING = (
    *ENDS,
    *LEVELS,
    *attention(r"encoder\.down\.(\d+)\.attn\.(\d+)", r"encoder.\1.\2.attention"),
    *attention(r"decoder\.up\.(\d+)\.attn\.(\d+)", r"decoder.up\1.\2.attention"),
    *attention(r"(encoder|decoder)\.mid\.attn_1", r"\1.middle.attention"),
    Rule(r"quantize\.embed\.weight", "quantizer.codes"),
    Rule(r"quantize\.proj\.weight", "quantizer.project.weight", "linear"),
    Rule(r"quantize\.proj\.bias", "quantizer.project.bias"),
    *AROUND,
)
"""taming-transformers' VQModel and GumbelVQ."""

MASKGIT = (
    *ENDS,
    *LEVELS,
    Rule(rf"(encoder|decoder)\.mid\.([01])\.{MODULE}", r"\1.middle.\2.\3.\4"),
    Rule(r"decoder\.up\.(\d+)\.upsample_conv\.(weight|bias)", r"decoder.up\1.change.conv.\2"),
)
"""MaskGIT's VQGAN, as open-muse (mid.0, upsample_conv) and as MAGE and MUSE-Pytorch (mid.block_1, upsample) name it."""


def taming(found: Found) -> dict[str, Any]:
    """By the shapes; a projection is what the Gumbel ones have."""
    if "quantize.proj.weight" not in found.shapes:
        return settings(found)
    return settings(found, codes="quantize.embed.weight") | {"quantizer": "projected"}


def maskgit(found: Found) -> dict[str, Any]:
    """By the shapes; pixels are 0..1."""
    return settings(found) | {"maskgit": True, "signed": False}


def taming_vqgan() -> Dialect:
    """taming-transformers' VQGAN f16-1024, f16-16384 and Gumbel f8, and open-muse's f16-8192."""
    piece = Piece(
        "tokenizer",
        "tokenizer",
        "vqgan",
        "",
        TAMING,
        taming,
        drop=(r"loss\..*",),  # the discriminator and the perceptual network, which training alone needs
        places=places,
        unwrap=("state_dict",),
        starts=STARTS,
    )
    return single_part("taming-vqgan", piece)


def maskgit_vqgan() -> Dialect:
    """MaskGIT's VQGAN f16-1024 in open-muse's, MAGE's and MUSE-Pytorch's torch files."""
    piece = Piece(
        "tokenizer",
        "tokenizer",
        "vqgan",
        "",
        MASKGIT,
        maskgit,
        places=places,
        unwrap=("state_dict",),
        starts=STARTS,
    )
    return single_part("maskgit-vqgan", piece)
