"""What a stranger's picture may say of a run, and what it may not without --trust."""

from __future__ import annotations

import hashlib
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from warned import heard

import muse_studio
from muse_studio.errors import RecipeError, UserError
from muse_studio.recipe import merging, running
from muse_studio.recipe.merging import PICTURE_KEY, load, override, to_yaml
from muse_studio.recipe.sources import WEIGHTS_KEY, shipped, webp_exif
from muse_studio.runtime import launch

EMOJI = merging.load("generate").plain()


def picture(recipe: dict[str, Any] | str, name: str = "stranger.png", weights: str = "") -> str:
    """A picture that carries a recipe."""
    text = recipe if isinstance(recipe, str) else to_yaml(recipe)
    if name.endswith(".webp"):
        Image.new("RGB", (4, 4)).save(name, exif=webp_exif(text))
        return name
    inside = PngInfo()
    inside.add_itxt(PICTURE_KEY, text)
    inside.add_itxt(WEIGHTS_KEY, weights)
    Image.new("RGB", (4, 4)).save(name, pnginfo=inside)
    return name


def changed(**changes: Any) -> dict[str, Any]:
    """The recipe of a picture that muse drew, with other settings by their paths, `__` for a dot."""
    recipe = {key: each for key, each in EMOJI.items() if key not in ("out", "device")}
    tables = merging.overrides({key.replace("__", "."): each for key, each in changes.items()})
    return load(recipe, tables).plain()


def paths(source: Any, *changes: str) -> list[str]:
    """The settings that are refused, in order."""
    with pytest.raises(RecipeError) as error:
        load(source, [override(each) for each in changes])
    assert all("--trust" in str(each) for each in error.value.problems)
    return [each.path for each in error.value.problems]


@pytest.mark.parametrize("name", ["own.png", "own.webp"])
def test_what_muse_draws_is_drawn_again_and_any_value_changes(name):
    recipe = changed(
        prompt=["a / b", "~/c", "https://d"],
        negative="/etc/passwd",
        seed=3,
        count=2,
        stages__base__sampler={"use": "muse_halton/halton", "steps": 3},
        stages__base__schedule="muse_sampling/linear",
        stages__base__guidance={"use": "cfg", "scale": 2.0, "schedule": "linear"},
        stages__superres__sampler="own-sampler",  # a third party's, by its name
        stages__superres__guidance={"use": "own", "mode": "calm", "words_of": 3},
    )
    assert load(picture(recipe, name)).plain() == recipe


CANVAS = [
    {"do": "generate", "prompt": "a / b", "negative": "~/c", "seed": 3, "settings": {"base": {"sampler": "halton"}}},
    {"do": "erase", "region": "0,0,8,8"},
    {"do": "reroll", "region": {"base": "1x1:80", "superres": "1x1:80"}, "prompt": "https://d"},
    {"do": "place", "tokens": {"base": "1x1:0000000a"}},
    {"do": "edit", "prompt": "x", "editor": {"use": "variations", "strength": 0.5}},
    {"do": "extend", "right": 8},
]


def test_what_a_canvas_drew_is_drawn_again():
    recipe = {"use": "canvas", "stages": EMOJI["stages"], "text_encoder": EMOJI["text_encoder"], "actions": CANVAS}
    assert load(picture(recipe)).plain() == recipe


@pytest.mark.parametrize(
    ("action", "refused"),
    [
        ({"do": "erase", "region": "/etc/passwd"}, "region"),
        ({"do": "erase", "region": ["0,0,8,8", "mask.png"]}, "region[1]"),
        ({"do": "place", "picture": "/etc/passwd"}, "picture"),
        ({"do": "place", "path": "/etc/passwd"}, "path"),
        ({"do": "fill", "settings": {"base": {"transformer": {"weights": "http://d/a"}}}}, "settings"),
        ({"do": "fill", "settings": {"base": {"sampler": {"use": "x", "table": "../a"}}}}, "settings"),
        ({"do": "edit", "editor": {"use": "x", "words": "a"}}, "editor.words"),
    ],
)
def test_an_action_names_no_file_and_no_address(action, refused):
    recipe = {"use": "canvas", "stages": EMOJI["stages"], "text_encoder": EMOJI["text_encoder"], "actions": [action]}
    (path,) = paths(picture(recipe))
    assert path.startswith(f"actions[0].{refused}")


