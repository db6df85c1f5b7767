"""Finds the plugins that are installed, loads one, checks that it may be let in, and measures what that costs."""

from __future__ import annotations

import re
import sys
import time
import warnings
import zlib
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distribution, distributions, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from muse_studio.errors import PluginError, UserError, error_message, near
from muse_studio.hookspecs import API
from muse_studio.registry.kinds import hook_points
from muse_studio.runtime import memory

ENTRY_POINTS = "entry_points.txt"
"""Where a distribution's metadata lists what it offers to others."""


def entry_points_of(group: str) -> tuple[list[EntryPoint], dict[str, str]]:
    """The entry points of a group, and why each distribution whose file can't be read is set aside, by its name.

    Python's own `entry_points` reads all distributions or, where a line of any is malformed, none. Of several by one
    name the first on the path counts, as there.
    """
    found: dict[str, list[EntryPoint]] = {}
    broken: dict[str, str] = {}
    for each in distributions():
        try:
            text = each.read_text(ENTRY_POINTS) or ""
            wrong = _malformed(text)
        except UnicodeDecodeError as error:
            text, wrong = "", f"is not UTF-8 ({error.reason} at byte {error.start})"
        if not wrong and group not in text:
            continue  # before its name is asked for, which takes a while
        name = _name(each)
        if name is None:
            name, wrong = str(each.locate_file("")), wrong or "comes without the METADATA that says whose it is"
        if wrong:
            broken.setdefault(name, f"an {ENTRY_POINTS} {wrong}; install what it belongs to again, or uninstall it")
        elif not _hidden(each, name):
            found.setdefault(name, list(each.entry_points.select(group=group)))
    return [entry for entries in found.values() for entry in entries], broken


def warn_of_unreadable(broken: dict[str, str]) -> None:
    """Warn, by what `entry_points_of` says of distributions, where Python's own reader fails by them.

    torch asks it while it is imported, so that nothing can be drawn before that is mended.
    """
    try:
        entry_points()
    except Exception:  # whatever a malformed file makes it raise
        whose = "; ".join(f"{name}: {why}" for name, why in broken.items())
        warnings.warn(f"Python can't read its entry points, and so torch can't be imported. {whose}", stacklevel=3)


def _malformed(text: str) -> str:
    """What is wrong with the first line that is no section, no comment and no `name = value` of one; else nothing."""
    section = False
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = True
            continue
        name, equals, _ = line.partition("=")
        if not section or not equals or not name.strip():
            return f"has {line!r} in line {number}, which is neither [group] nor a group's name = value"
    return ""


def _name(of: Distribution) -> str | None:
    """A distribution's name, None where its metadata is not there; what Python then raises, versions differ in."""
    try:
        return of.name or None
    except Exception:
        return None


def _hidden(each: Distribution, name: str) -> bool:
    """Whether another distribution of that name comes first on the path."""
    try:
        return distribution(name).locate_file("") != each.locate_file("")
    except PackageNotFoundError:  # its folder is called otherwise than it
        return False


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
        self._held, self._began = memory.held(), time.perf_counter()
        return self

    def __exit__(self, *failure: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self.heavy = tuple(name for name in self._absent if name in sys.modules)
        self.gpu = memory.taken(self._held)


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
        import traceback  # here, for who loads what works needs it not

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
    import importlib.util

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
