"""The package as muse sees it: found by its entry point, light to look at, with recipes that have no problem."""

from __future__ import annotations

from pathlib import Path

import muse_studio
from muse_studio import testing

RECIPES = Path(__file__).parents[1]


class TestPlugin(testing.PluginContract):
    module = "muse_pixel_art.plugin"


def test_muse_finds_the_parts() -> None:
    found = {(part.kind, part.name) for part in muse_studio.parts() if part.plugin == "muse_pixel_art"}
    expected = {
        ("tokenizer", "palette"),
        ("transformer", "colour-heads"),
        ("dataset", "sprites"),
        ("dialect", "three-heads"),
    }
    assert found == expected, "install the package first: pip install -e ."


def test_the_recipes_have_no_problem() -> None:
    assert muse_studio.check(RECIPES / "train.yaml") == []
    # Before the training there are no weights, which is all that drawing may lack.
    assert muse_studio.check(RECIPES / "draw.yaml", ["stages.base.transformer.weights=null"]) == []
