"""Asks those who may refuse a prompt or a picture, which is nobody unless a user has set up a filter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from muse_studio.errors import Refused, UserError
from muse_studio.problems import PluginError, told

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
    """Who refuses, and why. PluginError where a filter breaks: what can't be asked about is not let through."""
    caller = getattr(hook, name, None)
    for filled in [] if caller is None else caller.get_hookimpls():
        try:
            reason = filled.function(*(given[argument] for argument in filled.argnames))
        except UserError:
            raise
        except Exception as error:
            raise PluginError(f"filter {filled.plugin_name}: {name} raised {told(error)}") from error
        if reason is not None:
            if not isinstance(reason, str) or not reason.strip():
                raise PluginError(
                    f"filter {filled.plugin_name}: {name} gave {reason!r}; give a reason as text, or None"
                )
            yield filled.plugin_name, reason
