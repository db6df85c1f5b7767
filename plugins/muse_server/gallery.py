"""The gallery: pictures on disk with an index, found by their words, and a bin for those that are thrown away."""

from __future__ import annotations

import io
import json
import re
import secrets
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from muse_server.refusals import NotFound
from muse_studio.runtime.files import open_folder, replacing, unwritable

ID = re.compile(r"[A-Za-z0-9_-]{22}")
"""How the name of what the server keeps looks; whatever else a client says is no file's name."""
INDEX = "index.jsonl"
MOST = 200
"""Pictures in one answer."""
SIDE = 192
"""Pixels of a thumbnail's longer side."""


def new_id() -> str:
    """A name that nobody can guess: 128 bits."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True)
class Kept:
    """A picture of the gallery. `when`: seconds since 1970. `session`: the canvas that it was drawn on."""

    id: str
    prompt: str
    seed: int | None
    when: float
    width: int
    height: int
    session: str | None = None

    def told(self) -> dict[str, Any]:
        """As JSON, with the addresses of its file and of its thumbnail."""
        address = f"/api/gallery/{self.id}"
        return asdict(self) | {"image": address, "thumbnail": f"{address}/thumbnail"}


class Gallery:
    """The pictures in `folder`/gallery, whose names are ids; any thread may call any method.

    A file is what counts, and the index says what is known of it: a picture that was deleted by hand is gone, and one
    that the index has lost stands there without words. UserError where the folder can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder / "gallery", folder / "bin"
        self._lock = threading.Lock()
        self._kept: dict[str, Kept] = {}
        open_folder(self.folder, "out")
        found = {each.stem: each for each in self.folder.glob("*.png") if ID.fullmatch(each.stem)}
        known = self._read_index()
        lost = [_without_words(path) for name, path in found.items() if name not in known]
        kept = [each for each in known.values() if each.id in found] + [each for each in lost if each is not None]
        self._kept = {each.id: each for each in sorted(kept, key=lambda each: each.when)}
        if len(known) != len(self._kept) or lost:
            self._write_index()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, png: bytes, seed: int | None, prompt: str, *, session: str | None = None) -> str:
        """Keep a PNG as it is, and give its id; UserError where the disk refuses."""
        with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
            width, height = picture.size
        kept = Kept(new_id(), prompt, seed, time.time(), width, height, session)
        path = self.folder / f"{kept.id}.png"
        with self._lock:
            try:
                with replacing(path) as aside:
                    aside.write_bytes(png)
                with (self.folder / INDEX).open("a", encoding="utf-8") as index:
                    index.write(_line(kept))
            except OSError as error:
                raise unwritable(path, error, "make room, or give another place as out") from error
            self._kept[kept.id] = kept
        return kept.id

    def listed(self, words: str = "", before: str | None = None, limit: int = 60) -> list[dict[str, Any]]:
        """The newest first, at most `limit`: those that have all the words, older than `before`, an id, where given."""
        with self._lock:
            newest = list(reversed(self._kept.values()))
        if before is not None:
            place = next((index for index, each in enumerate(newest) if each.id == before), len(newest))
            newest = newest[place + 1 :]
        wanted = words.casefold().split()
        found = [each for each in newest if all(word in each.prompt.casefold() for word in wanted)]
        return [each.told() for each in found[: max(1, min(limit, MOST))]]

    def path(self, id: str) -> Path:
        """A picture's file; NotFound where there is none."""
        path = self.folder / f"{self._find(id).id}.png"
        if not path.is_file():
            raise _gone()
        return path

    def thumbnail(self, id: str) -> bytes:
        """A small WebP of a picture, made once and kept; NotFound where there is no such picture."""
        path, small = self.path(id), self.folder / "thumbnails" / f"{id}.webp"
        if small.is_file():
            return small.read_bytes()
        with Image.open(path, formats=("PNG",)) as picture:
            shown = picture.convert("RGB")
        shown.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        shown.save(file, "WEBP", quality=85)
        small.parent.mkdir(exist_ok=True)
        with replacing(small) as aside:
            aside.write_bytes(file.getvalue())
        return file.getvalue()

    def delete(self, id: str) -> None:
        """Move a picture to the bin, whence its user may take it back by hand; NotFound where there is none."""
        path = self.path(id)
        try:
            self.bin.mkdir(exist_ok=True)
            path.replace(self.bin / path.name)
            (self.folder / "thumbnails" / f"{id}.webp").unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.bin, error, "make room, or delete it by hand") from error
        with self._lock:
            self._kept.pop(id, None)

    def _find(self, id: str) -> Kept:
        with self._lock:
            kept = self._kept.get(id)
        if kept is None:
            raise _gone()
        return kept

    def _read_index(self) -> dict[str, Kept]:
        """What the index says, without the lines that a full disk or another program has spoilt."""
        try:
            lines = (self.folder / INDEX).read_text("utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        found = (_read_line(line) for line in lines)
        return {kept.id: kept for kept in found if kept is not None}

    def _write_index(self) -> None:
        path = self.folder / INDEX
        try:
            with replacing(path) as aside:
                aside.write_text("".join(map(_line, self._kept.values())), encoding="utf-8")
        except OSError as error:
            raise unwritable(path, error, "give another place as out") from error


def _line(kept: Kept) -> str:
    return json.dumps(asdict(kept), ensure_ascii=False) + "\n"


def _read_line(line: str) -> Kept | None:
    try:
        kept = Kept(**json.loads(line))
        numbers = isinstance(kept.when, int | float) and isinstance(kept.seed, int | None)
        return kept if numbers and isinstance(kept.prompt, str) and ID.fullmatch(kept.id) else None
    except (ValueError, TypeError):
        return None


def _without_words(path: Path) -> Kept | None:
    """A picture that the index does not know; None where the file is none."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            width, height = picture.size
        return Kept(path.stem, "", None, path.stat().st_mtime, width, height)
    except Exception:  # pillow's readers raise whatever a damaged file leads them to
        return None


def _gone() -> NotFound:
    return NotFound("there is no such picture in the gallery, or it was thrown away")
