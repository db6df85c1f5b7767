"""What training puts around a model and its names say: taken off wherever a dialect's table then knows the name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from muse_studio.errors import UserError
from muse_studio.runtime.dialects import Piece
from muse_studio.runtime.matching import Tensors

HIDDEN = ("_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What torch.compile, Lightning's Fabric, FSDP and recomputation call what they wrap; no author calls a layer so."""
ANYWHERE = "module"
"""What DataParallel calls what it wraps, which may be a part of a model; a layer may be called so too."""
OUTSIDE = (ANYWHERE, "model", "net")
"""What trainers call the whole model, one within the other."""


def as_the_table_has_them(tensors: Tensors, piece: Piece) -> Tensors:
    """The tensors by the names that a piece's table knows, its moving averages taken where it has them.

    A name that the table knows stays as it is. UserError where two tensors would have one name.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for name in (*tensors.shapes, *tensors.strange):
        beginning = name
        for prefix in piece.prefixes:
            beginning = beginning.removeprefix(prefix)
        short = _short(beginning, piece)
        if short in names:
            raise UserError(
                f"{names[short]!r} and {name!r} are both {short!r}, and which one is meant can't be told; write the "
                "tensors of one of them alone to a file"
            )
        names[short] = name
        taken |= set(name.split(".")) - set(short.split(".")) if short != name else set()
    found = ", ".join(f"{word}." for word in (*HIDDEN, *OUTSIDE) if word in taken)
    return tensors.named(names, *([f"names are read without {found}"] if found else [])).averaged(piece.averages)


def knows(piece: Piece, name: str) -> bool:
    """Whether a line of a piece's table is for that name."""
    if name in piece.copies or (piece.averages and name.startswith(piece.averages)):
        return True
    return any(re.fullmatch(pattern, name) for pattern in (*(rule.pattern for rule in piece.rules), *piece.drop))


def _short(name: str, piece: Piece) -> str:
    """The first of a name's forms that the table knows; the name itself where it knows none."""
    patterns = [rule.pattern for rule in piece.rules]
    hidden = [word for word in HIDDEN if not any(word in pattern for pattern in patterns)]
    words = [word for word in name.split(".") if word not in hidden]
    short = next((form for form in _forms(words) if knows(piece, form)), name)
    if piece.averages and short.startswith(piece.averages):  # a name without its dots
        return re.sub("|".join(hidden), "", short) if hidden else short
    return short


def _forms(words: list[str]) -> Iterator[str]:
    """A name without what may stand around it, from the longest to the shortest."""
    while words:
        yield ".".join(words)
        yield ".".join(word for word in words if word != ANYWHERE)
        if words[0] not in OUTSIDE:
            return
        words = words[1:]
