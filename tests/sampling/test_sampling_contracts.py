"""Parts keep their contracts with other settings than the defaults, with which tests/contracts walks all of them."""

import pytest
from muse_halton.sampler import Halton
from muse_sampling.confidence import Confidence
from muse_sampling.guidance import CFG
from muse_sampling.gumbel import Gumbel
from muse_sampling.later_schedules import Polynomial, Sigmoid, Steps
from muse_sampling.predictor_corrector import PredictorCorrector
from muse_sampling.remdm import ReMDM

from muse_studio import testing

SCHEDULES = [Sigmoid(0.0, 3.0, 0.7), Polynomial(0.3), Polynomial(1.7), Steps([0.9, 0.9, 0.2, 0.0])]


class Given:
    """Examines the part that the test's parameter is."""

    @pytest.fixture(autouse=True)
    def choose(self, part):
        self.part = part

    def make(self):
        return self.part


@pytest.mark.parametrize("part", SCHEDULES, ids=repr)
class TestSchedules(Given, testing.MaskScheduleContract):
    pass


@pytest.mark.parametrize(
    "part",
    [
        Confidence(steps=1),
        Confidence(steps=90),
        Confidence(5, 0.0, 0.5, 3),
        Confidence(5, top_p=0.9),
        Gumbel(5, sampling_temperature=1.0),
        Halton(steps=90, roll=True),
        ReMDM(strategy="rescale", eta=1.0),
        ReMDM(strategy="conf", eta=1.0),
        ReMDM(steps=90, strategy="loop", eta=0.5),
        PredictorCorrector(5, temperature=4.5, eta=2.0),
    ],
    ids=repr,
)
class TestSamplers(Given, testing.SamplerContract):
    pass


GUIDANCES = [
    *(CFG(5.0, "constant"), CFG(0.0)),
    *(CFG(schedule="cosine"), CFG(schedule="power-cosine", power=2.5), CFG(scales=[0.0, 2.0, 1.0])),
    *(CFG(begin=0.3, end=0.7), CFG(negative_weight=0.5), CFG(negative_weight=2.0), CFG(rescale=0.7), CFG(rescale=1.0)),
]


@pytest.mark.parametrize("part", GUIDANCES, ids=repr)
class TestGuidances(Given, testing.GuidanceContract):
    pass
