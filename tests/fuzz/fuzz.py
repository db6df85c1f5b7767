"""Damaged and odd input for everything that reads what a stranger gives: many cases, all made of one seed.

    python tests/fuzz/fuzz.py                           # 2,000 cases over all readers, seed 0
    python tests/fuzz/fuzz.py --cases 20000 --seed 7
    python tests/fuzz/fuzz.py --only pictures --cases 500

A case is right where the reader gives something, or refuses by the errors that a user is shown. It is wrong where
another exception comes out, where it takes more than five seconds, or where it writes, deletes, connects or starts a
process outside its folder, which an audit hook of Python's sees.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import random
import signal
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from muse_training.data.folder import Folder
from muse_training.data.webdataset import WebDataset
from PIL import Image, PngImagePlugin
from safetensors.torch import save as to_safetensors

from muse_studio.contracts import Task
from muse_studio.errors import UserError
from muse_studio.images.reading import open_picture
from muse_studio.recipe import merging
from muse_studio.recipe.plan import Planner
from muse_studio.recipe.sources import PICTURE_KEY, shipped
from muse_studio.registry.plugins import Registry
from muse_studio.runtime import weights
from muse_studio.runtime.pickled import unpickled

LONGEST = 5
"""Seconds that one case may take."""

WRITING = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
STARTING = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"}


class TooLong(BaseException):
    """A case ran longer than `LONGEST`; no Exception, so that no reader takes it for a damaged file."""


@dataclass
class Guard:
    """Notes what is written outside `folder`, and what is started or connected, while it is armed."""

    folder: Path
    armed: bool = False
    seen: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Python's audit hook."""
        if not self.armed:
            return
        if event in STARTING:
            self.seen.append(f"{event}{arguments!r:.200}")
        elif event == "open":
            path, mode, flags = arguments
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
            if writes and not isinstance(path, int):
                self._outside(event, path)
        elif event in WRITING:
            self._outside(event, arguments[0])

    def _outside(self, event: str, path: Any) -> None:
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else str(path)
        if name != os.devnull and not Path(os.path.abspath(name)).is_relative_to(self.folder):
            self.seen.append(f"{event} {name}")


def mutated(data: bytes, lot: random.Random) -> bytes:
    """The same with a few bytes changed, cut out, doubled, cut off, or put in from a list of awkward ones."""
    grown = bytearray(data)
    for _ in range(lot.choice((1, 1, 2, 4, 8, 32))):
        if not grown:
            break
        at, length = lot.randrange(len(grown)), lot.choice((1, 1, 2, 4, 16, 200))
        how = lot.randrange(6)
        if how == 0:
            grown[at] = lot.randrange(256)
        elif how == 1:
            del grown[at : at + length]
        elif how == 2:
            grown[at:at] = grown[at : at + length] * lot.choice((1, 2, 50))
        elif how == 3:
            del grown[at:]
        elif how == 4:
            grown[at : at + 4] = lot.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x01"))
        else:
            grown[at:at] = lot.choice(AWKWARD)
    return bytes(grown)


AWKWARD = [
    b"\0", b"\xff\xfe", b"\xc3", "\u2028".encode(), b"\x1b[31m", b"../" * 9, b"/etc/passwd", b"1e999", b"-1", b"NaN",
    b"9" * 400, b"0x" + b"f" * 400, b"[" * 90, b"{" * 90, b"&a [*a]", b"!!python/object/apply:os.system [id]", b": ",
    b"\n", b"\t", b"- ", b"#", b"'", b'"', b"%", b"@", b"|", b">", b"~", b"null", b"true", "\uff41\u0301".encode(),
    b"a" * 3000, b"use: ", b"extends: ", b"${HOME}", b"~/", b"C:\\con",
]  # fmt: skip
"""Pieces that readers of text, numbers, paths and structures are known to trip over."""


