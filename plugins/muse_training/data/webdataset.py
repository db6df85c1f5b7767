"""Pictures in tar files, read where they lie: an index of where each member begins is made once."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple, TypeVar

from muse_studio.errors import UserError, words_of
from muse_studio.registry.events import ProgressBar
from muse_studio.runtime.fetching import CACHE, cache_folder
from muse_studio.runtime.files import open_folder, replacing
from muse_training.data.pictures import Pictures
from muse_training.data.storage import file_system

PICTURES = ("png", "jpg", "jpeg", "webp")
CAPTIONS = ("txt", "json")
KEYS = ("caption", "text")
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
READERS = 8
"""Tar files whose headers are read at a time: it is waiting for a server, not computing."""

T = TypeVar("T")


class Sample(NamedTuple):
    """Where one picture and its caption lie: tar file, name, and first byte and length of each within it."""

    tar: int
    key: str
    picture: tuple[int, int]
    caption: tuple[int, int] | None
    kind: str | None
    """How the caption's name ends: txt or json."""


class WebDataset(Pictures):
    """Tar files as webdataset and img2dataset write them: cat.jpg and cat.txt (or cat.json) are one record.

    Pictures end in .png, .jpg, .jpeg or .webp. A .txt is the caption; a .json says it as `caption` or `text`. A name
    ends at the first dot of its last part, as webdataset has it. Where each member begins is found once, by reading
    the tar files' headers, and kept in the cache folder; after that records are read by seeking, in any order.

    path: of one tar file, or of several by numbers in braces: s3://bucket/shard-{000..099}.tar. Any address of fsspec.
    smallest: pixels of a side; pictures with a shorter one are left out, as are broken ones and those without caption.
    """

    def __init__(self, path: str, size: int = 256, smallest: int = 1) -> None:
        super().__init__(size, smallest)
        self.where, self.tars = path, expand(path)

    @cached_property
    def _samples(self) -> list[Sample]:
        samples: list[Sample] = []
        with ThreadPoolExecutor(READERS) as pool, ProgressBar(len(self.tars)) as bar:
            for tar, found in enumerate(pool.map(members, self.tars)):
                samples += [Sample(tar, *each) for each in found]
                bar.advance(f"reading the headers of {len(self.tars)} tar files")
        if not samples:
            raise self.nothing()
        return samples

    def nothing(self) -> UserError:
        """There is no picture, or none that can be read."""
        return UserError(f"no picture that can be read is in {self.where}; it may hold .{', .'.join(PICTURES)}")

    def candidates(self) -> int:
        """How many pictures the tar files hold."""
        return len(self._samples)

    def name(self, index: int) -> str:
        """The tar file and the name in it."""
        sample = self._samples[index]
        return f"{self.tars[sample.tar]}/{sample.key}"

    def file(self, index: int) -> BinaryIO:
        """The picture's bytes."""
        sample = self._samples[index]
        return io.BytesIO(self._read(sample.tar, *sample.picture))

    def caption(self, index: int) -> str:
        """What is said of the picture; ValueError where nothing is."""
        sample = self._samples[index]
        if sample.caption is None:
            raise ValueError("no caption: neither .txt nor .json is beside it")
        text = self._read(sample.tar, *sample.caption).decode("utf-8-sig")
        if sample.kind == "json":
            entry = json.loads(text)
            text = next((str(entry[key]) for key in KEYS if entry.get(key)), "")
        if not text.strip():
            raise ValueError(f"its .{sample.kind} holds no caption")
        return text.strip()

    def _read(self, tar: int, start: int, length: int) -> bytes:
        return _reading(self.tars[tar], lambda files, path: files.cat_file(path, start, start + length))


def expand(path: str) -> list[str]:
    """Every address that numbers in braces stand for; {000..099} keeps its zeros. ValueError where one counts down."""
    pieces = RANGE.split(path)  # text, first, last, text, first, last, text
    choices = [[pieces[0]]]
    for first, last, text in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        if int(last) < int(first):
            raise ValueError(f"path has {{{first}..{last}}}, which counts down; write the lower number first")
        choices.append([f"{number:0{len(first)}d}{text}" for number in range(int(first), int(last) + 1)])
    return ["".join(each) for each in itertools.product(*choices)]


def members(address: str) -> list[list[Any]]:
    """Of each picture in a tar file, what `Sample` says of it, its tar left out; kept in the cache folder.

    UserError where the file is missing or no whole tar file. A file that was changed is read anew.
    """
    version = _reading(address, lambda files, path: files.ukey(path))
    kept = cache_folder() / "webdataset" / f"{hashlib.sha256(f'{address} {version}'.encode()).hexdigest()[:24]}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    open_folder(kept.parent, CACHE)
    found = _reading(address, _headers)
    with replacing(kept) as aside:
        aside.write_text(json.dumps(found), encoding="utf-8")
    return found


def _headers(files: Any, path: str) -> list[list[Any]]:
    places: dict[str, dict[str, tuple[int, int]]] = {}
    with files.open(path, "rb") as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
        for member in tar:
            if member.isreg() and not member.issparse():
                folder, slash, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                places.setdefault(folder + slash + stem, {})[ending.lower()] = (member.offset_data, member.size)
    found = []
    for key, parts in places.items():
        picture = next((parts[ending] for ending in PICTURES if ending in parts), None)
        kind = next((ending for ending in CAPTIONS if ending in parts), None)
        if picture is not None:
            found.append([key, picture, None if kind is None else parts[kind], kind])
    return found


def _reading(address: str, read: Callable[[Any, str], T]) -> T:
    """What `read(file system, path)` gives; UserError, which a lost connection is too, where it gives nothing."""
    try:
        return read(*file_system(address))
    except tarfile.TarError as error:
        why = words_of(error)
        raise UserError(
            f"{address} is not a whole tar file ({why}); a compressed one must be unpacked, a torn one fetched again"
        ) from error
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{address} is not there; give the address of tar files as dataset.path") from error
    except Exception as error:  # each file system of fsspec raises what its own library has, much of it no OSError
        raise UserError(f"{address} can't be read: {words_of(error)}; check the network") from error
