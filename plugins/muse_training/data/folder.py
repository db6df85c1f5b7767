"""Anyone's pictures: a folder, captions beside them."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

from muse_studio.errors import UserError
from muse_studio.runtime.files import path_of
from muse_training.data.pictures import Pictures

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
CAPTIONS = "metadata.jsonl"


class Folder(Pictures):
    """Every picture below a folder, cut square from the middle and scaled to `size` pixels.

    A picture's caption is the text file of its name beside it (cat.txt for cat.png); else its line of metadata.jsonl,
    `{"file_name": "cat.png", "text": "a cat"}`; else its file name, with _ and - read as spaces.
    Broken files are reported and left out, as are pictures with an empty text file; `skipped` counts them.
    Transparency is put on white.

    smallest: pixels of a side; pictures with a shorter one are left out.
    """

    def __init__(self, path: str, size: int = 256, smallest: int = 1) -> None:
        super().__init__(size, smallest)
        self.path = path_of(path)
        self.where = str(self.path)

    @cached_property
    def _files(self) -> list[Path]:
        if not self.path.is_dir():
            raise UserError(f"{self.path} is not a folder; give one with pictures as dataset.path")
        found = sorted(file for file in self.path.rglob("*") if file.suffix.lower() in PICTURES and file.is_file())
        if not found:
            raise self.nothing()
        return found

    def nothing(self) -> UserError:
        """There is no picture, or none that can be read."""
        return UserError(f"no picture that can be read is in {self.path}; it may hold {', '.join(PICTURES)}")

    def candidates(self) -> int:
        """How many picture files there are."""
        return len(self._files)

    def name(self, index: int) -> str:
        """The file's path below the folder."""
        return str(self._files[index].relative_to(self.path))

    def file(self, index: int) -> Path:
        """The picture file."""
        return self._files[index]

    def caption(self, index: int) -> str:
        """What is said of the picture; ValueError where the text file beside it is empty."""
        file = self._files[index]
        beside = file.with_suffix(".txt")
        if not beside.is_file():
            return self._captions.get(file, file.stem.replace("_", " ").replace("-", " "))
        if not (message := _text(beside).strip()):
            raise ValueError(f"{beside.name} is empty; write the caption, or delete it to have the picture's name")
        return message

    @cached_property
    def _captions(self) -> dict[Path, str]:
        captions = {}
        for table in sorted(self.path.rglob(CAPTIONS)):
            for number, line in enumerate(_text(table).splitlines(), 1):
                if not line.strip():
                    continue
                try:
                    entry = json.loads(line)
                    captions[table.parent / entry["file_name"]] = str(entry["text"])
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(
                        f'{table}:{number} is not a line like {{"file_name": "cat.png", "text": "a cat"}}: {error}'
                    ) from error
        return captions


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