@pytest.mark.parametrize("name", sorted(each for each in shipped() if each.startswith("models/")))
def test_a_picture_may_be_of_any_shipped_model(name):
    recipe = merging.load(name).plain()
    if "stages" in recipe:
        assert load(picture({**recipe, "use": "generate", "prompt": "x"})).plain()["stages"] == recipe["stages"]


def test_a_picture_may_be_of_an_imported_model(here, monkeypatch):
    monkeypatch.setenv("MUSE_CACHE", str(here / "cache"))
    inside = changed(stages__base__transformer__weights=str(here / "cache/imported/a/base.safetensors"))
    assert load(picture(inside)).plain() == inside
    beside = changed(stages__base__transformer__weights=str(here / "cache/../base.safetensors"))
    assert paths(picture(beside)) == ["stages.base.transformer.weights"]


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"use": "train-tokenizer"}, "use"),
        ({"use": "muse_training/average"}, "use"),
        ({"out": "victim"}, "out"),
        ({"out": ""}, None),
        ({"fit": {"out": "victim", "resume": "never"}}, "fit.out"),
        ({"observers": [{"use": "csv", "file": "x.pth"}]}, "observers"),
        ({"observers": ["preview"]}, "observers"),
        ({"picture": "cat.png"}, "picture"),
        ({"region": "mask.png"}, "region"),
        ({"region": ["1,2,3,4", "mask.png"]}, "region[1]"),
        ({"region": "1, 2,3,4"}, None),
        ({"stages__base__transformer__weights": "http://169.254.169.254/"}, "stages.base.transformer.weights"),
        ({"stages__base__transformer__weights": "/etc/hostname"}, "stages.base.transformer.weights"),
        ({"stages__base__transformer__weights": "victim"}, "stages.base.transformer.weights"),
        ({"stages__base__transformer__weights": "package://muse_emoji/../../x"}, "stages.base.transformer.weights"),
        ({"stages__base__transformer__weights": "package://muse_emoji/models/base.safetensors"}, None),
        ({"stages__base__sampler": {"use": "own", "critic": {"use": "own", "weights": "x"}}}, "stages.base.sampler.cr"),
        ({"stages__base__sampler": {"use": "own", "word_file": "x"}}, "stages.base.sampler.word_file"),
        ({"stages__base__sampler": {"use": "own", "words": ["a", "b"]}}, "stages.base.sampler.words[0]"),
        ({"stages__base__sampler": {"use": "own", "kept": "a/b"}}, "stages.base.sampler.kept"),
        ({"stages__base__sampler": {"use": "own", "kept": "..\\b"}}, "stages.base.sampler.kept"),
        ({"stages__base__sampler": {"use": "own", "kept": "~root"}}, "stages.base.sampler.kept"),
        ({"stages__base__sampler": {"use": "own", "kept": "s3://b"}}, "stages.base.sampler.kept"),
        ({"stages__base__sampler": {"use": "own", "kept": "reference::b"}}, "stages.base.sampler.kept"),
        ({"text_encoder": {"use": "t5", "model": "gpt2"}}, "text_encoder.model"),
    ],
)
@pytest.mark.parametrize("name", ["own.png", "own.webp"])
def test_what_a_picture_wants_beyond_values_is_refused_by_path(changes, refused, name, here):
    recipe = changed(**{key: each for key, each in changes.items() if key != "use"}) | (
        {"use": changes["use"]} if "use" in changes else {}
    )
    source = picture(recipe, name)
    if refused is None:
        assert load(source).plain() == recipe
    else:
        first, *_ = paths(source)
        assert first.startswith(refused)
        assert load(source, obey=False).plain() == recipe
        with launch.trusting():
            assert load(source).plain() == recipe


