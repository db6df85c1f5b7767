"""A plugin in one file: a sampler that fills a picture from its middle outwards."""

from dataclasses import dataclass

import torch

from muse_studio import hookimpl
from muse_studio.contracts import MASK
from muse_studio.sampling.noise import choose


@dataclass
class FromTheMiddle:
    """Fills the grid from the middle outwards, as many tokens a step as the schedule says."""

    steps: int = 16

    def __call__(self, predict, tokens, schedule, generator):
        """int64[B, h, w] with MASK where a token is wanted; yields `steps` grids like it."""
        h, w = tokens.shape[1:]
        down, across = torch.arange(h) - (h - 1) / 2, torch.arange(w) - (w - 1) / 2
        distance = (down[:, None] ** 2 + across**2).to(tokens.device)
        wanted = tokens == MASK
        # Of each picture's wanted places, which comes first, second, ...; the others come behind them all.
        turn = distance.where(wanted, torch.inf).flatten(1).argsort(dim=1, stable=True).argsort(1).view_as(tokens)
        total = wanted.sum((1, 2), keepdim=True)
        for step in range(self.steps):
            progress = (step + 1) / self.steps
            logits = predict(tokens, progress).float()
            codes = choose(logits, torch.rand(tokens.shape, generator=generator).to(tokens.device))
            left = (total * schedule(torch.tensor(progress)).item()).round()
            tokens = torch.where((tokens == MASK) & (turn < total - left), codes, tokens)
            yield tokens


@hookimpl
def muse_samplers():
    """The sampler by its name."""
    return {"from-the-middle": FromTheMiddle}
