"""The hook points that a plugin may fill: one a kind of part, what observers hear, and what a filter is asked.

A part hook takes no arguments and returns `{name: target}`, a target being a callable or, better, "module:attribute",
which is imported when it is first used. Names are lower case, words joined by hyphens. The hook's name gives the kind's
(`muse_text_encoders` offers each `text-encoder`), and its return annotation the contract that such parts fulfil.

The other hooks are filled by a plugin, for every run, or by an observer's methods, for a run whose recipe names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import pluggy

from muse_studio.contracts import (
    Dataset,
    Dialect,
    Editor,
    Guidance,
    MaskSchedule,
    Metric,
    Objective,
    Observer,
    Optimizer,
    Quantizer,
    RunContext,
    Sampler,
    Task,
    TextEncoder,
    Tokenizer,
    Transformer,
)

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

API = "1.3"
"""The version of all that a plugin may rest on (docs/plugin-api.md); a plugin's `requires_api` is held against it."""

PROJECT = "muse_studio"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Contract = TypeVar("Contract")
Parts: TypeAlias = Mapping[str, Callable[..., Contract] | str]


@hookspec
def muse_tokenizers() -> Parts[Tokenizer]:
    """Tokenizers: pictures to token grids and back (`contracts.Tokenizer`)."""


@hookspec
def muse_quantizers() -> Parts[Quantizer]:
    """Quantizers: settings to a codebook, latents to codes (`contracts.Quantizer`)."""


@hookspec
def muse_text_encoders() -> Parts[TextEncoder]:
    """Text encoders: prompts to vectors (`contracts.TextEncoder`)."""


@hookspec
def muse_transformers() -> Parts[Transformer]:
    """Masked transformers: a partly known grid to logits (`contracts.Transformer`)."""


@hookspec
def muse_schedules() -> Parts[MaskSchedule]:
    """Mask schedules: progress to the share still masked (`contracts.MaskSchedule`)."""


@hookspec
def muse_guidances() -> Parts[Guidance]:
    """Guidance: prompted and unprompted logits to one (`contracts.Guidance`)."""


@hookspec
def muse_samplers() -> Parts[Sampler]:
    """Samplers: how a masked grid is filled, step by step (`contracts.Sampler`)."""


@hookspec
def muse_editors() -> Parts[Editor]:
    """Editors: how a region of a finished grid changes (`contracts.Editor`)."""


@hookspec
def muse_datasets() -> Parts[Dataset]:
    """Data sets: captioned pictures (`contracts.Dataset`)."""


@hookspec
def muse_optimizers() -> Parts[Optimizer]:
    """Optimizers: settings to a `torch.optim.Optimizer` (`contracts.Optimizer`)."""


@hookspec
def muse_objectives() -> Parts[Objective]:
    """Objectives: what a training step hides, asks and pays (`contracts.Objective`)."""


@hookspec
def muse_metrics() -> Parts[Metric]:
    """Metrics: what evaluation measures (`contracts.Metric`)."""


@hookspec
def muse_dialects() -> Parts[Dialect]:
    """Dialects: how published weights become parts (`contracts.Dialect`)."""


@hookspec
def muse_observers() -> Parts[Observer]:
    """Observers: what hears of a run, and may refuse prompts and pictures (`contracts.Observer`)."""


@hookspec
def muse_tasks() -> Parts[Task]:
    """Tasks: what a recipe can run (`contracts.Task`)."""


@hookspec
def muse_started(task: object, context: RunContext) -> None:
    """A task begins; `context` says of which recipe and plugins it was made."""


@hookspec
def muse_step(
    stage: str,
    step: int,
    steps: int,
    tokens: Tensor | None,
    loss: float | None,
    image: Tensor | None,
    numbers: Mapping[str, float] | None,
) -> None:
    """Step `step` (from 1) of `steps` is done.

    In sampling with `tokens` int64[B, h, w]. In training with `loss` and all `numbers` of the log's row, by name; and
    once more where samples were drawn at that step, with `image` alone, uint8[3, H, W].
    """


@hookspec
def muse_progress(label: str, done: int, total: int, over: bool) -> None:
    """Counted work goes on: `done` of `total` pieces, `label` says at what, from the first on, however short it is.

    Told for drawing, reading, preparing and all else that takes a while, but for a training's steps, and by one work at
    a time. `over` once, when it ends, well or not. Outside of a run the plugins hear of it.
    """


@hookspec
def muse_finished(task: object, result: object, context: RunContext) -> None:
    """A task ended well, with this result."""


@hookspec
def muse_failed(task: object, error: BaseException, context: RunContext) -> None:
    """A task was ended by this exception, Ctrl-C among them, which goes on when all have heard of it."""


@hookspec
def muse_prompt(prompt: str) -> str | None:
    """Why this prompt must not be drawn, None where it may; asked before anything is. Any reason ends the run."""


@hookspec
def muse_picture(image: Image.Image, prompt: str) -> str | None:
    """Why this finished RGB picture must not be written, None where it may. Any reason ends the run."""
