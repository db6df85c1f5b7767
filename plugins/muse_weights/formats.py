"""Which dialect a task is given, which are known but not done, and how a wrong one is answered."""

from __future__ import annotations

from typing import Literal

from muse_studio.contracts import Dialect
from muse_studio.errors import UserError

NotDone = Literal["maskbit", "maskgen", "meissonic", "titok"]
"""Names that no dialect goes by: a task takes them to say why."""

NOT_DONE: dict[NotDone, str] = {
    "maskbit": "MaskBit's tokenizers and transformers",
    "maskgen": "MaskGen's transformers",
    "meissonic": "Meissonic and Monetico",
    "titok": "TiTok and TA-TiTok",
}


def done(format: Dialect | NotDone) -> Dialect:
    """The dialect that was given; ValueError, with the reason, where it is one that is not done."""
    if isinstance(format, str):
        raise ValueError(
            f"format is {format!r}: {NOT_DONE[format]}, which can't be imported yet; `muse parts dialect` lists those "
            "that can"
        )
    return format


def refusal(dialect: Dialect, error: UserError) -> UserError:
    """What a source lacks, with the dialect that it was read by: often the wrong one was named."""
    return UserError(f"{error} (it was read as format {dialect.name!r}; `muse parts dialect` lists the others)")
