"""Pictures of a Hugging Face data set, from the hub or from this machine."""

from __future__ import annotations

import io
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from muse_studio.errors import UserError, words_of
from muse_studio.runtime.files import path_of
from muse_studio.runtime.launch import ask_to_fetch
from muse_training.data.captions import SCORE, Account, Choice, caption_of, class_names, score_of, told
from muse_training.data.listing import Unused, list_files
from muse_training.data.pictures import Pictures

INSTALL = "pip install -c constraints.txt -e '.[datasets]'"
WORDS = {
    "train": "train", "training": "train",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip
"""The words by which Hugging Face knows a file's or folder's split."""
NUMBERED = re.compile(r"(\w+(?:\.\w+)*)-\d{5}(?:-of-\d{5})?$")
"""A file of a split that was written in pieces, of whatever name."""
ALL = "train"
"""The split of files that say none."""


class HuggingFace(Pictures):
    """A data set that the library `datasets` knows: of the hub, of a folder of save_to_disk, or of parquet files.

    Broken pictures are reported and left out, as are those without a caption, which a number is not. A class goes by
    its name.

    path: a hub name such as user/pictures, or a folder. split: which part of it, or a slice such as train[:10%]; of
    parquet files it is what their name or folder says, train-00000.parquet or test/a.parquet, and train where none says
    any. image, caption: the columns' names. smallest: pixels of a side; pictures with a shorter one are left out.
    captions: which of several captions in a list is taken; random draws one by the row's name.
    classes: the names of the classes that numbers stand for, from 0 on, where the data set has none: a list, or a file
    with one in each line.
    micro: records tell of the picture's size as it was, of where it was cut, and of what the column `score` says.
    """

    def __init__(
        self,
        path: str,
        split: str = "train",
        image: str = "image",
        caption: str = "caption",
        size: int = 256,
        smallest: int = 1,
        captions: Choice = "first",
        classes: str | list[str] | None = None,
        micro: bool = False,
    ) -> None:
        super().__init__(size, smallest, captions, classes, micro)
        self.where, self.split, self.image, self.caption_column = path, split, image, caption

    @property
    def _rows(self) -> Any:
        return self._loaded[0]

    @cached_property
    def _loaded(self) -> tuple[Any, list[Unused]]:
        """The library's own data set, its pictures left as bytes; and the files that were not used."""
        try:
            import datasets
        except ImportError as error:
            raise UserError(f"the data set 'huggingface' needs the library datasets; {INSTALL}") from error
        try:
            rows, unused = _load_rows(datasets, self.where, self.split)
        except UserError:
            raise
        except Exception as error:  # the library, the hub's client and its file systems each have kinds of their own
            raise UserError(
                f"the data set {self.where} can't be loaded: {words_of(error)}; give as dataset.path a hub name, or a "
                "folder of save_to_disk or of parquet files, and a split that it has"
            ) from error
        for setting, column in (("image", self.image), ("caption", self.caption_column)):
            if column not in rows.column_names:
                raise UserError(
                    f"{self.where} has no column {column!r}, but {', '.join(rows.column_names)}; "
                    f"say by dataset.{setting} which one holds it"
                )
        if isinstance(rows.features[self.image], datasets.Image):
            rows = rows.cast_column(self.image, datasets.Image(decode=False))
        return rows, unused

    def nothing(self) -> UserError:
        """There is no picture, or none that can be read."""
        return UserError(f"no picture that can be read is in the split {self.split!r} of {self.where}")

    def candidates(self) -> int:
        """How many rows the split has."""
        return len(self._rows)

    def name(self, index: int) -> str:
        """The row's number, and its file's name where it has one."""
        held = self._columns[self.image][index]
        path = held.get("path") if isinstance(held, dict) else None
        return f"row {index}" + (f" ({path})" if path else "")

    def file(self, index: int) -> BinaryIO | Path:
        """The picture's bytes, or its file on this machine; ValueError where the row has neither."""
        held = self._columns[self.image][index]
        if isinstance(held, dict):
            if held.get("bytes") is None and held.get("path"):
                return Path(held["path"])
            held = held.get("bytes")
        if not isinstance(held, bytes):
            raise ValueError(f"its {self.image} is {type(held).__name__}, no picture")
        return io.BytesIO(held)

    def caption(self, index: int) -> str:
        """What is said of the picture; ValueError where nothing is."""
        said = self._columns[self.caption_column][index]
        return told(
            lambda: caption_of(said, f"row {index}", self.captions, self._classes), f"its {self.caption_column}"
        )

    def score(self, index: int) -> float:
        """What the column `score` says; NaN where there is none."""
        return score_of(self._columns[SCORE][index]) if SCORE in self._rows.column_names else math.nan

    def account(self, left_out: Iterable[str] = ()) -> Account:
        """Where the captions came from, those of the pictures called `left_out` aside, and what was not used."""
        column = f"the column {self.caption_column}"
        return Account(Counter({column: len(self._rows) - len(set(left_out))}), [], self._loaded[1])

    @cached_property
    def _classes(self) -> list[str] | None:
        """The names of the column's classes, within a list too."""
        feature = self._rows.features[self.caption_column]
        while (inner := getattr(feature, "feature", None)) is not None:
            feature = inner
        names = getattr(feature, "names", None)
        return class_names(self.classes) if names is None else list(names)

    @cached_property
    def _columns(self) -> dict[str, _Column]:
        """Each column alone, so that reading a caption reads no picture."""
        names = {self.image, self.caption_column, *{SCORE}.intersection(self._rows.column_names)}
        return {name: _Column(self._rows.select_columns([name]), name) for name in names}


class _Column:
    """One column's values by row."""

    def __init__(self, rows: Any, name: str) -> None:
        self.rows, self.name = rows, name

    def __getitem__(self, index: int) -> Any:
        return self.rows[index][self.name]


def _load_rows(datasets: Any, path: str, split: str) -> tuple[Any, list[Unused]]:
    """The rows of a split, from the hub or from this machine, and the files that are of others.

    UserError where files of this machine have no such split, or it is none; whatever the library raises for the rest.
    """
    folder = path_of(path)
    if not folder.exists():
        ask_to_fetch(path)
        return datasets.load_dataset(path, split=split), []
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        loaded = datasets.load_from_disk(str(folder))
        parts = loaded if isinstance(loaded, datasets.DatasetDict) else {str(loaded.split or ALL): loaded}
        wanted = _asked(split, list(parts), path)
        return _cut(datasets, {name: parts[name] for name in wanted}, split), []
    listing = list_files(folder) if folder.is_dir() else None
    found = [folder] if listing is None else [each for each in listing.files if each.suffix.lower() == ".parquet"]
    if not found:
        raise ValueError(f"{path} holds no parquet file, and save_to_disk did not write it")
    files = _sort_files(found, folder if listing is not None else folder.parent)
    wanted = _asked(split, list(files), path)
    rows = datasets.load_dataset("parquet", data_files={name: list(map(str, files[name])) for name in wanted})
    unused = [
        Unused(each.relative_to(folder).as_posix(), f"of the split {name}, and {split} is read")
        for name in files
        if name not in wanted
        for each in files[name]
    ]
    passed = [] if listing is None else listing.passed
    unused += [each for each in passed if each.name.endswith(".parquet") or (folder / each.name).is_dir()]
    return _cut(datasets, rows, split), unused


def _sort_files(files: list[Path], root: Path) -> dict[str, list[Path]]:
    """Parquet files by their split.

    Where some say one, the others are of a split of their own name, so that none is taken for what it isn't.
    """
    said = {file: _split_of(file.relative_to(root)) for file in files}
    splits: dict[str, list[Path]] = defaultdict(list)
    for file, name in said.items():
        own = re.sub(r"\W+", "_", file.stem) if any(said.values()) else ALL
        splits[name or own].append(file)
    return dict(splits)


def _split_of(file: Path) -> str | None:
    """The split that a file's name says, or the nearest folder's that says any."""
    for part in (file.stem, *reversed(file.parts[:-1])):
        if (numbered := NUMBERED.match(part)) is not None:
            return WORDS.get(numbered[1].lower(), numbered[1])
        for word in re.split(r"[^a-zA-Z]+", part):
            if word.lower() in WORDS:
                return WORDS[word.lower()]
    return None


def _asked(split: str, known: list[str], path: str) -> list[str]:
    """The splits that are named in `split`; UserError where there is no such one."""
    names = list(dict.fromkeys(each.partition("[")[0].strip() for each in split.split("+")))
    for name in names:
        if name not in known:
            raise UserError(
                f"{path} has no split {name!r}, but {', '.join(known)}; say by dataset.split which one is read, "
                f"whole or a slice such as {known[0]}[:10%]"
            )
    return names


def _cut(datasets: Any, parts: Any, split: str) -> Any:
    """The rows that `split` names, in its order; UserError where it is no slice."""
    try:
        pieces = datasets.ReadInstruction.from_spec(split).to_absolute({name: len(parts[name]) for name in parts})
    except (ValueError, AssertionError, TypeError) as error:
        raise UserError(
            f"dataset.split is {split!r}, which names no rows ({str(error).strip() or 'out of range'}); give a split, "
            "or a slice such as train[:10%], train[100:200] or train+test"
        ) from error
    rows = [
        parts[piece.splitname]
        if (piece.from_, piece.to) == (0, len(parts[piece.splitname]))
        else parts[piece.splitname].select(range(piece.from_, piece.to))
        for piece in pieces
    ]
    return rows[0] if len(rows) == 1 else datasets.concatenate_datasets(rows)
