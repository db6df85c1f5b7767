"""Where tokenizer, transformer, schedule, sampler and guidance meet: one resolution of sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from muse_studio.contracts import (
    MASK,
    Conditioning,
    Guidance,
    MaskSchedule,
    Sampler,
    TextEmbedding,
    TextEncoder,
    Tokenizer,
    Transformer,
)
from muse_studio.errors import SettingError
from muse_studio.images.pixels import scaled
from muse_studio.nn.packed import can_pack, pack
from muse_studio.runtime.device import compile_settings, has_fast_bfloat16
from muse_studio.sampling import abilities
from muse_studio.sampling.feature_cache import Cache, Memory, gather_places
from muse_studio.sampling.noise import Rows
from muse_studio.sampling.tiling import LEAST, tiled

MULTIPLIERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
"""Layers that autocast computes in bfloat16, whose weights it casts at every call."""

PIXELS = 2**18
"""What a CPU decodes at once: four pictures of 256x256. Eight at once take aMUSEd's decoder 8% longer, 0.5 GiB more."""


@dataclass
class Stage:
    """One resolution: `size` pixels square, or [height, width].

    precision: what the transformer computes in when it draws or is measured, and the tokenizer when it decodes; "auto"
        is bfloat16 where the device is fast at it. The same seed may draw another picture in another one.
    compile: compiles the transformer for each batch that it is asked for (torch.compile; on CUDA as a graph), which
        takes a minute or two at first and pays where many pictures are drawn, most on a GPU.
    tile: decodes a grid that is larger in overlapping squares of so many tokens a side, at least 8, which bounds the
        memory; null decodes at once. What a decoder does over the whole picture, a norm say, it then does in each tile.
    cache: features that steps reuse, for less time and other pictures; none by default. What is cached is not compiled.

    The constructor raises ValueError where the parts don't fit each other.
    """

    tokenizer: Tokenizer
    transformer: Transformer
    schedule: MaskSchedule
    sampler: Sampler
    guidance: Guidance
    size: int | list[int]
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    compile: bool = False
    tile: int | None = None
    cache: Cache | None = None

    def __post_init__(self) -> None:
        if abilities.is_critic(self.transformer):
            raise ValueError(
                "the transformer is a critic, which scores tokens and predicts none; give it to a sampler that asks "
                "one, such as sampler: {use: token-critic, critic: ...}"
            )
        if self.cache is not None:
            self.cache.check(self.transformer)
        for what, model in self.models().items():
            if self.tokenizer.codebook_size != model.codebook_size:
                raise ValueError(
                    f"the tokenizer has {self.tokenizer.codebook_size} codes, the {what} has {model.codebook_size}; "
                    f"set the {what}'s codebook_size to the tokenizer's"
                )
        self._compiled: Callable[..., Tensor] | None = None
        sides = [self.size, self.size] if isinstance(self.size, int) else self.size
        if len(sides) != 2 or min(sides) < 1:
            raise SettingError("size", f"size is {self.size!r}; give one number of pixels, or [height, width]")
        if self.tile is not None and self.tile < LEAST:
            raise SettingError(
                "tile", f"tile is {self.tile}; give {LEAST} tokens or more, or null to decode all at once"
            )
        self.height, self.width = sides
        try:
            self.grid = self.tokenizer.grid_shape(self.height, self.width)
        except ValueError as error:
            raise SettingError("size", f"size: {error}") from error
        for what, model in self.models().items():
            only = abilities.fixed_grid(model)
            if only is not None and only != tuple(self.grid):
                raise SettingError(
                    "size",
                    f"size: a picture of {self.height}x{self.width} pixels is {self.grid[0]}x{self.grid[1]} tokens, "
                    f"the {what}'s grid is {only[0]}x{only[1]}; set size or grid so that they agree",
                )

    @property
    def critic(self) -> Transformer | None:
        """The critic that the sampler asks, None where it asks none."""
        return abilities.critic_of(self.sampler)

    def models(self) -> dict[str, Transformer]:
        """The networks over the stage's tokens, by what errors call them: the transformer, and a critic."""
        critic = {} if self.critic is None else {"critic": self.critic}
        return {"transformer": self.transformer} | critic

    def check_low(self, before: Stage | None) -> None:
        """ValueError where the transformer or a critic wants other low-resolution tokens than those of `before`.

        before: the stage before it, None where there is none.
        """
        for what, model in self.models().items():
            if abilities.says_low_tokens(model):
                _check_low(what, abilities.low_tokens(model), before)

    def resize(self, images: Tensor) -> Tensor:
        """uint8[..., 3, H, W] to uint8[..., 3, height, width] of this stage; the very same where they fit.

        Scaled as by `pixels.scaled`.
        """
        if images.shape[-2:] == (self.height, self.width):
            return images
        batch = images.flatten(0, -4) if images.ndim > 3 else images[None]
        resized = scaled(batch.float(), (self.height, self.width))
        return resized.round().clamp(0, 255).byte().view(*images.shape[:-2], self.height, self.width)

    def check_text(self, encoder: TextEncoder) -> None:
        """ValueError where the transformer or a critic wants text of another width than the encoder gives."""
        for what, model in self.models().items():
            if model.text_width != encoder.width:
                raise ValueError(
                    f"its {what} wants text of width {model.text_width}, the text encoder gives {encoder.width}; set "
                    f"the {what}'s text_width to {encoder.width}, or choose the text encoder that it was trained with"
                )

    def blank(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """int64[count, h, w], every token MASK."""
        return torch.full((count, *self.grid), MASK, dtype=torch.int64, device=device)

    @torch.no_grad()  # not inference_mode: samplers and guidance may change the logits that they get in place
    def condition(self, text: TextEmbedding, low: Tensor | None = None) -> Conditioning:
        """What the transformer makes of B texts, and of the tokens of the stage before, in the stage's precision."""
        with self.arithmetic(text.mask.device):
            return self.transformer.condition(text, low)

    @torch.no_grad()
    def logits(self, tokens: Tensor, conditioning: Conditioning, places: Tensor | None = None) -> Tensor:
        """int64[B, h, w] to float32[B, h, w, K], computed in the stage's precision.

        places: int64[B, n] of each grid in reading order; the logits are then theirs alone, float32[B, n, K]. A
        transformer that is `placewise` computes no others, unless it is compiled for one shape.
        """
        with self.arithmetic(tokens.device):
            if places is not None and not self.compile and abilities.is_placewise(self.transformer):
                return self._network(tokens.device)(tokens, conditioning, places).float()
            logits = self._network(tokens.device)(tokens, conditioning)
        if places is not None:
            logits = gather_places(logits.flatten(1, 2), places)
        return logits.to(torch.float32, copy=self.compile)  # a CUDA graph writes its next result where this one is

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w], of this stage's grid or of a larger one, to pictures float32[B, 3, H, W] in 0..1.

        A CPU decodes a large batch a few pictures at a time, which is no slower and needs less memory.
        """
        token = self.height * self.width // math.prod(self.grid)
        few = max(1, PIXELS // (token * tokens[0].numel())) if tokens.device.type == "cpu" else len(tokens)
        with self.arithmetic(tokens.device):
            images = [tiled(self.tokenizer.decode, part, self.tile).float() for part in tokens.split(few)]
        return torch.cat(images).clamp_(0, 1)

    def settle(self, on: torch.device) -> None:
        """Cast once, and in place, the weights that every step would cast: those of layers that compute in bfloat16.

        The results are the same to the bit, but for a cached transformer's on a CPU, whose weights are packed besides:
        most of its steps compute few places. The transformer is then one for drawing alone.
        """
        if not self._halves(on) or not isinstance(self.transformer, nn.Module):
            return
        for module in self.transformer.modules():
            if isinstance(module, MULTIPLIERS):
                module.to(torch.bfloat16)
        if self.cache is not None and can_pack(on):
            pack(self.transformer)

    def _network(self, on: torch.device) -> Callable[..., Tensor]:
        if not self.compile:
            return self.transformer
        if self._compiled is None:
            graphs = {"mode": "reduce-overhead"} if on.type == "cuda" else {}
            settings = {"fullgraph": True, "dynamic": False, **graphs, **compile_settings(on)}
            self._compiled = torch.compile(self.transformer, **settings)
        return self._compiled

    def _halves(self, on: torch.device) -> bool:
        return self.precision == "bfloat16" or (self.precision == "auto" and has_fast_bfloat16(on))

    def arithmetic(self, on: torch.device) -> AbstractContextManager[Any]:
        """Computes what stands within in the stage's precision, on that device."""
        return torch.autocast(on.type, torch.bfloat16) if self._halves(on) else nullcontext()

    def sample(
        self,
        text: TextEmbedding,
        generator: torch.Generator | Rows,
        *,
        negative: TextEmbedding | None = None,
        low: Tensor | None = None,
        tokens: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Fill `tokens` (all of the grid where None is given), one yield a step.

        text: B prompts; negative: B prompts to move away from, none by default.
        low: int64[B, h', w'], the finished tokens of the stage before, where the transformer wants them.
        Yields int64[B, h, w] on the text's device. ValueError where these are not for as many pictures.
        """
        count, device = text.mask.shape[0], text.mask.device
        unwanted = None if negative is None else negative.mask
        for name, given in (("negative", unwanted), ("low", low), ("tokens", tokens)):
            if given is not None and given.shape[0] != count:
                raise ValueError(f"text is for {count} pictures, {name} for {given.shape[0]}; repeat one of them")
        tokens = self.blank(count, device) if tokens is None else tokens
        predict = Predictor(self, text, negative, low)
        sampler: Callable[..., Iterator[Tensor]] = self.sampler  # one that is `rowwise` takes Rows too
        return iter(sampler(predict, tokens, self.schedule, generator))


def _check_low(what: str, low: abilities.LowTokens | None, before: Stage | None) -> None:
    if before is None and low is None:
        return
    if before is None:
        assert low is not None
        raise ValueError(
            f"its {what} refines a grid of {low.grid[0]}x{low.grid[1]} tokens, and no stage comes before it; "
            "put a base stage first"
        )
    if low is None:
        raise ValueError(
            f"its {what} is a base model, which can't refine the tokens of the stage before it; "
            f"put it first, or take a super-resolution {what}"
        )
    if low.grid != tuple(before.grid):
        raise ValueError(
            f"its {what} refines a grid of {low.grid[0]}x{low.grid[1]} tokens, the stage before it gives "
            f"{before.grid[0]}x{before.grid[1]}; set low_grid to that, or the size of the stage before"
        )
    codes, given = low.codebook_size, before.tokenizer.codebook_size
    if codes not in (None, given):
        raise ValueError(
            f"its {what} refines tokens of {codes} codes, the tokenizer of the stage before it has {given}; "
            f"set low_codebook_size to {given}"
        )


def check_fit(stages: dict[str, Stage], text_encoder: TextEncoder) -> None:
    """ValueError, naming the stage, where there is none, or where one doesn't fit the text or the stage before it."""
    if not stages:
        raise SettingError(
            "stages", "stages is empty; name at least one, such as base: {tokenizer: ..., transformer: ...}"
        )
    before = None
    for name, stage in stages.items():
        try:
            stage.check_text(text_encoder)
            stage.check_low(before)
        except ValueError as error:
            raise ValueError(f"stages.{name}: {error}") from error
        before = stage


class Predictor:
    """Guided logits for a partly masked grid; the conditioning of each text is computed once."""

    def __init__(self, stage: Stage, text: TextEmbedding, negative: TextEmbedding | None, low: Tensor | None) -> None:
        self.stage = stage
        self.text, self.low = text, low
        self._join = abilities.joining(stage.transformer)
        self.nothing = text.null() if self._join is None else text.null(positions=0)
        self.negative = self.nothing if negative is None else negative
        fixed = text.mask.device.type in ("tpu", "xla")  # where each new shape would be compiled
        self.placewise = abilities.is_placewise(stage.guidance) and not fixed
        self._conditioned: dict[int, tuple[TextEmbedding, Conditioning]] = {}
        self._batched: dict[tuple[int, ...], Conditioning] = {}
        self._memory = None if stage.cache is None else Memory(stage.cache, stage.transformer, stage.arithmetic)

    @torch.no_grad()
    def __call__(self, tokens: Tensor, progress: float, places: Tensor | None = None) -> Tensor:
        """int64[B, h, w] and the share of steps done to logits float[B, h, w, K].

        places: int64[B, n], where the logits are wanted alone: float[B, n, K]. For who is `placewise`.
        """

        def ask(*texts: TextEmbedding | None) -> tuple[Tensor, ...]:
            asked = [self.nothing if text is None else text for text in texts]
            distinct = {id(text): text for text in asked}  # no negative prompt is no prompt, and is computed once
            if id(self.nothing) in distinct:
                distinct[id(self.nothing)] = distinct.pop(id(self.nothing))  # last, as `join` wants it
            conditioning, many = self._condition(tuple(distinct.values())), len(distinct)
            if self._memory is None:
                wanted = None if places is None else places.repeat(many, 1)
                logits = self.stage.logits(tokens.repeat(many, 1, 1), conditioning, wanted).chunk(many)
            else:
                logits = self._memory(tokens, tuple(distinct), conditioning, places)
            answers = dict(zip(distinct, logits, strict=True))
            return tuple(answers[id(text)] for text in asked)

        return self.stage.guidance(ask, self.text, self.negative, progress)

    def _condition(self, texts: tuple[TextEmbedding, ...]) -> Conditioning:
        key = tuple(map(id, texts))
        if key not in self._batched:
            for text in texts:
                if id(text) not in self._conditioned:  # the text is kept beside it, so that its id stays its own
                    self._conditioned[id(text)] = (text, self.stage.condition(text, self.low))
            each = [self._conditioned[name][1] for name in key]
            if self._join is None:
                self._batched[key] = tuple(torch.cat(tensors) for tensors in zip(*each, strict=True))
            else:
                self._batched[key] = self._join(each)
        return self._batched[key]
