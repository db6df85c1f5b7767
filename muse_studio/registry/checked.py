"""Holds a third party's part to what its methods promise, each time that one is called."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from muse_studio.registry.faults import Door
from muse_studio.registry.parts import PART, Part
from muse_studio.registry.promises import PROMISES


def checked(made: Any, part: Part, contract: type) -> Any:
    """The very part, its methods replaced by such as hold what they give against their promises.

    An object gets a subclass of its class that is called alike; a function is wrapped. Where neither can be done the
    part is left as it is. A copy, or one that goes to another process, is of the class that the plugin wrote.
    """
    kept = {name: Door(made, part, contract, name) for name in PROMISES.get(contract.__name__, {})}
    if inspect.isfunction(made):
        return _checked_function(made, kept["__call__"]) if "__call__" in kept else made
    plain: Any = type(made)
    if PART in vars(plain) or isinstance(made, type) or inspect.ismodule(made):
        return made

    def reduced(self: Any, protocol: Any) -> Any:
        how, arguments, *rest = plain.__reduce_ex__(self, protocol)
        return (how, tuple(plain if each is kind else each for each in arguments), *rest)

    space: dict[str, Any] = {name: getattr(plain, name) for name in ("__module__", "__qualname__", "__doc__")}
    space |= {"__slots__": (), PART: part, "__reduce_ex__": reduced}
    for name, door in kept.items():
        promise = PROMISES[contract.__name__][name]
        if isinstance(getattr(contract, name), property):
            if hasattr(plain, name) and name not in getattr(made, "__dict__", {}):
                space[name] = property(_checked_value(lambda: kind, door, promise))
        elif hasattr(plain, name):
            through = _checked_method(lambda: kind, door, promise)
            space[name] = functools.update_wrapper(through, getattr(plain, name))  # it takes what the part takes
    try:
        kind = type(plain)(plain.__name__, (plain,), space)
        object.__setattr__(made, "__class__", kind)
    except TypeError:  # a class that can't be a parent, or an object whose class is fixed
        return made
    return made


def _checked_method(kind: Callable[[], type], door: Door, promise: Callable[..., Any]) -> Callable[..., Any]:
    compiling = _compiling()

    def through(self: Any, *given: Any, **named: Any) -> Any:
        call = getattr(super(kind(), self), door.method)
        return call(*given, **named) if compiling() else promise(door, call, *given, **named)

    through.__name__ = door.method
    return through


def _checked_value(kind: Callable[[], type], door: Door, promise: Callable[..., Any]) -> Callable[..., Any]:
    def through(self: Any) -> Any:
        return promise(door, lambda: getattr(super(kind(), self), door.method))

    return through


def _checked_function(made: Callable[..., Any], door: Door) -> Callable[..., Any]:
    promise, compiling = PROMISES[door.contract.__name__][door.method], _compiling()

    @functools.wraps(made)
    def through(*given: Any, **named: Any) -> Any:
        return made(*given, **named) if compiling() else promise(door, made, *given, **named)

    return through


def _compiling() -> Callable[[], bool]:
    """What says whether torch is compiling a graph, which holds no check; a part without torch is in none."""
    torch = sys.modules.get("torch")
    return bool if torch is None else torch.compiler.is_compiling
