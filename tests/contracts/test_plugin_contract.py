"""A plugin as a whole is examined, and each promise that it can break is broken once."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import pytest

from muse_studio import testing
from muse_studio.registry.plugins import GROUP

GOOD = '''
from muse_studio import hookimpl

def make(steps: int = 3):
    """A sampler."""

@hookimpl
def muse_samplers():
    return {"dots": make}
'''


OURS = sorted(entry.value for entry in entry_points(group=GROUP))


@pytest.mark.parametrize("module", OURS)
@pytest.mark.parametrize("promise", testing.promises(testing.PluginContract))
def test_each_of_ours_keeps(module, promise):
    contract = testing.PluginContract()
    contract.module = module
    getattr(contract, promise)()


@pytest.fixture
def examined(tmp_path, monkeypatch):
    """The contract of a plugin with this source."""
    monkeypatch.syspath_prepend(tmp_path)

    def examined(source):
        (tmp_path / "an_examined_plugin.py").write_text(source, encoding="utf-8")
        contract = testing.PluginContract()
        contract.module = "an_examined_plugin"
        return contract

    yield examined
    sys.modules.pop("an_examined_plugin", None)


BROKEN = {
    "test_its_entry_module_is_light": ("import numpy\n" + GOOD, "importing an_examined_plugin loads numpy"),
    "test_its_hooks_are_let_in": (GOOD.replace("samplers", "sampler"), "did you mean 'muse_samplers'"),
    "test_it_takes_no_name_of_a_part_that_is_there": (
        GOOD.replace('"dots"', '"confidence"'),
        "sampler 'confidence' of muse_sampling is there already",
    ),
    "test_every_part_has_settings_that_a_recipe_can_give": (GOOD.replace(": int", ""), "'steps' without annotation"),
    "test_every_part_says_what_it_is": (GOOD.replace('"""A sampler."""', "pass"), "'dots' has no docstring"),
}


def test_every_promise_of_a_plugin_is_broken_below():
    assert set(BROKEN) == set(testing.promises(testing.PluginContract))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_caught_and_a_good_one_is_not(name, examined):
    source, message = BROKEN[name]
    with pytest.raises(testing.BrokenPromise, match=message) as broken:
        getattr(examined(source), name)()
    assert broken.value.promise == testing.promises(testing.PluginContract)[name]
    sys.modules.pop("an_examined_plugin", None)
    getattr(examined(GOOD + "# good\n"), name)()
