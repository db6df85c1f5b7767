"""Contract tests that a plugin author inherits, tiny parts to test with, and `check_light` for entry modules.

    from muse_studio import testing

    class TestMySampler(testing.SamplerContract):
        def make(self):
            return MySampler(steps=4)

pytest then runs every promise of that kind of part against it.
"""

from muse_studio.testing.contract import Contract, check_settings
from muse_studio.testing.encoding import TextEncoderContract, TokenizerContract
from muse_studio.testing.fakes import (
    FakeDataset,
    FakeEditor,
    FakeGuidance,
    FakeObserver,
    FakePredict,
    FakeSampler,
    FakeSchedule,
    FakeTextEncoder,
    FakeTokenizer,
    FakeTransformer,
    embedding,
)
from muse_studio.testing.filling import EditorContract, SamplerContract
from muse_studio.testing.light import HEAVY, check_light
from muse_studio.testing.observing import ObserverContract
from muse_studio.testing.refusal import refuses
from muse_studio.testing.running import DatasetContract, MetricContract, OptimizerContract, TaskContract
from muse_studio.testing.steering import GuidanceContract, MaskScheduleContract
from muse_studio.testing.transformer import TransformerContract

__all__ = [
    "HEAVY",
    "Contract",
    "DatasetContract",
    "EditorContract",
    "FakeDataset",
    "FakeEditor",
    "FakeGuidance",
    "FakeObserver",
    "FakePredict",
    "FakeSampler",
    "FakeSchedule",
    "FakeTextEncoder",
    "FakeTokenizer",
    "FakeTransformer",
    "GuidanceContract",
    "MaskScheduleContract",
    "MetricContract",
    "ObserverContract",
    "OptimizerContract",
    "SamplerContract",
    "TaskContract",
    "TextEncoderContract",
    "TokenizerContract",
    "TransformerContract",
    "check_light",
    "check_settings",
    "embedding",
    "refuses",
]
