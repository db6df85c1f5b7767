"""The command line and strangers: pictures that want more than values, checks that fetch nothing, escapes in names."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from muse_studio.cli.commands import visible
from muse_studio.recipe import merging
from muse_studio.recipe.merging import PICTURE_KEY, to_yaml

QUICK = ("stages.base.sampler.steps=1", "stages.superres.sampler.steps=1")

ATTACK = """\
use: train-tokenizer
tokenizer: {extends: models/emoji-tokenizer, weights: null}
dataset: {use: folder, path: pictures}
fit: {out: victim, steps: 1, batch: 1, resume: never}
observers: [{use: csv, file: site.pth}]
"""


@pytest.fixture
def nobody_is_asked(monkeypatch):
    """Fails whoever opens a connection."""

    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE")


def stranger(text: str) -> str:
    inside = PngInfo()
    inside.add_itxt(PICTURE_KEY, text)
    Image.new("RGB", (4, 4)).save("stranger.png", pnginfo=inside)
    return "stranger.png"


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_picture_that_wants_more_than_values_is_refused(refused, command):
    told = refused(command, stranger(ATTACK)).splitlines()
    assert [line.split(" — ")[0] for line in told] == [
        "stranger.png:1  use",
        "stranger.png:3  dataset.path",
        "stranger.png:4  fit.out",
        "stranger.png:5  observers",
    ]


def test_the_drawing_command_takes_no_more_of_one(refused):
    drawn = {**merging.load("generate").plain(), "out": "victim"}
    assert "stranger.png:" in (told := refused("generate", "a cat", f"extends={stranger(to_yaml(drawn))}"))
    assert "  out — a picture may name no file" in told


def test_show_prints_what_one_wants_but_reads_no_other_file(muse, refused):
    code, out, err = muse("show", stranger("use: average\nout: victim\n"))
    assert (code, out, err) == (0, "use: average\nout: victim\n", "")
    assert "which is none that is shipped; --trust lets it" in refused("show", stranger("extends: /etc/hostname\n"))
    Path("own.yaml").write_text("seed: 7")
    assert muse("show", "--trust", stranger("extends: own.yaml\n")) == (0, "seed: 7\n", "")


@pytest.mark.slow
def test_trust_lets_a_picture_have_its_way(muse):
    text = to_yaml(merging.load("generate").plain() | {"out": "theirs", "observers": [{"use": "csv", "file": "t.csv"}]})
    code, _, err = muse("run", "--trust", stranger(text), *QUICK)
    assert code == 0, err
    assert Path("t.csv").is_file()
    assert len(list(Path("theirs").iterdir())) == 1


@pytest.mark.slow
def test_a_picture_draws_itself_again(muse):
    assert muse("generate", "a red apple", "seed=3", "out=one.png", *QUICK)[0] == 0
    assert muse("run", "one.png", "out=two.png") == (0, "two.png  seed 3  a red apple\n", "")
    assert Image.open("one.png").tobytes() == Image.open("two.png").tobytes()


@pytest.mark.usefixtures("nobody_is_asked")
@pytest.mark.parametrize(
    ("recipe", "overrides", "told"),
    [
        (
            "generate",
            ["stages.base.transformer.weights=https://example.org/a.safetensors"],
            "fetches  stages.base.transformer.weights = https://example.org/a.safetensors",
        ),
        (
            "generate",
            ["stages.base.tokenizer.weights=s3://example/a.safetensors"],
            "fetches  stages.base.tokenizer.weights = s3://example/a.safetensors",
        ),
        ("muse-3b-drawn.yaml", [], "reads    text_encoder.model = nobody/has-it (or the hub's model of that name)"),
        ("train-emoji-base", ["fit.upload=hf://a/b"], "writes   fit.upload = hf://a/b"),
        ("train-emoji-base", ["observers=[{use: csv, file: all.csv}]"], "writes   observers[0].file = all.csv"),
        ("import-weights", ["source=hf://a/b", "format=amused"], "fetches  source = hf://a/b"),
        ("import-weights", ["source=hf://a/b", "format=amused"], "writes   out = imported"),
        ("generate", [], "writes   out = out"),
        ("inpaint", ["region=[mask.png]"], "reads    region[0] = mask.png"),
    ],
)
def test_a_check_fetches_nothing_and_says_what_a_run_would(muse, recipe, overrides, told):
    Path("muse-3b-drawn.yaml").write_text(
        "extends: generate\ntext_encoder: {use: t5, model: nobody/has-it, length: 32, width: 384}"
    )
    code, out, err = muse("check", recipe, *overrides)
    assert code == 0, err
    first, *lines = out.splitlines()
    assert first == f"{recipe}: no problem found"
    assert told in lines


def test_a_check_still_finds_what_is_wrong_beside_what_is_not_here(refused):
    weights = "stages.base.transformer.weights=https://example.org/a.safetensors"
    assert "heads" in refused("check", "generate", weights, "stages.base.transformer.heads=7")


@pytest.mark.parametrize("observer", ["csv, file", "preview, out", "wandb, out"])
@pytest.mark.parametrize("path", ["/tmp/x/own.csv", "../own.csv", "a/../../own.csv", "~/own.csv"])
def test_what_an_observer_writes_stays_below_the_folder_of_the_run(refused, observer, path):
    name, setting = observer.split(", ")
    Path("own.yaml").write_text(f"extends: generate\nobservers:\n  - use: {name}\n    {setting}: {path}\n")
    assert refused("check", "own.yaml") == (
        f"own.yaml:4  observers[0].{setting} — {setting} is '{path}', which leaves the folder that this runs in; give "
        "a path below it, or --trust\n"
    )


EVIL = "\x1b[31mred\x9b2J\x07\u202egnp"


@pytest.mark.parametrize(
    "character", [*map(chr, range(32)), *map(chr, range(127, 160)), *"\u202a\u202e\u2066\u2069\u200f"]
)
def test_what_a_terminal_would_obey_is_shown_escaped(character):
    told = visible(f"a{character}b")
    assert told == f"a{character}b" if character in "\t\n" else told.isprintable() and "\\" in told


def test_what_people_write_stays():
    text = "ein Käse 🍎 👩‍🌾 猫 \tعربي\n"
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('extends: generate\n"NAME": 1\n', "check"),
        ('extends: generate\nuse: "NAME"\n', "check"),
        ('extends: "NAME"\n', "check"),
        ('extends: generate\nstages: {"NAME": {size: 1}}\n', "check"),
        ('extends: generate\nprompt: "NAME"\n', "show"),
        ('extends: generate\n"NAME": 1\n', "show"),
        ('extends: generate\nout: "NAME"\n', "check"),
    ],
)
@pytest.mark.parametrize("picture", [False, True])
def test_no_escape_of_a_recipe_reaches_the_terminal(muse, text, command, picture):
    text = text.replace("NAME", "\\x1b[31mred\\x9b2J\\a\\u202egnp")
    Path("own.yaml").write_text(text, encoding="utf-8")
    _, out, err = muse(command, stranger(text) if picture else "own.yaml")
    assert "gnp" in out + err
    assert set(out + err) & set(EVIL) <= set("[31mred2Jgnp")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", EVIL),
        ("check", f"{EVIL}.png"),
        ("run", "generate", f"{EVIL}=1"),
        ("parts", EVIL),
        (EVIL,),
        ("run", f"--{EVIL}"),
    ],
)
def test_nor_does_one_of_the_command_line(muse, arguments):
    code, out, err = muse(*arguments)
    assert code == 2
    assert "gnp" in out + err
    assert set(out + err) & set(EVIL) <= set("[31mred2Jgnp")


def test_nor_does_one_of_a_files_name_or_metadata(muse):
    import json
    import struct

    head = json.dumps({EVIL: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    Path(f"{EVIL}.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(4))
    Path("own.yaml").write_text(
        'extends: generate\nstages: {base: {transformer: {weights: "\\x1b[31mred\\x9b2J\\a\\u202egnp.safetensors"}}}'
    )
    code, out, err = muse("run", "own.yaml", *QUICK)
    assert code == 2
    assert "gnp" in err
    assert set(out + err) & set(EVIL) <= set("[31mred2Jgnp")
