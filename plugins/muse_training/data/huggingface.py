"""Pictures of a Hugging Face data set, from the hub or from this machine."""

from __future__ import annotations

import io
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from muse_studio.errors import UserError
from muse_studio.runtime.files import path_of
from muse_studio.runtime.launch import ask_to_fetch
from muse_training.data.pictures import Pictures

INSTALL = "pip install -c constraints.txt -e '.[datasets]'"


class HuggingFace(Pictures):
    """A data set that the library `datasets` knows: of the hub, of a folder of save_to_disk, or of parquet files.

    Broken pictures are reported and left out, as are those without a caption. A list of captions gives its first.

    path: a hub name such as user/pictures, or a folder. split: which part of it. image, caption: the columns' names.
    smallest: pixels of a side; pictures with a shorter one are left out.
    """

    def __init__(
        self,
        path: str,
        split: str = "train",
        image: str = "image",
        caption: str = "caption",
        size: int = 256,
        smallest: int = 1,
    ) -> None:
        super().__init__(size, smallest)
        self.where, self.split, self.image, self.caption_column = path, split, image, caption

    @cached_property
    def _rows(self) -> Any:
        """The library's own data set, its pictures left as bytes."""
        try:
            import datasets
        except ImportError as error:
            raise UserError(f"the data set 'huggingface' needs the library datasets; {INSTALL}") from error
        try:
            rows = _load(datasets, self.where, self.split)
        except Exception as error:  # the library, the hub's client and its file systems each have kinds of their own
            raise UserError(
                f"the data set {self.where} can't be loaded: {_line(error)}; give as dataset.path a hub name, or a "
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
        return rows

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
        caption = self._columns[self.caption_column][index]
        caption = next(iter(caption), None) if isinstance(caption, list) else caption
        if caption is None or not str(caption).strip():
            raise ValueError(f"its {self.caption_column} is empty")
        return str(caption).strip()

    @cached_property
    def _columns(self) -> dict[str, _Column]:
        """Each column alone, so that reading a caption reads no picture."""
        return {name: _Column(self._rows.select_columns([name]), name) for name in {self.image, self.caption_column}}


class _Column:
    """One column's values by row."""

    def __init__(self, rows: Any, name: str) -> None:
        self.rows, self.name = rows, name

    def __getitem__(self, index: int) -> Any:
        return self.rows[index][self.name]


def _load(datasets: Any, path: str, split: str) -> Any:
    folder = path_of(path)
    if not folder.exists():
        ask_to_fetch(path)
        return datasets.load_dataset(path, split=split)
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        loaded = datasets.load_from_disk(str(folder))
        return loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
    files = sorted(map(str, [folder] if folder.is_file() else folder.rglob("*.parquet")))
    if not files:
        raise ValueError(f"{path} holds no parquet file, and save_to_disk did not write it")
    return datasets.load_dataset("parquet", data_files={split: files}, split=split)


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