def test_all_of_it_is_listed_with_its_line(here):
    source = picture("use: average\nout: victim\nobservers: [csv]\ncheckpoints: [a, b]\n")
    with pytest.raises(RecipeError) as error:
        load(source)
    assert [(each.place, each.path) for each in error.value.problems] == [
        ("stranger.png:1", "use"),
        ("stranger.png:2", "out"),
        ("stranger.png:3", "observers"),
        ("stranger.png:4", "checkpoints[0]"),
        ("stranger.png:4", "checkpoints[1]"),
    ]
    assert str(error.value.problems[1]) == (
        "stranger.png:2  out — a picture may name no file, folder or model, and this one names 'victim'; "
        "give your own as out=..., or --trust lets the picture have its way"
    )


@pytest.mark.parametrize("named", ["/etc/hostname", "own.yaml", "../own.yaml", "other.png", "."])
def test_a_picture_extends_shipped_recipes_alone(named, here):
    (here / "own.yaml").write_text("seed: 5")
    picture({"seed": 5}, "other.png")
    source = picture({"extends": named, "use": "generate", "stages": {"base": {"extends": named}}})
    assert paths(source) == ["stages.base.extends", "extends"]
    with pytest.raises(RecipeError, match="which is none that is shipped"):
        load(source, obey=False)  # as `muse show` reads it
    assert load(picture({"extends": "models/emoji", "use": "generate"})).plain()["stages"]


def test_a_file_of_the_working_folder_does_not_pass_for_a_shipped_recipe(here):
    (here / "generate.yaml").write_text("seed: 666")
    assert load(picture({"extends": "generate.yaml"})).plain()["seed"] == 0


def test_what_the_user_names_is_the_users(here):
    source = picture(changed(picture="cat.png", region="mask.png") | {"use": "edit", "editor": "inpaint"})
    assert paths(source) == ["picture", "region"]
    assert paths(source, "picture=mine.png") == ["region"]
    assert load(source, [override("picture=mine.png"), override("region=[mine.png]")]).plain()["region"] == ["mine.png"]


def test_a_file_that_extends_a_picture_trusts_it_no_more(here):
    source = picture(changed(out="victim", seed=4))
    (here / "own.yaml").write_text(f"extends: {source}\nprompt: mine")
    assert paths("own.yaml") == ["out"]
    assert paths({"extends": source}) == ["out"]
    assert paths("generate", f"extends={source}") == ["out"]
    (here / "own.yaml").write_text(f"extends: {source}\nout: mine")
    assert load("own.yaml").plain()["seed"] == 4


def test_a_whole_recipe_in_a_table_is_no_part(here):
    source = picture({"use": "train", "seed": 1})
    assert paths({"use": "sweep", "recipe": {"extends": source}}) == ["recipe.use"]


@pytest.mark.slow
def test_python_says_trust(here):
    source = picture({"use": "average", "out": "o.safetensors", "checkpoints": "none.safetensors"})
    for call in (muse_studio.run, running.prepare, muse_studio.load):
        with pytest.raises(RecipeError, match="--trust"):
            call(source)
    assert running.prepare(source, trust=True).trust
    assert {each.path for each in running.check(source)} == {"use", "out", "checkpoints"}
    assert running.check(source, trust=True) == []
    assert not launch.trusted()


class TestWeights:
    def test_a_difference_is_told(self, here):
        source = picture(changed(), weights=f"stages.base.transformer package://x sha256:{'0' * 64}\nrubbish\n\n")
        with pytest.warns(UserWarning, match="was drawn with other weights: stages.base.transformer.weights had"):
            load(source)

    def test_so_is_that_of_weights_which_the_user_names(self, here):
        (here / "mine.safetensors").write_bytes(b"mine")
        same = hashlib.sha256(b"mine").hexdigest()
        change = [override("stages.base.transformer.weights=mine.safetensors")]
        load(picture(changed(), weights=f"stages.base.transformer theirs.safetensors sha256:{same}"), change)
        with pytest.warns(UserWarning, match="what is drawn will differ"):
            load(picture(changed(), weights=f"stages.base.transformer a b sha256:{'1' * 64}"), change)

    def test_equal_ones_are_passed_over(self, here):
        address = EMOJI["stages"]["base"]["transformer"]["weights"]
        with (Path(muse_studio.__file__).parents[1] / "plugins/muse_emoji/models/base.safetensors").open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest()
        with heard() as told:
            load(picture(changed(), weights=f"stages.base.transformer {address} sha256:{same}"))
        assert not told


