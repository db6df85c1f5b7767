"""What a sampler asks: guided logits, each text's conditioning computed once."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from muse_studio.contracts import Conditioning, Guidance, Question, TextEmbedding, Tokenizer, Transformer
from muse_studio.registry.guards import short
from muse_studio.sampling import abilities
from muse_studio.sampling.feature_cache import Cache, Memory


class Predicting(Protocol):
    """What is asked of a stage here."""

    tokenizer: Tokenizer
    transformer: Transformer
    guidance: Guidance
    cache: Cache | None
    grid: tuple[int, int]

    def condition(self, text: TextEmbedding, low: Tensor | None = None) -> Conditioning:
        """What the transformer makes of B texts."""

    def logits(
        self,
        tokens: Tensor,
        conditioning: Conditioning,
        places: Tensor | None = None,
        model: Transformer | None = None,
    ) -> Tensor:
        """int64[B, h, w] to float32[B, h, w, K], or float32[B, n, K] at places int64[B, n]; by a `model`, if given."""

    def arithmetic(self, on: torch.device) -> AbstractContextManager[Any]:
        """The context that the transformer computes in, by the stage's precision."""


class Predictor:
    """Guided logits for a partly masked grid; the conditioning of each text is computed once."""

    def __init__(
        self, stage: Predicting, text: TextEmbedding, negative: TextEmbedding | None, low: Tensor | None
    ) -> None:
        self.stage = stage
        self.text, self.low, self.codes = text, low, stage.tokenizer.codebook_size
        self._join = abilities.joining(stage.transformer)
        self.nothing = text.null() if self._join is None else text.null(positions=0)
        self.negative = self.nothing if negative is None else negative
        fixed = text.mask.device.type in ("tpu", "xla")  # where each new shape would be compiled
        self.placewise = abilities.is_placewise(stage.guidance) and not fixed
        self._conditioned: dict[int, tuple[TextEmbedding, Conditioning]] = {}
        self._batched: dict[tuple[int, ...], Conditioning] = {}
        self._null = text.null()  # of as many positions, as another model may not take it without any
        self._others: dict[tuple[int, int], tuple[Transformer, TextEmbedding, Conditioning]] = {}
        self._memory = None if stage.cache is None else Memory(stage.cache, stage.transformer, stage.arithmetic)

    @torch.no_grad()
    def __call__(self, tokens: Tensor, progress: float, places: Tensor | None = None) -> Tensor:
        """int64[B, h, w] and the share of steps done to logits float[B, h, w, K].

        places: int64[B, n], where the logits are wanted alone: float[B, n, K]. For who is `placewise`.
        """

        if (wrong := self._wrong_question(tokens, progress, places)) is not None:
            raise ValueError(wrong)

        def ask(*questions: TextEmbedding | Question | None) -> tuple[Tensor, ...]:
            if not all(each is None or isinstance(each, TextEmbedding | Question) for each in questions):
                got = ", ".join(map(short, questions))
                raise ValueError(f"ask takes texts, each a TextEmbedding or None, and Questions; got {got}")
            texts = [each for each in questions if not isinstance(each, Question)]
            answers = iter(ask_texts(texts) if texts else ())
            return tuple(
                self._elsewhere(each, tokens, places) if isinstance(each, Question) else next(answers)
                for each in questions
            )

        def ask_texts(texts: list[TextEmbedding | None]) -> tuple[Tensor, ...]:
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

    def _elsewhere(self, question: Question, tokens: Tensor, places: Tensor | None) -> Tensor:
        """What another model says, or this one of other tokens: its conditioning too is computed once a text."""
        model = self.stage.transformer if question.model is None else question.model
        text = self._null if question.text is None else question.text
        key = id(model), id(text)
        if key not in self._others:
            with torch.no_grad(), self.stage.arithmetic(tokens.device):
                self._others[key] = (model, text, model.condition(text, self.low))
        grid = tokens if question.tokens is None else question.tokens
        if (wrong := self._wrong_question(grid, 0.0, places)) is not None:
            raise ValueError(wrong)
        return self.stage.logits(grid, self._others[key][2], places, model)

    def _wrong_question(self, tokens: Tensor, progress: float, places: Tensor | None) -> str | None:
        """What a sampler asks for that no transformer could answer; not by values, which would wait for the device."""
        due = (len(self.text.mask), *self.stage.grid)
        if not isinstance(tokens, Tensor) or tuple(tokens.shape) != due or tokens.dtype != torch.int64:
            return f"predict is asked for {short(tokens)}; give the whole grid, int64{list(due)}"
        if not hasattr(progress, "__float__"):
            return f"predict is asked at progress {short(progress)}; give the share of steps done, in 0..1"
        if places is not None and (places.dtype != torch.int64 or places.ndim != 2 or len(places) != len(tokens)):
            return f"predict is asked at places {short(places)}; give int64[{len(tokens)}, n]"
        return None

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
