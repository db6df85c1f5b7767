"""Watches what a part does to what it is given, and which line of it draws random numbers that nobody handed out."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from muse_studio.testing.promise import Noticed, calling


@contextlib.contextmanager
def unchanged(given: dict[str, Tensor | None]) -> Iterator[None]:
    """AssertionError, with the line that did it, where the body changes one of these tensors, by what each is."""
    kept = {name: (each, each.clone()) for name, each in given.items() if each is not None}
    with _Watch({name: each for name, (each, _) in kept.items()}) as watch:
        yield
    for name, (now, before) in kept.items():
        if not torch.equal(now, before):
            raise Noticed(f"it changed {name}", watch.written.get(name))


@contextlib.contextmanager
def nothing_drawn_globally() -> Iterator[None]:
    """AssertionError, with the line that did it, where the body draws from a generator that belongs to all."""
    before = {name: state() for name, state in _GLOBAL.items()}
    with _Watch({}) as watch:
        yield
    for name, state in _GLOBAL.items():
        if state() != before[name]:
            place = watch.drawn if name == "torch" else None
            raise Noticed(f"the global generator of {name} was used; draw from the one given", place)


def _numpy_state() -> Any:
    if (numpy := sys.modules.get("numpy")) is None:
        return None
    state = numpy.random.get_state(legacy=False)["state"]
    return state["key"].tobytes(), state["pos"]


_GLOBAL: dict[str, Callable[[], Any]] = {
    "torch": lambda: torch.get_rng_state().numpy().tobytes(),
    "Python's random": random.getstate,
    "numpy": _numpy_state,
}
"""The state of each generator that is everyone's, by whose it is."""


class _Watch(TorchDispatchMode):
    """Notes the part's line that first writes to each of the tensors, and that first draws without a generator."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.written: dict[str, str | None] = {}
        self.drawn: str | None = None
        self._names = {each.untyped_storage()._cdata: name for name, each in tensors.items()}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        named = dict(zip((each.name for each in operation._schema.arguments), args, strict=False)) | kwargs
        if operation._schema.is_mutable:
            for argument in operation._schema.arguments:
                value = named.get(argument.name)
                if argument.is_write and isinstance(value, Tensor):
                    name = self._names.get(value.untyped_storage()._cdata)
                    if name is not None:
                        self.written.setdefault(name, calling(sys._getframe(1)))
        if torch.Tag.nondeterministic_seeded in operation.tags and named.get("generator") is None:
            self.drawn = self.drawn or calling(sys._getframe(1))
        return operation(*args, **kwargs)
