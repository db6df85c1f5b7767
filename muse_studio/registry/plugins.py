"""Finds plugins: which part goes by a name, which plugin failed to load, and why."""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pluggy

from muse_studio import hookspecs
from muse_studio.errors import PluginError, UserError, error_message, listed, near
from muse_studio.registry import guards, loading
from muse_studio.registry.guards import guarded
from muse_studio.registry.kinds import Kind, hook_points, kind_named, kinds
from muse_studio.registry.loading import check_api, check_filled, reason
from muse_studio.registry.parts import PART, Part, described, offered

GROUP = "muse_studio"
"""The entry-point group by which an installed package offers its plugin."""

WITHOUT = "MUSE_WITHOUT"
"""The environment variable that leaves plugins out, separated by commas."""

OURS = "muse-studio"
"""The distribution of the default parts, whose plugins keep their names where another takes one of them."""


@dataclass(frozen=True)
class Plugin:
    """A plugin that was let in.

    source: its entry point, or "sha256:..." where it is a file. module: its name. cost: what loading it cost.
    """

    source: EntryPoint | str
    module: str
    cost: loading.Cost

    @property
    def release(self) -> str:
        """Where it came from, "muse-dots 1.2" of a distribution; read when it is asked for, which takes a while."""
        return self.source if isinstance(self.source, str) else loading.release(self.source)

    @cached_property
    def is_default(self) -> bool:
        """Whether it comes with this project."""
        return isinstance(self.source, EntryPoint) and self.source.dist is not None and self.source.dist.name == OURS

    def packages(self) -> set[str]:
        """The modules and packages at the top of its distribution, as far as that says; of one of ours none."""
        if isinstance(self.source, str) or self.source.dist is None or self.is_default:
            return set()
        files = [file.parts for file in self.source.dist.files or () if file.suffix == ".py"]
        modules = {name.removesuffix(".py") for name, *below in files if not below}
        return modules | {name for name, *below in files if below == ["__init__.py"]}