def chunk(name: bytes, content: bytes) -> bytes:
    """One of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def stuffed(*chunks: bytes) -> str:
    """A PNG with these chunks before its pixels."""
    Image.new("RGB", (4, 4)).save("plain.png")
    content = Path("plain.png").read_bytes()
    Path("stuffed.png").write_bytes(content[:33] + b"".join(chunks) + content[33:])
    return "stuffed.png"


def quickly(call: Callable[[], Any]) -> str:
    """What a call refuses, within a time in which nothing large can have been read."""
    began = time.process_time()
    with pytest.raises(UserError) as error:
        call()
    assert time.process_time() - began < 5
    return str(error.value)


LONG = b"[" + b"a," * (1 << 21) + b"]"


class TestLimits:
    @pytest.mark.parametrize(
        "made",
        [
            lambda: chunk(b"tEXt", b"muse_recipe\0" + LONG),
            lambda: chunk(b"iTXt", b"muse_recipe\0\0\0\0\0" + LONG),
            lambda: chunk(b"iTXt", b"other\0\0\0\0\0" + LONG),
            lambda: struct.pack(">I", 2**31 - 1) + b"iTXt" + b"muse_recipe",
            lambda: struct.pack(">I", 2**31 - 1) + b"zTXt" + b"muse_recipe",
        ],
    )
    def test_a_text_larger_than_a_recipe_is_not_read(self, here, made):
        told = quickly(lambda: load(stuffed(made())))
        assert told.startswith("stuffed.png carries a text of more than 1048576 bytes, so it is no recipe;")

    @pytest.mark.parametrize("head", [b"\0\0", b"\0\1\0\0\0"])
    def test_nor_is_one_that_grows(self, here, head):
        name = b"zTXt" if len(head) == 2 else b"iTXt"
        packed = zlib.compress(b"a" * (1 << 26), 9)
        assert len(packed) < 1 << 20
        assert "stuffed.png" in quickly(lambda: load(stuffed(chunk(name, b"muse_recipe" + head + packed))))

    def test_a_webp_has_the_same_limit(self, here):
        exif = webp_exif("x" * (1 << 21))
        Image.new("RGB", (4, 4)).save("own.webp", exif=exif)
        assert "own.webp carries a text of more than" in quickly(lambda: load("own.webp"))

    def test_many_values_are_counted_while_they_are_composed(self, here):
        text = "[" + "[]," * 300_000 + "]"
        assert "own.png:1  more than 10000 values and keys" in quickly(lambda: load(picture(text, "own.png")))


class TestManyFiles:
    def tree(self, files: int, each: int) -> None:
        """Files that extend the next one in so many tables."""
        for number in range(files):
            tables = "".join(f"t{index}: {{extends: f{number + 1}.yaml}}\n" for index in range(each))
            Path(f"f{number}.yaml").write_text(tables)
        Path(f"f{files}.yaml").write_text("seed: 1")

    def test_each_is_read_once(self, here, monkeypatch):
        read: list[Path] = []
        true = merging.text_of
        monkeypatch.setattr(merging, "text_of", lambda path: read.append(path) or true(path))
        self.tree(3, 10)
        assert load("f0.yaml").plain()["t9"]["t9"]["t9"] == {"seed": 1}
        assert len(read) == 4

    @pytest.mark.parametrize(("files", "each"), [(5, 10), (20, 10), (17, 2)])
    def test_what_multiplies_is_refused(self, here, files, each):
        self.tree(files, each)
        assert "has more than 100000 values; extend less often" in quickly(lambda: load("f0.yaml"))

    def test_a_long_line_of_parents_is_refused(self, here):
        self.tree(400, 1)
        for number in range(400):
            Path(f"f{number}.yaml").write_text(f"extends: f{number + 1}.yaml")
        assert "is one file more than the 100" in quickly(lambda: load("f0.yaml"))

    def test_many_files_beside_each_other_are_refused(self, here):
        for number in range(150):
            Path(f"f{number}.yaml").write_text("seed: 1")
        Path("own.yaml").write_text("".join(f"t{number}: {{extends: f{number}.yaml}}\n" for number in range(150)))
        assert "is one file more than the 100" in quickly(lambda: load("own.yaml"))
