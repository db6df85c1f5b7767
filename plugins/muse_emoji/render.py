"""Renders the sets at any size into a cache of RGBA arrays."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import resvg_py
from numpy.typing import NDArray
from PIL import Image

from muse_emoji.pairs import Pair
from muse_emoji.sources import FURTHER, SOURCES, Source
from muse_studio.registry.events import progress
from muse_studio.runtime.fetching import CACHE, cache_folder
from muse_studio.runtime.files import open_folder, replacing


def load_rendered(
    modules: Path, found: list[tuple[Pair, str]], size: int, sources: tuple[Source, ...] = SOURCES
) -> NDArray[np.uint8]:
    """uint8[N, size, size, 4], not premultiplied, one a drawing; rendered at the first call, mapped from disk later.

    sources: those that the drawings are from.
    """
    names = json.dumps([(pair.style, name) for pair, name in found] + [source.version for source in sources])
    key = hashlib.sha256(names.encode()).hexdigest()[:16]
    path = cache_folder() / "emoji" / f"rendered-{size}-{key}.npy"
    if not path.exists():
        open_folder(path.parent, CACHE)
        kind = {"descr": "|u1", "fortran_order": False, "shape": (len(found), size, size, 4)}
        sets: dict[str, dict] = {}
        # Not written through a map: where the disk is full, that ends the process without a word.
        with replacing(path) as aside, aside.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, kind)
            for pair, name in progress(found, f"drawing emoji at {size} px"):
                file.write(_render(modules, sets, pair.style, name, size).tobytes())
    return np.load(path, mmap_mode="r")


def _render(modules: Path, sets: dict[str, dict], style: str, name: str, size: int) -> NDArray[np.uint8]:
    package = modules / next(source.package for source in (*SOURCES, *FURTHER) if source.style == style)
    if name.endswith(".webp"):
        with Image.open(package / "assets" / name) as opened:
            return np.asarray(opened.convert("RGBA").resize((size, size), Image.Resampling.LANCZOS))
    if style not in sets:
        sets[style] = json.loads((package / "icons.json").read_text(encoding="utf-8"))
    png = resvg_py.svg_to_bytes(svg_string=svg(sets[style], name), width=size, height=size, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png))) as opened:
        picture = opened.convert("RGBA")
        if picture.size != (size, size):  # a drawing that is not square keeps its shape
            square = Image.new("RGBA", (size, size))
            square.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
            picture = square
        return np.asarray(picture)


def svg(icons: dict, name: str) -> str:
    """The SVG text of one icon of an iconify set, aliases and their flips followed."""
    flips, turns = [False, False], 0
    while name in icons.get("aliases", {}):
        alias = icons["aliases"][name]
        flips = [flips[0] ^ alias.get("hFlip", False), flips[1] ^ alias.get("vFlip", False)]
        turns = (turns + alias.get("rotate", 0)) % 4
        name = alias["parent"]
    icon = icons["icons"][name]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    body = icon["body"]
    x, y = left + width / 2, top + height / 2
    moves = [
        f"translate({x} {y})",
        f"rotate({90 * turns})",
        f"scale({1 - 2 * flips[0]} {1 - 2 * flips[1]})",
        f"translate({-x} {-y})",
    ]
    if turns or any(flips):
        body = f'<g transform="{" ".join(moves)}">{body}</g>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{body}</svg>'
    )
