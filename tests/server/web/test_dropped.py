"""A dropped picture gives values, and never more: nothing is run, opened, written or fetched for what it says."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from muse_server import dropped
from muse_server.refusals import Refusal
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from muse_studio.recipe.sources import PICTURE_KEY, WEIGHTS_KEY, webp_exif
from muse_studio.recipe.tree import to_yaml
from muse_studio.sampling.model import Model


def png(texts: dict[str, str] | None = None, **settings: Any) -> bytes:
    """A small PNG with texts."""
    info = PngInfo()
    for key, text in (texts or {}).items():
        info.add_itxt(key, text)
    return saved(Image.new("RGB", (16, 8), "red"), "PNG", pnginfo=info, **settings)


def saved(picture: Image.Image, kind: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def of(recipe: Any) -> bytes:
    """A PNG with a recipe, as text or as a table."""
    return png({PICTURE_KEY: recipe if isinstance(recipe, str) else to_yaml(recipe)})


@pytest.mark.parametrize("kind", dropped.FORMATS)
def test_three_kinds_of_pictures_are_opened(kind: str) -> None:
    picture = dropped.opened(saved(Image.new("RGB", (16, 8), "red"), kind))
    assert (picture.mode, picture.size) == ("RGB", (16, 8)) and picture.getpixel((3, 3))[0] > 240


def test_what_is_transparent_lies_on_white_and_a_mask_keeps_its_alpha() -> None:
    content = saved(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG")
    assert dropped.opened(content).getpixel((0, 0)) == (255, 255, 255)
    assert dropped.unpacked(content).getpixel((0, 0))[3] == 0


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says to be of so many pixels a side."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        saved(Image.new("RGB", (4, 4)), "GIF"),
        saved(Image.new("RGB", (4, 4)), "TIFF"),
        saved(Image.new("RGB", (4, 4)), "BMP"),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        saved(Image.effect_noise((64, 64), 99), "PNG")[:900],
        saved(Image.new("RGB", (64, 64)), "JPEG")[:300],
    ],
)
def test_what_is_no_picture_of_these_is_refused(content: bytes, emoji: Model) -> None:
    with pytest.raises(Refusal) as refused:
        dropped.opened(content)
    assert (refused.value.status, refused.value.param) == (400, "picture")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pillow's own bound is a wider one
@pytest.mark.parametrize("side", [4097, 12_000, 60_000])
def test_a_picture_that_would_fill_the_memory_is_refused_by_its_head(side: int) -> None:
    with pytest.raises(Refusal, match="more than 16,777,216 pixels"):
        dropped.opened(bomb(side))


def test_texts_that_unpack_to_gigabytes_are_refused(emoji: Model) -> None:
    info = PngInfo()
    info.add_text(PICTURE_KEY, "a" * 50_000_000, zip=True)
    with pytest.raises(Refusal):
        dropped.said(saved(Image.new("RGB", (4, 4)), "PNG", pnginfo=info), emoji)


def test_a_picture_of_the_served_model_says_all_that_it_was_drawn_with(emoji: Model, tmp_path: Path) -> None:
    changed = emoji.using(base={"sampler": {"use": "halton", "steps": 3}})
    path = changed.draw("a red apple", negative="blue", seed=3).save(tmp_path / "x.png")
    assert dropped.said(path.read_bytes(), emoji) == {
        "prompt": "a red apple",
        "negative": "blue",
        "seed": 3,
        "count": 1,
        "settings": {"base": {"sampler": {"use": "halton", "steps": 3}}},
        "same_model": True,
        "notices": [],
    }


def test_a_canvas_says_its_actions_as_a_client_sends_them(emoji: Model, tmp_path: Path) -> None:
    canvas = emoji.canvas(3)
    canvas.generate("a red apple", settings={"base": {"sampler": {"steps": 2}}, "superres": {"sampler": {"steps": 1}}})
    canvas.freeze({"base": f"8x8:80{14 * '0'}", "superres": f"16x16:c000c000{56 * '0'}"})
    canvas.erase(["0,0,9,9", "30,30,20,20"]).extend(right=20)
    said = dropped.said(canvas.save_picture(tmp_path / "x.png").read_bytes(), emoji)
    assert said is not None and said["prompt"] == "a red apple" and said["same_model"] and said["notices"] == []
    drawn, frozen, erased, extended = said["actions"]
    assert (drawn["do"], drawn["settings"]["base"]) == ("generate", {"sampler": {"steps": 2}})
    assert frozen == {"do": "freeze", "region": {"cells": {"stage": "base", "bits": "gAAAAAAAAAA="}}}
    assert erased == {"do": "erase", "region": {"boxes": [[0, 0, 9, 9], [30, 30, 20, 20]]}}
    assert (extended["do"], extended["right"]) == ("extend", 20)


def test_a_webp_carries_one_too(emoji: Model) -> None:
    picture = Image.new("RGB", (4, 4))
    content = saved(picture, "WEBP", exif=webp_exif(to_yaml({"prompt": "a fox", "seed": 1})))
    assert dropped.said(content, emoji) == {"prompt": "a fox", "seed": 1, "same_model": None, "notices": []}


def test_pictures_without_words_say_nothing(emoji: Model) -> None:
    assert dropped.said(png(), emoji) is None
    assert dropped.said(saved(Image.new("RGB", (4, 4)), "JPEG"), emoji) is None
    assert dropped.said(png({"Software": "another"}), emoji) is None


def test_another_models_picture_gives_its_words(emoji: Model) -> None:
    weights = f"stages.base.transformer package://other/x.safetensors sha256:{'0' * 64}\n"
    recipe = {"prompt": "a fox", "seed": 4, "stages": {"first": {"sampler": {"use": "halton"}}}}
    said = dropped.said(png({PICTURE_KEY: to_yaml(recipe), WEIGHTS_KEY: weights}), emoji)
    assert said is not None and (said["prompt"], said["seed"], said["same_model"]) == ("a fox", 4, False)
    assert "another model" in said["notices"][0] and "settings" not in said


A1111 = """a lighthouse, (dusk:1.2)
second line
Negative prompt: blurry, text
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1234567, Size: 512x512, Model hash: 0"""


def test_the_text_of_a1111_gives_its_words_and_its_seed(emoji: Model) -> None:
    said = dropped.said(png({"parameters": A1111}), emoji)
    assert said == {
        "prompt": "a lighthouse, (dusk:1.2)\nsecond line",
        "negative": "blurry, text",
        "seed": 1234567,
        "same_model": False,
        "notices": ["drawn by another program"],
    }
    bare = dropped.said(png({"parameters": "a fox"}), emoji)
    assert bare is not None and (bare["prompt"], bare["negative"], "seed" in bare) == ("a fox", "", False)


EVIL: list[Any] = [
    {"out": "/tmp/anywhere.png"},
    {"extends": "/etc/hostname"},
    {"observers": [{"use": "csv", "file": "written.csv"}]},
    {"picture": "/etc/passwd", "region": "/etc/passwd"},
    {"stages": {"base": {"transformer": {"weights": "http://169.254.169.254/x"}}}},
    {"stages": {"base": {"sampler": {"use": "token-critic", "critic": {"use": "critic", "weights": "/etc/passwd"}}}}},
    {"stages": {"base": {"guidance": {"use": "autoguidance", "model": {"use": "muse", "weights": "http://h/x"}}}}},
    {"stages": {"base": {"sampler": {"extends": "/etc/hostname"}}}},
    {"stages": {"base": "/etc/hostname"}, "editor": {"extends": "/etc/hostname"}},
    {"actions": [{"do": "place", "tokens": {"base": "/etc/passwd"}}]},
    {"actions": [{"do": "erase", "region": "/etc/passwd"}]},
    {"actions": [{"do": "erase", "region": ["0,0,1,1", "http://h/x"]}]},
    {"actions": [{"do": "erase", "region": {"base": "8x8:zz"}}]},
    {"actions": [{"do": "erase", "region": {"other": "8x8:00"}}]},
    {"actions": {"do": "erase"}},
    {"actions": [{"do": "save", "path": "x"}]},
    {"stages": [1], "editor": 7, "actions": "x"},
]


@pytest.mark.parametrize("evil", EVIL)
def test_only_values_are_taken_and_nothing_is_touched(emoji: Model, evil: Any, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    dropped.said(of({"prompt": "x", "stages": {"base": {"sampler": "halton"}}}), emoji)  # what is imported at first
    opened: list[str] = []
    armed = [True]

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if armed and event in ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.remove"):
            opened.append(f"{event} {arguments[0]}")

    sys.addaudithook(hear)
    try:
        said = dropped.said(of({"use": "generate", "prompt": "a fox", "seed": 5} | evil), emoji)
    finally:
        armed.clear()
    assert said is not None and (said["prompt"], said["seed"]) == ("a fox", 5)
    assert set(said) <= {"prompt", "seed", "same_model", "notices"}, said
    assert [each for each in opened if "hostname" in each or "passwd" in each or not each.startswith("open")] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("prompt: [", "not YAML"),
        ("- a\n- b", "no table"),
        ("", "no table"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: " + "[" * 50 + "]" * 50, "deep"),
        ("a: " + "[" * 5000, "deep"),
        ("a: !!python/object/apply:os.system [ls]", "tag"),
        ("\n".join(f"k{number}: 1" for number in range(20_000)), "more than"),
    ],
)
def test_a_recipe_that_is_none_is_left_aside(emoji: Model, recipe: str, told: str) -> None:
    said = dropped.said(of(recipe), emoji)
    assert said is not None and list(said) == ["notices"] and told in said["notices"][0]


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (7, "prompt"),
        ("x" * 3000, "prompt"),
        ([], "prompt"),
        ({"a": 1}, "negative"),
        (-1, "seed"),
        (True, "seed"),
        (2**70, "seed"),
        ("7", "seed"),
        (1_000_000, "count"),
    ],
)
def test_values_out_of_bounds_are_left_aside_with_a_word(emoji: Model, value: Any, key: str) -> None:
    said = dropped.said(of({"negative": "n", "prompt": "p", key: value}), emoji)
    assert said is not None and key not in said and key in said["notices"][0]


def test_of_several_prompts_the_first_is_taken(emoji: Model) -> None:
    said = dropped.said(of({"prompt": ["a fox", "a pear"]}), emoji)
    assert said is not None and said["prompt"] == "a fox" and "2 prompts" in said["notices"][0]
