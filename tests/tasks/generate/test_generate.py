import base64
import errno
import io

import numpy as np
import pytest
import torch
from muse_tasks.generate import drawing as generating
from muse_tasks.generate.pictures import save_animation
from muse_tasks.generate.steps import REST, STEP
from muse_tasks.generate.task import Generate
from PIL import Image, ImageSequence

from muse_studio.contracts import MASK, RunContext
from muse_studio.errors import UserError
from muse_studio.images.provenance import Provenance
from muse_studio.images.sheets import MARGIN, TITLE
from muse_studio.recipe.sources import PICTURE_KEY, recipe_text
from muse_studio.recipe.tree import parse
from muse_studio.registry.events import ProgressBar
from muse_studio.sampling.previews import GREYS
from muse_studio.testing.fakes import FakeTokenizer, FakeTransformer


def pixels(image):
    return np.asarray(image).tolist()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_seed_draws_the_same_picture_alone_and_among_many(stages, encoder, tmp_path):
    many = Generate(stages, encoder, ["a cat", "a red apple", ""], count=3, seed=5, out=str(tmp_path / "many"))()
    assert many.prompts == ["a cat"] * 3 + ["a red apple"] * 3 + [""] * 3
    assert many.seeds == [5, 6, 7] * 3
    for prompt, seed, image in zip(many.prompts, many.seeds, many.images, strict=True):
        alone = Generate(stages, encoder, prompt, seed=seed, out=str(tmp_path / "alone"))()
        assert pixels(alone.images[0]) == pixels(image)
    assert len({str(pixels(image)) for image in many.images}) == 9


def test_the_last_stage_draws_and_is_given_the_tokens_before_it(make_stage, encoder, tmp_path):
    seen = []

    class Spy(FakeTransformer):
        def condition(self, text, low=None):
            seen.append(low)
            return super().condition(text, low)

    stages = {"base": make_stage(16), "large": make_stage(32, transformer=Spy())}
    result = Generate(stages, encoder, "a cat", out=str(tmp_path))()
    assert result.images[0].size == (32, 32)
    assert all(low.shape == (1, 4, 4) and (low != MASK).all() for low in seen)
    assert len(seen) == 2  # the prompt and the unprompted, once a picture


def test_a_size_of_two_sides_is_height_then_width(stages, encoder, tmp_path):
    assert Generate(stages, encoder, "a cat", out=str(tmp_path))().images[0].size == (24, 32)


def test_observers_hear_of_every_step(stages, encoder, notes, tmp_path):
    Generate(stages, encoder, "a cat", out=str(tmp_path))(notes)
    heard = [(step["stage"], step["step"], step["steps"], tuple(step["tokens"].shape)) for step in notes.steps]
    assert heard == [("base", i, 4, (1, 4, 4)) for i in (1, 2, 3, 4)] + [("large", i, 2, (1, 8, 6)) for i in (1, 2)]
    assert {(step["loss"], step["image"]) for step in notes.steps} == {(None, None)}


def test_a_negative_prompt_changes_the_picture(stages, encoder, tmp_path):
    plain, other = (
        Generate(stages, encoder, "a cat", negative=negative, out=str(tmp_path))() for negative in ("", "a dog")
    )
    assert pixels(plain.images[0]) != pixels(other.images[0])


def test_dropout_is_off(make_stage, encoder, tmp_path):
    stage = make_stage()
    stage.transformer.train()
    Generate({"base": stage}, encoder, "a cat", out=str(tmp_path))()
    assert not stage.transformer.training


def test_files_are_named_by_their_prompt_and_never_overwritten(stages, encoder, tmp_path):
    kept = tmp_path / "a-cat.png"
    kept.write_text("mine")
    result = Generate(stages, encoder, ["A cat!", "🍎", "一只猫"], count=2, out=str(tmp_path))()
    assert [path.name for path in result.paths] == [
        "a-cat-2.png",
        "a-cat-3.png",
        "red-apple.png",
        "red-apple-2.png",
        "一只猫.png",
        "一只猫-2.png",
    ]
    assert kept.read_text() == "mine"
    assert names(tmp_path) == sorted([kept.name, *(path.name for path in result.paths), "sheet.png"])
    for path, image in zip(result.paths, result.images, strict=True):
        assert pixels(Image.open(path)) == pixels(image)


