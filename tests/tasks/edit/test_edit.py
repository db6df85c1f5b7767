"""The task `edit`: sizes, files, seeds, and what it says before anything is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from muse_editing.editors import Inpaint, MaskFree, Variations
from muse_tasks.edit.task import Edit, Extend
from PIL import Image

from muse_studio.contracts import RunContext
from muse_studio.errors import UserError
from muse_studio.recipe.sources import PICTURE_KEY
from muse_studio.recipe.tree import parse
from muse_studio.runtime.files import name_problem
from muse_studio.testing.fakes import FakeTokenizer


@pytest.fixture
def photo(tmp_path):
    """Writes a picture of noise in this size; gives its path."""

    def write(width=48, height=36, name="photo.png", seed=0):
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
        return str(tmp_path / name)

    return write


@pytest.fixture
def edit(stages, encoder, tmp_path, photo):
    """Makes the task, with the defaults of these tests."""

    def make(editor=None, **settings):
        settings = {"picture": settings.get("picture") or photo(), "out": str(tmp_path / "out")} | settings
        return Edit(stages, encoder, editor or Inpaint(), **settings)

    return make


def pixels(image):
    return np.asarray(image)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [(1, 1), (3, 100), (48, 36), (130, 91)])
def test_a_result_has_the_size_of_its_picture_and_its_pixels_outside_the_region(edit, photo, size):
    width, height = size
    before = photo(*size)
    box = f"0,0,{max(1, width // 2)},{max(1, height // 3)}"
    image = edit(picture=before, region=box, feather=0, prompt="a cat")().images[0]
    assert image.size == size
    kept = np.ones((height, width), bool)
    kept[: max(1, height // 3), : max(1, width // 2)] = False
    assert (pixels(image)[kept] == pixels(Image.open(before))[kept]).all()
    assert (pixels(image)[~kept] != pixels(Image.open(before))[~kept]).any()


def test_a_very_long_picture_is_edited_in_the_windows_that_it_needs(edit, photo, notes):
    before = photo(20_000, 40)
    image = edit(picture=before, region="700,5,20,20", feather=0)(notes).images[0]
    assert image.size == (20_000, 40)
    changed = (pixels(image) != pixels(Image.open(before))).any(2)
    assert changed.any() and not changed[:, :700].any() and not changed[:, 720:].any()
    assert len(notes.steps) < 30  # of more than a thousand windows


@pytest.mark.parametrize(
    ("sides", "size"),
    [
        ({"right": 1}, (49, 36)),
        ({"left": 100}, (148, 36)),
        ({"top": 7, "bottom": 13}, (48, 56)),
        ({"left": 5, "right": 6, "top": 7, "bottom": 8}, (59, 51)),
    ],
)
def test_an_extended_picture_lies_unchanged_in_the_larger_one(edit, photo, sides, size):
    """Without a feather of the user's own, not a pixel of it blends into what is new."""
    before = photo()
    image = edit(picture=before, extend=Extend(**sides))().images[0]
    assert image.size == size
    left, top = sides.get("left", 0), sides.get("top", 0)
    assert (pixels(image)[top : top + 36, left : left + 48] == pixels(Image.open(before))).all()
    image = edit(picture=before, extend=Extend(**sides), feather=8)().images[0]
    assert (pixels(image)[top : top + 36, left : left + 48] != pixels(Image.open(before))).any()


def test_a_region_counts_from_the_picture_s_own_corner_when_it_is_extended(edit, photo):
    before = photo()
    image = edit(picture=before, extend=Extend(left=10, top=20), region="0,0,4,4")().images[0]
    inside = pixels(image)[20:, 10:]
    changed = (inside != pixels(Image.open(before))).any(2)
    assert changed[:4, :4].any()
    changed[:4, :4] = False
    assert not changed.any()


def test_strength_0_gives_the_picture_through_the_tokenizer(edit, photo):
    """24 x 32 pixels are the last stage's very size."""
    before = photo(24, 32)
    through = FakeTokenizer().decode(
        FakeTokenizer().encode(torch.tensor(pixels(Image.open(before))).permute(2, 0, 1)[None] / 255)
    )
    image = edit(Variations(0), picture=before, count=2)().images[1]
    assert (pixels(image) == (through[0] * 255).round().byte().permute(1, 2, 0).numpy()).all()


def test_strength_1_knows_nothing_of_the_picture(edit, photo):
    one, other = (edit(Variations(1), picture=photo(seed=seed), prompt="a cat")().images[0] for seed in (1, 2))
    assert (pixels(one) == pixels(other)).all()


def test_a_seed_edits_alike_alone_and_among_many(edit, photo):
    for editor in (Inpaint(), MaskFree(iterations=3), Variations()):
        many = edit(editor, prompt="a cat", count=3, seed=5)()
        assert many.seeds == [5, 6, 7]
        assert len({image.tobytes() for image in many.images}) == 3
        for seed, image in zip(many.seeds, many.images, strict=True):
            assert edit(editor, prompt="a cat", seed=seed)().images[0].tobytes() == image.tobytes()


def test_files_are_numbered_and_never_overwritten(edit, tmp_path):
    edit(prompt="a Cat!", count=2)()
    edit(prompt="a Cat!")()
    edit(prompt="")()
    assert names(tmp_path / "out") == [
        "photo-a-cat-2.png",
        "photo-a-cat-3.png",
        "photo-a-cat.png",
        "photo-picture.png",
        "sheet.png",
    ]
    result = edit(out=str(tmp_path / "one" / "mine.png"))()
    assert result.paths == [tmp_path / "one" / "mine.png"] and result.sheet is None


