"""The task `canvas`: a canvas's actions become a picture, and what is none is refused before anything is drawn."""

from __future__ import annotations

import pytest
from muse_tasks.canvas.task import PlayCanvas
from PIL import Image
from runs import same_tensors

from muse_studio.contracts import RunContext
from muse_studio.errors import SettingError, UserError
from muse_studio.recipe.sources import PICTURE_KEY
from muse_studio.registry.plugins import Registry
from muse_studio.sampling.editing.canvas import Canvas

DRAWN = [{"do": "generate", "prompt": "a cat"}, {"do": "erase", "region": "0,0,16,16"}, {"do": "fill"}]


@pytest.fixture
def play(stages, encoder, tmp_path):
    """Makes the task, with the defaults of these tests."""

    def make(actions=DRAWN, **settings):
        return PlayCanvas(stages, encoder, actions, **{"out": str(tmp_path / "out")} | settings)

    return make


def test_it_draws_what_a_canvas_draws(play, stages, encoder):
    result = play(seed=3, dilate=0)()
    drawn = Canvas(stages, encoder, seed=3, dilate=0).generate("a cat").erase("0,0,16,16").fill()
    assert result.images[0].tobytes() == drawn.image.tobytes()
    assert [path.name for path in result.paths] == ["a-cat.png"]
    with Image.open(result.paths[0]) as picture:
        assert picture.tobytes() == drawn.image.tobytes()


def test_observers_hear_of_each_step_and_a_filter_is_asked(play, notes, tmp_path):
    play()(hook=notes)
    steps = [each.arguments for each in notes.calls if each.hook == "muse_step"]
    assert [each["step"] for each in steps] == [1, 2, 3, 4, 1, 2] * 2
    source = "from muse_studio.hookspecs import hookimpl\n@hookimpl\ndef muse_prompt(prompt):\n    return 'no cats'\n"
    (tmp_path / "strict.py").write_text(source)
    with pytest.raises(UserError, match="no cats"):
        play(out=str(tmp_path / "none"))(hook=Registry([tmp_path / "strict.py"], entries=()).hook)
    assert not list((tmp_path / "none").glob("*.png"))


def test_the_picture_carries_what_it_was_made_of_and_goes_to_the_name_that_was_given(play, tmp_path):
    recipe = {"use": "canvas", "actions": DRAWN}
    result = play(out=str(tmp_path / "own.png"))(context=RunContext(recipe, {}))
    assert result.paths == [tmp_path / "own.png"]
    with Image.open(result.paths[0]) as picture:
        assert "do: generate" in picture.info[PICTURE_KEY]


def test_a_picture_that_was_placed_is_told_to_be_edited(play, stages, encoder):
    placed = Canvas(stages, encoder).place(Image.new("RGB", (32, 24), "red"))
    result = play(placed.actions)()
    with Image.open(result.paths[0]) as picture:
        assert "compositeWithTrainedAlgorithmicMedia" in str(picture.info.get("XML:com.adobe.xmp", ""))
    again = Canvas(stages, encoder).play(placed.actions)
    assert same_tensors(again.tokens, placed.tokens)


