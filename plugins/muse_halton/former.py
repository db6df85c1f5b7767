"""The dialect of files that version 0.1 wrote: what the transformer's tensors were called then."""

from __future__ import annotations

from muse_studio.runtime.dialects import Dialect, renamed
from muse_studio.runtime.former import FormerNames

FORMER = FormerNames(
    "halton-maskgit-0.1",
    (
        (r"blocks\.(\d+)\.look\.", r"blocks.\1.self_attention."),
        (r"blocks\.(\d+)\.think\.", r"blocks.\1.mlp."),
    ),
)
"""Those of `halton-maskgit`."""


def halton_maskgit_0_1() -> Dialect:
    """Weights, adapters and runs."""
    return renamed(FORMER)
