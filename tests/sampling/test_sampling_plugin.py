"""The entry module is light, and every name in it leads to a part."""

import inspect
import subprocess
import sys
from importlib import import_module

import pytest
from muse_sampling import plugin

from muse_studio import contracts

PARTS = {
    "muse_schedules": (
        contracts.MaskSchedule,
        {"cosine", "linear", "square", "cubic", "sqrt", "log", "exp", "arccos", "sigmoid", "polynomial", "steps"},
    ),
    "muse_samplers": (
        contracts.Sampler,
        {"amused", "confidence", "gumbel", "halton", "predictor-corrector", "random", "remdm", "token-critic"},
    ),
    "muse_guidances": (contracts.Guidance, {"cfg", "none"}),
}


@pytest.mark.parametrize("hook", PARTS)
def test_every_target_is_a_part(hook):
    protocol, names = PARTS[hook]
    parts = getattr(plugin, hook)()
    assert set(parts) == names
    for target in parts.values():
        module, _, name = target.partition(":")
        cls = getattr(import_module(module), name)
        assert list(inspect.signature(cls.__call__).parameters) == list(inspect.signature(protocol.__call__).parameters)
        assert not cls.__doc__.startswith(f"{cls.__name__}("), "the docstring is the one that dataclass makes up"


def test_the_entry_module_loads_no_torch():
    script = "import sys, muse_sampling.plugin; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
