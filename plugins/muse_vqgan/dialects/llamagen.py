"""LlamaGen's tokenizers, one torch file each."""

from __future__ import annotations

from typing import Any

from muse_studio.runtime.dialects import Dialect, Found, Piece, Rule, single_part
from muse_vqgan.dialects.layout import BY_GRADIENT, MODULE, STARTS, attention, places, settings
from muse_vqgan.dialects.taming import AROUND, ENDS

BLOCK = r"(encoder|decoder)\.conv_blocks\.(\d+)"
LLAMAGEN = (
    *ENDS,
    Rule(rf"{BLOCK}\.res\.(\d+)\.{MODULE}", r"\1.\2.\3.\4.\5"),
    Rule(rf"{BLOCK}\.res\.(\d+)\.nin_shortcut\.(weight|bias)", r"\1.\2.\3.shortcut.\4"),
    Rule(rf"{BLOCK}\.(downsample|upsample)\.conv\.(weight|bias)", r"\1.\2.change.conv.\4"),
    *attention(rf"{BLOCK}\.attn\.(\d+)", r"\1.\2.\3.attention"),
    *(Rule(rf"(encoder|decoder)\.mid\.{2 * n}\.{MODULE}", rf"\1.middle.{n}.\2.\3") for n in range(2)),
    *attention(r"(encoder|decoder)\.mid\.1", r"\1.middle.attention"),
    *AROUND,
)
"""LlamaGen's VQ-16 and VQ-8, whose decoder counts its levels from the smallest resolution."""


def llamagen(found: Found) -> dict[str, Any]:
    """By the shapes; codes are compared, and drawn with, as unit vectors."""
    return settings(found, "encoder.conv_blocks.{}.res.{}", "decoder.conv_blocks.0.res.{}") | {
        "quantizer": BY_GRADIENT | {"cosine": True}
    }


def llamagen_vq() -> Dialect:
    """LlamaGen's tokenizers VQ-16 and VQ-8."""
    piece = Piece(
        "tokenizer",
        "tokenizer",
        "vqgan",
        "",
        LLAMAGEN,
        llamagen,
        drop=(r"quantize\.codebook_used",),  # the codes of the last batches
        places=places,
        unwrap=("ema", "model", "state_dict"),  # in their own reader's order
        starts=STARTS,
    )
    return single_part("llamagen-vq", piece)
