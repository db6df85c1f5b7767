"""Sessions on disk: a file each, written anew after each action of its canvas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from muse_server.canvases import files as canvas_files
from muse_server.canvases.shots import title
from muse_server.gallery import ID
from muse_server.refusals import NotFound
from muse_studio.errors import UserError
from muse_studio.runtime import weights
from muse_studio.runtime.files import open_folder
from muse_studio.sampling.cascade import Cascade
from muse_studio.sampling.editing.canvas import Canvas

ENDING = ".safetensors"


class Store:
    """The canvases on disk, a file each, whose names are sessions' ids; any thread may call what it has.

    What touches a canvas is the model's thread's: `save` and `load`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, tuple[float, dict[str, Any] | None]] = {}

    def open(self) -> None:
        """Make the folder; UserError where it can't be written."""
        open_folder(self.folder, "out")

    def path(self, id: object) -> Path:
        """The file of a session, there or not; NotFound where that is no id of one."""
        if not isinstance(id, str) or ID.fullmatch(id) is None:
            raise NotFound("there is no such canvas", "session")
        return self.folder / f"{id}{ENDING}"

    def has(self, id: str) -> bool:
        """Whether a canvas was saved; NotFound where that is no id of one."""
        return self.path(id).is_file()

    def check(self, id: str) -> None:
        """NotFound where there is no such canvas."""
        if not self.has(id):
            raise NotFound("there is no such canvas", "session")

    def save(self, id: str, canvas: Canvas) -> None:
        """Write a canvas, aside first and then renamed; UserError where the disk refuses."""
        canvas.save(self.path(id))

    def load(self, id: str, model: Cascade) -> Canvas:
        """A canvas that was saved; NotFound where there is none, Refusal where it is of another model."""
        return canvas_files.read(self.content(id), model)

    def content(self, id: str) -> bytes:
        """A canvas's file; NotFound where there is none."""
        try:
            return self.path(id).read_bytes()
        except FileNotFoundError:
            raise NotFound("there is no such canvas", "session") from None

    def listed(self, before: str | None, limit: int) -> list[dict[str, Any]]:
        """The canvases, those that were changed last first, at most so many; after `before`, where that is an id."""
        found = []
        for path in self.folder.glob(f"*{ENDING}"):
            if ID.fullmatch(path.stem):
                try:
                    found.append((path.stat().st_mtime, path))
                except OSError:  # it went while we looked
                    continue
        newest = [path for _, path in sorted(found, reverse=True)]
        if before is not None:
            place = next((number for number, path in enumerate(newest) if path.stem == before), len(newest))
            newest = newest[place + 1 :]
        told = (self._told(path) for path in newest)
        return [each for each, _ in zip((each for each in told if each is not None), range(limit), strict=False)]

    def _told(self, path: Path) -> dict[str, Any] | None:
        """One canvas of a list, None where the file went or is none, or nothing was done on it."""
        try:
            when = path.stat().st_mtime
            if path.stem not in self._known or self._known[path.stem][0] != when:
                done, undone = canvas_files.described(weights.header(path)[1])
                known = {"title": title(done), "actions": len(done)} if done or undone else None
                self._known[path.stem] = when, known
        except (OSError, UserError, ValueError):
            return None
        if (known := self._known[path.stem][1]) is None:
            return None
        thumbnail = f"/api/sessions/{path.stem}/image"
        return {"id": path.stem, **known, "when": when, "thumbnail": thumbnail}
