"""A part that was just made: whether it is what its contract asks for, and, of third parties, held to its promises."""

from __future__ import annotations

import functools
import inspect
import operator
import sys
from collections.abc import Callable
from typing import Any

from muse_studio.errors import PluginError
from muse_studio.registry.faults import Door, definition, promised
from muse_studio.registry.parts import PART, Part, written
from muse_studio.registry.promises import PROMISES


def check_made(made: Any, contract: type, what: str, target: Any) -> None:
    """PluginError where a part has not the methods and numbers of its contract, or can't be called as the core calls.

    target: what made it, whose place is named.
    """
    methods = [name for name, each in vars(contract).items() if inspect.isfunction(each) and name != "__init__"]
    for name in (*methods, *contract.__annotations__):
        problem, place = _missing(made, contract, name), written(type(made)) or written(target)
        if problem is None and name in methods:
            problem, place = _wrong_signature(made, contract, name), definition(getattr(made, name)) or place
        if problem is not None:
            raise PluginError(f"{what}{f', {place}' * bool(place)}: {problem}; promised: {promised(contract, name)}")


def _missing(made: Any, contract: type, name: str) -> str | None:
    """How a part has not the method or the number of that name; None where it has."""
    number = contract.__annotations__.get(name)
    value = getattr(made, name, None)
    if name == "__call__" and getattr(getattr(made, "forward", None), "__name__", "") == "_forward_unimplemented":
        name, value = "forward", None  # a torch module without one
    absent = value is None and number != "Any"  # which None is too
    if not hasattr(made, name) or (number is None and not callable(value)) or absent:
        return f"it gave {type(made).__name__}, which is no {contract.__name__}: it has no {name}"
    return f"its {name} is {value!r}" if number == "int" and not _is_whole(value) else None


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


def _wrong_signature(made: Any, contract: type, name: str) -> str | None:
    """How a method can't be called with the arguments of its contract, by place; None where it can."""
    wanted = list(inspect.signature(vars(contract)[name]).parameters.values())[1:]
    method = getattr(made, name)
    try:
        signature = inspect.signature(method)
        if name == "__call__" and all(each.kind in _ANY for each in signature.parameters.values()):
            signature = inspect.signature(getattr(made, "forward", method))  # of a torch module
    except (TypeError, ValueError):  # of what is not written in Python
        return None
    extra = name == "__call__" and contract.__name__ == "Transformer" and getattr(made, "placewise", False)
    least = sum(each.default is each.empty for each in wanted)
    named: dict[str, Any] = {}
    if contract.__name__ == "Task":  # its context is given by name, to who takes it
        wanted = wanted[:least]
        named = {"context": None} if "context" in signature.parameters else {}
    for count in {least, len(wanted) + bool(extra)}:
        try:
            signature.bind(*range(count), **named)
        except TypeError as error:
            return f"takes {signature}, and is called with {count} arguments: {error}"
    return None


_ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _is_whole(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)
