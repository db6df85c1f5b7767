"""The dialect of files that version 0.1 wrote: what the transformer's tensors were called then."""

from __future__ import annotations

from muse_studio.runtime.dialects import Dialect, renamed
from muse_studio.runtime.former import FormerNames

FORMER = FormerNames(
    "uvit-0.1",
    (
        (r"(down|up)\.(\d+)\.think\.", r"\1.\2.mlp."),
        (r"middle\.think\.", "middle.mlp."),
        (r"read_text\.", "text_projection."),
    ),
)
"""Those of `uvit` and `uvit-class`."""


def uvit_0_1() -> Dialect:
    """Weights, adapters and runs."""
    return renamed(FORMER)
