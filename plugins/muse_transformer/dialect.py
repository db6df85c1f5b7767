"""The dialect of files that version 0.1 wrote: what the transformers' tensors were called then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muse_studio.runtime.former import FormerNames

if TYPE_CHECKING:
    from muse_studio.runtime.dialects import Dialect

FORMER = FormerNames(
    "muse-0.1",
    (
        (r"blocks\.(\d+)\.look\.", r"blocks.\1.self_attention."),
        (r"blocks\.(\d+)\.read\.", r"blocks.\1.cross_attention."),
        (r"blocks\.(\d+)\.think\.", r"blocks.\1.mlp."),
        (r"read_low\.(\d+)\.look\.", r"low_blocks.\1.self_attention."),
        (r"read_low\.(\d+)\.think\.", r"low_blocks.\1.mlp."),
        (r"read_low\.", "low_blocks."),
        (r"read_text\.", "text_projection."),
    ),
)
"""Those of the base and the super-resolution transformer and of their critics."""


def muse_0_1() -> Dialect:
    """Weights, adapters and runs of the base and the super-resolution transformer and of their critics."""
    from muse_studio.runtime.dialects import renamed  # here: who draws needs the names alone

    return renamed(FORMER)