def test_one_picture_goes_to_the_file_named_and_has_no_sheet(stages, encoder, tmp_path):
    out = tmp_path / "new" / "cat.PNG"
    for name in ("cat.PNG", "cat-2.PNG"):
        result = Generate(stages, encoder, "a cat", out=str(out))()
        assert result.paths == [tmp_path / "new" / name]
        assert result.sheet is None
    assert names(tmp_path / "new") == ["cat-2.PNG", "cat.PNG"]


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_drawn(stages, tmp_path):
    class Never:
        width = 8

        def __call__(self, prompts):
            raise AssertionError("the text was encoded")

    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/deeper can't be written: Not a directory; give another folder as out"):
        Generate(stages, Never(), "a cat", out=str(tmp_path / "file" / "deeper"))()


def test_what_was_drawn_before_an_interruption_stays(stages, encoder, tmp_path):
    class Stop:
        steps = 0

        def muse_step(self, **step):
            self.steps += 1
            if self.steps == 8:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Generate(stages, encoder, "a cat", count=3, out=str(tmp_path))(Stop())
    assert names(tmp_path) == ["a-cat.png"]


def test_a_picture_carries_the_recipe_that_draws_it_again(stages, encoder, tmp_path):
    task = Generate(stages, encoder, ["ein Apfel 🍎", "1e-4"], negative="no", count=2, seed=3, out=str(tmp_path))
    whole = {
        "use": "generate",
        "prompt": task.prompts,
        "negative": "no",
        "count": 2,
        "seed": 3,
        "out": "x",
        "device": "cpu",
    }
    result = task(context=RunContext(whole, {"b": "2", "a": "1.0"}))
    text = Image.open(result.paths[3]).text
    recipe = parse(text[PICTURE_KEY], "picture").plain()
    assert recipe == {"use": "generate", "prompt": "1e-4", "negative": "no", "count": 1, "seed": 4}
    assert text["Software"] == "muse_studio"
    assert text["muse_plugins"] == "a 1.0\nb 2"
    del recipe["use"]
    again = Generate(stages, encoder, **recipe, out=str(tmp_path))()
    assert pixels(again.images[0]) == pixels(result.images[3])
    of_all = parse(recipe_text(result.sheet), "sheet").plain()
    assert (of_all["prompt"], of_all["seed"], of_all["count"]) == (task.prompts, 3, 2)


def test_without_a_recipe_only_the_software_is_named(stages, encoder, tmp_path):
    result = Generate(stages, encoder, "a cat", out=str(tmp_path))()
    text = Image.open(result.paths[0]).text
    assert text.pop("XML:com.adobe.xmp").startswith("<?xpacket")
    assert text == {"Software": "muse_studio"}


