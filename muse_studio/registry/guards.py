"""Stands between pluggy and a plugin's hooks: calls are traced, and what an observer gets wrong costs no run."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from muse_studio import hookspecs
from muse_studio.errors import PluginError, UserError, error_message
from muse_studio.runtime import launch

TRACE = "MUSE_TRACE"
"""The environment variable: 1 for standard error, or the path of a file, to whose end lines are added."""

_LONGEST = 60
"""Letters of one argument."""


class Trace:
    """Writes one line a call: seconds since it began, the plugin, the call, and the milliseconds that it took."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write, self._began = write, time.perf_counter()
        rank, size = launch.processes()
        self._who = f" rank {rank}" if size > 1 else ""

    def note(self, plugin: str, call: str, seconds: float) -> None:
        """One call of a plugin's, ended just now."""
        at = time.perf_counter() - self._began
        self._write(f"trace{self._who} {at:.3f} s  {plugin}  {call}  {seconds * 1e3:.2f} ms\n")


def wanted() -> Trace | None:
    """The trace that MUSE_TRACE asks for, or None; UserError where its file can't be written."""
    where = os.environ.get(TRACE, "")
    if where in ("", "0"):
        return None
    if where == "1":
        return Trace(sys.stderr.write)
    add = functools.partial(_add, Path(where).absolute())
    try:
        add("")
    except OSError as error:
        raise UserError(f"{TRACE} is {where!r}, which can't be written: {error.strerror}; give 1 or a file") from error
    return Trace(add)


def _add(file: Path, line: str) -> None:
    """A line to the end of a file, which is closed at once: a run that dies shows how far it came."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(line)


def short(value: Any) -> str:
    """A value in a few words: a tensor by its type and shape, as in "int64[1, 16, 16]", anything long cut off."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, dict):
        text = f"{{{', '.join(map(str, value))}}}"
    elif isinstance(value, str | int | float | list | tuple | None):
        text = repr(value)
    else:
        text = type(value).__name__
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


class Hooks:
    """Functions by the names of hooks, for pluggy to register, which looks through these alone."""

    def __init__(self, functions: dict[str, Callable[..., Any]]) -> None:
        vars(self).update(functions)

    def __dir__(self) -> list[str]:
        return list(vars(self))


STRICT = ("muse_started", "muse_prompt", "muse_picture")
"""Where a failure stops the run: when nothing is lost yet, and where a filter that is broken would let all pass."""

MARK = f"{hookspecs.PROJECT}_impl"
"""The attribute that `@hookimpl` leaves on a function."""


def guarded(plugin: object, name: str, who: str, cure: str, observers: set[str], trace: Trace | None) -> Hooks:
    """The hooks of `plugin`, called `name`, for pluggy to register in its stead.

    An observer may stop a run by UserError. Any other exception in a hook of STRICT is a PluginError that says `who`
    failed and the `cure`; in another one it is a warning, and that hook of that plugin is not called again.
    """
    hooks = {}
    for attribute in dir(plugin):
        written = getattr(plugin, attribute, None)
        if inspect.isroutine(written) and (options := getattr(written, MARK, None)):
            call: Callable[..., Any] = written
            if trace is not None:
                call = _traced(call, name, trace)
            hook = options["specname"] or attribute
            if hook in observers and not (options["wrapper"] or options["hookwrapper"]):
                call = _contained(call, hook, who, cure)
            hooks[attribute] = call
    return Hooks(hooks)


def _traced(call: Callable[..., Any], plugin: str, trace: Trace) -> Callable[..., Any]:
    taken = list(inspect.signature(call).parameters)

    @functools.wraps(call)
    def traced(*arguments: Any) -> Any:
        given = ", ".join(f"{key}={short(each)}" for key, each in zip(taken, arguments, strict=False))
        began, outcome = time.perf_counter(), ""
        try:
            answer = call(*arguments)
            outcome = "" if answer is None else f" -> {short(answer)}"
            return answer
        except BaseException as error:
            outcome = f" raised {type(error).__name__}"
            raise
        finally:
            trace.note(plugin, f"{call.__name__}({given}){outcome}", time.perf_counter() - began)

    return traced


def _contained(call: Callable[..., Any], hook: str, who: str, cure: str) -> Callable[..., Any]:
    broken = False

    @functools.wraps(call)
    def contained(*arguments: Any) -> Any:
        nonlocal broken
        if broken:
            return None
        try:
            return call(*arguments)
        except (UserError, PluginError):
            raise
        except Exception as error:
            message = f"{who}'s {hook} raised {error_message(error)}"
            if hook in STRICT:
                raise PluginError(f"{message}; {cure}") from error
            broken = True
            warnings.warn(f"{message}; the run goes on, and it is not called again", stacklevel=2)
            return None

    return contained
