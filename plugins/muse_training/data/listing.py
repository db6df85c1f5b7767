"""What lies in a folder: its files, each once, and what is passed over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageFile

from muse_studio.errors import words_of
from muse_studio.images.reading import readable
from muse_studio.runtime.files import MARK

ONLY_NAMED = {"MPEG"}
"""Formats that pillow can name and not read."""
MADE_BY_SYSTEMS = {
    "@eadir", "__macosx", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found",
    "thumbs.db", "desktop.ini",
}  # fmt: skip
"""Folders and files that an operating system or a NAS puts beside pictures, in small letters."""


class Unused(NamedTuple):
    """A file, folder, line or member that gave nothing: what it is called, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return printable(f"{self.name}: {self.reason}")


def printable(name: str) -> str:
    """A file's name as a terminal can show it: control characters, and bytes that are no UTF-8, are escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in name)


class Listing(NamedTuple):
    """The files below a folder in the order of their paths, and what was passed over."""

    files: list[Path]
    passed: list[Unused]


@cache
def picture_endings() -> frozenset[str]:
    """The endings of the picture files that pillow can read as it is installed here, with the dot, in small letters."""
    drawn = {name for name in readable() if not _only_named(Image.OPEN[name][0])} - ONLY_NAMED
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in drawn)


def _only_named(opens: object) -> bool:
    """Whether pillow needs a library of someone else to read the format at all."""
    return isinstance(opens, type) and issubclass(opens, ImageFile.StubImageFile)


def passed_over(parts: Iterable[str]) -> str | None:
    """Why a path of these parts is not looked at; None where it is."""
    for part in parts:
        if part.lower() in MADE_BY_SYSTEMS:
            return "made by a system, not by you"
        if part.startswith(".") and part not in (".", ".."):
            return "hidden"
    return None


def list_files(root: Path) -> Listing:
    """Every file below `root`, linked folders followed, but each folder once, so that links in a circle end.

    Hidden folders and files, and those that systems make, are passed over; the names are of paths below `root`.
    """
    files: list[Path] = []
    passed: list[Unused] = []
    seen: set[tuple[int, int]] = set()
    waiting, linked = [root], list[Path]()
    while waiting or linked:  # links after all else, so that a folder goes by its own name where it has one here
        folder, link = (waiting.pop(), False) if waiting else (linked.pop(0), True)
        shown = folder.relative_to(root).as_posix()
        try:
            if (found := _identity(folder)) in seen:
                if link:
                    passed.append(Unused(shown, "a link to a folder that is read already"))
                continue
            seen.add(found)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            passed.append(Unused(shown, f"a folder that can't be read: {error.strerror or words_of(error)}"))
            continue
        for entry in entries:
            if entry.name == MARK:  # of a run in this folder, which is no matter of the user's
                continue
            _sort_in(Path(folder, entry.name), root, (files, waiting, linked), passed)
    return Listing(sorted(files), sorted(passed))


def _sort_in(path: Path, root: Path, lists: tuple[list[Path], list[Path], list[Path]], passed: list[Unused]) -> None:
    files, waiting, linked = lists
    shown = path.relative_to(root).as_posix()
    folder = path.is_dir()
    if (why := passed_over([path.name])) is not None:
        held = "" if not folder else f", with {_count(path)} files"
        passed.append(Unused(shown, f"{why}{held}; it is passed over"))
    elif folder:
        (linked if path.is_symlink() else waiting).append(path)
    elif path.is_file():
        files.append(path)
    else:
        passed.append(Unused(shown, "a link that leads nowhere" if path.is_symlink() else "no regular file"))


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _identity(folder: Path) -> tuple[int, int]:
    """What tells a folder from every other one, by whatever path it is reached."""
    found = folder.stat()
    return found.st_dev, found.st_ino
