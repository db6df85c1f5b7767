"""Anyone's pictures: a folder, captions beside them."""

from __future__ import annotations

import math
import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from muse_studio.errors import UserError
from muse_studio.runtime.files import path_of
from muse_training.data.captions import Account, Choice, caption_in, caption_of, score_in, score_of, told
from muse_training.data.listing import Listing, Unused, list_files, picture_endings
from muse_training.data.pictures import SHOWN, Pictures
from muse_training.data.tables import READ, Entry, is_table, read_table

BESIDE = (".txt", ".caption", ".json")
"""How a caption's own file ends; where there are several, the first of these is taken."""
DRIVE = re.compile(r"[A-Za-z]:/|/|file:/")


class Folder(Pictures):
    """Every picture below a folder, cut square from the middle and scaled to `size` pixels.

    A picture's caption is the text file of its name beside it, cat.txt or cat.caption, or cat.json with `caption` or
    `text`; else its line of metadata.csv, .tsv, .jsonl, .json or .parquet, `{"file_name": "cat.png", "text": "a cat"}`;
    else its file name, with _ and - read as spaces. Names may differ in capitals, Unicode form and slashes.
    Broken files are reported and left out, as are pictures whose caption is empty or no text; `skipped` counts them.
    Transparency is put on white.

    smallest: pixels of a side; pictures with a shorter one are left out.
    captions: which of several captions in a list is taken; random draws one by the picture's name.
    classes: the names of the classes that numbers stand for, from 0 on: a list, or a file with one in each line.
    micro: records tell of the picture's size as it was, of where it was cut, and of its `score` in cat.json or a table.
    """

    def __init__(
        self,
        path: str,
        size: int = 256,
        smallest: int = 1,
        captions: Choice = "first",
        classes: str | list[str] | None = None,
        micro: bool = False,
    ) -> None:
        super().__init__(size, smallest, captions, classes, micro)
        self.path = path_of(path)
        self.where = str(self.path)

    @cached_property
    def _listing(self) -> Listing:
        if not self.path.is_dir():
            raise UserError(f"{self.path} is not a folder; give one with pictures as dataset.path")
        return list_files(self.path)

    @cached_property
    def _files(self) -> list[Path]:
        found = [file for file in self._listing.files if file.suffix.lower() in picture_endings()]
        if not found:
            raise self.nothing()
        return found

    def nothing(self) -> UserError:
        """There is no picture, or none that can be read."""
        others = [self._shown(file) for file in self._listing.files if file.suffix.lower() not in picture_endings()]
        others += [each.name for each in self._listing.passed]
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        lie = f"; what lies there is no picture: {', '.join(others[:SHOWN])}{more}" if others else ""
        return UserError(
            f"no picture that can be read is in {self.path}; it may hold .png, .jpg, .webp, .avif and all else that "
            f"pillow reads{lie}"
        )

    def candidates(self) -> int:
        """How many picture files there are."""
        return len(self._files)

    def name(self, index: int) -> str:
        """The file's path below the folder."""
        return self._shown(self._files[index])

    def file(self, index: int) -> Path:
        """The picture file."""
        return self._files[index]

    def caption(self, index: int) -> str:
        """What is said of the picture; ValueError where that is empty or no text."""
        file = self._files[index]
        beside, entry = self._captions.beside.get(file), self._captions.entries.get(file)
        if beside is not None:
            content, kind = beside.read_bytes(), beside.suffix.lower().removeprefix(".")
            if not content.strip():
                raise ValueError(f"{beside.name} is empty; write the caption, or delete it to have the picture's name")
            return told(lambda: caption_in(content, kind, self.name(index), self.captions, self._classes), beside.name)
        if entry is not None:
            return told(lambda: caption_of(entry.said, self.name(index), self.captions, self._classes), entry.where)
        return told(lambda: caption_of(file.stem.replace("_", " ").replace("-", " "), file.stem), "its name")

    def score(self, index: int) -> float:
        """The `score` of its file of JSON, or of its line; NaN where neither has one."""
        beside, entry = (of.get(self._files[index]) for of in (self._captions.beside, self._captions.entries))
        if isinstance(beside, Path):
            return score_in(beside.read_bytes(), beside.suffix.lower().removeprefix("."))
        return score_of(entry.score) if isinstance(entry, Entry) else math.nan

    def account(self, left_out: Iterable[str] = ()) -> Account:
        """Where the captions came from, those of the pictures called `left_out` aside, and what was not used."""
        account, without = Account(), set(left_out)
        for file in self._files:
            if (name := self._shown(file)) in without:
                continue
            if (beside := self._captions.beside.get(file)) is not None:
                account.sources[beside.suffix.lower()] += 1
            elif (entry := self._captions.entries.get(file)) is not None:
                account.sources[entry.where.partition(":")[0]] += 1
            else:
                account.by_name.append(name)
        account.unused = [*self._captions.unused, *self._listing.passed]
        return account

    @cached_property
    def _captions(self) -> _Captions:
        return _Captions(self.path, self._files, self._listing.files)

    def _shown(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()


class _Captions:
    """Which file or which line of a table says what a picture is, and what says nothing of any picture.

    beside: a picture's own file of text. entries: a picture's line. unused: files and lines that are of no picture.
    """

    def __init__(self, root: Path, pictures: list[Path], files: list[Path]) -> None:
        self.root = root
        self.beside: dict[Path, Path] = {}
        self.entries: dict[Path, Entry] = {}
        self.unused: list[Unused] = []
        known = set(pictures)
        others = [file for file in files if file not in known]
        tables = [file for file in others if is_table(file)]
        own = [file for file in others if file.suffix.lower() in BESIDE and not is_table(file)]
        self._find_beside(pictures, own)
        names = _Names((self._shown(file), file) for file in pictures)
        for table in tables:
            for entry in read_table(table, self._shown(table)):
                self._sort_in(entry, table, names)
        used = {*self.beside.values(), *tables}
        self.unused += [Unused(self._shown(file), self._why(file, names)) for file in others if file not in used]

    def _find_beside(self, pictures: list[Path], own: list[Path]) -> None:
        """Each picture's text file: that of its very name before one whose name differs in capitals or form."""
        there = set(own)
        exact = {picture: [each for each in _names_beside(picture) if each in there] for picture in pictures}
        owned = {file for each in exact.values() for file in each}
        alike = _Names((self._shown(file), file) for file in own if file not in owned)
        for picture in pictures:
            found = exact[picture] or [
                file for each in _names_beside(picture) for file in alike.loosely(self._shown(each))
            ]
            if found:
                self.beside[picture] = min(found, key=lambda file: BESIDE.index(file.suffix.lower()))

    def _sort_in(self, entry: Entry, table: Path, names: _Names) -> None:
        found = names.find(entry.file, self._shown(table.parent), self.root)
        if len(found) != 1:
            which = f"that may be {', '.join(map(self._shown, found))}" if found else "which is no picture here"
            self.unused.append(Unused(entry.where, f"names {entry.file!r:.200}, {which}"))
        elif (beside := self.beside.get(found[0])) is not None:
            self.unused.append(Unused(entry.where, f"{self._shown(beside)} has the caption of {entry.file!r:.200}"))
        elif (first := self.entries.setdefault(found[0], entry)) is not entry:
            self.unused.append(Unused(entry.where, f"{first.where} has the caption of {entry.file!r:.200} already"))

    def _why(self, file: Path, names: _Names) -> str:
        """Why a file is not used."""
        ending = file.suffix.lower()
        if ending in BESIDE:
            of = names.stem(self._shown(file.with_suffix(""))) or names.loosely(self._shown(file.with_suffix("")))
            taken = next((self.beside[each] for each in of if each in self.beside), None)
            if taken is not None:
                return f"{taken.name} is taken as the caption"
            return "no picture of its name is beside it"
        if ending in READ:
            return f"a table of captions is called metadata{ending}"
        return "neither a picture that pillow reads here nor a caption"

    def _shown(self, file: Path) -> str:
        return file.relative_to(self.root).as_posix()


class _Names:
    """Files by their paths as others write them: in another Unicode form or case, with backslashes or a leading ./."""

    def __init__(self, files: Iterable[tuple[str, Path]]) -> None:
        self._exact: dict[str, Path] = {}
        self._alike: dict[str, list[Path]] = defaultdict(list)
        self._stems: dict[str, list[Path]] = defaultdict(list)
        for name, file in files:
            self._exact[name] = file
            self._alike[_plain(name)].append(file)
            self._stems[_plain(posixpath.splitext(name)[0])].append(file)

    def find(self, name: str, folder: str, root: Path) -> list[Path]:
        """The file that a table in `folder` calls `name`; several where it may be any, none where it isn't there.

        A name is of the table's folder or else of the root, and may be absolute below that, or lack its ending.
        """
        written = name.strip()
        ways = [written] if "\\" not in written else [written, written.replace("\\", "/")]
        paths = [path for way in ways for path in _paths(way, folder, root)]
        for path in paths:
            if path in self._exact:
                return [self._exact[path]]
        for path in paths:
            if found := self.loosely(path) or self.stem(path):
                return found
        return []

    def loosely(self, name: str) -> list[Path]:
        """The files whose names differ from this one in form alone."""
        return self._alike.get(_plain(name), [])

    def stem(self, name: str) -> list[Path]:
        """The files that are called so but for their ending."""
        return self._stems.get(_plain(name), [])


def _paths(name: str, folder: str, root: Path) -> list[str]:
    """What a name may be below the root."""
    if not DRIVE.match(name):
        return list(dict.fromkeys(posixpath.normpath(posixpath.join(base, name)) for base in (folder, "")))
    absolute = posixpath.normpath(name.removeprefix("file://"))
    roots = (Path(os.path.abspath(root)).as_posix(), root.resolve().as_posix())
    return [absolute.removeprefix(f"{each}/") for each in roots if absolute.startswith(f"{each}/")]


def _names_beside(picture: Path) -> list[Path]:
    """What a picture's own text file may be called: cat.txt, and cat.png.txt."""
    return [path for ending in BESIDE for path in (picture.with_suffix(ending), Path(f"{picture}{ending}"))]


def _plain(name: str) -> str:
    form = unicodedata.normalize("NFKC", name.replace("\\", "/"))
    return unicodedata.normalize("NFKC", form.casefold())
