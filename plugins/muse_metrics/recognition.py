"""Recognition: does a judge that was trained on real pictures name the thing that a caption asks for?"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from muse_metrics.features import Features
from muse_studio.errors import UserError
from muse_studio.runtime import weights

TOP = (1, 5)


class Head(NamedTuple):
    """A linear classifier: K things by name, float64[K, D] and float64[K]."""

    things: tuple[str, ...]
    weight: Tensor
    bias: Tensor


@dataclass
class Recognition:
    """The share of pictures whose own thing is the first that a linear judge names, or among its first five.

    The judge is a head over a network's features, as `train-recogniser` writes it. It is there to measure: nothing of
    it may take part in the training of what it measures. A caption names the thing that it begins with, as "red apple,
    noto style" does; a thing that the judge does not know counts as missed.

    head: the address of the judge's weights. features: what it looks at, which must be what it was trained on.
    """

    head: str
    features: Features = field(default_factory=Features)
    least: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        self.reset()

    @property
    def things(self) -> tuple[str, ...]:
        """What the judge can name; UserError where its weights can't be had, or look at other features."""
        return _load(self.head, self.features.network, self.features.side).things

    def scores(self, images: Tensor) -> Tensor:
        """uint8[B, 3, H, W] to the judge's logits float64[B, K], one for each of `things`."""
        head = _load(self.head, self.features.network, self.features.side)
        return self.features(images) @ head.weight.T + head.bias

    @property
    def meanings(self) -> dict[str, str]:
        """Of drawn pictures, and of the real ones beside them."""
        known = len(self.things)
        title = self.features.load().title
        return {
            f"{name}, top-{k}": f"share of {name} pictures whose thing is among the first {k} of {known} that a linear "
            f"judge over {title} names; ties count against it"
            for name in ("recognised", "real recognised")
            for k in TOP
        }

    def reset(self) -> None:
        """Forget all pictures."""
        self.count, self.hits = 0, torch.zeros(2 * len(TOP), dtype=torch.int64)

    def update(self, real: Tensor, generated: Tensor, prompts: list[str]) -> None:
        """uint8[B, 3, H, W] twice, of any sizes, and captions that begin with a thing's name."""
        named = [self._named(prompt) for prompt in prompts]
        self.count += len(prompts)
        for place, images in enumerate((generated, real)):
            for scores, own in zip(self.scores(images), named, strict=True):
                if own is not None:
                    rank = int((scores >= scores[own]).sum()) - 1
                    self.hits[place * len(TOP) :][: len(TOP)] += torch.tensor([rank < k for k in TOP])

    def compute(self) -> Tensor:
        """float64[4]: top-1 and top-5 of drawn pictures, then of real ones; UserError of no picture."""
        if self.count == 0:
            raise UserError("recognition needs 1 picture at least, and none came")
        return self.hits.double() / self.count

    def _named(self, prompt: str) -> int | None:
        """The thing with the longest name that the caption begins with."""
        things = self.things
        fitting = [row for row, thing in enumerate(things) if f"{prompt}, ".startswith(f"{thing}, ")]
        return max(fitting, key=lambda row: len(things[row]), default=None)


@lru_cache(maxsize=2)
def _load(address: str, network: str, side: int | None) -> Head:
    settings, tensors = weights.settings(address), weights.read(address)
    things = settings.get("things")
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if not things or weight is None or bias is None or not len(things) == len(weight) == len(bias):
        raise UserError(f"head {address} is no judge's; give a file that train-recogniser wrote")
    looked = {"network": network, "side": side}
    if settings.get("features") != looked:
        raise UserError(
            f"head {address} was trained on the features {json.dumps(settings.get('features'))}, and is asked by "
            f"{json.dumps(looked)}; give it the features that it knows"
        )
    return Head(tuple(things), weight.double(), bias.double())
