"""Contract tests that a plugin author inherits, a tiny model to test with, and an observer that remembers.

    from muse_studio import testing

    class TestMySampler(testing.SamplerContract):
        def make(self):
            return MySampler(steps=4)

pytest then runs every promise of that kind of part against it; one that is broken is told with what happened, and at
which line of the part. `PluginContract` examines a plugin as a whole; `muse_studio.testing.fixtures` has fixtures for
pytest.
"""

from muse_studio.testing.contract import Contract, check_settings
from muse_studio.testing.dialect import DialectContract
from muse_studio.testing.encoding import QuantizerContract, TextEncoderContract, TokenizerContract
from muse_studio.testing.fakes import (
    FakeDataset,
    FakeEditor,
    FakeGuidance,
    FakePredict,
    FakeSampler,
    FakeSchedule,
    FakeTextEncoder,
    FakeTokenizer,
    FakeTransformer,
    embedding,
)
from muse_studio.testing.filling import EditorContract, SamplerContract
from muse_studio.testing.learning import ObjectiveContract
from muse_studio.testing.light import HEAVY, check_light
from muse_studio.testing.plugin import PluginContract
from muse_studio.testing.promise import BrokenPromise, promise, promises, refuses
from muse_studio.testing.recording import Heard, RecordingObserver
from muse_studio.testing.running import (
    DatasetContract,
    MetricContract,
    ObserverContract,
    OptimizerContract,
    TaskContract,
)
from muse_studio.testing.steering import GuidanceContract, MaskScheduleContract
from muse_studio.testing.tiny import TinyModel, tiny_stage
from muse_studio.testing.transformer import TransformerContract

__all__ = [
    "HEAVY",
    "BrokenPromise",
    "Contract",
    "DatasetContract",
    "DialectContract",
    "EditorContract",
    "FakeDataset",
    "FakeEditor",
    "FakeGuidance",
    "FakePredict",
    "FakeSampler",
    "FakeSchedule",
    "FakeTextEncoder",
    "FakeTokenizer",
    "FakeTransformer",
    "GuidanceContract",
    "Heard",
    "MaskScheduleContract",
    "MetricContract",
    "ObjectiveContract",
    "ObserverContract",
    "OptimizerContract",
    "PluginContract",
    "QuantizerContract",
    "RecordingObserver",
    "SamplerContract",
    "TaskContract",
    "TextEncoderContract",
    "TinyModel",
    "TokenizerContract",
    "TransformerContract",
    "check_light",
    "check_settings",
    "embedding",
    "promise",
    "promises",
    "refuses",
    "tiny_stage",
]
