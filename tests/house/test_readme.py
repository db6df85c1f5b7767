"""What README tells a newcomer to type is what .ci/run types, and its examples in Python draw."""

from __future__ import annotations

import os
import re
import runpy
import shlex
from pathlib import Path

import pytest

from muse_studio.cli import main
from muse_studio.recipe.merging import load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
SET_UP = (
    """pip install -c constraints.txt -e . && muse generate "a red apple, noto style\"""",
    """pip install -c constraints.txt -e '.[test]' && pytest""",
)
"""The two lines that do everything on a bare machine."""
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
"""Language and text of each code block."""


def blocks(language: str) -> list[str]:
    return [text for each, text in BLOCKS if each == language]


@pytest.mark.parametrize("line", SET_UP)
def test_the_set_up_lines_are_in_readme_and_in_ci_word_for_word(line):
    assert line in README
    for command in line.split(" && "):
        assert re.search(rf"^(\s*|.*&& ){re.escape(command)}( .*)?$", CI, re.MULTILINE), f".ci/run lacks `{command}`"


@pytest.mark.slow
def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example, _ = blocks("python")
    Path("example.py").write_text(example, encoding="utf-8")
    drawn = runpy.run_path("example.py")["pictures"]
    assert [path.name for path in drawn.paths] == ["a-fox-blob-style.png", "a-tram-noto-style.png"]
    side = list(load("generate").plain()["stages"].values())[-1]["size"]
    assert drawn.images[0].size == (side, side)


@pytest.mark.slow
def test_the_part_of_ones_own_draws(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    _, own = blocks("python")
    assert own.startswith("# mine.py\n")
    Path("mine.py").write_text(own, encoding="utf-8")
    (line,) = re.findall(r"`muse (.* --plugin mine\.py)`", README)
    assert main(shlex.split(line)) == 0
    assert capfd.readouterr().err == ""
    late = Path("out/a-fox-noto-style.png")
    assert load(late).plain()["stages"]["base"]["schedule"] == "late"
    assert main(["run", str(late), "stages.base.schedule=cosine", "out=usual"]) == 0
    assert Path("usual", late.name).read_bytes() != late.read_bytes()


def test_ci_is_a_script_that_stops_at_the_first_error():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert CI.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in CI
