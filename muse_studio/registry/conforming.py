"""Whether a part that was just made is what its contract asks for, and what that contract says in its own words."""

from __future__ import annotations

import inspect
import operator
from typing import Any

from muse_studio.errors import PluginError
from muse_studio.registry.parts import written


def check_made(made: Any, contract: type, what: str, target: Any) -> None:
    """PluginError where a part has not the methods and numbers of its contract, or can't be called as the core calls.

    target: what made it, whose place is named.
    """
    methods = [name for name, each in vars(contract).items() if inspect.isfunction(each) and name != "__init__"]
    for name in (*methods, *contract.__annotations__):
        problem, method = _missing(made, contract, name), None
        if problem is None and name in methods:
            method = getattr(made, name)
            problem = _wrong_signature(made, contract, name)
        if problem is not None:  # only then: to find where a class is written, its file is read
            place = definition(method) or written(type(made)) or written(target)
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


def promised(contract: type, name: str) -> str:
    """What a contract says of one of its methods or attributes: "Sampler.steps: int"."""
    member = vars(contract).get(name)
    if not inspect.isfunction(member):
        return f"{contract.__name__}.{name}: {contract.__annotations__.get(name, 'see contracts')}"
    taken = ", ".join(list(inspect.signature(member).parameters)[1:])
    about = " ".join((inspect.getdoc(member) or "").split())
    return f"{contract.__name__}.{name}({taken}){': ' * bool(about)}{about}".rstrip(".")


def definition(call: Any) -> str | None:
    """The file:line where a part's method is written, None where Python does not know."""
    if getattr(call, "__name__", "").endswith("call_impl"):  # of a torch module, which calls its forward
        call = getattr(call.__self__, "forward", call)
    code = getattr(inspect.unwrap(call) if callable(call) else None, "__code__", None)
    return None if code is None else f"{code.co_filename}:{code.co_firstlineno}"


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
