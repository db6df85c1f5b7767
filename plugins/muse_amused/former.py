"""The dialect of files that version 0.1 wrote: what the transformer's tensors were called then."""

from __future__ import annotations

from muse_studio.runtime.dialects import Dialect, renamed
from muse_studio.runtime.former import FormerNames

FORMER = FormerNames(
    "amused-0.1",
    (
        (r"blocks\.(\d+)\.look\.", r"blocks.\1.self_attention."),
        (r"blocks\.(\d+)\.read\.", r"blocks.\1.cross_attention."),
        (r"blocks\.(\d+)\.think\.", r"blocks.\1.mlp."),
        (r"(down|up)\.(\d+)\.read([12])\.", r"\1.\2.cross_attention\3."),
        (r"(down|up)\.(\d+)\.compete\.", r"\1.\2.response_norm."),
        (r"(down|up)\.(\d+)\.read_text\.", r"\1.\2.text_projection."),
        (r"read_text\.", "text_projection."),
        (r"read_picture\.", "condition_embedding."),
    ),
)
"""Those of `amused`."""


def amused_0_1() -> Dialect:
    """Weights, adapters and runs."""
    return renamed(FORMER)
