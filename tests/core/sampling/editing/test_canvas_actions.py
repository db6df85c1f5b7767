"""A canvas that is watched, cancelled, extended, edited by words; told as text it draws the same again."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from runs import same_tensors

import muse_studio
from muse_studio.contracts import MASK
from muse_studio.errors import RecipeError, Refused, UserError
from muse_studio.images.pixels import to_image
from muse_studio.registry.plugins import Registry
from muse_studio.sampling.editing import deeds
from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.sampling.editing.composite import KEPT
from muse_studio.sampling.model import Model
from muse_studio.testing import FakeSampler, FakeTextEncoder, FakeTokenizer, RecordingObserver, tiny_stage


def model():
    made = {name: tiny_stage(size, seed, sampler=FakeSampler(steps=steps)) for name, size, seed, steps in SIZES}
    return Model(made, FakeTextEncoder())


SIZES = [("base", [16, 32], 1, 4), ("large", [32, 64], 2, 2)]
"""Grids of 4 x 8 and 8 x 16 tokens; a cell is one token of the first and 2 x 2 of the second, 8 x 8 pixels."""


def canvas(**settings):
    return Canvas.of(model(), **settings)


def state(of):
    """All that a canvas is."""
    moment = of.now
    return {
        f"{what} {name}": grid for what in ("codes", "erased", "frozen") for name, grid in getattr(moment, what).items()
    }


class Enough(Exception):
    pass


ACTIONS = {
    "generate": lambda canvas, **how: canvas.generate("a dog", **how),
    "reroll": lambda canvas, **how: canvas.reroll("0,0,20,20", "a dog", **how),
    "fill": lambda canvas, **how: canvas.erase("0,0,20,20").fill("a dog", **how),
    "edit": lambda canvas, **how: canvas.edit("a dog", editor={"use": "variations", "strength": 0.5}, **how),
}


@pytest.mark.parametrize("do", ACTIONS)
def test_every_step_is_heard_by_observers_and_by_who_watches(do):
    drawn, observer, seen = canvas(seed=3).generate("a cat"), RecordingObserver(), []
    drawn.hook = observer
    ACTIONS[do](drawn, watch=lambda *step: seen.append(step))
    told = [each.arguments for each in observer.calls if each.hook == "muse_step"]
    assert [(each["stage"], each["step"], each["steps"]) for each in told] == [step[:3] for step in seen]
    assert {step[0] for step in seen} == {"base", "large"} and seen[0][1:3] == (1, 4) and seen[-1][1:3] == (2, 2)
    assert torch.equal(seen[-1][3], drawn.tokens["large"])
    bars = [each.arguments for each in observer.calls if each.hook == "muse_progress"]
    assert bars[-1]["done"] == bars[-1]["total"] == len(seen)


@pytest.mark.parametrize("do", ACTIONS)
@pytest.mark.parametrize("at", [1, 5])
def test_a_watch_that_raises_leaves_all_as_it_was(do, at):
    drawn = canvas(seed=3).generate("a cat").freeze("40,0,8,8")
    if do == "fill":
        drawn.erase("0,0,20,20")
    act = (lambda of, **how: of.fill("a dog", **how)) if do == "fill" else ACTIONS[do]
    before, history, steps = state(drawn), drawn.history, []

    def stop(*step):
        steps.append(step)
        if len(steps) == at:
            raise Enough

    with pytest.raises(Enough):
        act(drawn, watch=stop)
    assert len(steps) == at and drawn.history == history and same_tensors(state(drawn), before)
    straight = canvas(seed=3).generate("a cat").freeze("40,0,8,8")
    if do == "fill":
        straight.erase("0,0,20,20")
    assert same_tensors(state(act(drawn)), state(act(straight))), "what is drawn after it is what was drawn without"


def test_steps_are_kept_where_asked_and_are_pictures():
    drawn = canvas(seed=3, keep_steps=True).generate("a cat")
    assert [(step.stage, step.step, step.steps) for step in drawn.steps][::5] == [("base", 1, 4), ("large", 2, 2)]
    assert torch.equal(drawn.steps[-1].tokens, drawn.tokens["large"]) and drawn.steps[0].image.size == (32, 16)
    assert drawn.erase("0,0,9,9").steps == [] and len(drawn.undo().steps) == 6
    assert canvas(seed=3).generate("a cat").steps == []


def test_settings_are_of_one_action_alone():
    one, other = canvas(seed=3), canvas(seed=3)
    seen = []
    one.generate(
        "a cat", settings={"base": {"sampler": {"use": "halton", "steps": 3}}}, watch=lambda *step: seen.append(step)
    )
    assert [step[2] for step in seen] == [3, 3, 3, 2, 2]
    assert one.history[0]["settings"] == {"base": {"sampler": {"use": "halton", "steps": 3}}}
    assert same_tensors(one.reroll(seed=5).tokens, other.generate("a cat").reroll(seed=5).tokens), (
        "the model is itself again"
    )
    with pytest.raises(RecipeError, match="the model has no stage 'bse'; did you mean 'base'"):
        one.fill(settings={"bse": {}})


class TestExtending:
    @pytest.mark.parametrize(
        ("sides", "size", "at"),
        [
            ({"right": 16}, (80, 32), (0, 0)),
            ({"left": 1, "top": 9}, (72, 48), (1, 2)),
            ({"left": 8, "top": 8, "right": 8, "bottom": 8}, (80, 48), (1, 1)),
        ],
    )
    def test_cells_are_added_and_what_was_there_stays(self, sides, size, at):
        drawn = canvas(seed=3).generate("a cat")
        before, picture = drawn.tokens, np.asarray(drawn.image)
        larger = drawn.extend(**sides)
        assert larger.size == larger.image.size == size
        for name, times in (("base", 1), ("large", 2)):
            left, top = (each * times for each in at)
            height, width = before[name].shape[1:]
            grid = larger.tokens[name]
            assert torch.equal(grid[:, top : top + height, left : left + width], before[name])
            assert int((grid == MASK).sum()) == grid.numel() - before[name].numel()
        x, y = (8 * each for each in at)
        assert (np.asarray(larger.image)[y : y + 32, x : x + 64] == picture).all()
        filled = larger.fill("a dog").tokens
        assert all((grid != MASK).all() for grid in filled.values())
        assert torch.equal(filled["large"][:, 2 * at[1] :, 2 * at[0] :][:, :8, :16], before["large"])
        assert same_tensors(drawn.undo().undo().tokens, before) and drawn.size == (64, 32)

    def test_regions_count_from_the_new_corner_and_a_canvas_that_was_extended_is_kept(self, tmp_path):
        drawn = canvas(seed=3).generate("a cat").extend(left=16).fill().freeze("0,0,8,8").erase("8,0,8,8")
        assert drawn.tokens["base"].shape == (1, 4, 10)
        assert (drawn.tokens["base"][0, 0, 1:3] == MASK).all() and drawn.tokens["base"][0, 0, 0] != MASK
        again = Canvas.load(drawn.save(tmp_path / "a.safetensors"), model())
        assert same_tensors(again.tokens, drawn.tokens) and again.size == (80, 32)
        assert again.undo().undo().undo().undo().size == (64, 32)

    @pytest.mark.parametrize(
        ("sides", "message"),
        [
            ({}, "extend: nothing is added; give pixels at left, top, right or bottom"),
            ({"left": -1}, "extend: left is -1; give 0 pixels or more"),
            ({"top": 1.5}, r"extend: top is 1\.5; give 0 pixels or more"),
            ({"right": True}, "extend: right is True; give 0 pixels or more"),
            ({"right": 2**24}, r"extend: 16777280x32 pixels would come of it, and 16,777,216 is the most; add fewer"),
        ],
    )
    def test_what_can_not_be_added(self, sides, message):
        drawn = canvas().generate("a cat")
        with pytest.raises(UserError, match=message):
            drawn.extend(**sides)
        assert drawn.size == (64, 32) and len(drawn.history) == 1

    def test_a_picture_that_is_placed_covers_all_of_it(self):
        drawn = canvas().extend(right=64).place(Image.new("RGB", (10, 10), "red"))
        assert drawn.size == (128, 32) and np.asarray(drawn.image).reshape(-1, 3).min(0).tolist() == [255, 0, 0]


class TestEditing:
    def test_frozen_cells_and_those_outside_of_the_region_stay(self):
        drawn = canvas(seed=3, dilate=0).generate("a cat").freeze("0,0,8,8")
        before = drawn.tokens
        after = drawn.edit("a dog", "0,0,32,32", {"use": "variations", "strength": 1.0}).tokens
        assert torch.equal(after["base"][..., 4:], before["base"][..., 4:])
        assert torch.equal(after["large"][..., 8:], before["large"][..., 8:])
        assert torch.equal(after["base"][0, 0, 0], before["base"][0, 0, 0]) and not torch.equal(
            after["base"], before["base"]
        )
        assert drawn.history[-1]["editor"] == {"use": "variations", "strength": 1.0}

    def test_it_needs_a_whole_picture(self):
        with pytest.raises(UserError, match="edit: 5 tokens are erased; fill them first"):
            canvas(dilate=0).generate("a cat").erase("0,0,8,8").edit("a dog")


class TestPlaying:
    def played(self, drawn):
        """The same actions, by way of JSON, on another canvas of another seed."""
        return canvas(seed=9, dilate=drawn.dilate).play(json.loads(json.dumps(drawn.actions)))

    @pytest.mark.parametrize("dilate", [0, 1])
    def test_what_is_told_draws_the_same(self, dilate):
        mask = np.zeros((32, 64), bool)
        mask[3:9, 20:50] = True
        drawn = canvas(seed=3, dilate=dilate)
        drawn.generate("a cat", negative="a dog").freeze("0,0,8,8").erase(mask).fill("a tram")
        drawn.reroll(Image.fromarray(mask), seed=8).thaw().edit("a fox", ["0,0,9,9", "30,0,9,9"], "variations")
        drawn.place(Image.new("RGB", (64, 32), "red")).extend(right=8).fill(
            "more", settings={"large": {"sampler": "random"}}
        )
        again = self.played(drawn)
        assert same_tensors(state(again), state(drawn)) and again.image.tobytes() == drawn.image.tobytes()
        assert again.actions == drawn.actions and again.history == drawn.history
        assert [did.get("region") for did in drawn.history][2] == "a mask" and "tokens" not in drawn.history[-3]

    def test_a_file_that_was_placed_is_told_by_its_tokens_alone(self, tmp_path):
        Image.new("RGB", (64, 32), "red").save(tmp_path / "mine.png")
        drawn = canvas().place(str(tmp_path / "mine.png"))
        assert "mine" in drawn.history[0]["picture"] and "mine" not in json.dumps(drawn.actions)
        assert same_tensors(self.played(drawn).tokens, drawn.tokens)

    def test_what_was_undone_is_not_told(self):
        drawn = canvas(seed=3).generate("a cat").reroll().undo()
        assert [did["do"] for did in drawn.actions] == ["generate"]

    def test_objects_of_python_can_not_be_told(self, tmp_path):
        drawn = canvas(seed=3).generate("a cat", settings={"base": {"sampler": FakeSampler(steps=2)}})
        drawn.recipe = {"stages": {}}
        assert drawn.actions is None
        with Image.open(drawn.save_picture(tmp_path / "a.png")) as picture:
            assert "muse_recipe" not in picture.info
        assert drawn.undo().actions == []

    @pytest.mark.parametrize(
        ("actions", "message"),
        [
            ("generate", "actions: expected a list of tables, got str"),
            ([{"do": "run"}], r"actions\[0\]: expected a table whose `do` is one of .*, got \{'do': 'run'\}"),
            ([{"do": "fill"}, {"do": "erase", "path": "x"}], r"actions\[1\]: erase takes region, and no path"),
            ([{"do": "generate", "prompt": "a", "watch": 1}], r"actions\[0\]: generate takes prompt, .*, and no watch"),
        ],
    )  # fmt: skip
    def test_what_is_no_action_is_refused_before_anything_is_done(self, actions, message):
        drawn = canvas()
        with pytest.raises(UserError, match=message):
            drawn.play(actions)
        assert drawn.history == []

    @pytest.mark.parametrize(
        ("region", "message"),
        [
            ({"base": "4x8:00000000"}, "cells of base don't fit; give those of base, large"),
            (
                {"base": "4x8:00000000", "large": "4x8:00000000"},
                "cells of large: 4x8 don't fit this canvas, which has 8x16",
            ),
            ({"base": "4x8:00", "large": "8x16:" + "00" * 16}, "a grid of 4x8 has 8 hexadecimals, and this one 2"),
            ({"base": "four", "large": "8x16:" + "00" * 16}, "'four' is no grid; give rows x columns"),
        ],
    )
    def test_cells_that_do_not_fit(self, region, message):
        with pytest.raises(UserError, match=message):
            canvas().erase(region)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 16)])
def test_a_grid_is_packed_and_unpacked(shape):
    bits = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5
    codes = torch.randint(70_000, shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(deeds.unpack(deeds.pack(bits)), bits)
    assert torch.equal(deeds.unpack(deeds.pack(codes), 70_000), codes)
    with pytest.raises(UserError, match="and the tokenizer has"):
        deeds.unpack(deeds.pack(codes), int(codes.max()))


def test_a_bit_by_hand():
    assert deeds.pack(torch.tensor([[True, False, True], [False, True, False]])) == "2x3:a8"


def test_filters_are_asked_on_every_path(tmp_path):
    source = "from muse_studio.hookspecs import hookimpl\n@hookimpl\ndef muse_prompt(prompt):\n"
    (tmp_path / "strict.py").write_text(source + "    return 'no dogs' if 'dog' in prompt else None\n")
    for do, act in ACTIONS.items():
        asking = canvas(seed=3).generate("a cat")
        asking.hook = Registry([tmp_path / "strict.py"], entries=()).hook
        with pytest.raises(Refused, match="filter strict: no dogs"):
            act(asking)
        assert [did["do"] for did in asking.history] == ["generate"] + ["erase"] * (do == "fill")


def test_a_picture_draws_itself_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = muse_studio.load("models/emoji-base", {"stages.base.sampler.steps": 3}).canvas(seed=7)
    mask = np.zeros((64, 64), bool)
    mask[:30, 30:] = True
    drawn.generate("a red apple, noto style").erase(mask).fill("a green leaf / noto style").extend(right=8).fill()
    drawn.save_picture("apple.png")
    result = muse_studio.run("apple.png", {"out": "again"})
    with Image.open(result.paths[0]) as again, Image.open("apple.png") as picture:
        assert again.tobytes() == picture.tobytes() and again.size == (72, 64)


class GlobalTokenizer(FakeTokenizer):
    """A decoder that looks at the whole picture: one code changed moves every pixel."""

    def decode(self, tokens):
        pixels = super().decode(tokens)
        return (pixels + pixels.mean((1, 2, 3), keepdim=True)) / 2


def seeing_all(**settings):
    """A canvas whose decoder looks at the whole picture."""
    made = {
        name: tiny_stage(size, seed, sampler=FakeSampler(steps=steps), tokenizer=GlobalTokenizer())
        for name, size, seed, steps in SIZES
    }
    return Canvas.of(Model(made, FakeTextEncoder()), **settings)


def pixels(of):
    return np.asarray(of.image).astype(int)


def test_cells_that_no_action_drew_keep_their_very_pixels():
    drawn = seeing_all(seed=3, dilate=0).generate("a cat")
    before = pixels(drawn)
    after = pixels(drawn.reroll("0,0,16,16", "a dog"))
    inside = np.zeros(before.shape[:2], bool)
    inside[:16, :16] = True
    assert (after[~inside] == before[~inside]).all() and (after[inside] != before[inside]).any()
    assert (pixels(drawn.freeze("0,0,8,8").thaw()) == after).all()
    erased = pixels(drawn.erase("48,0,16,16"))
    assert (erased[:, :48] == after[:, :48]).all()
    filled = pixels(drawn.fill())
    assert (filled[:, :48] == after[:, :48]).all() and (filled[:16, 48:] != after[:16, 48:]).any()
    assert (pixels(drawn.undo().undo().undo().undo()) == after).all() and (pixels(drawn.undo()) == before).all()


def test_what_is_frozen_keeps_its_pixels_and_what_is_drawn_whole_is_the_decoder_s():
    drawn = seeing_all(seed=3, dilate=0).generate("a cat").freeze("0,0,16,32")
    before = pixels(drawn)
    assert (pixels(drawn.generate("a dog"))[:, :16] == before[:, :16]).all()
    again = pixels(drawn.thaw().generate("a bird", seed=7))
    assert (again == pixels(seeing_all().generate("a bird", seed=7))).all()


def test_a_picture_that_goes_on_keeps_its_pixels():
    drawn = seeing_all(seed=3, dilate=0).generate("a cat")
    before = pixels(drawn)
    larger = pixels(drawn.extend(left=8, top=3, right=16).fill())
    assert larger.shape == (40, 88, 3) and (larger[8:, 8:72] == before).all()
    edited = pixels(drawn.edit("a dog", "0,0,16,16", {"use": "variations", "strength": 0.5}))
    assert (edited[16:] == larger[16:]).all() and (edited[:, 16:] == larger[:, 16:]).all()


def test_pixels_are_the_same_however_a_canvas_comes_to_stand_there(tmp_path):
    drawn = seeing_all(seed=3).generate("a cat")
    for number in range(KEPT + 4):  # more than are remembered
        drawn.reroll(f"{8 * (number % 8)},0,8,8", "a dog")
    drawn.erase("0,24,8,8").extend(right=8).fill()
    played = seeing_all(seed=3).play(drawn.actions)
    assert (pixels(played) == pixels(drawn)).all()
    loaded = Canvas.load(drawn.save(tmp_path / "canvas.safetensors"), seeing_all().model)
    assert (pixels(loaded) == pixels(drawn)).all()
    assert (pixels(loaded.undo().undo().undo().undo().redo()) == pixels(drawn.undo().undo().undo())).all()


def test_no_seam_is_left_where_a_cell_was_drawn_anew():
    drawn = seeing_all(seed=3, dilate=0).generate("a cat")
    before = pixels(drawn)
    after = pixels(drawn.reroll("16,8,16,16", "a dog"))
    plain = np.asarray(to_image(drawn.model.last.decode(drawn.tokens["large"]))).astype(int)
    assert (after[14:18, 22:26] == plain[14:18, 22:26]).all()  # more than half a cell within
    edge, share = np.s_[8:24, 16], np.abs(before - plain)[8:24, 16] > 8
    assert (np.abs(after - before)[edge][share] < np.abs(plain - before)[edge][share]).all()
