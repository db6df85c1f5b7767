"""The package as muse sees it: found by its entry point, light to look at, with recipes that have no problem."""

from __future__ import annotations

from pathlib import Path

import muse_studio
import pytest
from muse_studio import testing

FOLDER = Path(__file__).parents[1]


class TestPlugin(testing.PluginContract):
    module = "muse_research.plugin"


def test_muse_finds_the_parts() -> None:
    for kind, name in (("objective", "aligned"), ("quantizer", "spherical"), ("guidance", "weaker")):
        assert len(muse_studio.parts(kind, f"muse_research/{name}")) == 1, "install the package first: pip install -e ."


@pytest.mark.parametrize("recipe", ["align.yaml", "codes.yaml"])
def test_a_recipe_has_no_problem(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    assert muse_studio.check(FOLDER / recipe) == []


@pytest.mark.parametrize("module", ["alignment", "spherical", "weaker"])
def test_each_is_short(module: str) -> None:
    lines = (FOLDER / "muse_research" / f"{module}.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
