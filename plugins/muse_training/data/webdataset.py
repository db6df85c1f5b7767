"""Pictures in tar files, read where they lie: an index of where each member begins is made once."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple, TypeVar

from muse_studio.errors import UserError, words_of
from muse_studio.registry.events import ProgressBar
from muse_studio.runtime.fetching import CACHE, cache_folder
from muse_studio.runtime.files import open_folder, replacing
from muse_training.data.captions import Account, Choice, caption_in, score_in, told
from muse_training.data.listing import Unused, passed_over, picture_endings
from muse_training.data.pictures import Pictures
from muse_training.data.storage import file_system

PICTURES = ("png", "jpg", "jpeg", "webp")
"""The endings that are taken first, where a record has several pictures."""
CAPTIONS = ("txt", "caption", "text", "json", "cls")
"""How a caption's name may end; where there are several, the first of these is taken."""
FORMAT = 2
"""Of the index that is kept; another one is made anew."""
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
    """How the caption's name ends, one of CAPTIONS."""


class WebDataset(Pictures):
    """Tar files as webdataset and img2dataset write them: cat.jpg and cat.txt (or cat.json) are one record.

    Pictures are all that pillow reads. A .txt, .caption or .text is the caption; a .json says it as `caption` or
    `text`; a .cls is a class's name, or its number. A name ends at the first dot of its last part, as webdataset has
    it. Where each member begins is found once, by reading the tar files' headers, and kept in the cache folder; after
    that records are read by seeking, in any order.

    path: of one tar file, or of several by numbers in braces: s3://bucket/shard-{000..099}.tar. Any address of fsspec.
    smallest: pixels of a side; pictures with a shorter one are left out, as are broken ones and those without caption.
    captions: which of several captions in a list is taken; random draws one by the picture's name.
    classes: the names of the classes that numbers stand for, from 0 on: a list, or a file with one in each line.
    micro: records tell of the picture's size as it was, of where it was cut, and of the `score` in its .json.
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
        self.where, self.tars = path, expand(path)

    @property
    def _samples(self) -> list[Sample]:
        return self._found[0]

    @cached_property
    def _found(self) -> tuple[list[Sample], list[Unused]]:
        samples: list[Sample] = []
        unused: list[Unused] = []
        with ThreadPoolExecutor(READERS) as pool, ProgressBar(len(self.tars)) as bar:
            for tar, (found, rest) in enumerate(pool.map(members, self.tars)):
                samples += [Sample(tar, *each) for each in found]
                unused += [Unused(f"{self.tars[tar]}/{name}", reason) for name, reason in rest]
                bar.advance(f"reading the headers of {len(self.tars)} tar files")
        if not samples:
            raise self.nothing()
        return samples, unused

    def nothing(self) -> UserError:
        """There is no picture, or none that can be read."""
        return UserError(
            f"no picture that can be read is in {self.where}; it may hold .{', .'.join(PICTURES)} and all else that "
            "pillow reads, each called as its caption is but for the ending"
        )

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
            raise ValueError("no caption: neither .txt nor .json is beside it, nor any of .caption, .text, .cls")
        content, kind = self._read(sample.tar, *sample.caption), sample.kind or ""
        return told(lambda: caption_in(content, kind, sample.key, self.captions, self._classes), f"its .{kind}")

    def score(self, index: int) -> float:
        """The `score` of its .json, where that holds its caption; NaN where it has none."""
        sample = self._samples[index]
        if sample.caption is None or sample.kind != "json":
            return math.nan
        return score_in(self._read(sample.tar, *sample.caption), sample.kind)

    def account(self, left_out: Iterable[str] = ()) -> Account:
        """Where the captions came from, those of the pictures called `left_out` aside, and what was not used."""
        without = set(left_out)
        kinds = (sample.kind for index, sample in enumerate(self._samples) if self.name(index) not in without)
        return Account(Counter(f".{kind}" for kind in kinds), [], self._found[1])

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


def members(address: str) -> tuple[list[list[Any]], list[list[str]]]:
    """Of each picture in a tar file, what `Sample` says of it, its tar left out; and each member that is not used, and
    why. Kept in the cache folder.

    UserError where the file is missing or no whole tar file. A file that was changed is read anew.
    """
    version = _reading(address, lambda files, path: files.ukey(path))
    version = f"{version} {FORMAT} {sorted(picture_endings())}"
    kept = cache_folder() / "webdataset" / f"{hashlib.sha256(f'{address} {version}'.encode()).hexdigest()[:24]}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    open_folder(kept.parent, CACHE)
    found = _reading(address, _headers)
    with replacing(kept) as aside:
        aside.write_text(json.dumps(found), encoding="utf-8")
    return found


class _Member(NamedTuple):
    """A regular file in a tar file: its whole name, and its first byte and length."""

    name: str
    place: tuple[int, int]


def _headers(files: Any, path: str) -> tuple[list[list[Any]], list[list[str]]]:
    records: dict[str, dict[str, _Member]] = {}
    unused: list[list[str]] = []
    with files.open(path, "rb") as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
        for member in tar:
            if member.isdir():
                continue
            if (why := passed_over(member.name.split("/"))) is not None:
                unused.append([member.name, f"{why}; it is passed over"])
            elif not member.isreg() or member.issparse():
                unused.append([member.name, "a link or a file with holes, which is no picture and no caption"])
            else:
                folder, slash, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                parts = records.setdefault(folder + slash + stem, {})
                if (former := parts.get(ending.lower())) is not None:
                    unused.append([former.name, f"{member.name} comes after it and is taken in its place"])
                parts[ending.lower()] = _Member(member.name, (member.offset_data, member.size))
    found = []
    for key, parts in records.items():
        picture = min((each for each in parts if f".{each}" in picture_endings()), key=_preferred, default=None)
        kind = next((ending for ending in CAPTIONS if ending in parts), None)
        if picture is not None:
            found.append([key, parts[picture].place, None if kind is None else parts[kind].place, kind])
        for ending, part in parts.items():
            if picture is None or ending not in (picture, kind):
                unused.append([part.name, _why(ending, key, picture, kind)])
    return found, unused


def _preferred(ending: str) -> tuple[bool, int, str]:
    return ending not in PICTURES, PICTURES.index(ending) if ending in PICTURES else 0, ending


def _why(ending: str, key: str, picture: str | None, kind: str | None) -> str:
    """Why a member of the record `key` is not used, whose picture and caption end so."""
    is_picture = f".{ending}" in picture_endings()
    last = ending.rpartition(".")[2]
    if "." in ending and (f".{last}" in picture_endings() or last in CAPTIONS):
        return f"a name ends at its first dot, so it is the {ending} of {key}; write _ for the other dots"
    if picture is None and ending in CAPTIONS:
        return "no picture of its name is in the tar file"
    if is_picture or ending in CAPTIONS:
        return f"{key}.{picture if is_picture else kind} is taken"
    return "neither a picture that pillow reads here nor a caption"


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
