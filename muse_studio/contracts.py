"""What each part promises: one Protocol a kind, with shapes and dtypes. Nothing here imports torch when it runs.

B pictures, (H, W) pixels, (h, w) token grid, K codes, T text positions, D text width.
No part changes a tensor that it is given, and no shape depends on data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MASK = -1
"""The token that says "not known yet". It is no code, so that a decoder given one fails instead of drawing it."""


class TextEmbedding(NamedTuple):
    """What a text encoder says of B prompts.

    states: float[B, T, D], one vector a text position.
    mask: bool[B, T], True where a position counts. A row without any True means "no prompt": cross-attention then
        contributes nothing, which is the paper's null condition (Muse, section 2.7).
    pooled: float[B, P], one vector a prompt, or None where the encoder has none.
    """

    states: Tensor
    mask: Tensor
    pooled: Tensor | None = None

    def null(self, positions: int | None = None) -> TextEmbedding:
        """As many rows, of as many positions or of `positions`, each saying "no prompt"."""
        count, given, width = self.states.shape
        given = given if positions is None else positions
        pooled = None if self.pooled is None else self.pooled.new_zeros(self.pooled.shape)
        return TextEmbedding(self.states.new_zeros(count, given, width), self.mask.new_zeros(count, given), pooled)

    def to(self, *args: Any, **kwargs: Any) -> TextEmbedding:
        """states and pooled as `Tensor.to` would give them; the mask follows to the device alone."""
        states = self.states.to(*args, **kwargs)
        pooled = None if self.pooled is None else self.pooled.to(*args, **kwargs)
        return TextEmbedding(states, self.mask.to(states.device), pooled)


Conditioning: TypeAlias = "tuple[Tensor, ...]"
"""What a transformer computes once per picture. Every tensor leads with B, so that guidance can batch it."""


class Tokenizer(Protocol):
    """Pictures to tokens and back. Images are float32[B, 3, H, W] in 0..1, tokens int64[B, h, w] in 0..K-1.

    Tokens that are kept are told from another tokenizer's by its weights; one whose decoder has no part in that says
    so by an attribute `encodes_by`, what the names of the other weights begin with.
    """

    codebook_size: int

    def grid_shape(self, height: int, width: int) -> tuple[int, int]:
        """The token grid (h, w) of a picture of that many pixels; ValueError where the size does not fit."""

    def encode(self, images: Tensor) -> Tensor:
        """float32[B, 3, H, W] to int64[B, h, w]."""

    def decode(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float32[B, 3, H, W]; ValueError where a token is MASK."""


class TextEncoder(Protocol):
    """A frozen, pretrained encoder. T is the same for every call.

    States that are kept are told from another encoder's by its weights, or, where it has one, by an attribute
    `identity`, a text that stands for them and is known without loading them.
    """

    width: int

    def __call__(self, prompts: list[str]) -> TextEmbedding:
        """B prompts to their embedding; an empty prompt gives a row whose mask is all False."""


class Transformer(Protocol):
    """The masked model: which code stands at each place, given the places already known.

    What more it can do it says by attributes: see `FixedGrid`, `Refining`, `Critic`, `Placewise` and `Joining` below.
    One that a stage's cache can use has a method `revisit` too (see `muse_studio.sampling.feature_cache.Revisiting`).
    """

    codebook_size: int
    text_width: int

    def condition(self, text: TextEmbedding, low: Tensor | None = None) -> Conditioning:
        """All that depends on the text and on the low-resolution tokens int64[B, h', w'] alone, once per picture.

        A low-resolution token that is MASK is not known, and says nothing.
        """

    def __call__(self, tokens: Tensor, conditioning: Conditioning) -> Tensor:
        """int64[B, h, w], MASK where unknown, to logits float[B, h, w, K]."""


class MaskSchedule(Protocol):
    """The share of tokens still masked, by progress: 1 at 0, 0 at 1, never rising (MaskGIT, section 3.3).

    Training draws its mask ratios from the same part: `schedule(u)` of a uniform u.
    """

    def __call__(self, progress: Tensor) -> Tensor:
        """float[...] in 0..1 to float[...] in 0..1."""


@dataclass(frozen=True)
class Question:
    """What guidance may ask beside a text: of another model, or of other tokens.

    text: the prompt's or the negative one's, None for "no prompt". model: a transformer of the same codes and grid,
    None for the stage's own. tokens: int64[B, h, w], None for those of the step.
    """

    text: TextEmbedding | None
    model: Transformer | None = None
    tokens: Tensor | None = None


