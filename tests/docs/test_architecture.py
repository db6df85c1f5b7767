"""The map of the house names modules that there are, and what they hold."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
OTHERS = {"base", "superres", "stages", "low", "condition", "generate", "eval"}
"""Names on the page that are no module's: stages, keys, a method, a recipe, a builtin."""
HOOKS = {"muse_started", "muse_step", "muse_finished"}
NAMES = sorted({*re.findall(r"`([a-z_]+(?:\.[a-z_]+)?)`", PAGE)} - OTHERS - HOOKS)


@pytest.mark.parametrize("name", NAMES)
def test_a_module_that_is_named_exists(name: str) -> None:
    above, _, below = name.partition(".")
    places = [
        ROOT / "plugins" / above / f"{below}.py",
        *(ROOT / each / above for each in ("muse_studio", "plugins", ".")),
    ]
    if any(path.is_file() or path.is_dir() for path in [*places, ROOT / "muse_studio" / f"{name}.py"]):
        return
    if below:
        assert callable(getattr(import_module(f"muse_studio.{above}"), below))
        return
    assert list((ROOT / "plugins").glob(f"*/{name}.py")), f"there is no module {name}"


def test_every_folder_is_on_the_map() -> None:
    folders = {
        path.parts[0] for path in (file.relative_to(ROOT) for file in ROOT.glob("*/*")) if path.parts[0][0] != "."
    }
    shown = set(re.findall(r"^\| `([a-z]+|muse_studio)/` \|", PAGE, re.MULTILINE))
    built = {"build", "dist", "out", "runs", "venv"}
    assert {each for each in folders - built if each.isidentifier()} - {"__pycache__"} == shown
    assert len(NAMES) > 40
