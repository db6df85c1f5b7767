"""Decoding in random order: what every cleverer order has to be better than."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from muse_studio.contracts import MaskSchedule, Predict
from muse_studio.sampling.filling import fill
from muse_studio.sampling.settings import Filling


@dataclass
class Random(Filling):
    """Places in random order, codes from the model: the unbiased baseline.

    Each step fixes as many places as the mask schedule says, any of the masked ones with equal chance, each with a code
    drawn from the logits as they are. The order knows nothing of what was drawn, so where a step fixes one token and
    the model's conditionals are right, the pictures have exactly the model's distribution; what several tokens a step
    lose is their dependence on each other alone. It is the ancestral sampling of masked diffusion (MDLM, Sahoo et al.,
    2406.07524), with exactly the scheduled number of tokens a step, where that has it in the mean.

    Known tokens, the last step and the count of random numbers are as in `confidence`.

    steps: T.
    sampling_temperature: of the codes; 0 takes the most likely one. A number is constant, [from, to] goes from the one
        to the other: from * (1 - r) + to * r, r = (i + 1) / T.
    top_k, top_p: draw among the k likeliest codes, or the fewest whose probabilities reach p.
    early: as of `confidence`.
    """

    def __call__(
        self, predict: Predict, tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] with MASK where a token is wanted; yields `steps` grids like it (see the class)."""
        return fill(self, predict, tokens, schedule, generator, lambda guess: guess.uniform)
