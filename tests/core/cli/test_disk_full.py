"""A disk that is really full, under each kind of file: one line that names the place and the cure, nothing torn.

The disk is a small tmpfs, with a filler that leaves so many KiB; once it is gone the same command goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess

import pytest
from PIL import Image
from safetensors.torch import load_file

from muse_studio.errors import UserError
from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.testing import FakeTextEncoder, tiny_stage
from muse_studio.training.log import read

pytestmark = pytest.mark.slow

TRAIN = """
use: train-tokenizer
tokenizer: {use: vqgan, codebook_size: 16, code_width: 4, channels: 8, multipliers: [1], blocks: 0, patch: 4}
dataset: {use: folder, path: pictures, size: 8}
optimizer: {use: adamw, rate: 1e-3}
fit: {out: disk/run, steps: 6, batch: 2, log_every: 1, checkpoint_every: 2, keep: 4, device: cpu, ema: 0.9}
"""
SWEEP = """
use: sweep
recipe: {extends: models/emoji-base, use: generate, prompt: a pear}
settings: {steps: [1, 2]}
out: disk/sweep
"""
QUICK = ("stages.base.transformer.weights=null", "stages.base.sampler.steps=1")
DATA = "dataset={use: folder, path: pictures, size: 64}"
FEW = ("recogniser=null", "compositions=0", "phrases=false")  # a folder has none of what these ask for
COMMANDS = {
    "train": ("run", "train.yaml"),
    "generate": ("run", "generate", "extends=models/emoji-base", "count=2", *QUICK, "out=disk/out", "animate=true"),
    "prepare-tokens": ("run", "prepare-tokens", DATA, "out=disk/tokens", "shard=2", "workers=0"),
    "sweep": ("run", "sweep.yaml"),
    "evaluate": ("run", "evaluate", *QUICK, DATA, "extends=models/emoji-base", "n=2", *FEW, "out=disk/evaluate"),
}
"""Each writes to the disk alone."""
NO_ROOM = re.compile(r"error: .*disk/\S.* No space left on device.*; (.*: )?make room.*")
REPLACED = {"run/log.csv", "run/loss.png"}
"""What a run writes anew when it goes on."""


@pytest.fixture
def disk(here):
    """A disk of 4 MiB of the test's own."""
    place = here / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def pictures(here):
    folder = here / "pictures"
    folder.mkdir()
    for colour in ("red", "green", "blue", "white"):
        Image.new("RGB", (64, 64), colour).save(folder / f"{colour}.png")
    (here / "train.yaml").write_text(TRAIN)
    (here / "sweep.yaml").write_text(SWEEP)


def leave(disk, room):
    """Fill the disk, but for so many KiB."""
    there = os.statvfs(disk)
    size = there.f_bavail * there.f_frsize - room * 1024
    if size > 0:
        with (disk / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)


def contents(disk):
    """Every file's checksum, by name."""
    files = [path for path in disk.rglob("*") if path.is_file() and path.name != "filler"]
    return {str(path.relative_to(disk)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check_whole(disk):
    """Every file can be read to its end, and none bears the name of one that is being written."""
    assert [path.name for path in disk.rglob(".*") if path.name != ".muse-run.json"] == []
    for path in disk.rglob("*"):
        if path.suffix in (".png", ".webp"):
            with Image.open(path) as image:
                image.load()
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.name == "log.csv":
            read(path)


@pytest.mark.parametrize(
    ("what", "room"),
    [
        *(("train", room) for room in (0, 8, 40, 300, 600)),
        *(("generate", room) for room in (0, 20)),
        *(("prepare-tokens", room) for room in (0, 20, 60)),
        *(("sweep", room) for room in (0, 4, 24)),
        *(("evaluate", room) for room in (0, 4)),
    ],
)
def test_a_command_that_finds_no_room_says_so_and_goes_on_once_there_is_some(muse, disk, pictures, what, room):
    leave(disk, room)
    code, out, err = muse(*COMMANDS[what])
    assert (code, out) == (2, ""), err
    errors = [line for line in err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and NO_ROOM.fullmatch(errors[0]), err
    check_whole(disk)
    kept = contents(disk)
    (disk / "filler").unlink()
    code, _, err = muse(*COMMANDS[what])
    assert code == 0, err
    check_whole(disk)
    now = contents(disk)
    assert {name for name in kept if now.get(name) != kept[name]} <= REPLACED


@pytest.mark.parametrize("room", [0, 4])
def test_a_canvas_that_finds_no_room_keeps_the_one_before(disk, room):
    canvas = Canvas({"base": tiny_stage(256, 0)}, FakeTextEncoder(), device="cpu")
    path = canvas.generate("a pear").save(disk / "canvas.safetensors")
    before = contents(disk)
    leave(disk, room)
    canvas.generate("a fig")
    for save in (canvas.save, canvas.save_picture):
        with pytest.raises(UserError, match=r"disk/\S+ .*No space left on device.*; make room, or choose another"):
            save(disk / ("canvas.safetensors" if save == canvas.save else "picture.png"))
    assert contents(disk) == before
    check_whole(disk)
    (disk / "filler").unlink()
    canvas.save(path)
    assert len(Canvas.load(path, canvas.model).history) == 2
