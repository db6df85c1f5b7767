"""An observer that remembers what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from muse_studio.contracts import RunContext
from muse_studio.hookspecs import hookimpl

if TYPE_CHECKING:
    from PIL import Image


class Heard(NamedTuple):
    """One call of an observer's hook: its name, and the arguments by theirs."""

    hook: str
    arguments: dict[str, Any]


class RecordingObserver:
    """Notes every call of an observer's hook, with its arguments, in `calls`.

    It stands for all observers where a task is called (`task(observer)`), and is a plugin as well, for pluggy to
    register. At step `dies_at`, counted from 1, it stops the run, as a power cut would.
    """

    def __init__(self, *, dies_at: int | None = None) -> None:
        self.dies_at = dies_at
        self.calls: list[Heard] = []

    @hookimpl
    def muse_started(self, task: object, context: RunContext) -> None:
        """Noted."""
        self.calls.append(Heard("muse_started", {"task": task, "context": context}))

    @hookimpl
    def muse_step(
        self,
        stage: str,
        step: int,
        steps: int,
        tokens: Tensor | None,
        loss: float | None,
        image: Tensor | None,
        numbers: Mapping[str, float] | None,
    ) -> None:
        """Noted; RuntimeError at the step that it dies at."""
        reported = {"stage": stage, "step": step, "steps": steps, "tokens": tokens}
        self.calls.append(Heard("muse_step", reported | {"loss": loss, "image": image, "numbers": numbers}))
        if step == self.dies_at:
            raise RuntimeError("the power is gone")

    @hookimpl
    def muse_progress(self, label: str, done: int, total: int, over: bool) -> None:
        """Noted."""
        reported = {"label": label, "done": done, "total": total, "over": over}
        self.calls.append(Heard("muse_progress", reported))

    @hookimpl
    def muse_finished(self, task: object, result: object, context: RunContext) -> None:
        """Noted."""
        self.calls.append(Heard("muse_finished", {"task": task, "result": result, "context": context}))

    @hookimpl
    def muse_failed(self, task: object, error: BaseException, context: RunContext) -> None:
        """Noted."""
        self.calls.append(Heard("muse_failed", {"task": task, "error": error, "context": context}))

    @hookimpl
    def muse_prompt(self, prompt: str) -> None:
        """Noted, and not refused."""
        self.calls.append(Heard("muse_prompt", {"prompt": prompt}))

    @hookimpl
    def muse_picture(self, image: Image.Image, prompt: str) -> None:
        """Noted, and not refused."""
        self.calls.append(Heard("muse_picture", {"image": image, "prompt": prompt}))

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The arguments of every `muse_step`, in their order."""
        return [call.arguments for call in self.calls if call.hook == "muse_step"]
