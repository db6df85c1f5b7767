"""Loads one plugin, checks that it may be let in, and measures what that costs whoever only wants a list of parts."""

from __future__ import annotations

import importlib.util
import re
import sys
import time
import traceback
import zlib
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from muse_studio.errors import PluginError, UserError, error_message, near
from muse_studio.hookspecs import API
from muse_studio.registry.kinds import hook_points
from muse_studio.runtime import gpu_watch


def check_api(required: object) -> None:
    """PluginError where a plugin's `requires_api`, such as ">=1,<2", leaves out the API here; None asks for none."""
    if required is None:
        return
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import Version

    try:
        wanted = SpecifierSet(required if isinstance(required, str) else "?")
    except InvalidSpecifier as error:
        raise PluginError(f"its requires_api is {required!r}; write it like '>=1,<2'") from error
    unmet = [each for each in wanted if API not in each]
    if unmet:
        newer = any(Version(each.version.removesuffix(".*")) > Version(API) for each in unmet)
        cure = "upgrade muse-studio" if newer else "upgrade the plugin"
        raise PluginError(f"it needs plugin API {required}, and this muse_studio has {API}; {cure}")


def check_filled(plugin: object, filled: set[str]) -> None:
    """PluginError where a hook is written but not marked, which pluggy passes over, or where there is none at all."""
    for name, specification in hook_points().items():
        written = getattr(plugin, name, None)
        if callable(written) and written is not specification and name not in filled:
            raise PluginError(f"{name} has no @hookimpl above it, so it would not be seen; add it")
    if not filled:
        raise PluginError(f"it fills no hook; mark a function such as {next(iter(hook_points()))} by @hookimpl")


def reason(error: Exception) -> str:
    """Why a plugin was not let in, with the name that is near where pluggy knows a hook not."""
    unknown = re.search(r"unknown hook '(\w+)'", str(error))
    if unknown:
        return f"there is no hook {unknown[1]!r};{near(unknown[1], hook_points())} hooks: {', '.join(hook_points())}"
    if isinstance(error, PluginError | pluggy.PluginValidationError):
        return " ".join(str(error).split())
    return error_message(error)


HEAVY = ("torch", "transformers", "diffusers", "PIL", "numpy", "yaml")
"""What `muse parts` must not wait for."""


class Cost:
    """Within it, a plugin is loaded; afterwards, it says what that cost.

    seconds: how long it took. heavy: those of HEAVY that were not imported before. gpu: what was taken of a GPU, in
    words, empty where nothing was.
    """

    seconds: float = 0.0
    heavy: tuple[str, ...] = ()
    gpu: str = ""

    def __enter__(self) -> Cost:
        self._absent = [name for name in HEAVY if name not in sys.modules]
        self._held, self._began = gpu_watch.held(), time.perf_counter()
        return self

    def __exit__(self, *failure: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self.heavy = tuple(name for name in self._absent if name in sys.modules)
        self.gpu = gpu_watch.taken(self._held)


def release(entry: EntryPoint) -> str:
    """The distribution that an entry point comes from, and its version: "muse-dots 1.2"."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"


def installed(entry: EntryPoint) -> Any:
    """The plugin behind an entry point; PluginError with the reason where it can't be imported."""
    if not entry.pattern.match(entry.value):
        raise PluginError(f"its entry point is {entry.value!r}; write the plugin's module, such as 'muse_dots.plugin'")
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals.get("__name__") == entry.module:
                check_api(frame.f_globals.get("requires_api"))  # it may have failed for want of what it says it needs
        raise PluginError(error_message(error)) from error


def digest(file: Path) -> str:
    """What stands for the version of a plugin in a file: "sha256:" and 16 digits."""
    import hashlib  # here, for it takes 2 ms that a list of parts need not wait

    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"


def executed(file: Path) -> ModuleType:
    """A user's Python file, run as a module with a name of its own; UserError where that fails."""
    if not file.is_file():
        raise UserError(f"--plugin {file}: there is no such file")
    place = f"{zlib.crc32(str(file.resolve()).encode()):08x}"
    name = f"muse_plugin_{re.sub(r'[^0-9a-zA-Z]', '_', file.stem)}_{place}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"--plugin {file}: this is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and type hints look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        try:
            check_api(getattr(module, "requires_api", None))
        except PluginError as older:
            raise UserError(f"--plugin {file}: {older}") from error
        raise UserError(f"--plugin {file}: it can't be run: {error_message(error)}") from error
    return module
