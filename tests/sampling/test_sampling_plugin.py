"""Every name in the entry module leads to a part that is called as its contract says."""

import inspect
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
