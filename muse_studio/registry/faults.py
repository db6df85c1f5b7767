"""Whose fault an exception is: a third party's plugin's, by the frames that it came through, or our own."""

from __future__ import annotations

import linecache
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from muse_studio.errors import PluginError, UserError, error_message, in_one_line
from muse_studio.registry.conforming import definition, promised
from muse_studio.registry.parts import PART, Part
from muse_studio.registry.plugins import Registry

_OURS = ""
"""Stands for the core and the default plugins where plugins are named."""
_BETWEEN = (
    "muse_studio.registry.checked",
    "muse_studio.registry.conforming",
    "muse_studio.registry.promises",
    "muse_studio.recipe.build",
)
"""Modules that call a plugin's part on behalf of somebody else."""
_IN_WORKER = re.compile(r"^Caught \w+ in DataLoader worker process")


@dataclass(eq=False)
class Door:
    """One method of a third party's part, where the core calls it.

    made: the object or function. contract: the Protocol that promises the method. examined: whether it was held
    against what is looked at once only.
    """

    made: Any
    part: Part
    contract: type
    method: str
    examined: bool = False

    @property
    def promise(self) -> str:
        """What the contract says of the method, in its own words."""
        return promised(self.contract, self.method)

    def broken(self, happened: str, place: str | None) -> PluginError:
        """The error for a promise that is broken by what was handed over, at file:line where that is known."""
        return _error(self.part.plugin, self.part, place, happened, self.promise)


class Overheard:
    """The model that an objective asks, and what it said."""

    def __init__(self, model: Any) -> None:
        self._model, self._said = model, list[Any]()

    def __call__(self, tokens: Any) -> Any:
        """What the model says of them."""
        self._said.append(self._model(tokens))
        return self._said[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def finite(self) -> bool:
        """Whether all of it is numbers."""
        return all(bool(logits.isfinite().all()) for logits in self._said)


def fault_of(error: BaseException, registry: Registry, making: Part | None = None) -> PluginError | None:
    """The PluginError that an exception is, None where it is none of a third party's plugin.

    The rule: the innermost frame decides that is no library's. A plugin's code that raises, or that has a library do
    so, is at fault; code of ours that a plugin has called is at fault for itself, so that a bug of ours stays ours
    whoever asked. One exception: a ValueError or TypeError that a function of ours raises itself refuses what it was
    given, which is the fault of its caller. So the core checks at its doors (a predictor's grid, an editor's region)
    what plugins hand to it; what breaks behind a door is ours.

    UserError, PluginError and what is no Exception, such as KeyboardInterrupt, are what they are.
    making: the part whose constructor was called, by which nameless code is known.
    """
    if isinstance(error, PluginError) and _IN_WORKER.match(str(error)):
        return PluginError(str(error).strip().splitlines()[-1].partition(": ")[2])
    if not isinstance(error, Exception) or isinstance(error, UserError | PluginError):
        return None
    homes = _homes(registry)
    if _IN_WORKER.match(str(error)):
        return _of_worker(str(error), homes)
    frames = list(traceback.walk_tb(error.__traceback__))
    known = [(owner, place) for place in frames if (owner := _owner(place[0], homes)) is not None]
    refuses = isinstance(error, ValueError | TypeError) and bool(known) and known[-1][1] == frames[-1]
    if refuses and len(known) > 1 and known[-1][0] == _OURS:
        known.pop()
    if not known:
        return _made_by(error, registry, making)
    plugin, (frame, line) = known[-1]
    if plugin == _OURS:
        return None
    door, part = _asked(frames, frame, plugin)
    by_door = _door(frame)  # a library raised that the part inherits from, or the call itself could not be made
    place = (
        f"{frame.f_code.co_filename}:{line}" if by_door is None else definition(getattr(by_door.made, by_door.method))
    )
    happened = in_one_line(error) if making is None else f"broke while it was made: {in_one_line(error)}"
    return _error(plugin, making or part, place, happened, None if door is None else door.promise)


def refuses(error: Exception) -> bool:
    """Whether an exception was raised by a `raise` of the code itself, as a refusal is, and not by what it called."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and linecache.getline(frames[-1].filename, frames[-1].lineno or 0).lstrip().startswith("raise")


def _error(plugin: str, part: Part | None, place: str | None, happened: str, promise: str | None) -> PluginError:
    who = f"plugin {plugin}" if part is None else f"{part} of plugin {plugin}"
    return PluginError(f"{who}{f', {place}' * bool(place)}: {happened}{f'; promised: {promise}' * bool(promise)}")


def _made_by(error: Exception, registry: Registry, making: Part | None) -> PluginError | None:
    """What a library raised that was itself offered as a part."""
    if making is None or not registry.is_foreign(making.plugin):
        return None
    return _error(making.plugin, making, None, f"broke while it was made: {error_message(error)}", None)


def _asked(frames: list[tuple[FrameType, int]], until: FrameType, plugin: str) -> tuple[Door | None, Part | None]:
    """The plugin's door that leads to a frame, and the part whose method that or an outer frame is; None if unknown."""
    door = part = None
    for frame, _ in frames:
        given, found = frame.f_locals, _door(frame)
        if found is not None and found.part.plugin == plugin:
            door, part = found, found.part
        first = given.get(frame.f_code.co_varnames[0]) if frame.f_code.co_argcount else None
        owner = getattr(type(first), PART, None)
        if isinstance(owner, Part) and owner.plugin == plugin:
            door, part = door if door is not None and door.part == owner else None, owner
        if frame is until:
            break
    return door, part


def _door(frame: FrameType) -> Door | None:
    """The door of a plugin's part that a frame of ours stands in."""
    found = frame.f_locals.get("door") if frame.f_globals.get("__name__") in _BETWEEN else None
    return found if isinstance(found, Door) else None


def _owner(frame: FrameType, homes: Mapping[str, str]) -> str | None:
    """The plugin whose code, or whose door, a frame is in; _OURS for ours, None for a library's."""
    module = str(frame.f_globals.get("__name__", ""))
    if module in _BETWEEN:
        door = _door(frame)
        return None if door is None else door.part.plugin
    return _home(module, homes)


def _home(module: str, homes: Mapping[str, str]) -> str | None:
    while module and module not in homes:
        module = module.rpartition(".")[0]
    return homes.get(module)


def _homes(registry: Registry) -> dict[str, str]:
    """Every plugin, _OURS for ours, by the modules and packages that are its own."""
    found = {"muse_studio": _OURS}
    for name, plugin in registry.plugins.items():
        owner = name if registry.is_foreign(name) else _OURS
        found |= {each: owner for each in (_package(plugin.module), *plugin.packages())}
    return found


def _package(module: str) -> str:
    """The outermost package of a module that is a file of its own; a namespace is shared with others."""
    names = module.split(".")
    for count in range(1, len(names)):
        outer = ".".join(names[:count])
        if getattr(sys.modules.get(outer), "__file__", None) is not None:
            return outer
    return module


def _of_worker(report: str, homes: Mapping[str, str]) -> PluginError | None:
    """As `fault_of`, of an exception in another process, which arrives as the text of its traceback."""
    files: dict[str, Any] = {getattr(each, "__file__", None) or "": name for name, each in list(sys.modules.items())}
    places = re.findall(r'^  File "(.+)", line (\d+)', report, re.M)
    known = [(_home(files.get(file, ""), homes), f"{file}:{line}") for file, line in places]
    known = [each for each in known if each[0] is not None]
    if not known or not known[-1][0]:
        return None
    plugin, place = known[-1]
    return _error(str(plugin), None, place, report.strip().splitlines()[-1], None)
