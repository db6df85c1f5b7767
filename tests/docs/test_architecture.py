"""The map of the house names folders and modules that there are, and every room of the core."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
OTHERS = {"base", "superres", "generate", "load", "base.safetensors", "models", "models/emoji", "muse_studio.run"}
"""Names on the page that are no module's: stages, a recipe and a model's, functions, what a training writes."""
NAMES = {*re.findall(r"`([a-z_]+(?:[./][a-z_]+)*)/?`", PAGE)} - OTHERS
HOOKS = {name for name in NAMES if re.fullmatch(r"muse_(started|step|progress|finished|failed)", name)}


def exists(name: str) -> bool:
    """Whether a folder or a module goes by that name, whole or by its end."""
    path = name.replace(".", "/")
    places = [ROOT / path, *(ROOT / folder / path for folder in ("muse_studio", "plugins", "docs", "tests"))]
    if (ROOT / name).exists() or any(place.is_dir() or place.with_suffix(".py").is_file() for place in places):
        return True
    return any(
        list((ROOT / folder).rglob(end)) for folder in ("muse_studio", "plugins") for end in (f"{path}.py", path)
    )


def test_what_is_named_exists() -> None:
    named = NAMES - HOOKS
    assert len(named) > 40
    assert [name for name in sorted(named) if not exists(name)] == []


def test_every_folder_is_on_the_map() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name.isidentifier()}
    shown = set(re.findall(r"^\| `(\w+)/` \|", PAGE.partition("## The rooms")[0], re.MULTILINE))
    assert folders - {"build", "dist", "out", "runs", "venv", "__pycache__"} == shown


def test_every_room_is_on_the_map() -> None:
    core = ROOT / "muse_studio"
    rooms = {path.parent.relative_to(core).as_posix() for path in core.rglob("*/__init__.py")}
    shown = set(re.findall(r"^\| `([\w/]+)/` \|", PAGE.partition("## The rooms")[2], re.MULTILINE))
    assert rooms == shown
