"""What draws: from texts to tokens to pictures, and what such a part may say of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor


MASK = -1
"""The token that says "not known yet". It is no code, so that a decoder given one fails instead of drawing it."""


MICRO = ("width", "height", "top", "left", "score")
"""What micro-conditions say of a picture, in their order (SDXL, Podell et al., 2023, section 2.2; aMUSEd, section 3.2).

width, height: pixels of the picture as it was, before it was cut and scaled. top, left: the corner of what was cut out,
in pixels of the picture scaled to the size that is trained on. score: how beautiful it is, as the data has it.
"""


class TextEmbedding(NamedTuple):
    """What a text encoder says of B prompts, and what beside the text is known of their pictures.

    states: float[B, T, D], one vector a text position.
    mask: bool[B, T], True where a position counts. A row without any True means "no prompt": cross-attention then
        contributes nothing, which is the paper's null condition (Muse, section 2.7).
    pooled: float[B, P], one vector a prompt, or None where the encoder has none.
    micro: float32[B, 5], the numbers that `MICRO` names, NaN where one isn't known, or None where none is. A data set
        fills it in, in training; it stays where a prompt is dropped.
    """

    states: Tensor
    mask: Tensor
    pooled: Tensor | None = None
    micro: Tensor | None = None

    def null(self, positions: int | None = None) -> TextEmbedding:
        """As many rows, of as many positions or of `positions`, each saying "no prompt"."""
        count, given, width = self.states.shape
        given = given if positions is None else positions
        pooled = None if self.pooled is None else self.pooled.new_zeros(self.pooled.shape)
        states, mask = self.states.new_zeros(count, given, width), self.mask.new_zeros(count, given)
        return TextEmbedding(states, mask, pooled, self.micro)

    def to(self, *args: Any, **kwargs: Any) -> TextEmbedding:
        """states and pooled as `Tensor.to` would give them; mask and micro follow to the device alone."""
        states = self.states.to(*args, **kwargs)
        pooled = None if self.pooled is None else self.pooled.to(*args, **kwargs)
        micro = None if self.micro is None else self.micro.to(states.device)
        return TextEmbedding(states, self.mask.to(states.device), pooled, micro)


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


class Quantized(NamedTuple):
    """What a codebook makes of latents float[B, D, h, w].

    latents: float[B, D, h, w], each place at its code; gradients pass to the latents that it was made of.
    tokens: int64[B, h, w]. losses: scalars by name, still to be weighted: "commitment", "codebook", "entropy".
    """

    latents: Tensor
    tokens: Tensor
    losses: Mapping[str, Tensor]


class Codebook(Protocol):
    """A `torch.nn.Module` between a tokenizer's encoder and its decoder. width: D, of the latents that it takes.

    One that has a step of its own, such as a moving average, has a method `update_codebook()`, called after each step
    of training.
    """

    width: int

    def lookup(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float[B, D, h, w], what the decoder is given."""

    def tokens(self, latents: Tensor) -> Tensor:
        """float[B, D, h, w] to int64[B, h, w], in 0..K-1."""

    def __call__(self, latents: Tensor, entropy: bool = False) -> Quantized:
        """As training has it; entropy: whether the loss of that name is wanted, which may be costly."""


class Quantizer(Protocol):
    """Settings that make a codebook: `quantizer` of a tokenizer that takes any."""

    def __call__(self, size: int, width: int) -> Codebook:
        """One of `size` codes; width: what the tokenizer is set to, which one of fixed widths may pass over.

        ValueError where there is none of that size.
        """


class Reconstructing(Protocol):
    """A tokenizer that `train-tokenizer` can train: a `torch.nn.Module` with this method.

    One whose codebook has a step of its own has a method `update_codebook()` too.
    """

    def reconstruct(self, images: Tensor, entropy: bool = False) -> tuple[Tensor, Quantized]:
        """float[B, 3, H, W] in 0..1 to the pictures again, about 0..1, and what was quantized on the way."""


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


class TakingMicro(Protocol):
    """A transformer that takes a text's micro-conditions; training gives none to one that doesn't say so."""

    takes_micro: bool


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
