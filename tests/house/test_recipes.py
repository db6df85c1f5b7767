"""Every shipped recipe is checked, and says at its top what it gives and how it is run."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import pytest

import muse_studio
from muse_studio.recipe.merging import load
from muse_studio.recipe.sources import shipped

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "recipes").rglob("*.yaml"))
NAMES = [file.relative_to(ROOT / "recipes").with_suffix("").as_posix() for file in FILES]
AFTER = {
    "finetune-vqgan-decoder": "runs/vqgan-f8/tokenizer.safetensors",
    "models/emoji-critic": "runs/emoji-critic/critic.safetensors",
}
"""Recipes that go on from what another one's run has written: that file is then all that they lack."""


def test_every_file_is_shipped_under_its_name():
    assert FILES, "there is no recipe at all"
    others = [path for path in (ROOT / "recipes").rglob("*") if path.is_file() and path.suffix != ".yaml"]
    assert not others, "recipes/ holds recipes alone, ending in .yaml"
    assert shipped() == dict(zip(NAMES, FILES, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_has_no_problem(name):
    source = name
    if "use" not in load(name).plain():  # a model, which is no task: checked as the recipes that extend it use it
        source = {"extends": name, "use": "generate", "prompt": "a red apple"}
    problems = [str(problem) for problem in muse_studio.check(source)]
    if name in AFTER:
        assert len(problems) == 1 and f"no weights at {AFTER[name]}: " in problems[0]
    else:
        assert problems == []


def test_a_recipe_opens_with_what_it_gives_and_its_command():
    assert [wrong for name, file in zip(NAMES, FILES, strict=True) if (wrong := wrong_head(name, file))] == []


def wrong_head(name: str, file: Path) -> str:
    """What is wrong with the comment that a recipe opens with; nothing where all is well."""
    lines = takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
    first, *head = [*lines, ""]
    if not first.startswith(f"# recipes/{name}.yaml -- "):
        return f"{name}: its first line is `# recipes/{name}.yaml -- what it gives`"
    commands = [line.lstrip("# ") for line in head if line.lstrip("# ").startswith(("muse ", "torchrun "))]
    if not name.startswith("models/") and not any(name in command for command in commands):
        return f"{name}: its head lacks the command that runs it"
    return ""