def test_the_result_tells_and_shows_itself(stages, encoder, tmp_path):
    one = Generate(stages, encoder, "", out=str(tmp_path))()
    assert one.summary() == f"{tmp_path / 'picture.png'}  seed 0  (no prompt)"
    assert Image.open(io.BytesIO(one._repr_png_())).size == (24, 32)
    two = Generate(stages, encoder, "a cat", count=2, out=str(tmp_path))()
    assert two.summary().splitlines()[1:] == [
        f"{tmp_path / 'a-cat-2.png'}  seed 1  a cat",
        f"{tmp_path / 'sheet.png'}  all of them",
    ]
    assert Image.open(io.BytesIO(two._repr_png_())).size == Image.open(two.sheet).size


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "count is 0; draw at least 1 picture a prompt"),
        ({"seed": -1}, "seed is -1; give one from 0 to 9223372036854775807"),
        ({"seed": 2**63}, "seed is 9223372036854775808; give one from 0"),
        ({"seed": 2**63 - 2, "count": 3}, r"count is 3; the last seed, 9223372036854775806 \+ count - 1"),
        ({"prompt": []}, "prompt is an empty list; give at least one"),
        ({"prompt": "\udc80"}, "is not valid Unicode; type it again in a UTF-8 terminal"),
        ({"negative": "\udc80"}, "is not valid Unicode"),
        ({"out": " "}, "out is empty; name a folder"),
        ({"out": "cat.png", "count": 2}, "one file, but 2 pictures are asked for; name a folder"),
        ({"stages": {}}, "stages is empty; name at least one"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_cure(stages, encoder, settings, message):
    with pytest.raises(ValueError, match=message):
        Generate(**({"stages": stages, "text_encoder": encoder, "prompt": "a cat"} | settings))


def test_the_largest_seed_works(stages, encoder, tmp_path):
    result = Generate(stages, encoder, "a cat", seed=2**63 - 2, count=2, out=str(tmp_path))()
    assert result.seeds == [2**63 - 2, 2**63 - 1]


def test_text_of_another_width_names_the_stage_and_both_widths(make_stage, encoder):
    stages = {"base": make_stage(), "large": make_stage(transformer=FakeTransformer(text_width=9))}
    with pytest.raises(ValueError, match=r"stages.large: its transformer wants text of width 9, .* gives 8; set"):
        Generate(stages, encoder, "a cat")


def test_a_missing_device_is_told(stages, encoder, tmp_path):
    with pytest.raises(UserError, match="device 'abacus' is not there; there is: auto, "):
        Generate(stages, encoder, "a cat", out=str(tmp_path), device="abacus")()


def test_no_gradient_is_kept(stages, encoder, notes, tmp_path):
    Generate(stages, encoder, "a cat", out=str(tmp_path))(notes)
    assert all(step["tokens"].is_inference() for step in notes.steps)
    assert torch.is_grad_enabled()


class Counting(FakeTokenizer):
    """Counts how often it decodes."""

    decoded = 0

    def decode(self, tokens):
        self.decoded += 1
        return super().decode(tokens)


@pytest.fixture
def counting(make_stage):
    """Two stages, and their tokenizers."""
    tokenizers = Counting(), Counting()
    base, large = tokenizers
    return {"base": make_stage(16, tokenizer=base), "large": make_stage([32, 24], tokenizer=large)}, tokenizers


@pytest.mark.parametrize("watched", [{"animate": True}, {"previews": True}, {"animate": True, "previews": True}])
def test_watching_changes_no_picture_and_without_it_nothing_more_is_decoded(counting, encoder, tmp_path, watched):
    stages, tokenizers = counting
    settings = {"stages": stages, "text_encoder": encoder, "prompt": "a cat", "count": 2, "seed": 3}
    plain = Generate(**settings, out=str(tmp_path / "plain"))()
    assert [each.decoded for each in tokenizers] == [0, 2]
    shown = Generate(**settings, out=str(tmp_path / "shown"), **watched)()
    assert [each.decoded for each in tokenizers] == [2, 2 + 4]
    for one, other in zip(plain.paths, shown.paths, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert (plain.animations, plain.strips) == ([], [])
    assert len(shown.animations) == 2 * ("animate" in watched)
    assert len(shown.strips) == 2 * ("previews" in watched)
    assert len(names(tmp_path / "shown")) == 3 + 2 * len(watched)


def test_an_animation_loops_from_all_masked_to_the_very_picture_and_rests_there(stages, encoder, tmp_path):
    task = Generate(stages, encoder, "a cat", out=str(tmp_path), animate=True)
    whole = {"use": "generate", "prompt": ["a cat", "a dog"], "count": 2, "animate": True, "out": "x"}
    result = task(context=RunContext(whole))
    with Image.open(result.animations[0]) as film:
        assert (film.format, film.info["loop"]) == ("WEBP", 0)
        frames, until = [], []
        for frame in ImageSequence.Iterator(film):
            frames.append(pixels(frame.convert("RGB")))
            until.append(film.info["timestamp"] + film.info["duration"])
    assert set(np.unique(frames[0])) == set(GREYS)
    assert frames[-1] == pixels(Image.open(result.paths[0]))
    assert np.shape(frames) == (8, 32, 24, 3)
    assert until == [*(STEP * step for step in range(1, 8)), 7 * STEP + REST]
    recipe = parse(recipe_text(result.animations[0]), "animation").plain()
    assert recipe == {"use": "generate", "prompt": "a cat", "count": 1, "seed": 0, "animate": True}
    assert recipe_text(result.paths[0]) == recipe_text(result.animations[0])


def test_a_strip_carries_the_picture_and_its_recipe(stages, encoder, tmp_path):
    task = Generate(stages, encoder, "a cat", out=str(tmp_path), previews=True)
    result = task(context=RunContext({"use": "generate", "prompt": "a cat", "previews": True}))
    assert recipe_text(result.strips[0]) == recipe_text(result.paths[0])
    shown = Image.open(result.strips[0])
    left, top = shown.width - 128 - MARGIN, MARGIN + TITLE + MARGIN
    last = shown.crop((left, top, left + 96, top + 128))  # the picture of 24 x 32 pixels, four times as large
    assert pixels(last) == pixels(np.kron(result.images[0], np.ones((4, 4, 1), np.uint8)))


def test_what_belongs_to_a_picture_has_its_number(stages, encoder, tmp_path):
    for name in ("a-cat.png", "a-cat-2.webp", "a-cat-4-steps.png", "a-cat-5.webp"):
        (tmp_path / name).write_text("mine")
    result = Generate(stages, encoder, "a cat", count=2, out=str(tmp_path), animate=True, previews=True)()
    assert [path.name for path in result.paths] == ["a-cat-3.png", "a-cat-6.png"]
    assert [path.name for path in result.animations] == ["a-cat-3.webp", "a-cat-6.webp"]
    assert [path.name for path in result.strips] == ["a-cat-3-steps.png", "a-cat-6-steps.png"]
    assert sum(path.read_bytes() == b"mine" for path in tmp_path.iterdir()) == 4
    other = Generate(stages, encoder, "a cat", out=str(tmp_path))()
    assert other.paths == [tmp_path / "a-cat-2.png"]


def test_one_file_named_has_its_animation_beside_it(stages, encoder, tmp_path):
    result = Generate(stages, encoder, "a cat", out=str(tmp_path / "my.cat.PNG"), animate=True, previews=True)()
    assert names(tmp_path) == sorted(["my.cat.PNG", "my.cat.webp", "my.cat-steps.png"])
    assert result.sheet is None


def test_an_animation_never_takes_the_name_of_another_file(tmp_path):
    path = tmp_path / "cat.webp"
    path.write_text("mine")
    images = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    assert save_animation(images, [1, 2], path, Provenance()) == tmp_path / "cat-2.webp"
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("setting", "refused"), [("animate", "a-cat.webp"), ("previews", "a-cat-steps.png"), ("previews", "a-cat.png")]
)
def test_a_disk_that_refuses_is_told_and_leaves_what_was_whole(
    stages, encoder, tmp_path, monkeypatch, setting, refused
):
    save = Image.Image.save

    def refuse(image, path, *arguments, **settings):
        save(image, path, *arguments, **settings)
        if refused in path.name:
            path.write_bytes(path.read_bytes()[:20])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", refuse)
    with pytest.raises(UserError, match=rf"{refused} can't be written: No space left on device; make room, or give an"):
        Generate(stages, encoder, "a cat", out=str(tmp_path), **{setting: True})()
    assert names(tmp_path) == [name for name in ["a-cat.png"] if name != refused]


def test_the_result_lists_every_file_and_moves_in_a_notebook(stages, encoder, tmp_path):
    one = Generate(stages, encoder, '"', out=str(tmp_path), animate=True, previews=True)()
    assert one.summary().splitlines() == [
        f'{tmp_path / "picture.png"}  seed 0  "',
        f"{tmp_path / 'picture.webp'}  its animation",
        f"{tmp_path / 'picture-steps.png'}  its steps",
    ]
    data = base64.b64encode(one.animations[0].read_bytes()).decode()
    assert one._repr_html_() == f'<img src="data:image/webp;base64,{data}" alt="&quot;">'
    two = Generate(stages, encoder, "a cat", count=2, out=str(tmp_path), animate=True)()
    assert [line.rpartition("/")[2] for line in two.summary().splitlines()] == [
        "a-cat.png  seed 0  a cat",
        "a-cat.webp  its animation",
        "a-cat-2.png  seed 1  a cat",
        "a-cat-2.webp  its animation",
        "sheet.png  all of them",
    ]
    assert two._repr_html_() is None
    one.animations[0].unlink()
    assert one._repr_html_() is None


@pytest.mark.parametrize("watched", [{}, {"animate": True}, {"animate": True, "previews": True}])
def test_progress_ends_at_its_total(stages, encoder, tmp_path, monkeypatch, watched):
    bars = []

    class Remembered(ProgressBar):
        def __enter__(self):
            bars.append(self)
            return super().__enter__()

    monkeypatch.setattr(generating, "ProgressBar", Remembered)
    Generate(stages, encoder, "a cat", count=2, out=str(tmp_path), **watched)()
    (bar,) = bars
    assert bar.done == bar.total == 2 * (6 + (8 if watched else 0))
