"""VQGANs that are published as one file: taming-transformers', LlamaGen's, and MaskGIT's in its torch forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from muse_weights.dialect import Dialect, Imported, Recipes
from muse_weights.table import Found, Piece, Rule
from muse_weights.vqgan import MODULE, look, places, settings

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
    *look(r"encoder\.down\.(\d+)\.attn\.(\d+)", r"encoder.\1.\2.attention"),
    *look(r"decoder\.up\.(\d+)\.attn\.(\d+)", r"decoder.up\1.\2.attention"),
    *look(r"(encoder|decoder)\.mid\.attn_1", r"\1.middle.attention"),
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


BLOCK, ATTENTION = r"(encoder|decoder)\.conv_blocks\.(\d+)", r"(encoder|decoder)\.mid\.1"
LLAMAGEN = (
    *ENDS,
    Rule(rf"{BLOCK}\.res\.(\d+)\.{MODULE}", r"\1.\2.\3.\4.\5"),
    Rule(rf"{BLOCK}\.res\.(\d+)\.nin_shortcut\.(weight|bias)", r"\1.\2.\3.shortcut.\4"),
    Rule(rf"{BLOCK}\.(downsample|upsample)\.conv\.(weight|bias)", r"\1.\2.change.conv.\4"),
    *look(rf"{BLOCK}\.attn\.(\d+)", r"\1.\2.\3.attention"),
    *(Rule(rf"(encoder|decoder)\.mid\.{2 * n}\.{MODULE}", rf"\1.middle.{n}.\2.\3") for n in range(2)),
    *look(ATTENTION, r"\1.middle.attention"),
    *AROUND,
)
"""LlamaGen's VQ-16 and VQ-8, whose decoder counts its levels from the smallest resolution."""


def taming(found: Found) -> dict[str, Any]:
    """By the shapes; a projection is what the Gumbel ones have."""
    if "quantize.proj.weight" not in found.shapes:
        return settings(found)
    return settings(found, codes="quantize.embed.weight") | {"quantizer": "projected"}


def maskgit(found: Found) -> dict[str, Any]:
    """By the shapes; pixels are 0..1."""
    return settings(found) | {"maskgit": True, "signed": False}


def llamagen(found: Found) -> dict[str, Any]:
    """By the shapes; codes are compared, and drawn with, as unit vectors."""
    return settings(found, "encoder.conv_blocks.{}.res.{}", "decoder.conv_blocks.0.res.{}") | {"cosine": True}


def recipes(imported: Imported) -> Recipes:
    """A tokenizer, for other recipes to take as `tokenizer: {extends: FOLDER/model.yaml}`."""
    return {"model.yaml": imported.part("vqgan", "tokenizer")}


def tokenizer(
    about: str,
    rules: tuple[Rule, ...],
    set_by: Callable[[Found], dict[str, Any]],
    unwrap: tuple[str, ...],
    drop: tuple[str, ...] = (),
) -> Dialect:
    """The dialect of one file that holds a VQGAN."""
    piece = Piece(
        "tokenizer", "tokenizer", "vqgan", "", rules, set_by, drop=drop, places=places, unwrap=unwrap, starts=STARTS
    )
    return Dialect(about, (piece,), recipes)


STARTS = {"quantizer.idle": 0.0}
"""How long each code has been idle, which training alone counts."""

TAMING_VQGAN = tokenizer(
    "taming-transformers' VQGAN f16-1024, f16-16384 and Gumbel f8, and open-muse's f16-8192",
    TAMING,
    taming,
    ("state_dict",),
    (r"loss\..*",),  # the discriminator and the perceptual network, which training alone needs
)
MASKGIT_VQGAN = tokenizer(
    "MaskGIT's VQGAN f16-1024 in open-muse's, MAGE's and MUSE-Pytorch's torch files", MASKGIT, maskgit, ("state_dict",)
)
LLAMAGEN_VQ = tokenizer(
    "LlamaGen's tokenizers VQ-16 and VQ-8",
    LLAMAGEN,
    llamagen,
    ("ema", "model", "state_dict"),  # in their own reader's order
    (r"quantize\.codebook_used",),  # the codes of the last batches
)
