"""Feature caches: steps of sampling that compute a masked transformer at some places, and reuse the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_studio.contracts import MASK, Conditioning, Transformer
from muse_studio.errors import SettingError

By = Literal["context", "changed", "max-logit"]


@dataclass
class Visit:
    """One evaluation of a transformer that is cached.

    kept: what an earlier one has kept, whatever it likes: every tensor leads with B, and is changed in place. None is a
        full evaluation, at all places.
    choose: float[B, h', w'], how much each place of the transformer's own grid changed, to the n places at which the
        layers are computed, int64[B, n]; n is the same in every call for one grid. Asked where there is something kept.
    everywhere: of the first layers, so many are computed at all places in any case.
    wanted: int64[B, m], places in reading order whose logits are asked for; None is all of them. Those of other places
        need not be computed.
    """

    kept: list[Tensor] | None
    choose: Callable[[Tensor], Tensor]
    everywhere: int = 0
    wanted: Tensor | None = None


@runtime_checkable
class Revisiting(Protocol):
    """A transformer that can be cached: one with this method beside the contract's.

    Its linear layers are to be called, their weights not read: others may stand in their place (`packed`).
    """

    def revisit(self, tokens: Tensor, conditioning: Conditioning, visit: Visit) -> tuple[Tensor, list[Tensor]]:
        """int64[B, h, w] to logits float[B, h, w, K] and what the next visit is given as `kept`.

        In a full evaluation they are the very numbers of a plain call. In another one `choose` is told how far what the
        first layers give has moved, at each place, since the other layers were last computed there; those are computed
        where it says. All other places keep the keys and values that they had, by which they are looked at, and their
        part in the logits.
        """


@dataclass
class Cache:
    """Of `every` evaluations the first is full; those after it compute a share of the places and reuse the others.

    A place whose token is another than when it was last computed always comes first, as the rest of the grid would not
    learn of it. `by` says which come then:

    * context (ReCAP, Liu et al., 2025): masked places, the surest first, which are those that the next steps will fix.
        All others are context, whose keys and values are reused.
    * changed (LazyMAR, Yan et al., 2025, its token cache): those whose features changed most since they were last
        computed, by their cosine, behind the first `layers` layers, which are computed everywhere.
    * max-logit (Lumina-DiMOO, 2025): masked places, those with the lowest of largest logits first: where the largest
        one is high, features hardly change any more.

    every: 1 is exact, at the price of an exact run. share: of the places, that are computed in the steps between.
    layers: of `changed`, the layers that are computed everywhere (the paper's is 3 of 32).
    full: so many evaluations at the start are full besides (ReCAP: the grid has hardly any context then).
    guidance: the steps between ask for the prompted half alone; what the others differ by is the last full step's
        (LazyMAR's condition cache).

    ValueError where a setting can't be.
    """

    by: By = "changed"
    every: int = 3
    share: float = 0.25
    layers: int = 1
    full: int = 1
    guidance: bool = True

    def __post_init__(self) -> None:
        if self.by not in get_args(By):
            raise SettingError("by", f"by is {self.by!r}; give one of {', '.join(map(repr, get_args(By)))}")
        for name, least in (("every", 1), ("layers", 0), ("full", 0)):
            if getattr(self, name) < least:
                raise SettingError(name, f"{name} is {getattr(self, name)}; give {least} or more")
        if not 0 < self.share <= 1:
            raise SettingError("share", f"share is {self.share}; give more than 0, at most 1")

    @property
    def everywhere(self) -> int:
        """How many layers are computed at all places, for the change that they show."""
        return self.layers if self.by == "changed" else 0

    def check(self, transformer: Transformer) -> None:
        """ValueError where a transformer can't be cached."""
        if getattr(transformer, "revisit", None) is None:
            raise SettingError(
                "cache",
                f"cache: the transformer {type(transformer).__name__} can't be computed at some places alone, as it "
                "has no method `revisit`; leave cache out, or take a transformer that has it: muse, superres, amused",
            )


@dataclass
class _Evaluated:
    """The last full evaluation of a grid, and what the steps since have changed of it.

    texts: names of those that were asked for. kept: what the transformer kept. differences: of each text's logits but
    the first's, float[B, h, w, K], to the first's. seen: int64[B, h, w], the tokens with which each place was last
    computed. sure: float[B, h, w], how sure the prompted logits were there.
    """

    texts: tuple[int, ...]
    kept: list[Tensor]
    differences: list[Tensor]
    seen: Tensor
    sure: Tensor


class Memory:
    """What the steps of filling one grid hand on to each other.

    transformer: one that is `Revisiting`, as `Cache.check` has found. arithmetic: gives the context in which it
    computes on a device: a stage's precision.
    """

    def __init__(
        self,
        cache: Cache,
        transformer: Transformer,
        arithmetic: Callable[[torch.device], AbstractContextManager[object]],
    ) -> None:
        assert isinstance(transformer, Revisiting)
        self.cache, self.transformer, self.arithmetic = cache, transformer, arithmetic
        self.asked, self.partial = 0, 0  # evaluations so far, and how many of the next ones need not be full
        self.last: _Evaluated | None = None

    @torch.no_grad()
    def __call__(
        self, tokens: Tensor, texts: tuple[int, ...], conditioning: Conditioning, wanted: Tensor | None
    ) -> tuple[Tensor, ...]:
        """int64[B, h, w] to logits float32[B, h, w, K] for each text, whose conditioning lies one behind the other.

        texts: names of the texts; when other ones are asked for than before, the evaluation is a full one.
        wanted: int64[B, m], places to have the logits of alone, float32[B, m, K].
        """
        if self.last is None or self.partial == 0 or texts != self.last.texts:
            answers = self._full(tokens, texts, conditioning, wanted)
        else:
            answers = self._part(self.last, tokens, conditioning, wanted)
        self.asked, self.partial = self.asked + 1, self.partial - 1
        return answers

    def _full(
        self, tokens: Tensor, texts: tuple[int, ...], conditioning: Conditioning, wanted: Tensor | None
    ) -> tuple[Tensor, ...]:
        """An evaluation at all places."""
        self.partial = self.cache.every if self.asked >= self.cache.full - 1 else 1
        # A sampler may mask a token again: logits that later steps could reuse are computed though none asks for them.
        needed = None if self.partial > 1 else wanted
        logits, kept = self._evaluate(tokens, len(texts), conditioning, Visit(None, _choose_none), needed)
        first, *others = logits.chunk(len(texts))
        differences = [other - first for other in others] if self.cache.guidance else []
        sure = torch.zeros(tokens.shape, device=tokens.device)
        self.last = _Evaluated(texts, kept, differences, tokens, sure)
        answers = tuple(_at(each, wanted) for each in (first, *others))
        self._note(self.last, answers[0], wanted)
        return answers

    def _part(
        self, last: _Evaluated, tokens: Tensor, conditioning: Conditioning, wanted: Tensor | None
    ) -> tuple[Tensor, ...]:
        """An evaluation at some places, of all the texts or, where their differences are kept, of the first alone."""
        count = 1 if self.cache.guidance else len(last.texts)
        kept = [tensor[: count * len(tokens)] for tensor in last.kept]  # views: the whole changes with them
        visit = Visit(kept, partial(self._choose, last, tokens))
        logits, _ = self._evaluate(tokens, count, conditioning, visit, wanted)
        answers = [_at(each, wanted) for each in logits.chunk(count)]
        answers += [answers[0] + _at(difference, wanted) for difference in last.differences]
        self._note(last, answers[0], wanted)
        return tuple(answers)

    def _evaluate(
        self, tokens: Tensor, count: int, conditioning: Conditioning, visit: Visit, wanted: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """The transformer's answer for the first `count` of the texts."""
        visit.everywhere = self.cache.everywhere
        visit.wanted = None if wanted is None else wanted.repeat(count, 1)
        given = tuple(tensor[: count * len(tokens)] for tensor in conditioning)
        with self.arithmetic(tokens.device):
            return self.transformer.revisit(tokens.repeat(count, 1, 1), given, visit)

    def _choose(self, last: _Evaluated, tokens: Tensor, change: Tensor) -> Tensor:
        """The places of a transformer's own grid to compute, the same in all halves: int64[R, n] (see `Visit`)."""
        first = change[: len(tokens)]  # the prompted half decides
        wish = self._priority(last, tokens, first)
        places = wish.flatten(1).topk(math.ceil(self.cache.share * first[0].numel())).indices.sort().values
        _note_computed(last, tokens, places, first.shape[1:])
        return places.repeat(len(change) // len(tokens), 1)

    def _priority(self, last: _Evaluated, tokens: Tensor, change: Tensor) -> Tensor:
        """int64[B, h, w] and float[B, h', w'] to float[B, h', w']: the higher, the sooner a place is computed."""
        new, masked = (tokens != last.seen).float(), tokens == MASK
        match self.cache.by:
            case "changed":
                return change.float() + 1e4 * _shrink(new, change)
            case "context":
                wish = last.sure
            case "max-logit":
                wish = -last.sure
        return _shrink(wish.masked_fill(~masked, -1e4) + 1e6 * new, change)

    def _note(self, last: _Evaluated, logits: Tensor, wanted: Tensor | None) -> None:
        """Note how sure these logits of the prompt are: their largest, or its log-probability."""
        if self.cache.by == "changed":
            return
        sure = logits.amax(-1)
        if self.cache.by == "context":
            sure = sure - logits.logsumexp(-1)
        if wanted is None:
            last.sure = sure
        else:
            last.sure = last.sure.flatten(1).scatter(1, wanted, sure).view_as(last.sure)


def _choose_none(change: Tensor) -> Tensor:
    """No place: in a full evaluation nothing is left to be chosen."""
    return torch.zeros(len(change), 0, dtype=torch.int64, device=change.device)


def _note_computed(last: _Evaluated, tokens: Tensor, places: Tensor, grid: torch.Size) -> None:
    """Note that these places int64[B, n] of a grid (h', w') are computed with the tokens int64[B, h, w]."""
    computed = torch.zeros(len(tokens), grid.numel(), device=tokens.device).scatter_(1, places, 1.0)
    computed = F.interpolate(computed.view(-1, 1, *grid), tokens.shape[1:], mode="nearest").squeeze(1)
    last.seen = torch.where(computed > 0, tokens, last.seen)


def _shrink(wish: Tensor, like: Tensor) -> Tensor:
    """float[B, h, w] to the grid of float[B, h', w'], the largest of what falls on a place."""
    return wish if wish.shape == like.shape else F.adaptive_max_pool2d(wish[:, None], like.shape[1:]).squeeze(1)


def _at(logits: Tensor, places: Tensor | None) -> Tensor:
    """float[B, h, w, K] as float32 of its own, which who gets it may change; at int64[B, n] alone, float32[B, n, K]."""
    if places is None:
        return logits.to(torch.float32, copy=True)
    return gather_places(logits.flatten(1, 2), places).float()


def moved(features: Tensor, before: Tensor) -> Tensor:
    """float[B, N, D] twice to float32[B, N]: 1 less their cosine, 0 where a place has not moved."""
    return 1 - F.cosine_similarity(features.float(), before.float(), dim=-1)


def gather_places(tensor: Tensor, places: Tensor) -> Tensor:
    """float[B, N, D] at int64[B, n]: float[B, n, D]."""
    count, size = tensor.shape[:2]
    # Rows of one long list: three times as fast on a CPU as by two indices.
    rows = (places + size * torch.arange(count, device=places.device)[:, None]).flatten()
    return tensor.flatten(0, 1).index_select(0, rows).unflatten(0, places.shape)


def scatter_places(tensor: Tensor, places: Tensor, new: Tensor) -> None:
    """Write float[B, n, D] into float[B, N, D] at int64[B, n]."""
    tensor[torch.arange(len(places), device=places.device)[:, None], places] = new.to(tensor.dtype)