class Registry:
    """All plugins that are installed (or only those of `entries`), and those in `files`.

    hook: pluggy's caller of the observers, as in `registry.hook.muse_step(...)`.
    plugins: each plugin that was let in, by its name.
    failed: why each plugin that was set aside could not be loaded, and whose it is, by its name; and why a distribution
        could not be asked for plugins, by the distribution's.
    left_out: the plugins that MUSE_WITHOUT leaves out.

    Raises UserError where a file of `files` is no plugin: the user has asked for that one. Warns of a plugin that takes
    hold of a GPU.
    """

    def __init__(self, files: Sequence[str | Path] = (), entries: Iterable[EntryPoint] | None = None) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._trace = guards.wanted()
        self.hook = self._manager.hook
        self.plugins: dict[str, Plugin] = {}
        self.failed: dict[str, str] = {}
        self._parts: list[Part] = []
        if entries is None:
            entries, unreadable = loading.entry_points_of(GROUP)
            for distribution, why in unreadable.items():
                self._set_aside(distribution, why)
            if unreadable:
                loading.warn_of_unreadable(unreadable)
        entries = _in_order(entries)
        self.left_out = _left_out({entry.name for entry in entries})
        for entry in entries:
            if entry.name not in self.left_out:
                try:
                    with loading.Cost() as cost:
                        self._add(entry.name, loading.installed(entry))
                    self._note(entry.name, entry.module, Plugin(entry, entry.module, cost))
                except PluginError as error:
                    held = f"; and it {cost.gpu}" if cost.gpu else ""
                    whose = f", in {loading.release(entry)}" if entry.dist else ""
                    self._set_aside(entry.name, f"{error}{held}", whose)
        for file in map(Path, files):
            with loading.Cost() as cost:
                module = loading.executed(file)
                try:
                    self._add(file.stem, module)
                except PluginError as error:
                    del sys.modules[module.__name__]
                    raise UserError(f"--plugin {file}: {error}") from error
            self._note(file.stem, str(file), Plugin(loading.digest(file), module.__name__, cost))

    @cached_property
    def versions(self) -> dict[str, str]:
        """Each plugin's version by its name."""
        return {name: plugin.release.rpartition(" ")[2] for name, plugin in self.plugins.items()}

    def is_foreign(self, plugin: str) -> bool:
        """Whether a plugin is a third party's, and none of this project's own."""
        return plugin not in self.plugins or not self.plugins[plugin].is_default

    def observe(self, observers: Iterable[tuple[str, object]]) -> None:
        """Let observers' methods be called from now on, each under its name, or that numbered where it is taken.

        Raises PluginError where one has no method that is a hook, or one that is misspelt.
        """
        for name, observer in observers:
            title = next(each for each in _numbered(name) if not self._manager.has_plugin(each))
            try:
                cure = "leave it out of the recipe's observers"
                self._register(observer, title, f"observer {title}", cure)
            except Exception as error:
                known = hasattr(type(observer), PART)
                which = described(observer).rstrip(",") if known else f"observer {name!r}"
                raise PluginError(f"{which}: {reason(error)}") from error

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
            choices = " or ".join(repr(part.full_name) for part in found)
            cure = f"say whose you want: {choices}, or leave one out by {WITHOUT}"
            raise UserError(f"{len(found)} plugins offer a {kind} {short!r}; {cure}")
        raise UserError(self._unknown(kind, name, parts))

    def _unknown(self, kind: str, name: str, parts: list[Part]) -> str:
        names = {part.name for part in parts}
        text = f"no {kind} is called {name!r};{near(name, names)} available: {listed(names)}"
        others = sorted({part.kind for part in self._parts if part.name == name and part.kind != kind})
        if others:
            text += f"; {name!r} is a {' and a '.join(others)}"
        for plugin, why in self.failed.items():
            text += f"; plugin {plugin} could not be loaded and may have it: {why}"
        if self.left_out:
            text += f"; left out by {WITHOUT}: {listed(self.left_out)}"
        return text

    def _add(self, name: str, plugin: Any) -> None:
        """Register one plugin and read its parts; PluginError where anything is amiss, and then nothing of it stays."""
        if self._manager.has_plugin(name):
            raise PluginError(f"there is another plugin called {name!r}; rename one of them")
        try:
            check_api(getattr(plugin, "requires_api", None))
            hooks = self._register(plugin, name, f"plugin {name}", f"{WITHOUT}={name} runs without it")
            parts = [part for kind in kinds().values() for part in self._offered(kind, name, hooks)]
        except Exception as error:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            raise PluginError(reason(error)) from error
        self._parts += parts

    def _register(self, plugin: object, name: str, who: str, cure: str) -> object:
        """The hooks of `plugin`, registered under `name`, or nothing of it; `who` and `cure` are what failures say."""
        observing = set(hook_points()) - {kind.hook for kind in kinds().values()}
        hooks = guarded(plugin, name, who, cure, observing, self._trace)
        self._manager.register(hooks, name)
        try:
            self._manager.check_pending()
            check_filled(plugin, {caller.name for caller in self._manager.get_hookcallers(hooks) or ()})
        except Exception:
            self._manager.unregister(name=name)
            raise
        return hooks

    def _note(self, name: str, module: str, plugin: Plugin) -> None:
        """Keep what a plugin that was let in is and costs, and say so where that is more than it may."""
        self.plugins[name] = plugin
        cost = plugin.cost
        if cost.gpu:
            cure = f"its parts should do so when they are called; {WITHOUT}={name} leaves it out"
            warnings.warn(f"plugin {name}, {plugin.release}, {cost.gpu} as soon as it is loaded; {cure}", stacklevel=3)
        if self._trace is not None:
            heavy = f" imports {', '.join(cost.heavy)}" if cost.heavy else ""
            self._trace.note(name, f"loaded from {module}{heavy}", cost.seconds)

    def _set_aside(self, name: str, why: str, whose: str = "") -> None:
        before = f"{self.failed[name]}; " if name in self.failed else ""
        self.failed[name] = f"{before}{why}{whose}"
        if self._trace is not None:
            self._trace.note(name, f"set aside: {why}", 0.0)

    def _offered(self, kind: Kind, name: str, plugin: object) -> Iterable[Part]:
        for hook in getattr(self.hook, kind.hook).get_hookimpls():
            if hook.plugin is plugin:
                try:
                    answer = hook.function()
                except (Exception, SystemExit) as error:
                    raise PluginError(f"{kind.hook} raised {error_message(error)}") from error
                if not isinstance(answer, Mapping):
                    raise PluginError(f"{kind.hook} gave {answer!r}; it must return a dict of name to part")
                for key, target in answer.items():
                    yield offered(kind, key, name, target)


def _numbered(name: str) -> Iterator[str]:
    """The name, then name-2, name-3 and so on."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _in_order(entries: Iterable[EntryPoint]) -> list[EntryPoint]:
    """By name; of those called alike, the default plugin first, so that it is there whatever else is installed."""
    alike: dict[str, list[EntryPoint]] = {}
    for entry in entries:
        alike.setdefault(entry.name, []).append(entry)
    for several in alike.values():
        if len(several) > 1:  # only then: a distribution's name is read from a file
            several.sort(key=lambda entry: (entry.dist is None or entry.dist.name != OURS, loading.release(entry)))
    return [entry for name in sorted(alike) for entry in alike[name]]


def _left_out(known: set[str]) -> set[str]:
    wanted = {name.strip() for name in os.environ.get(WITHOUT, "").split(",")} - {""}
    for name in sorted(wanted - known):
        message = f"{WITHOUT} names {name!r}, which is no plugin;{near(name, known)} plugins: {listed(known)}"
        warnings.warn(message, stacklevel=2)
    return wanted & known
