"""One part that a plugin offers: imported when it is first used, its signature read as the schema of its table."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from muse_studio.errors import PluginError, error_message
from muse_studio.registry.kinds import Kind, kind_of
from muse_studio.runtime import launch

REQUIRED = inspect.Parameter.empty
SCALARS = (bool, int, float, str)
UNIONS = (Union, UnionType)

PART = "_muse_part"
"""The attribute of a class by which its objects are a third party's part."""


@dataclass(frozen=True)
class Setting:
    """One key that a part takes; `str()` gives "name: type = default", the default as a recipe would write it."""

    name: str
    annotation: Any
    default: Any = REQUIRED

    @property
    def required(self) -> bool:
        """Whether a recipe must give it."""
        return self.default is REQUIRED

    def __str__(self) -> str:
        shown = f"{self.name}: {spelled(self.annotation)}"
        return shown if self.required else f"{shown} = {_written(self.default)}"


def settings(target: Callable[..., Any], name: str) -> dict[str, Setting]:
    """What a part or a dataclass takes, in order. `name` says in errors what it is: "sampler 'confidence' of muse_x".

    PluginError where the signature is no schema: *args, **kwargs, positional-only or unannotated settings, an
    annotation that can't be resolved, or one that no recipe could give.
    """
    parameters = _parameters(target)
    for parameter in parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise PluginError(
                f"{name} takes {parameter}, where a misspelt key would pass unseen; every setting of a part must be "
                "a keyword with an annotation"
            )
        if parameter.annotation is parameter.empty:
            raise PluginError(f"{name} has a setting {parameter.name!r} without annotation; give its type")
    hints = _hints(target, parameters, name)
    found = {}
    for key, parameter in parameters.items():
        if (stranger := _stranger(hints[key])) is not None:
            raise PluginError(
                f"{name} has a setting {key!r} of type {spelled(stranger)}, which no recipe can give; use int, float, "
                "str, bool, Literal, list, dict, X | None, a contract of muse_studio.contracts, or a dataclass"
            )
        found[key] = Setting(key, hints[key], parameter.default)
    return found


def spelled(annotation: Any) -> str:
    """An annotation as people read it: "int | null", "list[str]", "sampler", "'a' | 'b'"."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is NoneType:
        return "null"
    if origin in UNIONS:
        return " | ".join(map(spelled, inner))
    if origin is Literal:
        return " | ".join(map(_written, inner))
    if origin is not None and inner:
        return f"{origin.__name__}[{', '.join(map(spelled, inner))}]"
    if (kind := kind_of(annotation)) is not None:
        return kind.name
    return getattr(annotation, "__name__", str(annotation))


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    if inspect.isclass(target) and _constructor(target) is None:
        return {}
    parameters = dict(inspect.signature(target).parameters)
    if dataclasses.is_dataclass(target):  # a factory's default is shown as what it makes
        for field in dataclasses.fields(target):
            if field.default_factory is not dataclasses.MISSING and field.name in parameters:
                parameters[field.name] = parameters[field.name].replace(default=field.default_factory())
    return parameters


def _constructor(target: type) -> Callable[..., Any] | None:
    """The `__init__` that somebody wrote; a Protocol in the family tree brings one that takes anything."""
    for each in target.__mro__[:-1]:
        if "__init__" in vars(each) and not vars(each).get("_is_protocol", False):
            made = vars(each)["__init__"]
            return None if made.__module__ == "typing" else made
    return None


def _hints(target: Callable[..., Any], parameters: Mapping[str, inspect.Parameter], name: str) -> dict[str, Any]:
    """Annotations as types. Only the settings' own: a return type may well be imported for type checkers alone."""
    try:
        if dataclasses.is_dataclass(target):  # its fields may come from parents in other modules
            return get_type_hints(target)
        made = _constructor(target) if inspect.isclass(target) and parameters else target
        written = inspect.unwrap(made or target)
        annotated = {key: parameter.annotation for key, parameter in parameters.items()}
        return get_type_hints(SimpleNamespace(__annotations__=annotated), getattr(written, "__globals__", {}))
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise PluginError(
            f"{name} has an annotation that can't be resolved ({error}); import its name where the module runs, "
            "not under TYPE_CHECKING"
        ) from error


