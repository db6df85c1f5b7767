"""Pairs of an emoji and a style: which emoji each set draws, with the label, tags and group of each."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_emoji.sources import SOURCES, Source

SKIN_TONES = re.compile("1F3F[B-F]")
FLAGS = "flags"
COMPONENTS = "component"
HELD_OUT_PER_MILLE = 50


@dataclass(frozen=True)
class Pair:
    """One emoji in one style."""

    style: str
    family: str
    hexcode: str
    label: str
    tags: tuple[str, ...]
    group: str

    @property
    def held_out(self) -> bool:
        """Whether training must never see it: decided by a hash of emoji and style family, so it never changes."""
        digest = hashlib.sha256(f"{self.hexcode}/{self.family}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % 1000 < HELD_OUT_PER_MILLE


def load_labels(modules: Path) -> list[dict[str, Any]]:
    """Every emoji without flags and skin tones: hexcode, label, tags, group."""
    folder = modules / "emojibase-data" / "en"
    messages = json.loads((folder / "messages.json").read_text(encoding="utf-8"))
    groups = {g["order"]: g["key"] for g in messages["groups"]}
    found = []
    for emoji in json.loads((folder / "data.json").read_text(encoding="utf-8")):
        group = groups.get(emoji.get("group"))
        if group in (None, FLAGS, COMPONENTS) or SKIN_TONES.search(emoji["hexcode"]):
            continue
        found.append(
            {
                "hexcode": plain(emoji["hexcode"]),
                "label": emoji["label"].lower(),
                "tags": tuple(tag.lower() for tag in emoji.get("tags", [])),
                "group": group,
            }
        )
    return found


def plain(hexcode: str) -> str:
    """Codepoints joined by '-', upper case, without the variation selector that sets disagree about."""
    return "-".join(point for point in hexcode.upper().split("-") if point != "FE0F")


def slug(label: str) -> str:
    """A label as iconify's sets without codepoints name their drawings."""
    straight = label.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "").replace("'", "")
    return re.sub("[^a-z0-9]+", "-", straight).strip("-")


def find_drawings(modules: Path, source: Source) -> dict[str, str]:
    """The drawings of a set: plain hexcode (or slug, for sets without codepoints) to icon name or file name."""
    folder = modules / source.package
    if (folder / "assets").is_dir():
        return {plain(file.stem): file.name for file in sorted((folder / "assets").glob("*.webp"))}
    icons = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
    chars = json.loads((folder / "chars.json").read_text(encoding="utf-8"))
    if not chars and source.family == "fluent":  # the gradient set names its icons as the flat one does
        flat = next(other for other in SOURCES if other.style == "fluent flat")
        chars = json.loads((modules / flat.package / "chars.json").read_text(encoding="utf-8"))
    names = set(icons["icons"]) | set(icons.get("aliases", {}))
    if chars:
        return {plain(code): name for code, name in chars.items() if name in names}
    return {name: name for name in names}


def find_pairs(modules: Path, sources: tuple[Source, ...] = SOURCES) -> list[tuple[Pair, str]]:
    """Every emoji that each set draws, with the drawing's name, in an order that is always the same."""
    known = load_labels(modules)
    found = []
    for source in sources:
        names = find_drawings(modules, source)
        for emoji in known:
            name = names.get(emoji["hexcode"]) or names.get(slug(emoji["label"]))
            if name is not None:
                found.append((Pair(source.style, source.family, **emoji), name))
    return found