class Recipes:
    """Shipped recipes with bytes changed, read, merged and planned as `muse check` does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.registry = folder, Registry()
        self.texts = {name: path.read_bytes() for name, path in shipped().items()}

    def __call__(self, lot: random.Random) -> None:
        """One case."""
        file = self.folder / "case.yaml"
        file.write_bytes(mutated(self.texts[lot.choice(sorted(self.texts))], lot))
        self.plan(merging.load(file))

    def plan(self, node: Any) -> None:
        """What a recipe's problems are; none of it is made."""
        Planner(self.registry).value(Task, node, "")


class Overrides(Recipes):
    """Odd texts in the place of KEY.PATH=VALUE."""

    def __call__(self, lot: random.Random) -> None:
        """One case."""
        keys = (
            "prompt",
            "seed",
            "count",
            "out",
            "stages.base.sampler.steps",
            "stages.base.sampler",
            "stages",
            "fit",
            "",
        )
        texts = []
        for _ in range(lot.choice((1, 2, 3))):
            value = mutated(lot.choice((b"a fox", b"3", b"{use: halton, steps: 8}", b"[1, 2]", b"null")), lot)
            key = lot.choice(keys)
            if lot.random() < 0.2:
                key = mutated(key.encode() or b"a.b", lot).decode("utf-8", "surrogateescape")
            texts.append(f"{key}{lot.choice(('=', '=', '=', '', '=='))}{value.decode('utf-8', 'surrogateescape')}")
        name = lot.choice(("generate", "inpaint", "train-emoji-base", "models/emoji"))
        self.plan(merging.load(name, merging.overrides(texts)))


class Pictures:
    """Small pictures of every kind that pillow writes, damaged."""

    FORMATS = (
        "PNG",
        "JPEG",
        "GIF",
        "WEBP",
        "BMP",
        "TIFF",
        "ICO",
        "PPM",
        "TGA",
        "DDS",
        "PCX",
        "SGI",
        "JPEG2000",
        "AVIF",
    )

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        picture = Image.effect_noise((24, 16), 60).convert("RGB")
        self.files = {}
        for kind in self.FORMATS:
            file = io.BytesIO()
            try:
                picture.save(file, kind)
            except (OSError, KeyError):  # this build of pillow lacks the library for it
                continue
            self.files[kind] = file.getvalue()

    def __call__(self, lot: random.Random) -> None:
        """One case."""
        kind = lot.choice(sorted(self.files))
        file = self.folder / f"case.{kind.lower()}"
        file.write_bytes(mutated(self.files[kind], lot))
        open_picture(str(file))


class PictureRecipes(Recipes):
    """PNG pictures that carry a damaged recipe, and whose chunks are damaged too."""

    def __call__(self, lot: random.Random) -> None:
        """One case."""
        text, data = PngImagePlugin.PngInfo(), io.BytesIO()
        recipe = mutated(self.texts[lot.choice(("generate", "inpaint", "train-emoji-base"))], lot)
        text.add_itxt(PICTURE_KEY, recipe.decode("utf-8", "replace"), zip=lot.random() < 0.5)
        Image.new("RGB", (8, 8)).save(data, "PNG", pnginfo=text)
        file = self.folder / "case.png"
        file.write_bytes(mutated(data.getvalue(), lot) if lot.random() < 0.3 else data.getvalue())
        self.plan(merging.load(file))


