"""Names that tensors had in an earlier version: what is refused for them, and the command that brings today's."""

from __future__ import annotations

import pkgutil
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muse_studio.errors import UserError

Shapes = Mapping[str, list[int]]


@dataclass(frozen=True)
class FormerNames:
    """What a module's tensors were called before.

    The module says where that is written by its attribute `former_names`, such as "muse_uvit.former:FORMER": who only
    draws need not import it.

    format: the dialect by which the task `import-weights` renames a file. rules: regular expressions for how a name
    began, each with how it begins today; the first that matches counts.
    """

    format: str
    rules: tuple[tuple[str, str], ...]

    def current(self, name: str) -> str:
        """A tensor's name today; the same where no rule knows it."""
        for pattern, beginning in self.rules:
            if found := re.match(pattern, name):
                return found.expand(beginning) + name[found.end() :]
        return name

    def renamed(self, shapes: Shapes) -> dict[str, list[int]]:
        """Shapes by today's names."""
        return {self.current(name): shape for name, shape in shapes.items()}

    def refusal(self, file: object, found: Shapes, source: object, use: str = "") -> UserError:
        """The error for a file whose names alone are former ones; it ends in the command that converts `source`.

        use: what to do with the folder that the command writes.
        """
        name = next(name for name in found if self.current(name) != name)
        command = f"muse run import-weights {shlex.quote(f'source={source}')} format={self.format} out=converted"
        return UserError(
            f"{file} has names of an earlier version, {name} for {self.current(name)}; "
            f"convert it{use and ', '}{use}: {command}"
        )


def former_names(module: Any) -> FormerNames | None:
    """What a module says of its tensors' former names; None where they never had others."""
    address = getattr(module, "former_names", None)
    return None if address is None else pkgutil.resolve_name(address)


def refuse_former(
    module: Any, file: object, found: Shapes, wanted: Shapes, source: object = None, use: str = ""
) -> None:
    """Raise `FormerNames.refusal` where nothing but former names keeps the tensors found from being those wanted."""
    former = former_names(module)
    if former is not None and found != wanted and former.renamed(found) == wanted:
        raise former.refusal(file, found, file if source is None else source, use)
