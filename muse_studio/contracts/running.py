"""What is run: what learns and from what, what measures it, what hears of it, and what reads the weights of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from muse_studio.contracts.drawing import MaskSchedule, TextEmbedding

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Dataset(Protocol):
    """A map from an index to a record: `{"image": uint8[3, H, W], "caption": str}`.

    It may have `"micro"` too, float32[5], what is known of the picture beside its caption (`contracts.MICRO`). One of
    tokens made beforehand gives tensors in their place: `{"tokens.<stage>": int[h, w], "states": [T, D], "mask":
    bool[T], ...}`. One that can give a whole batch at once, each tensor with a leading B, has `__getitems__(indices)`.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The same index gives the same record, always: resuming a run needs nothing else."""


class Optimizer(Protocol):
    """Makes a `torch.optim.Optimizer` for a model's parameters; its settings come from the recipe."""

    def __call__(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """An optimizer of those parameters that require gradients."""


Chance: TypeAlias = "Callable[[str], torch.Generator]"
"""A generator on the host by a name of one's choice: the same name, the same numbers, in every process of a step."""


@dataclass(frozen=True)
class Lots:
    """What a step of training leaves to chance, drawn on the host for all of its N pictures, which lead each tensor.

    hidden: bool[N, h, w], the tokens that the model is not to see.
    weight: float[N], how much each picture counts in the loss, say by its hidden tokens; None is 1 each.
    noise: what else the objective has drawn, by names of its own.
    """

    hidden: Tensor
    weight: Tensor | None = None
    noise: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """B of the N pictures of a training step, as an objective gets them: the parts and processes of a step share it.

    tokens: int64[B, h, w]. text, low: what the model is told, and the tokens of the stage before, None for the first.
    hidden, noise: as they were drawn, for these pictures, on the model's device.
    scale: what a sum over these pictures is multiplied by so that the mean of all parts is the step's mean: N / B over
        the sum of the N weights.
    pictures: N.
    pixels: float32[B, 3, H, W] in 0..1, where the objective needs them.
    """

    tokens: Tensor
    text: TextEmbedding
    low: Tensor | None
    hidden: Tensor
    noise: Mapping[str, Tensor]
    scale: Tensor
    pictures: int
    pixels: Tensor | None = None


class Learning(Protocol):
    """The model that learns, as an objective asks it: of the batch's text, and the tokens that it refines."""

    @property
    def states(self) -> Tensor:
        """float[B, h, w, D]: what the layer that the objective names made of the last grid asked."""

    @property
    def other(self) -> Callable[[Tensor], Tensor] | None:
        """A second network that stays as it is: the stage's transformer, where its critic learns; else None."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] with MASK to logits float[B, h, w, K]."""


class Objective(Protocol):
    """What a step of training hides, asks and pays. What more it needs it says by attributes: see `Needing`.

    One that is a `torch.nn.Module` learns with the model, and is kept in checkpoints, not in what is shipped.
    """

    def draw(self, count: int, grid: tuple[int, int], schedule: MaskSchedule, chance: Chance) -> Lots:
        """What is left to chance for `count` pictures of (h, w) tokens; schedule is the stage's."""

    def __call__(self, batch: Batch, model: Learning) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of a batch, a scalar to go down, and figures for the log, scalars by name.

        Each is a mean, so that the mean over parts and processes is the step's.
        """


class Needing(Protocol):
    """An objective that needs more than tokens and text; each attribute may be left out.

    pixels: whether it needs the pictures themselves, which a data set of tokens has not.
    layer: which layer's `states` it needs, counted from 0, or from the end below 0.
    learns: what of the stage learns, "transformer" or "critic", the one that its sampler asks.
    """

    pixels: bool
    layer: int | None
    learns: str


class Metric(Protocol):
    """A measure of pictures against real ones, in torchmetrics' manner: fed batch by batch, in constant memory.

    Neither the order of the pictures nor how they are batched changes what it computes. `least` says how many pictures
    it needs. What has to move to a device does so by a method `to`.
    """

    least: int

    @property
    def meanings(self) -> dict[str, str]:
        """What each number of `compute` is called, and means, in their order; names tell the network that they rest on.

        Raises UserError where such a network can't be had, so that it is told before anything is drawn.
        """

    def reset(self) -> None:
        """Forget all that was taken in."""

    def update(self, real: Tensor, generated: Tensor, prompts: list[str]) -> None:
        """Take in one batch: real pictures and those held against them, uint8[B, 3, H, W] each, and their captions."""

    def compute(self) -> Tensor:
        """The measure over all that was taken in, float[M]: one number for each meaning."""


class Dialect(Protocol):
    """A layout in which weights are published: tables by which the task `import-weights` makes them ours.

    The part is a function that gives one. `muse_studio.runtime.dialects` has a dataclass for it, and those that it is
    made of. It is data, and opens no file: what must be known of a source, the task reads.

    name: as a recipe writes it. pieces: a `Piece` a file of weights, in the order in which they are read.
    declares: JSON files of the source, by name, and what each must say. copied: `Copied` folders of files kept as they
        are. given: parts that are not imported, their settings by name. further: what makes those tensors of a piece
        that no file has, by its name. former: names by which files of an earlier version of muse_studio are renamed,
        in place of pieces, or None.
    """

    name: str
    pieces: tuple[Any, ...]
    declares: Mapping[str, Mapping[str, Any]]
    copied: tuple[Any, ...]
    given: Mapping[str, Mapping[str, Any]]
    further: Mapping[str, Callable[..., dict[str, Tensor]]]
    former: Any

    def recipes(self, imported: Any, /) -> dict[str, dict[str, Any]]:
        """The recipes of what was imported, an `Imported`, by their files' names; the first one is the model."""


class Observer(Protocol):
    """Hears of a run, and may refuse a prompt or a picture, by methods that are hooks.

    Each is marked by `@hookimpl` and called as its hook point, with those of its arguments that it wants: muse_started,
    muse_step, muse_progress, muse_finished, muse_failed, muse_prompt, muse_picture. It changes nothing
    that it is given.
    """


@dataclass(frozen=True)
class RunContext:
    """What a run is made of: what a task may keep beside what it makes.

    recipe: the resolved recipe, parents and overrides merged in, defaults and observers left out; None where a task is
        called from Python.
    plugins: each plugin that a part was taken of, and its version; None likewise.
    plugin_files: the plugin files of the run, for a task that runs further recipes.
    """

    recipe: dict[str, Any] | None = None
    plugins: dict[str, str] | None = None
    plugin_files: tuple[str | Path, ...] = ()


NO_RUN = RunContext()
"""Of a task that is called from Python, outside of a run."""


class Task(Protocol):
    """What a recipe runs. Its constructor keeps settings and does nothing costly."""

    def __call__(self, hook: Any, context: RunContext = NO_RUN) -> Any:
        """The result is returned to Python, and summed up by the command line.

        hook: pluggy's caller of the observers; None where there are none.
        context: of the run. A task that needs nothing of it may leave this argument out.
        """


# What a part can do beside its contract, each said by one or two attributes that it may leave out. Who uses a part asks
# by the functions of `muse_studio.sampling.abilities`.
