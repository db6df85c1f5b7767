"""Asks those who may refuse a prompt or a picture, which is nobody unless a user has set up a filter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pluggy

from muse_studio.errors import PluginError, Refused

if TYPE_CHECKING:
    from PIL import Image


def ask_prompts(hook: Any, prompts: Sequence[str]) -> None:
    """Refused, naming the first prompt that a filter refuses; `hook` may be None, as it is where a task is called so.

    Negative prompts are not for asking: they say what is not wanted.
    """
    for number, prompt in enumerate(prompts, 1):
        for name, reason in _reasons(hook, "muse_prompt", prompt=prompt):
            which = f"the prompt {prompt!r}" if len(prompts) == 1 else f"prompt {number} of {len(prompts)}, {prompt!r},"
            raise Refused(f"{which} is refused by the filter {name}: {reason}; nothing was drawn")


def ask_picture(hook: Any, image: Image.Image, prompt: str, seed: int) -> None:
    """Refused where a filter refuses a picture that is about to be written."""
    for name, reason in _reasons(hook, "muse_picture", image=image, prompt=prompt):
        raise Refused(
            f"the picture of {prompt!r}, seed {seed}, is refused by the filter {name}: {reason}; it was not written"
        )


def _reasons(hook: Any, name: str, **given: Any) -> Iterator[tuple[str, str]]:
    """Who refuses, and why. A filter that breaks raises: what can't be asked about is not let through."""
    for who, ask in _asked(hook, name):
        reason = ask(**given)
        if reason is None:
            continue
        if not isinstance(reason, str) or not reason.strip():
            raise PluginError(f"filter {who}: {name} gave {reason!r}; give a reason as text, or None")
        yield who, reason


def _asked(hook: Any, name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Who fills the hook, by name; an observer that stands for all of them is asked itself."""
    caller = getattr(hook, name, None)
    if isinstance(caller, pluggy.HookCaller):
        for filled in caller.get_hookimpls():
            yield filled.plugin_name, partial(_answer, filled)
    elif caller is not None:
        yield type(hook).__name__, caller


def _answer(filled: pluggy.HookImpl, **given: Any) -> Any:
    """What one plugin says, given those of the arguments that it asks for."""
    return filled.function(*(given[name] for name in filled.argnames))
