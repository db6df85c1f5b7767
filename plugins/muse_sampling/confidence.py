"""Parallel decoding by confidence: guess every masked token, keep the surest, mask the rest again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from muse_studio.contracts import MaskSchedule, Predict
from muse_studio.sampling.filling import Guess, confidence, fill
from muse_studio.sampling.settings import Filling, Order


@dataclass
class Confidence(Filling, Order):
    """MaskGIT's loop (section 3.2 and its code, `parallel_decode`), which Muse samples with (section 2.8).

    Step i of T has the progress r = (i + 1) / T, given to guidance too. Every masked place draws a code; its
    confidence is the log-probability of that code plus temperature * (1 - r) * Gumbel noise; the places with the
    least confidence are masked again, `schedule(r)` of those that were masked at first, counted for each picture.

    Where the code leaves room, or stumbles, this holds:
    * Confidence is read from the guided logits as they are: sampling_temperature, top_k and top_p choose codes only.
    * Exactly the scheduled number is masked: of equal confidences, those first in reading order are kept. (The
      original's `<` keeps all of them.)
    * Each step fixes at least one token but leaves at least one; the last step fixes all. (So a single one waits for
      the last step. The original's own grid keeps it masked even then, while its result has it.) Where places are
      known at first, as in an edit, none is left so, and no step is computed once all are fixed: see `early`.
    * Known tokens are never changed, however many a picture has; with all known, it stays as it is.
    * Each yield is the grid with MASK where it is still open; the last one has none.
    * Each step draws two uniform numbers a place on the generator's device: no setting shifts later random numbers.

    steps: T. Muse: 24 for 16x16 tokens, 8 for 64x64.
    temperature: of the noise on the confidence, falling to 0; 0 is the greedy order, MaskGIT's code has 4.5. As
        [from, to] it goes from the one to the other: from * (1 - r) + to * r.
    sampling_temperature: of the codes; 0 takes the most likely one. A number is constant, [from, to] goes as above.
    top_k, top_p: draw among the k likeliest codes, or the fewest whose probabilities reach p.
    early: whether the last place may be fixed before the last step; null is in edits alone, where steps are spared.
    """

    def __call__(
        self, predict: Predict, tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] with MASK where a token is wanted; yields `steps` grids like it (see the class)."""
        return fill(self, predict, tokens, schedule, generator, self.score)

    def score(self, guess: Guess) -> Tensor:
        """How sure the model is of each code, with noise: float32[B, h, w]."""
        return confidence(guess, self.order_temperature(guess.progress))
