"""The parts keep the contracts that anyone's parts must keep."""

import pytest
from muse_sampling.confidence import Confidence
from muse_sampling.guidance import CFG, NoGuidance
from muse_sampling.later_schedules import Arccos, Polynomial, Sigmoid, Steps
from muse_sampling.schedules import Cosine, Cubic, Exp, Linear, Log, Sqrt, Square

from muse_studio import testing

SCHEDULES = [Cosine(), Linear(), Square(), Cubic(), Sqrt(), Log(), Exp()]
LATER = [Arccos(), Sigmoid(), Sigmoid(0.0, 3.0, 0.7), Polynomial(0.3), Polynomial(1.7), Steps([0.9, 0.9, 0.2, 0.0])]


@pytest.mark.parametrize("part", SCHEDULES + LATER, ids=repr, scope="class")
class TestSchedules(testing.MaskScheduleContract):
    @pytest.fixture(autouse=True)
    def choose(self, part):
        self.part = part

    def make(self):
        return self.part


@pytest.mark.parametrize(
    "part",
    [Confidence(), Confidence(steps=1), Confidence(steps=90), Confidence(5, 0.0, 0.5, 3), Confidence(5, top_p=0.9)],
    ids=repr,
)
class TestSamplers(testing.SamplerContract):
    @pytest.fixture(autouse=True)
    def choose(self, part):
        self.part = part

    def make(self):
        return self.part


GUIDANCES = [
    *(CFG(), CFG(5.0, "constant"), CFG(0.0), NoGuidance()),
    *(CFG(schedule="cosine"), CFG(schedule="power-cosine", power=2.5), CFG(scales=[0.0, 2.0, 1.0])),
    *(CFG(begin=0.3, end=0.7), CFG(negative_weight=0.5), CFG(negative_weight=2.0), CFG(rescale=0.7), CFG(rescale=1.0)),
]


@pytest.mark.parametrize("part", GUIDANCES, ids=repr)
class TestGuidances(testing.GuidanceContract):
    @pytest.fixture(autouse=True)
    def choose(self, part):
        self.part = part

    def make(self):
        return self.part
