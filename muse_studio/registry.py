"""Finds plugins: which part goes by a name, which plugin failed to load, and why."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

import pluggy

from muse_studio import hookspecs
from muse_studio.errors import UserError
from muse_studio.kinds import Kind, hook_points, kind_named, kinds
from muse_studio.part import Part, offered
from muse_studio.problems import PluginError, listed, near, told

GROUP = "muse_studio"
"""The entry-point group by which an installed package offers its plugin."""
WITHOUT = "MUSE_WITHOUT"
"""The environment variable that leaves plugins out, separated by commas."""


class Registry:
    """All plugins that are installed (or only those of `entries`), and those in `files`.

    hook: pluggy's caller of the observers, as in `registry.hook.muse_step(...)`.
    versions: each plugin's version by its name; that of a file begins "sha256:".
    failed: why each plugin that was set aside could not be loaded, by its name.
    left_out: the plugins that MUSE_WITHOUT leaves out.

    Raises UserError where a file of `files` is no plugin: the user has asked for that one.
    """

    def __init__(self, files: Sequence[str | Path] = (), entries: Iterable[EntryPoint] | None = None) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.hook = self._manager.hook
        self.versions: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self._parts: list[Part] = []
        entries = sorted(entry_points(group=GROUP) if entries is None else entries, key=lambda entry: entry.name)
        self.left_out = _left_out({entry.name for entry in entries})
        for entry in entries:
            if entry.name not in self.left_out:
                try:
                    self._add(entry.name, entry.load(), entry.dist.version if entry.dist else "unknown")
                except (Exception, SystemExit) as error:
                    self.failed[entry.name] = str(error) if isinstance(error, PluginError) else told(error)
        for file in map(Path, files):
            module = _execute(file)
            try:
                self._add(file.stem, module, f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}")
            except PluginError as error:
                del sys.modules[module.__name__]
                raise UserError(f"--plugin {file}: {error}") from error

    def observe(self, observers: Iterable[tuple[str, object]]) -> None:
        """Let observers' methods be called from now on, each under its name, or that numbered where it is taken.

        Raises PluginError where one has no method that is a hook, or one that is misspelt.
        """
        for name, observer in observers:
            title = next(each for each in _numbered(name) if not self._manager.has_plugin(each))
            try:
                self._manager.register(observer, title)
                self._manager.check_pending()
                _check_filled(observer, {caller.name for caller in self._manager.get_hookcallers(observer) or ()})
            except Exception as error:
                self._manager.unregister(name=title)
                raise PluginError(f"observer {name!r}: {_misspelt(error)}") from error

    def parts(self, kind: str | None = None) -> list[Part]:
        """The parts of one kind, or all, by kind, name and plugin; UserError where there is no such kind."""
        order = list(kinds())
        wanted = [part for part in self._parts if kind is None or part.kind == kind_named(kind).name]
        return sorted(wanted, key=lambda part: (order.index(part.kind), part.name, part.plugin))

    def find(self, kind: str, name: str) -> Part:
        """The part that goes by `name`, or by "plugin/name"; UserError where it is unknown or two plugins offer it."""
        parts = self.parts(kind)
        plugin, slash, short = name.rpartition("/")
        found = [part for part in parts if part.name == short and (not slash or part.plugin == plugin)]
        if len(found) == 1:
            return found[0]
        if found:
            choices = " or ".join(repr(f"{part.plugin}/{part.name}") for part in found)
            raise UserError(f"{len(found)} plugins offer a {kind} {short!r}; say whose you want: {choices}")
        raise UserError(self._unknown(kind, name, parts))

    def _unknown(self, kind: str, name: str, parts: list[Part]) -> str:
        names = {part.name for part in parts}
        text = f"no {kind} is called {name!r};{near(name, names)} available: {listed(names)}"
        others = sorted({part.kind for part in self._parts if part.name == name and part.kind != kind})
        if others:
            text += f"; {name!r} is a {' and a '.join(others)}"
        for plugin, reason in self.failed.items():
            text += f"; plugin {plugin} could not be loaded and may have it: {reason}"
        if self.left_out:
            text += f"; left out by {WITHOUT}: {listed(self.left_out)}"
        return text

    def _add(self, name: str, plugin: object, version: str) -> None:
        """Register one plugin and read its parts; PluginError where anything is amiss, and then nothing of it stays."""
        if self._manager.has_plugin(name):
            raise PluginError(f"there is another plugin called {name!r}; rename one of them")
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
            parts = [part for kind in kinds().values() for part in self._offered(kind, name, plugin)]
            _check_filled(plugin, {caller.name for caller in self._manager.get_hookcallers(plugin) or ()})
        except Exception as error:
            self._manager.unregister(name=name)
            raise PluginError(_misspelt(error)) from error
        self._parts += parts
        self.versions[name] = version

    def _offered(self, kind: Kind, name: str, plugin: object) -> Iterable[Part]:
        for hook in getattr(self.hook, kind.hook).get_hookimpls():
            if hook.plugin is plugin:
                try:
                    answer = hook.function()
                except Exception as error:
                    raise PluginError(f"{kind.hook} raised {told(error)}") from error
                if not isinstance(answer, Mapping):
                    raise PluginError(f"{kind.hook} gave {answer!r}; it must return a dict of name to part")
                for key, target in answer.items():
                    yield offered(kind, key, name, target)


def _numbered(name: str) -> Iterator[str]:
    """The name, then name-2, name-3 and so on."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _check_filled(plugin: object, filled: set[str]) -> None:
    """PluginError where a hook is written but not marked, which pluggy passes over, or where there is none at all."""
    for name, specification in hook_points().items():
        written = getattr(plugin, name, None)
        if callable(written) and written is not specification and name not in filled:
            raise PluginError(f"{name} has no @hookimpl above it, so it would not be seen; add it")
    if not filled:
        raise PluginError(f"it fills no hook; mark a function such as {next(iter(hook_points()))} by @hookimpl")


def _misspelt(error: Exception) -> str:
    """What went wrong, with the name that is near where pluggy knows a hook not."""
    unknown = re.search(r"unknown hook '(\w+)'", str(error))
    if unknown:
        return f"there is no hook {unknown[1]!r};{near(unknown[1], hook_points())} hooks: {', '.join(hook_points())}"
    return " ".join(str(error).split())


def _left_out(known: set[str]) -> set[str]:
    wanted = {name.strip() for name in os.environ.get(WITHOUT, "").split(",")} - {""}
    for name in sorted(wanted - known):
        said = f"{WITHOUT} names {name!r}, which is no plugin;{near(name, known)} plugins: {listed(known)}"
        warnings.warn(said, stacklevel=2)
    return wanted & known


def _execute(file: Path) -> ModuleType:
    """Run a user's plugin file as a module with a name of its own; UserError where that fails."""
    if not file.is_file():
        raise UserError(f"--plugin {file}: there is no such file")
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    name = f"muse_plugin_{re.sub(r'[^0-9a-zA-Z]', '_', file.stem)}_{digest}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"--plugin {file}: this is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and type hints look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"--plugin {file}: it can't be run: {told(error)}") from error
    return module