@pytest.mark.parametrize(
    ("settings", "setting", "message"),
    [
        ({"actions": []}, "actions", "actions is empty; give at least one"),
        ({"actions": [{"do": "run"}]}, "actions", r"actions\[0\]: expected a table whose `do` is one of"),
        ({"actions": [{"do": "fill", "path": "a"}]}, "actions", r"actions\[0\]: fill takes .*, and no path"),
        ({"dilate": -1}, "dilate", "dilate is -1; give 0 or more"),
        ({"seed": -1}, "seed", "seed"),
    ],
)
def test_what_can_not_be_is_refused_at_once(play, settings, setting, message):
    with pytest.raises(SettingError, match=message) as error:
        play(**settings)
    assert error.value.setting == setting


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ({"do": "generate"}, ": generate needs prompt, and none is given"),
        ({"do": "place"}, ": place needs tokens, and none is given"),
        ({"do": "generate", "prompt": 3}, ".prompt: expected a text, got 3"),
        ({"do": "fill", "negative": "\ud800"}, ".negative: expected a text"),
        ({"do": "generate", "prompt": "a", "seed": "b"}, ".seed: expected a whole number from 0 to .*, got 'b'"),
        ({"do": "fill", "seed": 2**70}, ".seed: expected a whole number from 0 to"),
        ({"do": "fill", "settings": {"base": 3}}, ".settings: expected a table of a table by stage"),
        ({"do": "extend", "right": "far"}, ".right: expected a whole number of pixels, got 'far'"),
        ({"do": "place", "tokens": 3}, ".tokens: expected tokens by stage"),
        ({"do": "edit", "editor": 3}, ".editor: expected an editor's name or table"),
        ({"do": "erase", "region": 3}, ".region: expected a box such as"),
    ],
)
def test_a_value_that_no_action_takes_is_told_before_anything_is_drawn(play, action, message):
    with pytest.raises(SettingError, match=rf"actions\[1\]{message}"):
        play([DRAWN[0], action])


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ({"do": "erase", "region": "900,900,4,4"}, "the box 900,900,4,4 lies outside the picture"),
        ({"do": "erase", "region": "mask.png"}, "mask.png"),
        ({"do": "reroll", "region": {"base": "1x1:80"}}, "cells of base don't fit"),
        ({"do": "edit", "editor": "no-such"}, "no-such"),
        ({"do": "fill", "settings": {"no-such": {}}}, "no stage 'no-such'"),
        ({"do": "extend"}, "extend: nothing is added"),
        ({"do": "place", "tokens": {"base": "1x1:00000000"}}, "cells of base don't fit"),
    ],
)
def test_an_action_that_does_not_fit_the_canvas_is_told_by_its_place(play, tmp_path, action, message):
    with pytest.raises(UserError, match=rf"actions\[1\]: .*{message}"):
        play([DRAWN[0], action])()
    assert not list((tmp_path / "out").glob("*.png"))


def test_a_picture_that_was_only_placed_is_asked_for_before_it_is_written(play, stages, encoder, tmp_path):
    placed = Canvas(stages, encoder).place(Image.new("RGB", (32, 24), "red"))
    source = "from muse_studio.hookspecs import hookimpl\n@hookimpl\ndef muse_picture():\n    return 'no red'\n"
    (tmp_path / "strict.py").write_text(source)
    with pytest.raises(UserError, match="no red"):
        play(placed.actions)(hook=Registry([tmp_path / "strict.py"], entries=()).hook)
    assert not list((tmp_path / "out").glob("*.png"))


def test_an_action_may_ask_for_a_part_of_a_plugin_file_of_the_run(play, tmp_path):
    source = (
        "from muse_studio.hookspecs import hookimpl\nfrom muse_studio.testing import FakeSampler\n"
        "class Own(FakeSampler):\n    pass\n@hookimpl\ndef muse_samplers():\n    return {'own': Own}\n"
    )
    (tmp_path / "mine.py").write_text(source)
    actions = [{"do": "generate", "prompt": "a cat", "settings": {"base": {"sampler": {"use": "own", "steps": 3}}}}]
    files = (tmp_path / "mine.py",)
    result = play(actions)(context=RunContext(None, {}, files), hook=Registry(files).hook)
    assert result.images[0].size == (24, 32)
    with pytest.raises(UserError, match="no sampler is called 'own'; available: "):
        play(actions)(hook=Registry(files).hook)


def test_weights_that_were_loaded_smaller_have_no_other_precision_for_one_action(play, stages):
    stages["base"].cast = True
    actions = [{"do": "generate", "prompt": "a cat", "settings": {"base": {"precision": "float32"}}}]
    with pytest.raises(UserError, match=r"actions\[0\]: .*the weights are loaded in bfloat16; load the model"):
        play(actions)()
