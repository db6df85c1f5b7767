"""Where tokenizer, transformer, schedule, sampler and guidance meet: one resolution of sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass
from functools import partial
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
from muse_studio.images.naming import check_prompts
from muse_studio.images.pixels import scaled, to_bytes
from muse_studio.runtime.device import compile_settings, computes_in_bfloat16, device_of
from muse_studio.sampling import abilities, arguments
from muse_studio.sampling.feature_cache import Cache, gather_places
from muse_studio.sampling.noise import Rows
from muse_studio.sampling.predicting import Predictor

PIXELS = 2**18
"""What a CPU decodes at once: four pictures of 256x256. Eight at once take aMUSEd's decoder 8% longer, 0.5 GiB more."""

LEAST = 8
"""Tokens a side of the smallest tile."""


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
        self.cast = False  # whether the transformer is one for drawing alone
        self._text_encoder: TextEncoder | None = None
        self._before: Stage | None = None
        sides = [self.size, self.size] if isinstance(self.size, int) else self.size
        if len(sides) != 2 or min(sides) < 1:
            raise SettingError("size", f"size is {self.size!r}; give one number of pixels, or [height, width]")
        if self.tile is not None and self.tile < LEAST:
            raise SettingError("tile", f"tile is {self.tile}; give {LEAST} tokens or more, or null for no tiles")
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
        """The networks over the stage's tokens, by what errors call them: the transformer, and others asked."""
        asked = {"critic": self.critic, "guidance's model": abilities.model_of(self.guidance)}
        return {"transformer": self.transformer} | {name: each for name, each in asked.items() if each is not None}

    def check_low(self, before: Stage | None) -> None:
        """ValueError where the transformer or a critic wants other low-resolution tokens than those of `before`.

        before: the stage before it, None where there is none.
        """
        for what, model in self.models().items():
            if abilities.says_low_tokens(model):
                abilities.check_low(what, abilities.low_tokens(model), before)

    def resize(self, images: Tensor) -> Tensor:
        """uint8[..., 3, H, W] to uint8[..., 3, height, width] of this stage; the very same where they fit.

        Scaled as by `pixels.scaled`.
        """
        if images.shape[-2:] == (self.height, self.width):
            return images
        resized = scaled(images.reshape(-1, *images.shape[-3:]).float(), (self.height, self.width))
        return resized.round().clamp(0, 255).byte().view(*images.shape[:-2], self.height, self.width)

    def check_text(self, encoder: TextEncoder) -> None:
        """ValueError where the transformer or a critic wants text of another width than the encoder gives."""
        for what, model in self.models().items():
            if model.text_width != encoder.width:
                raise ValueError(
                    f"its {what} wants text of width {model.text_width}, the text encoder gives {encoder.width}; set "
                    f"the {what}'s text_width to {encoder.width}, or choose the text encoder that it was trained with"
                )

    def bound(self, text_encoder: TextEncoder, before: Stage | None) -> Stage:
        """This stage as one of a model, by the very same parts: its `loss` takes prompts, and pictures alone."""
        bound = copy(self)
        bound._text_encoder, bound._before = text_encoder, before
        return bound

    def blank(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """int64[count, h, w], every token MASK."""
        return torch.full((count, *self.grid), MASK, dtype=torch.int64, device=device)

    @torch.no_grad()  # not inference_mode: samplers and guidance may change the logits that they get in place
    def condition(self, text: TextEmbedding, low: Tensor | None = None) -> Conditioning:
        """What the transformer makes of B texts, and of the tokens of the stage before, in the stage's precision."""
        arguments.check_text(text)
        with self.arithmetic(text.mask.device):
            return self.transformer.condition(text, low)

    @torch.no_grad()
    def logits(
        self, tokens: Tensor, conditioning: Conditioning, places: Tensor | None = None, model: Transformer | None = None
    ) -> Tensor:
        """int64[B, h, w] to float32[B, h, w, K], computed in the stage's precision; by another model, if one is given.

        places: int64[B, n] of each grid in reading order; the logits are then theirs alone, float32[B, n, K]. A
        transformer that is `placewise` computes no others, unless it is compiled for one shape.
        """
        arguments.check_tokens(tokens)
        arguments.check_conditioning(conditioning)
        asked = self.transformer if model is None else model
        network: Callable[..., Tensor] = self._network(tokens.device) if asked is self.transformer else asked
        with self.arithmetic(tokens.device):
            if places is not None and not self.compile and abilities.is_placewise(asked):
                return network(tokens, conditioning, places).float()
            logits = network(tokens, conditioning)
        if places is not None:
            logits = gather_places(logits.flatten(1, 2), places)
        return logits.to(torch.float32, copy=self.compile)  # a CUDA graph writes its next result where this one is

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w], of this stage's grid or of a larger one, to pictures float32[B, 3, H, W] in 0..1.

        A CPU decodes a large batch a few pictures at a time, which is no slower and needs less memory.
        """
        arguments.check_tokens(tokens)
        token = self.height * self.width // math.prod(self.grid)
        few = max(1, PIXELS // (token * tokens[0].numel())) if tokens.device.type == "cpu" else len(tokens)
        decode = self.tokenizer.decode
        if self.tile is not None:
            from muse_studio.sampling.tiling import tiled

            decode = partial(tiled, decode, tile=self.tile)
        with self.arithmetic(tokens.device):
            images = [decode(part).float() for part in tokens.split(few)]
        return torch.cat(images).clamp_(0, 1)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """float32[B, 3, H, W] in 0..1 to tokens int64[B, h, w] of the pictures in this stage's size, see `resize`."""
        arguments.check_images(images)
        if images.shape[-2:] != (self.height, self.width):
            images = self.resize(to_bytes(images)).float() / 255
        return self.tokenizer.encode(images)

    def loss(
        self,
        images: Tensor,
        texts: Sequence[str] | TextEmbedding,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        low: Tensor | None = None,
        text_dropout: float = 0.0,
        smoothing: float = 0.0,
    ) -> Tensor:
        """What training pays for B pictures: the mean cross-entropy of the tokens that it hides (Muse, section 2.6).

        images: float32[B, 3, H, W] in 0..1. texts: B prompts, where the stage is a model's, or their embedding.
        seed, or a generator in its place: what is hidden, and which texts are dropped; take another at each step.
        low: int64[B, h', w'], tokens of the stage before; by default those of the same pictures.
        text_dropout, smoothing: as the task `train` has them, which drops 0.1 of the texts by default.

        A scalar, differentiable in the transformer's weights alone. TypeError or ValueError, with the cure, where an
        argument is another.
        """
        from muse_studio.sampling.masking import drop_text, keep_text, mask_tokens, predicted_loss

        arguments.check_images(images)
        arguments.check_range(images)
        if self.cast:
            raise ValueError("the transformer was cast to bfloat16 for drawing; load the model with precision: float32")
        if generator is None:
            arguments.check_seed(seed)
            generator = torch.Generator().manual_seed(seed or 0)
        arguments.check_generator(generator)
        on = device_of(self.transformer, images.device)
        with torch.no_grad():
            images = images.to(on)
            text = self._embedded(texts, len(images), on)
            low = self._low(images) if low is None else low.to(on)
            tokens = self.encode(images)
        hidden = mask_tokens(len(images), self.grid, self.schedule, generator).to(on)
        if text_dropout > 0:
            text = drop_text(text, keep_text(len(images), text_dropout, generator).to(on))
        with self.arithmetic(on):
            summed, _ = predicted_loss(self.transformer, tokens, hidden, text, low, smoothing)
        return summed * (1 / hidden.sum())

    def _embedded(self, texts: Sequence[str] | TextEmbedding, count: int, on: torch.device) -> TextEmbedding:
        if not isinstance(texts, TextEmbedding):
            check_prompts(list(texts) if isinstance(texts, tuple) else texts)  # type: ignore[arg-type]
            if self._text_encoder is None:
                raise ValueError("texts are prompts, which a stage alone can't encode; give text_encoder(prompts)")
            texts = self._text_encoder(list(texts))
        if len(texts.mask) != count:
            raise ValueError(f"images are {count}, texts {len(texts.mask)}; give one text a picture")
        return texts.to(on)

    def _low(self, images: Tensor) -> Tensor | None:
        """The tokens of the stage before that the transformer refines, None where it refines none."""
        if getattr(self.transformer, "low_grid", None) is None:
            return None
        if self._before is None:
            raise ValueError("the transformer refines tokens of the stage before; give them: low=before.encode(images)")
        return self._before.encode(images)

    def settle(self, on: torch.device) -> None:
        """Cast once, and in place, the weights that every step would cast: those of layers that compute in bfloat16,
        as those of a `Head` do not. The transformer is then one for drawing alone.

        The results are the same to the bit, but for a cached transformer's on a CPU, whose weights are packed besides:
        most of its steps compute few places.
        """
        if not self._halves(on) or not isinstance(self.transformer, nn.Module):
            return
        self.cast = True
        from muse_studio.nn.casting import cast_layers

        cast_layers(self.transformer)
        if self.cache is not None:
            from muse_studio.nn.packed import can_pack, pack

            if can_pack(on):
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
        return computes_in_bfloat16(self.precision, on)

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
        arguments.check_text(text, of=self.transformer)
        arguments.check_generator(generator)
        count, device = text.mask.shape[0], text.mask.device
        if negative is not None:
            arguments.check_text(negative, "negative")
        unwanted = None if negative is None else negative.mask
        for name, given in (("negative", unwanted), ("low", low), ("tokens", tokens)):
            if name != "negative" and given is not None:
                arguments.check_tokens(given, name)
            if given is not None and given.shape[0] != count:
                raise ValueError(f"text is for {count} pictures, {name} for {given.shape[0]}; repeat one of them")
        tokens = self.blank(count, device) if tokens is None else tokens
        predict = Predictor(self, text, negative, low)
        sampler: Callable[..., Iterator[Tensor]] = self.sampler  # one that is `rowwise` takes Rows too
        return iter(sampler(predict, tokens, self.schedule, generator))


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
