"""Parallel decoding in MUSE-Pytorch's and TiTok's dialect: one falling temperature for codes and order, raw logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from muse_studio.contracts import MaskSchedule, Predict
from muse_studio.sampling.filling import Guess, fill, gumbel
from muse_studio.sampling.settings import Filling, Order


@dataclass
class Gumbel(Filling, Order):
    """The loop of MUSE-Pytorch (`libs/muse.py`) and, after it, of TiTok (`modeling/maskgit.py`).

    Step i of T has the progress r = (i + 1) / T and the temperature t = temperature * (1 - r). A masked place takes the
    code argmax_k(l_k + t * Gumbel noise) of the guided logits l, which is a draw from softmax(l / t); its confidence is
    l of that code plus t * Gumbel noise. The least sure are masked again, as many as the mask schedule says.

    It differs from `confidence`, and temperatures must not be quoted from the one to the other:
    * Codes are drawn at the falling temperature t, MaskGIT's at 1 throughout: here almost anything goes at first (t is
      4.1 in the first of 12 steps), and the last step takes the likeliest codes.
    * Confidence is the raw logit, which is not comparable between places: one whose logits are all high comes before
      one whose code is certain. MaskGIT's is the log-probability.

    The draw inverts the cumulated softmax(l / t): equal in distribution to the originals' K Gumbel numbers a place, at
    one number a place. The originals give guidance the progress of the step before (the first step has none); here it
    gets r, as everywhere. TiTok's mask schedule is the share (2 / pi) arccos(r), MUSE-Pytorch's the cosine; its option
    to divide the logits by 0.5 + 0.8 (1 - r) first is not offered. Known tokens, ties, the last step and the count of
    random numbers are as in `confidence`.

    steps: T. MUSE-Pytorch has 18 for text, TiTok 8.
    temperature: of the order, and of the codes too; falling to 0, or [from, to]. Both originals have 4.5.
    sampling_temperature: gives the codes a temperature of their own, constant or [from, to]; null is the originals'.
    top_k, top_p: draw among the k likeliest codes, or the fewest whose probabilities reach p.
    early: as of `confidence`.
    """

    sampling_temperature: float | list[float] | None = None  # type: ignore[assignment]  # code_temperature reads it

    def code_temperature(self, progress: float) -> float:
        """The order's, unless the codes have one of their own."""
        if self.sampling_temperature is None:
            return self.order_temperature(progress)
        return super().code_temperature(progress)

    def __call__(
        self, predict: Predict, tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] with MASK where a token is wanted; yields `steps` grids like it (see the class)."""
        return fill(self, predict, tokens, schedule, generator, self.score)

    def score(self, guess: Guess) -> Tensor:
        """The logit of each code, with noise: float32[B, h, w]."""
        return guess.logit() + self.order_temperature(guess.progress) * gumbel(guess.uniform)
