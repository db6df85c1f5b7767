"""How a failure is told to those who asked from afar, and whether a filter is there that may cause one."""

from __future__ import annotations

from typing import Any

import pluggy

from muse_server.shown import without_paths
from muse_studio.errors import RecipeError, Refused, UserError

NOT_YOURS = "error that is not yours; what it was stands in the server's own terminal"


def failure(error: BaseException | None) -> dict[str, Any]:
    """What an event says of it: `message`, without places of this machine, and whether a filter `refused`.

    A UserError's own words are told; of all else, that it is an error that is not theirs.
    """
    if isinstance(error, RecipeError):  # its problems stand at no line here
        message = "; ".join(f"{each.path}: {each.message}".removeprefix(": ") for each in error.problems)
    else:
        message = str(error) if isinstance(error, UserError) else NOT_YOURS
    return {"message": without_paths(message), "refused": isinstance(error, Refused)}


def is_asked(hook: Any, name: str) -> bool:
    """Whether somebody fills a hook point, such as muse_picture; `hook` as a model has it."""
    caller = getattr(hook, name, None)
    return bool(caller.get_hookimpls()) if isinstance(caller, pluggy.HookCaller) else caller is not None