@pytest.mark.parametrize("stem", ["p" * 240, "猫" * 75, "con", "a\nb"])
def test_a_picture_s_name_is_no_reason_to_fail(edit, photo, tmp_path, stem):
    """A name that fills all that a file system allows, or is none for a new file, is cut or spelled as a prompt's."""
    edit(picture=photo(name=f"{stem}.png"), prompt="a cat " * 30, previews=True, count=2)()
    made = names(tmp_path / "out")
    assert len(made) == 5
    assert all(name_problem(name) == "" for name in made)


def test_every_keeps_the_picture_after_each_so_many_iterations(edit, tmp_path):
    """Those between, which looking at does not change: the end is the same without, and each is a shorter edit's."""
    result = edit(MaskFree(iterations=7), every=3, previews=True, prompt="a cat")()
    assert names(tmp_path / "out") == [
        "photo-a-cat-003.png",
        "photo-a-cat-006.png",
        "photo-a-cat-steps.png",
        "photo-a-cat.png",
    ]
    assert [path.name for path in result.between] == ["photo-a-cat-003.png", "photo-a-cat-006.png"]
    assert [path.name for path in result.strips] == ["photo-a-cat-steps.png"]
    for line in ("photo-a-cat-003.png  on the way", "photo-a-cat-steps.png  its steps"):
        assert line in result.summary()
    plain = edit(MaskFree(iterations=7), prompt="a cat", out=str(tmp_path / "plain"))()
    assert plain.images[0].tobytes() == result.images[0].tobytes()
    # The last one of 6 is none that is between: of every=3 the 3rd alone.
    assert [path.name[-7:] for path in edit(MaskFree(iterations=6), every=3, prompt="b")().between] == ["003.png"]


def test_iterations_are_heard_of_and_hide_8_percent(edit, photo, notes):
    """A square is one window: 4x4 tokens, of which 8% are 1.28: 2, in 4 steps an iteration."""
    edit(MaskFree(iterations=5), picture=photo(24, 32))(notes)
    base = [step for step in notes.steps if step["stage"] == "base"]
    assert [step["step"] for step in base] == [1, 2, 3, 4] * 5
    assert {step["steps"] for step in base} == {4}


def test_redraw_changed_keeps_the_very_pixels_elsewhere(edit, photo):
    before = photo(24, 32)
    images = {
        redraw: edit(
            MaskFree(iterations=1, fraction=0.01), picture=before, redraw=redraw, dilate=0, feather=0
        )().images[0]
        for redraw in ("changed", "touched")
    }
    same = {redraw: (pixels(image) == pixels(Image.open(before))).all(2) for redraw, image in images.items()}
    # One of 4x4 tokens may change, and of the second stage's 8x6 those that it touches: 2 x 2 of 4x4 pixels.
    assert 0 < (~same["changed"]).sum() <= 64
    assert same["touched"].mean() < 0.1  # all the rest went through the tokenizer


def test_a_picture_carries_the_recipe_that_edits_it_again(edit, tmp_path):
    task = edit(prompt="a cat", count=2, seed=3)
    recipe = {"use": "edit", "picture": task.picture, "prompt": "a cat", "seed": 3, "out": "x", "device": "cpu"}
    result = task(context=RunContext(recipe, {"muse_editing": "1"}))
    told = [parse(Image.open(path).text[PICTURE_KEY], "p").plain() for path in result.paths]
    assert told == [
        {"use": "edit", "picture": task.picture, "prompt": "a cat", "seed": seed, "count": 1} for seed in (3, 4)
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dilate": -1}, "dilate is -1; give 0 or more"),
        ({"feather": -1}, "feather is -1; give 0 or more"),
        ({"every": 1}, "every is 1, but the editor has no iterations; leave it out"),
        (
            {"editor": MaskFree(iterations=5), "every": 6},
            "every is 6; give a number of the editor's iterations, of which",
        ),
        (
            {"editor": MaskFree(iterations=5), "every": 0},
            "every is 0; give a number of the editor's iterations, of which",
        ),
        ({"count": 0}, "count is 0; draw at least 1 picture a prompt"),
    ],
)
def test_settings_that_cannot_be(edit, settings, message):
    with pytest.raises(ValueError) as caught:
        edit(**settings)
    assert str(caught.value).startswith(message)


def test_a_picture_must_be_named(stages, encoder):
    with pytest.raises(ValueError, match=r"^picture is empty; give the file of the picture to edit$"):
        Edit(stages, encoder, Inpaint(), picture=" ")


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_a_side_is_not_cut_off(side):
    with pytest.raises(ValueError, match=f"^{side} is -5; give 0 pixels or more$"):
        Extend(**{side: -5})


def test_what_is_too_large_is_told_before_anything_is_made(edit, tmp_path):
    for sides, message in (
        ({"right": 10**9}, "extend: 1000000048x36 pixels would come of it, and 89,478,485 is the most; add fewer"),
        ({"right": 10**6}, "picture: scaled to the model's 24x32, 1000048x36 pixels would be "),
    ):
        with pytest.raises(UserError) as caught:
            edit(extend=Extend(**sides))()
        assert str(caught.value).startswith(message)
    assert names(tmp_path) == ["photo.png"]