class Weights:
    """Safetensors files, damaged: their header, and every tensor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tensors = {"a.weight": torch.ones(3, 4), "b": torch.zeros(2, dtype=torch.int64), "c": torch.ones(1).half()}
        self.file = to_safetensors(tensors, {"muse_settings": '{"use": "muse", "width": 8}'})

    def __call__(self, lot: random.Random) -> None:
        """One case."""
        file = self.folder / "case.safetensors"
        file.write_bytes(mutated(self.file, lot))
        weights.settings(str(file))
        weights.read(str(file))


class Tars:
    """Shards of a web data set, damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        picture = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(picture, "PNG")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, data in (("a.png", picture.getvalue()), ("a.txt", b"a cat"), ("b.png", b""), ("b.json", b"{}")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        self.file = packed.getvalue()

    def __call__(self, lot: random.Random) -> None:
        """One case."""
        self.number += 1  # another name each time, as what a shard holds may be kept by its name
        file = self.folder / f"case-{self.number}.tar"
        file.write_bytes(mutated(self.file, lot))
        try:
            read_all(WebDataset(str(file), size=8))
        finally:
            file.unlink()


class Lines:
    """A folder of pictures whose metadata.jsonl is damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "lines"
        self.folder.mkdir()
        Image.new("RGB", (8, 8), "red").save(self.folder / "cat.png")
        self.text = b'{"file_name": "cat.png", "text": "a cat"}\n{"file_name": "dog.png", "text": ["a dog", 3]}\n'

    def __call__(self, lot: random.Random) -> None:
        """One case."""
        (self.folder / "metadata.jsonl").write_bytes(mutated(self.text, lot))
        read_all(Folder(str(self.folder), size=8))


class Pickles:
    """Checkpoints of torch's, damaged, and pickles that would run code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        saved = io.BytesIO()
        torch.save({"state_dict": {"a": torch.ones(2, 3)}, "epoch": 3}, saved)
        self.files = [saved.getvalue(), pickle.dumps({"a": [1, 2]}), pickle.dumps(Runs())]

    def __call__(self, lot: random.Random) -> None:
        """One case."""
        file = self.folder / "case.pt"
        file.write_bytes(mutated(lot.choice(self.files), lot) if lot.random() < 0.9 else lot.choice(self.files))
        unpickled(file, ("state_dict", "model"))


class Runs:
    """What a pickle of it would do, if anything unpickled it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("/tmp/muse-fuzz-was-here",)


def read_all(dataset: Any) -> None:
    """Every record of a data set."""
    for index in range(len(dataset)):
        dataset[index]


READERS: dict[str, Callable[[Path], Callable[[random.Random], None]]] = {
    "recipes": Recipes,
    "overrides": Overrides,
    "pictures": Pictures,
    "picture-recipes": PictureRecipes,
    "safetensors": Weights,
    "tars": Tars,
    "json-lines": Lines,
    "pickles": Pickles,
}


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """TooLong is raised within where it takes longer."""

    def late(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(cases: int, seed: int, only: str | None, folder: Path) -> list[str]:
    """What was wrong, a line each; each line names the reader and the case, which `case_of` makes again."""
    folder = folder.resolve()
    guard, wrong = Guard(folder), []
    names = [only] if only else list(READERS)
    readers = {name: READERS[name](folder) for name in names}
    sys.dont_write_bytecode = True  # as a late import does, outside of the folder
    sys.addaudithook(guard)
    warnings.simplefilter("ignore")
    before = os.getcwd()
    os.chdir(folder)
    try:
        for number in range(cases):
            name = names[number % len(names)]
            guard.armed = True
            try:
                with at_most(LONGEST):
                    readers[name](random.Random(f"{seed} {name} {number}"))
            except UserError:
                pass  # what a user is shown
            except TooLong:
                wrong.append(f"{name}, case {number}: took more than {LONGEST} s")
            except BaseException as error:
                wrong.append(f"{name}, case {number}: {type(error).__name__}: {str(error)[:200]}")
            finally:
                guard.armed = False
            wrong += [f"{name}, case {number}: {each}" for each in guard.seen]
            guard.seen.clear()
    finally:
        os.chdir(before)
    return wrong


def main() -> None:
    """Run the cases that the command line asks for; exit code 1 where any is wrong."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cases", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", choices=READERS)
    given = options.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = os.environ["MUSE_CACHE"] = folder
        wrong = fuzz(given.cases, given.seed, given.only, Path(folder))
    print(*wrong, sep="\n")
    print(f"{given.cases} cases of seed {given.seed} in {time.perf_counter() - began:.0f} s, {len(wrong)} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
