"""A small made-up copy of the npm packages: sixty things, each a square of its own colour, alike in every set."""

from __future__ import annotations

import colorsys
import json
from pathlib import Path

import pytest
from muse_emoji.sources import FURTHER, LABELS, SOURCES
from PIL import Image

SYLLABLES = ("ba", "de", "ki", "lo", "mu", "na", "pe", "ri", "to", "vu")
LABEL_OF = {f"1F4{index:02X}": f"{SYLLABLES[index // 10]}{SYLLABLES[index % 10]}n" for index in range(60)}
COLOUR_OF = {
    label: tuple(round(255 * part) for part in colorsys.hsv_to_rgb(index / 60, 1.0, 0.8))
    for index, label in enumerate(LABEL_OF.values())
}


def icon(label: str) -> dict:
    """A square in the middle, three quarters of the side, so that corners show what is behind."""
    red, green, blue = COLOUR_OF[label]
    return {"body": f'<rect x="2" y="2" width="12" height="12" fill="rgb({red},{green},{blue})"/>'}


def write(root: Path) -> Path:
    """The packages, below a folder."""
    emoji = [
        {"hexcode": code, "label": label, "tags": [], "group": 0, "subgroup": 0} for code, label in LABEL_OF.items()
    ]
    emoji += [
        {"hexcode": "1F1E9-1F1EA", "label": "flag: Germany", "tags": [], "group": 9, "subgroup": 0},
        {"hexcode": "1F44B-1F3FB", "label": "waving hand: light skin tone", "tags": [], "group": 0, "subgroup": 0},
        {"hexcode": "1F3FB", "label": "light skin tone", "tags": [], "group": 2, "subgroup": 0},
        {"hexcode": "1F9FF", "label": "undrawn", "tags": [], "group": 0, "subgroup": 0},
    ]
    messages = {
        "groups": [{"order": 0, "key": "things"}, {"order": 2, "key": "component"}, {"order": 9, "key": "flags"}],
        "subgroups": [{"order": 0, "message": "made-up things"}],
    }
    files: dict[str, object] = {
        f"{LABELS[0]}/package.json": {"version": LABELS[1]},
        f"{LABELS[0]}/en/data.json": emoji,
        f"{LABELS[0]}/en/messages.json": messages,
    }
    drawn = LABEL_OF | {"1F1E9-1F1EA": "flag-germany", "1F44B-1F3FB": "hand", "1F3FB": "tone"}
    for source in (*SOURCES, *FURTHER):
        files[f"{source.package}/package.json"] = {"version": source.version}
        if source.style == "fluent 3d":
            folder = root / source.package / "assets"
            folder.mkdir(parents=True)
            for code, label in LABEL_OF.items():
                picture = Image.new("RGBA", (32, 32))
                picture.paste((*COLOUR_OF[label], 255), (4, 4, 28, 28))
                picture.save(folder / f"{code.lower()}.webp", lossless=True)
            continue
        by_code = source.style not in ("blob", "fluent", "streamline")  # those come without codepoints
        icons = {"icons": {name: icon(name) for name in LABEL_OF.values()}, "width": 16, "height": 16}
        icons["icons"] |= {name: icon("baban") for name in ("flag-germany", "hand", "tone")}
        files[f"{source.package}/icons.json"] = icons
        files[f"{source.package}/chars.json"] = {c.lower(): n for c, n in drawn.items()} if by_code else {}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(content), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def packages(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    monkeypatch.setenv("MUSE_CACHE", str(cache))


@pytest.fixture(scope="session")
def colour_of() -> dict[str, tuple[int, int, int]]:
    """Each label's colour."""
    return COLOUR_OF
