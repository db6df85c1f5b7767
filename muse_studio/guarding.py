"""Stands between pluggy and a plugin's hooks: calls are traced, and what an observer gets wrong costs no run."""

from __future__ import annotations

import functools
import inspect
import time
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from muse_studio import hookspecs
from muse_studio.errors import UserError
from muse_studio.problems import PluginError, told
from muse_studio.tracing import Trace, short

STRICT = ("muse_started", "muse_prompt", "muse_picture")
"""Where a failure stops the run: when nothing is lost yet, and where a filter that is broken would let all pass."""

MARK = f"{hookspecs.PROJECT}_impl"
"""The attribute that `@hookimpl` leaves on a function."""


def guarded(
    plugin: object, name: str, who: str, cure: str, observers: set[str], trace: Trace | None
) -> SimpleNamespace:
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
    return SimpleNamespace(**hooks)


def _traced(call: Callable[..., Any], plugin: str, trace: Trace) -> Callable[..., Any]:
    taken = list(inspect.signature(call).parameters)

    @functools.wraps(call)
    def traced(*arguments: Any) -> Any:
        said = ", ".join(f"{key}={short(each)}" for key, each in zip(taken, arguments, strict=False))
        began, outcome = time.perf_counter(), ""
        try:
            answer = call(*arguments)
            outcome = "" if answer is None else f" -> {short(answer)}"
            return answer
        except BaseException as error:
            outcome = f" raised {type(error).__name__}"
            raise
        finally:
            trace.note(plugin, f"{call.__name__}({said}){outcome}", time.perf_counter() - began)

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
            said = f"{who}'s {hook} raised {told(error)}"
            if hook in STRICT:
                raise PluginError(f"{said}; {cure}") from error
            broken = True
            warnings.warn(f"{said}; the run goes on, and it is not called again", stacklevel=2)
            return None

    return contained
