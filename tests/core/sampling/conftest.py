"""Each of our transformers at a size that computes in milliseconds, in a stage of its own."""

import pytest
import torch
from muse_amused.transformer import Amused
from muse_sampling.confidence import Confidence
from muse_sampling.guidance import CFG
from muse_sampling.schedules import Cosine
from muse_transformer.muse import MuseTransformer
from muse_transformer.superres import SuperResolution

from muse_studio.stage import Stage
from muse_studio.testing import FakeTokenizer, embedding

CODES, GRID, POSITIONS = 64, [4, 4], 6


def amused(halved=False):
    return Amused(
        CODES,
        vocabulary=70,
        grid=GRID,
        text_width=8,
        text_positions=POSITIONS,
        pooled_width=8,
        token_width=12,
        channels=16,
        conv_blocks=1,
        conv_heads=2,
        width=16,
        layers=2,
        heads=2,
        mlp=24,
        frequencies=4,
        halved=halved,
    )


MAKES = {
    "muse": lambda: MuseTransformer(CODES, GRID, 8, width=32, layers=2, heads=4),
    "superres": lambda: SuperResolution(CODES, GRID, CODES, [2, 2], 8, 32, layers=2, low_layers=1, heads=4, block=2),
    "amused": amused,
    "amused-halved": lambda: amused(halved=True),
}


class Case:
    """A transformer whose every weight matters, and what it is asked about."""

    def __init__(self, name, batch):
        torch.manual_seed(0)
        self.name, self.batch, self.model = name, batch, MAKES[name]().eval()
        with torch.no_grad():
            for weight in [*self.model.parameters(), *self.model.buffers()]:
                weight.add_(0.2 * torch.randn_like(weight))
        generator = torch.Generator().manual_seed(1)
        self.text = embedding(batch)._replace(pooled=torch.randn(batch, 8, generator=generator))
        self.low = torch.randint(CODES, (batch, 2, 2), generator=generator) if name == "superres" else None
        self.tokens = torch.randint(CODES, (batch, *GRID), generator=generator)
        self.tokens = self.tokens.masked_fill(torch.rand(self.tokens.shape, generator=generator) < 0.5, -1)

    def stage(self, **settings):
        parts = {"sampler": Confidence(5), "guidance": CFG(3.0, "constant")} | settings
        return Stage(FakeTokenizer(), self.model, schedule=Cosine(), size=16, **parts)

    def sample(self, stage, generator=None, rows=slice(None), **given):
        generator = torch.Generator().manual_seed(3) if generator is None else generator
        text = type(self.text)(*(None if part is None else part[rows] for part in self.text))
        low = None if self.low is None else self.low[rows]
        return list(stage.sample(text, generator, low=low, **given))


@pytest.fixture(params=MAKES)
def case(request):
    return Case(request.param, 3)


@pytest.fixture
def muse():
    return Case("muse", 2)
