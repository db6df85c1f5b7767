"""The package as muse sees it: found by its entry point, light to look at, with a recipe that has no problem."""

from __future__ import annotations

from pathlib import Path

import muse_studio
from muse_studio import testing

from muse_entropy_bounded.sampler import EntropyBounded

RECIPE = Path(__file__).parents[1] / "recipe.yaml"


class TestPlugin(testing.PluginContract):
    module = "muse_entropy_bounded.plugin"


def test_muse_finds_the_part() -> None:
    parts = muse_studio.parts("sampler", "eb-sampler")
    assert len(parts) == 1, "install the package first: pip install -e ."
    assert parts[0].load() is EntropyBounded


def test_the_recipe_has_no_problem() -> None:
    assert muse_studio.check(RECIPE) == []