class Guidance(Protocol):
    """How the prompted and the unprompted logits become one (Muse, section 2.7).

    It may be `Placewise`, and may ask another model (`AskingModel`).
    """

    def __call__(
        self,
        ask: Callable[..., tuple[Tensor, ...]],
        text: TextEmbedding,
        negative: TextEmbedding,
        progress: float,
    ) -> Tensor:
        """`ask(*texts)` gives logits float[B, h, w, K] for each text, in one batched forward.

        None among the texts asks for "no prompt", which costs nothing where `negative` is just that. A `Question` in
        the place of a text costs a forward of its own.
        """


class Predict(Protocol):
    """What a sampler asks: logits for a partly masked grid, guidance already applied. It may be `Placewise`."""

    text: TextEmbedding
    low: Tensor | None

    def __call__(self, tokens: Tensor, progress: float) -> Tensor:
        """int64[B, h, w] with MASK, and the share of steps done, this one counted, to logits float[B, h, w, K]."""


class Sampler(Protocol):
    """Fills a grid step by step. It yields every step, so previews and early stops need no callback.

    It may be `Rowwise`, and may ask a critic (`AskingCritic`).
    """

    steps: int

    def __call__(
        self, predict: Predict, tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] with MASK where wanted; yields as many grids. What is known in `tokens` stays as it is."""


class Editor(Protocol):
    """Changes a region of a finished grid by sampling parts of it again. It may be `Iterative`."""

    def __call__(
        self,
        tokens: Tensor,
        region: Tensor,
        resample: Callable[[Tensor], Iterator[Tensor]],
        generator: torch.Generator,
    ) -> Iterator[Tensor]:
        """int64[B, h, w] and bool[B, h, w], True where change is wanted; yields grids of the same shape."""


class Dataset(Protocol):
    """A map from an index to a record: `{"image": uint8[3, H, W], "caption": str}`.

    One of tokens made beforehand gives tensors in their place: `{"tokens.<stage>": int[h, w], "states": [T, D], "mask":
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
    """The model that learns, as an objective asks it: of the batch's text, and the tokens that it refines.

    states: float[B, h, w, D], what the layer that the objective names made of the last grid asked.
    other: a second network that stays as it is: the stage's transformer, where its critic learns; else None.
    """

    states: Tensor
    other: Callable[[Tensor], Tensor] | None

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


class Needing(Protocol):
    """An objective that needs more than tokens and text; each attribute may be left out.

    pixels: whether it needs the pictures themselves, which a data set of tokens has not.
    layer: which layer's `states` it needs, counted from 0, or from the end below 0.
    learns: what of the stage learns, "transformer" or "critic", the one that its sampler asks.
    """

    pixels: bool
    layer: int | None
    learns: str


class FixedGrid(Protocol):
    """A transformer that takes grids of one shape alone, (h, w)."""

    grid: tuple[int, int]


class Refining(Protocol):
    """A transformer that says which tokens of the stage before it refines, (h', w') of so many codes; None is none."""

    low_grid: tuple[int, int] | None
    low_codebook_size: int


class Critic(Protocol):
    """A transformer that scores the tokens of a finished grid: `outputs` is 1, its logits are float[B, h, w, 1].

    The higher the logit, the more likely the token is real, not sampled. It stands in a sampler, not in a stage.
    """

    outputs: int


class Placewise(Protocol):
    """A transformer, a guidance or a `Predict` that can do with some places of the grid, which saves time.

    A transformer and a `Predict` take a third argument `places`, int64[B, n] of each grid in reading order, and give
    the logits of these alone, float[B, n, K]. A guidance looks at each place by itself; what it asks for may be of some
    places.
    """

    placewise: bool


class Joining(Protocol):
    """A transformer that makes one batch of several texts; "no prompt" then has no positions, and is the last."""

    def join(self, conditionings: Sequence[Conditioning]) -> Conditioning:
        """What `condition` gave for several texts, of B rows each, as one batch."""


class AskingCritic(Protocol):
    """A sampler that asks a `Critic`."""

    critic: Transformer


class AskingModel(Protocol):
    """A guidance that asks another transformer than the stage's."""

    model: Transformer


class Rowwise(Protocol):
    """A sampler that draws all of its noise by `muse_studio.sampling.noise`: its generator may be one a picture."""

    rowwise: bool


class Iterative(Protocol):
    """An editor that changes a grid so many times, and yields each."""

    iterations: int