def _stranger(annotation: Any) -> Any:
    """The first type within an annotation that no recipe can give, or None."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return next((type(value) for value in inner if type(value) not in (*SCALARS, NoneType)), None)
    if origin in UNIONS or origin in (list, dict):
        if origin is dict and inner[0] is not str:
            return annotation
        return next((stranger for each in inner if (stranger := _stranger(each)) is not None), None)
    if annotation in (*SCALARS, NoneType, list, dict) or kind_of(annotation) is not None or is_table(annotation):
        return None
    return annotation


def is_table(annotation: Any) -> bool:
    """Whether a table without `use` makes it: a dataclass."""
    return inspect.isclass(annotation) and dataclasses.is_dataclass(annotation)


def _written(value: Any) -> str:
    """A default as a recipe would write it: null, true, and text in quotes."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


@dataclass(frozen=True)
class Part:
    """One part that a plugin offers.

    kind: "sampler". name: "confidence". plugin: who offers it. target: a callable, or "module:attribute".
    """

    kind: str
    name: str
    plugin: str
    target: Callable[..., Any] | str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"

    @property
    def full_name(self) -> str:
        """By which a recipe can always name it: "muse_sampling/confidence"."""
        return f"{self.plugin}/{self.name}"

    def load(self) -> Callable[..., Any]:
        """The callable itself, imported at first use; PluginError where it can't be. A Ctrl-C waits for its end.

        What is imported first is torch, whose C++ ends the process where Python raises in the midst of it.
        """
        found: Any = self.target
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            try:
                with launch.interrupted_later():
                    found = reduce(getattr, attribute.split("."), importlib.import_module(module))
            except (Exception, SystemExit) as error:
                raise PluginError(
                    f"plugin {self.plugin} offers {self} as {self.target}, which can't be imported: "
                    f"{error_message(error)}"
                ) from error
        if not callable(found):
            raise PluginError(f"plugin {self.plugin} offers {self} as {self.target}, which is no class or function")
        return found

    @property
    def settings(self) -> dict[str, Setting]:
        """What it takes, by name; imports the part."""
        return settings(self.load(), f"{self} of plugin {self.plugin}")

    @property
    def about(self) -> str:
        """Its docstring; imports the part."""
        return inspect.getdoc(self.load()) or ""


def written(what: Any) -> str | None:
    """The file:line where a class or function is written, None where Python does not know."""
    try:
        return f"{inspect.getsourcefile(what)}:{inspect.getsourcelines(what)[1]}"
    except (OSError, TypeError):  # it is written in C, or nowhere
        return None


def described(made: Any) -> str:
    """What messages call a part that was made: its plugin and where it is written, if that is a third party's."""
    part, place = getattr(type(made), PART, None), written(type(made))
    return type(made).__name__ if part is None else f"{part} of plugin {part.plugin}, {place},"


def offered(kind: Kind, name: object, plugin: str, target: object) -> Part:
    """The part that a hook offers under that key; PluginError where the key or the target has no such form."""
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+([-.][a-z0-9]+)*", name):
        raise PluginError(f"{kind.hook} names a part {name!r}; write lower case, with words joined by hyphens")
    if isinstance(target, str) and not re.fullmatch(r"[\w.]+:[\w.]+", target):
        raise PluginError(f'{kind.hook} offers {name!r} as {target!r}; write "module:attribute"')
    if not isinstance(target, str) and not callable(target):
        raise PluginError(f'{kind.hook} offers {name!r} as {target!r}; give a callable, or "module:attribute"')
    return Part(kind.name, name, plugin, target)
