"""A sketch of the grid, made of the text as a whole before any token is drawn: what things look like, remembered.

Text encoders tell "a fox" from "a wolf" by a little in every number, and a transformer that has to learn from ten
thousand pictures which differences matter spends its time on that. Here it is told: a text says by how much each known
thing is meant, and in which manner, such as a style; each thing has a few numbers a position, and each manner draws
them in its own way. All of that is the solution of linear equations (see `solving`), so no step of training is spent on
it; what is trained is how far each place believes it. Tables of what was seen beside a network are an old idea (memory
layers, Lample et al., 2019, 1907.05242); to factor what is drawn from how is Tenenbaum and Freeman's (2000).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.nn.layers import ExactLinear
from muse_transformer.options import Sketching, unfold_cells

UNKNOWN = -1e4
"""Added to a manner that a thing was never seen in: no chance beside one that it was."""
FIRM, LOOSE = 48.0, 8.0
"""How many times a code's likeness to the sketch counts at first, where the sketch is sure, and where it isn't.

By cross-entropy over the embedded data set's own pictures the first is best near 48, of others' near 8.
"""

HEARD = 0.1
"""How loud a sketch enters the layers at first: well above positions and tokens, which are learned from 0.02 on."""


class Sketched(NamedTuple):
    """What a sketch gives for B texts.

    entered: float[B, N, width], added to what enters the layers. vectors: float[B, h * w, D], about the codes' vectors.
    firm: float[B, 1], by how much a single remembered picture is meant, 0 to 1.
    """

    entered: Tensor
    vectors: Tensor
    firm: Tensor


class Sketch(nn.Module):
    """From a text to a guess of each place's code; the tables are buffers, as no gradient changes them.

    cells: positions along both sides; fold: tokens a side that share one.
    """

    thing: Tensor
    thing_bias: Tensor
    manner: Tensor
    manner_bias: Tensor
    known: Tensor
    looks: Tensor
    hands: Tensor
    usual: Tensor
    codes: Tensor

    def __init__(
        self, sizes: Sketching, codes: int, text_width: int, cells: tuple[int, int], fold: int, width: int
    ) -> None:
        super().__init__()
        self.sizes, self.cells, self.fold = sizes, cells, fold
        positions, cell = cells[0] * cells[1], fold**2 * sizes.code_width
        shapes = {
            "thing": (sizes.things, text_width),
            "thing_bias": (sizes.things,),
            "manner": (sizes.manners, text_width),
            "manner_bias": (sizes.manners,),
            "known": (sizes.things, sizes.manners),
            "looks": (sizes.things, positions * sizes.rank),
            "hands": (sizes.manners, sizes.rank, cell),
            "usual": (sizes.manners, positions, cell),
            "codes": (codes, sizes.code_width),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        self.enter = ExactLinear(cell, width, bias=False)
        self.sure = nn.Parameter(torch.zeros(width))
        self.loudness = nn.Parameter(torch.zeros(2))
        self.belief = ExactLinear(width, 1)

    def start(self) -> None:
        """Before it is solved it says nothing; what reads it starts as loud as codes of length 1 deserve."""
        nn.init.normal_(self.enter.weight, std=HEARD / self.fold)  # a cell's vector is as long as the side it spans
        nn.init.normal_(self.sure, std=HEARD)
        nn.init.zeros_(self.belief.weight)
        nn.init.zeros_(self.belief.bias)
        with torch.no_grad():
            self.loudness.copy_(torch.tensor([math.log(LOOSE), math.log(FIRM / LOOSE)]))

    def forward(self, states: Tensor, mask: Tensor) -> Sketched:
        """float[B, T, D], bool[B, T] to a sketch; zeros where a row has no words."""
        with torch.autocast(states.device.type, enabled=False):
            things, hands, firm = self.understand(pool(states, mask))
            told = mask.any(-1, keepdim=True).float()
            cells, firm = self.draw(things, hands) * told.unsqueeze(-1), firm * told
        entered = self.enter(cells) + (firm * self.sure).unsqueeze(1)
        return Sketched(entered, self.spread(cells), firm)

    @staticmethod
    def given(tensors: Sequence[Tensor]) -> Sketched:
        """What `forward` gave, as a conditioning carries it."""
        return Sketched(*tensors)

    def understand(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float[B, D] to shares of things float[B, things] and manners float[B, manners], and `Sketched.firm`."""
        things = F.linear(pooled, self.thing.float(), self.thing_bias.float()).softmax(-1)
        manners = F.linear(pooled, self.manner.float(), self.manner_bias.float())
        seen = (self.known > UNKNOWN / 2).float()
        firm = (things**2 @ seen * manners.softmax(-1) ** 2).sum(-1, keepdim=True)
        if self.training and self.sizes.forgotten:
            manners, firm = self._forget(manners, firm)
        return things, (manners + things @ self.known.float()).softmax(-1), firm

    def draw(self, things: Tensor, hands: Tensor) -> Tensor:
        """float[B, things], float[B, manners] to float[B, N, cell]: every manner's drawing, as far as it is meant."""
        looks = (things @ self.looks.float()).unflatten(-1, (-1, self.sizes.rank))
        hand = torch.einsum("bm,mrc->brc", hands, self.hands.float())
        return looks @ hand + torch.einsum("bm,mnc->bnc", hands, self.usual.float())

    def spread(self, cells: Tensor) -> Tensor:
        """float[B, N, cell] to a vector for each token in reading order, float[B, h * w, D]."""
        return unfold_cells(cells.unflatten(1, self.cells), self.fold).flatten(1, 2)

    def favour(self, x: Tensor, vectors: Tensor, firm: Tensor) -> Tensor:
        """What is added to the logits, float[B, n, K], at places whose features are float[B, n, width].

        vectors: float[b, n, D] and firm float[b, 1], of the first rows alone where b is less than B.
        """
        rows = len(vectors)
        belief = self.belief(x[:rows])
        with torch.autocast(x.device.type, enabled=False):
            loudness = self.loudness[0] + self.loudness[1] * firm.float().unsqueeze(-1) + belief.float()
            likeness = F.linear(vectors.float(), self.codes.float())
            return F.pad(loudness.exp() * likeness, (0, 0, 0, 0, 0, len(x) - rows))

    def _forget(self, manners: Tensor, firm: Tensor) -> tuple[Tensor, Tensor]:
        """For some rows the manner that is meant and, by lot, others beside it are as if never seen."""
        rows = torch.rand(len(manners), 1, device=manners.device) < self.sizes.forgotten
        lost = torch.rand_like(manners) < 0.5
        lost.scatter_(1, manners.argmax(-1, keepdim=True), True)
        return manners.masked_fill(lost & rows, UNKNOWN), firm.masked_fill(rows, 0)


def pool(states: Tensor, mask: Tensor) -> Tensor:
    """A text as a whole, float[B, D] of length 1: the mean of its words' states float[B, T, D], mask bool[B, T]."""
    return F.normalize((states.float() * mask.unsqueeze(-1).float()).sum(1), dim=-1)
