"""Decoding in the order of a Halton sequence, which spreads each step's places over the plane."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from muse_studio.contracts import MaskSchedule, Predict
from muse_studio.sampling.filling import fill
from muse_studio.sampling.noise import uniform
from muse_studio.sampling.settings import Filling


@dataclass
class Halton(Filling):
    """Places in the order of the Halton sequence with bases 2 and 3 (Besnier et al., ICLR 2025, 2503.17076, section 4).

    Point n = 1, 2, ... of the sequence is (phi_2(n), phi_3(n)), phi_b(n) being n's digits in base b mirrored at the
    point; it falls into row floor(h phi_2(n)) and column floor(w phi_3(n)), and a place is taken when it is first hit.
    Places that are fixed together lie far apart, so they say little about each other and can be drawn at once; no
    noise on a confidence is needed. Codes are drawn from the logits as they are.

    Where this differs from the paper's code:
    * Known tokens stay and the order runs over the masked places alone; the original draws over them.
    * As many a step as the mask schedule says. The paper's own leaves the share (2 / pi) arccos(r) masked after the
      progress r = (i + 1) / T; any schedule goes.
    * Any grid, square or not, is covered: the original stops after 10,000 points. Places are computed in whole numbers.

    The order knows nothing of what is drawn: with one token a step and a right model there is no bias. A run draws one
    uniform number a picture for the roll, whether it is used or not, and then as many a step as `confidence`.

    steps: T. The paper has 32.
    sampling_temperature: of the codes; 0 takes the most likely one. A number is constant, [from, to] goes from the one
        to the other. The original multiplies the logits by 1 to 1.2, which is about [1, 0.83] here.
    top_k, top_p: draw among the k likeliest codes, or the fewest whose probabilities reach p.
    early: as of `confidence`.
    roll: begin at another point of the sequence for each picture, and go round; else all pictures have one order.
    """

    roll: bool = False

    def __call__(
        self, predict: Predict, tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] with MASK where a token is wanted; yields `steps` grids like it (see the class)."""
        count, height, width = tokens.shape
        rank = halton_rank(height, width).to(tokens.device).expand(count, -1, -1)
        shift = uniform(generator, count, rows=0, to=tokens.device)
        if self.roll:
            rank = (rank + (shift * height * width).long()[:, None, None]) % (height * width)
        return fill(self, predict, tokens, schedule, generator, lambda guess: -rank.float())


@lru_cache(maxsize=16)
def halton_rank(height: int, width: int) -> Tensor:
    """When each place of a grid is first hit by the sequence: int64[height, width], 0 first; not to be changed.

    Any 2^a 3^b points that follow each other hit each box of 2^-a by 3^-b once; boxes of at most half a place's sides
    lie within every place, so that many points hit all of them.
    """
    rows, columns = 2 ** math.ceil(math.log2(2 * height)), 3 ** math.ceil(math.log(2 * width, 3))
    points = torch.arange(1, rows * columns + 1, device="cpu")
    row, column = mirrored(points, 2, height), mirrored(points, 3, width)
    first = torch.full((height * width,), len(points), device="cpu")
    first.scatter_reduce_(0, row * width + column, points, "amin")
    return first.argsort().argsort().view(height, width)


def mirrored(points: Tensor, base: int, size: int) -> Tensor:
    """floor(size * phi) of each point int64[N] from 1 on, phi its digits in that base mirrored at the point."""
    numerator, denominator, left = torch.zeros_like(points), 1, points
    for _ in range(math.ceil(math.log(len(points) + 1, base)) + 1):
        numerator = numerator * base + left % base
        denominator *= base
        left = left // base
    return numerator * size // denominator
