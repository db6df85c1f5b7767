"""One part that a plugin offers: imported when it is first used, and its signature read then."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

from muse_studio.kinds import Kind
from muse_studio.problems import PluginError, told
from muse_studio.signature import Setting, settings


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
        """The callable itself, imported at first use; PluginError where it can't be."""
        found: Any = self.target
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            try:
                found = reduce(getattr, attribute.split("."), importlib.import_module(module))
            except (Exception, SystemExit) as error:
                raise PluginError(
                    f"plugin {self.plugin} offers {self} as {self.target}, which can't be imported: {told(error)}"
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


def offered(kind: Kind, name: object, plugin: str, target: object) -> Part:
    """The part that a hook offers under that key; PluginError where the key or the target has no such form."""
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+([-.][a-z0-9]+)*", name):
        raise PluginError(f"{kind.hook} names a part {name!r}; write lower case, with words joined by hyphens")
    if isinstance(target, str) and not re.fullmatch(r"[\w.]+:[\w.]+", target):
        raise PluginError(f'{kind.hook} offers {name!r} as {target!r}; write "module:attribute"')
    if not isinstance(target, str) and not callable(target):
        raise PluginError(f'{kind.hook} offers {name!r} as {target!r}; give a callable, or "module:attribute"')
    return Part(kind.name, name, plugin, target)
