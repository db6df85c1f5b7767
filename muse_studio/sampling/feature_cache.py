"""Feature caches: steps of sampling that compute a masked transformer at some places, and reuse the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeAlias, get_args, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_studio.contracts import MASK, Conditioning, Transformer

Kept: TypeAlias = "list[Tensor]"
"""What a transformer keeps of its last evaluation. Every tensor leads with B, and is changed in place later."""

Choose: TypeAlias = Callable[[Tensor], Tensor]
"""float[B, h', w'], how much each place of a transformer's own grid changed, to the n places to compute: int64[B, n].

n is the same in every call for one grid."""

By = Literal["context", "changed", "max-logit"]


@dataclass
class Visit:
    """One evaluation of a transformer that is cached.

    kept: what an earlier one has kept; None is a full evaluation, at all places.
    choose: tells, where there is something kept, at which places the layers are computed.
    everywhere: of the first layers, so many are computed at all places in any case.
    wanted: int64[B, m], places in reading order whose logits are asked for; None is all of them. Those of other places
        need not be computed.
    """

    kept: Kept | None
    choose: Choose
    everywhere: int = 0
    wanted: Tensor | None = None


@runtime_checkable
class Revisiting(Protocol):
    """A transformer that can be cached: one with this method beside the contract's.

    Its linear layers are to be called, their weights not read: others may stand in their place (`packed`).
    """

    def revisit(self, tokens: Tensor, conditioning: Conditioning, visit: Visit) -> tuple[Tensor, Kept]:
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
            raise ValueError(f"by is {self.by!r}; give one of {', '.join(map(repr, get_args(By)))}")
        for name, least in (("every", 1), ("layers", 0), ("full", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; give {least} or more")
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; give more than 0, at most 1")

    @property
    def everywhere(self) -> int:
        """How many layers are computed at all places, for the change that they show."""
        return self.layers if self.by == "changed" else 0

    def check(self, transformer: Transformer) -> None:
        """ValueError where a transformer can't be cached."""
        if not isinstance(transformer, Revisiting):
            raise ValueError(
                f"cache: the transformer {type(transformer).__name__} can't be computed at some places alone, as it "
                "has no method `revisit`; leave cache out, or take a transformer that has it: muse, superres, amused"
            )


class Memory:
    """What the steps of filling one grid hand on to each other. revisit: the transformer's, in a stage's precision."""

    def __init__(self, cache: Cache, revisit: Callable[[Tensor, Conditioning, Visit], tuple[Tensor, Kept]]) -> None:
        self.cache, self.revisit = cache, revisit
        self.asked, self.partial = 0, 0  # evaluations so far, and how many of the next ones need not be full
        self.texts: tuple[int, ...] = ()
        self.kept: Kept = []

    def __call__(
        self, tokens: Tensor, texts: tuple[int, ...], conditioning: Conditioning, wanted: Tensor | None
    ) -> tuple[Tensor, ...]:
        """int64[B, h, w] to logits float32[B, h, w, K] for each text, whose conditioning lies one behind the other.

        texts: names of the texts; when other ones are asked for than before, the evaluation is a full one.
        wanted: int64[B, m], places to have the logits of alone, float32[B, m, K].
        """
        whole = self.partial == 0 or texts != self.texts
        count = 1 if self.cache.guidance and not whole else len(texts)
        rows = count * len(tokens)
        kept = None if whole else [tensor[:rows] for tensor in self.kept]  # views: the whole changes with them
        if whole:
            self.texts, self.seen = texts, tokens
            self.sure = torch.zeros(tokens.shape, device=tokens.device)
            self.partial = self.cache.every if self.asked >= self.cache.full - 1 else 1
        # A sampler may mask a token again: logits that later steps could reuse are computed though none asks for them.
        needed = None if whole and self.partial > 1 else wanted
        visit = Visit(kept, partial(self._choose, tokens), self.cache.everywhere, _repeated(needed, count))
        asked = tuple(tensor[:rows] for tensor in conditioning)
        logits, kept = self.revisit(tokens.repeat(count, 1, 1), asked, visit)
        self.asked, self.partial = self.asked + 1, self.partial - 1
        answers = [_at(each, wanted) for each in logits.chunk(count)]
        if whole:
            self.kept = kept
            if self.cache.guidance:
                first, *others = logits.chunk(count)
                self.differences = [other - first for other in others]
        elif self.cache.guidance:
            answers += [answers[0] + _at(difference, wanted) for difference in self.differences]
        if self.cache.by != "changed":
            self._note(answers[0], wanted)
        return tuple(answers)

    def _choose(self, tokens: Tensor, change: Tensor) -> Tensor:
        """The places of a transformer's own grid to compute, the same in all halves: int64[R, n] (see `Choose`)."""
        first = change[: len(tokens)]  # the prompted half decides
        wish = self.priority(tokens, first)
        places = wish.flatten(1).topk(math.ceil(self.cache.share * first[0].numel())).indices.sort().values
        self._look(tokens, places, first.shape[1:])
        return places.repeat(len(change) // len(tokens), 1)

    def priority(self, tokens: Tensor, change: Tensor) -> Tensor:
        """int64[B, h, w] and float[B, h', w'] to float[B, h', w']: the higher, the sooner a place is computed."""
        new, masked = (tokens != self.seen).float(), tokens == MASK
        match self.cache.by:
            case "changed":
                return change.float() + 1e4 * _shrink(new, change)
            case "context":
                wish = self.sure
            case "max-logit":
                wish = -self.sure
        return _shrink(wish.masked_fill(~masked, -1e4) + 1e6 * new, change)

    def _note(self, logits: Tensor, wanted: Tensor | None) -> None:
        """Note how sure these logits of the prompt are: their largest, or its log-probability."""
        sure = logits.amax(-1)
        if self.cache.by == "context":
            sure = sure - logits.logsumexp(-1)
        if wanted is None:
            self.sure = sure
        else:
            self.sure = self.sure.flatten(1).scatter(1, wanted, sure).view_as(self.sure)

    def _look(self, tokens: Tensor, places: Tensor, grid: torch.Size) -> None:
        """Note that these places int64[B, n] of a grid (h', w') are computed with the tokens int64[B, h, w]."""
        looked = torch.zeros(len(tokens), grid.numel(), device=tokens.device).scatter_(1, places, 1.0)
        looked = F.interpolate(looked.view(-1, 1, *grid), tokens.shape[1:], mode="nearest").squeeze(1)
        self.seen = torch.where(looked > 0, tokens, self.seen)


def _shrink(wish: Tensor, like: Tensor) -> Tensor:
    """float[B, h, w] to the grid of float[B, h', w'], the largest of what falls on a place."""
    return wish if wish.shape == like.shape else F.adaptive_max_pool2d(wish[:, None], like.shape[1:]).squeeze(1)


def _repeated(places: Tensor | None, count: int) -> Tensor | None:
    return None if places is None else places.repeat(count, 1)


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
