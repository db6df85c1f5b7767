"""The kinds of parts, read off the hook points: a hook's name gives the kind's, its return annotation the contract."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

from muse_studio import hookspecs
from muse_studio.errors import UserError, near


@dataclass(frozen=True)
class Kind:
    """One kind of part.

    name: as a user writes it: "text-encoder".
    hook: the hook point that offers such parts: "muse_text_encoders".
    contract: the Protocol that such a part fulfils.
    about: the hook's first line.
    """

    name: str
    hook: str
    contract: type
    about: str

    def __str__(self) -> str:
        return self.name

    @property
    def with_article(self) -> str:
        """Its name in a sentence: "a sampler", "an editor"."""
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"


@cache
def kinds() -> MappingProxyType[str, Kind]:
    """Every kind by its name, in the order of the hook points."""
    found = {}
    for hook, specification in hook_points().items():
        if not inspect.signature(specification).parameters:
            offered = get_type_hints(specification)["return"]  # Mapping[str, Callable[..., Contract] | str]
            making = get_args(get_args(offered)[1])[0]
            name = hook.removeprefix("muse_").removesuffix("s").replace("_", "-")
            about = (inspect.getdoc(specification) or "").partition("\n")[0]
            found[name] = Kind(name, hook, get_args(making)[1], about)
    return MappingProxyType(found)


@cache
def hook_points() -> MappingProxyType[str, Callable[..., Any]]:
    """Every hook point's specification by its name, the observers among them."""
    marker = f"{hookspecs.PROJECT}_spec"
    return MappingProxyType({name: each for name, each in vars(hookspecs).items() if hasattr(each, marker)})


def kind_named(name: str) -> Kind:
    """The kind of that name; UserError with what is near where there is none."""
    if name not in kinds():
        raise UserError(f"no kind of part is called {name!r};{near(name, kinds())} kinds: {', '.join(kinds())}")
    return kinds()[name]


def kind_of(contract: object) -> Kind | None:
    """The kind whose contract that is, or None."""
    return next((kind for kind in kinds().values() if kind.contract is contract), None)
