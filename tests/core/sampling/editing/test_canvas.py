"""A canvas: what is frozen stays, what is undone comes back, the same seed and actions give the same picture."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from runs import same_tensors
from safetensors import safe_open
from safetensors.torch import save_file

import muse_studio
from muse_studio.contracts import MASK
from muse_studio.errors import RecipeError, Refused, UserError
from muse_studio.registry.plugins import Registry
from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.sampling.model import Model
from muse_studio.sampling.previews import GREYS
from muse_studio.testing import FakeSampler, FakeTextEncoder, FakeTokenizer, tiny_stage


def stage(size, seed, steps):
    return tiny_stage(size, seed, sampler=FakeSampler(steps=steps))


def model():
    return Model({"base": stage([16, 32], 1, 4), "large": stage([32, 64], 2, 2)}, FakeTextEncoder())


def canvas(**settings):
    made = model()
    return Canvas(made.stages, made.text_encoder, **settings)


def test_it_starts_blank_and_grey():
    blank = canvas()
    assert all((grid == MASK).all() for grid in blank.tokens.values())
    assert blank.image.size == (64, 32) and set(np.unique(blank.image)) == set(GREYS)


def test_the_seed_and_the_actions_decide_and_nothing_else():
    def drawn(seed):
        return canvas(seed=seed).generate("a cat").erase("0,0,20,20").fill("a dog").reroll("30,10,20,20")

    first = drawn(1)
    torch.manual_seed(9)
    assert same_tensors(first.tokens, drawn(1).tokens) and first.history == drawn(1).history
    assert not same_tensors(first.tokens, drawn(2).tokens)
    assert all((grid != MASK).all() for grid in first.tokens.values())


def test_a_seed_that_is_given_counts_alone():
    one, other = canvas(seed=1), canvas(seed=2)
    assert same_tensors(one.generate("a cat", seed=5).tokens, other.generate("a cat", seed=5).tokens)


def test_generate_draws_what_the_stages_draw():
    made = model()
    drawn = Canvas(made.stages, made.text_encoder).generate("a cat", seed=3).tokens
    generator, text = torch.Generator().manual_seed(3), made.text_encoder(["a cat"])
    *_, base = made.stages["base"].sample(text, generator)
    *_, large = made.stages["large"].sample(text, generator, low=base)
    assert same_tensors(drawn, {"base": base, "large": large})


def test_erased_cells_are_mask_and_grey_with_a_ring_around_them_and_all_else_stays():
    drawn = canvas(dilate=1).generate("a cat")
    before = drawn.tokens
    erased = drawn.erase("16,8,8,8")  # one cell of the base grid, 2 x 2 of the large one
    holes = {name: grid == MASK for name, grid in erased.tokens.items()}
    wanted = {name: torch.zeros_like(grid, dtype=torch.bool) for name, grid in before.items()}
    wanted["base"][0, 0:3, 1:4] = True
    wanted["large"][0, 1:5, 3:7] = True
    assert same_tensors(holes, wanted)
    assert all(torch.equal(erased.tokens[n][~holes[n]], before[n][~holes[n]]) for n in before)
    pixels = np.asarray(erased.image)
    assert set(np.unique(pixels[4:20, 12:28])) <= set(GREYS)
    filled = erased.fill().tokens
    assert all(torch.equal(filled[n][~holes[n]], before[n][~holes[n]]) and (filled[n] != MASK).all() for n in before)


def test_what_is_frozen_stays_until_it_is_thawed():
    frozen = canvas().generate("a cat").freeze("0,0,32,32")
    kept = {"base": (slice(None), slice(None), slice(0, 4)), "large": (slice(None), slice(None), slice(0, 8))}
    before = frozen.tokens
    after = frozen.reroll(prompt="a dog", seed=1).erase().tokens
    for name, where in kept.items():
        assert torch.equal(after[name][where], before[name][where])
        assert (after[name] == MASK).any()
    assert all((grid == MASK).all() for grid in frozen.thaw().erase().tokens.values())


def test_what_is_erased_can_not_be_frozen():
    drawn = canvas().erase().freeze().generate("a cat")
    assert all((grid != MASK).all() for grid in drawn.tokens.values())


def test_undo_and_redo_go_through_history_and_a_new_action_ends_what_was_undone():
    drawn = canvas().generate("a cat").reroll(prompt="a dog")
    second = drawn.tokens
    first = drawn.undo().tokens
    assert [did["do"] for did in drawn.history] == ["generate"] and drawn.prompt == "a cat"
    assert same_tensors(drawn.redo().tokens, second) and drawn.prompt == "a dog" and not same_tensors(first, second)
    assert same_tensors(drawn.redo().tokens, second)
    drawn.undo().undo().undo()
    assert drawn.history == [] and all((grid == MASK).all() for grid in drawn.tokens.values())
    drawn.redo().erase().redo()
    assert [did["do"] for did in drawn.history] == ["generate", "erase"]


def test_the_same_action_after_undo_draws_the_same():
    drawn = canvas().generate("a cat").reroll("0,0,20,20")
    once = drawn.tokens
    assert same_tensors(drawn.undo().reroll("0,0,20,20").tokens, once)


def test_a_prompt_is_kept_until_another_is_given():
    drawn = canvas().generate("a cat", negative="a dog").reroll("0,0,8,8").reroll("0,0,8,8", prompt="").fill()
    assert [did["prompt"] for did in drawn.history] == ["a cat", "a cat", "", ""]
    assert drawn.history[0]["negative"] == "a dog"


def test_every_form_of_region_is_the_same_region(tmp_path):
    mask = np.zeros((32, 64), dtype=bool)
    mask[4:12, 8:24] = True
    picture = Image.fromarray((mask * 255).astype(np.uint8))
    picture.save(tmp_path / "mask.png")
    forms = ["8,4,16,8", (8, 4, 16, 8), mask, torch.from_numpy(mask), picture, str(tmp_path / "mask.png")]
    forms.append(["8,4,8,8", "16,4,8,8"])
    grids = [canvas().generate("a cat").erase(form).tokens for form in forms]
    assert all(same_tensors(grids[0], each) for each in grids[1:])


def test_a_picture_is_placed_as_its_tokenizer_sees_it(tmp_path):
    pixels = torch.randint(256, (3, 32, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    placed = canvas().place(str(tmp_path / "a.png"))
    assert torch.equal(placed.tokens["large"], FakeTokenizer().encode(pixels[None].float() / 255))
    assert placed.history == [{"do": "place", "picture": str(tmp_path / "a.png")}]


def test_saved_and_loaded_it_goes_on_as_before(tmp_path):
    drawn = canvas(seed=4).generate("a cat").freeze("0,0,16,16").erase("0,0,40,20").fill("a dog").undo()
    again = Canvas.load(drawn.save(tmp_path / "canvas.safetensors"), model())
    assert same_tensors(again.tokens, drawn.tokens) and again.history == drawn.history
    assert same_tensors(again.redo().tokens, drawn.redo().tokens)
    assert same_tensors(again.reroll("20,0,20,20").tokens, drawn.reroll("20,0,20,20").tokens)
    assert same_tensors(again.undo().undo().undo().tokens, drawn.undo().undo().undo().tokens)


def test_what_can_not_be_loaded(tmp_path):
    path = canvas().save(tmp_path / "canvas.safetensors")
    with pytest.raises(UserError, match=r"carries no recipe.*give them as model"):
        Canvas.load(path)
    other = Model({"base": stage([16, 16], 1, 4)}, FakeTextEncoder())
    with pytest.raises(UserError, match="of a model with other stages or grids"):
        Canvas.load(path, other)
    (tmp_path / "torn").write_bytes(path.read_bytes()[:50])
    save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    for name in ("torn", "weights.safetensors", "missing"):
        with pytest.raises(UserError, match="holds no canvas that can be read"):
            Canvas.load(tmp_path / name, model())
    with pytest.raises(UserError, match="could not be written"):
        canvas().save(tmp_path / "weights.safetensors" / "canvas")


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("[", "Expecting value"),
        ("{}", "KeyError: 'did'"),
        ("7", "'int' object is not subscriptable"),
        ('{"did": [{}], "place": 1, "seed": 0, "dilate": 1, "recipe": null}', "it stands at action 1 of 1"),
        ('{"did": [], "place": 0, "seed": 0, "dilate": 1, "recipe": null}', "it stands at action 0 of 0"),
        ('{"did": [{}], "place": 0, "dilate": 1, "recipe": null}', "KeyError: 'seed'"),
    ],
)
def test_a_file_that_says_it_is_a_canvas_and_is_none(tmp_path, told, reason):
    save_file({"0.codes.base": torch.zeros(1)}, tmp_path / "odd", {"muse_canvas": told})
    with pytest.raises(UserError, match=rf"odd holds no canvas that can be read \({reason}.*; give a file of Canvas.s"):
        Canvas.load(tmp_path / "odd", model())


def test_a_canvas_that_lacks_grids_is_of_no_model(tmp_path):
    path = canvas().save(tmp_path / "canvas.safetensors")
    with safe_open(path, "pt") as file:
        told, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del tensors["0.frozen.base"]
    save_file(tensors, path, told)
    with pytest.raises(UserError, match="of a model with other stages or grids"):
        Canvas.load(path, model())


@pytest.mark.parametrize(
    ("number", "did", "reason"),
    [
        (2, {"do": "erase", "region": None}, "moment 2: it keeps pixels of the moment before it, which is of another"),
        (2, {"do": "extend", "right": 64, "bottom": 8}, "moment 2: it keeps pixels of the moment before it, which is"),
        (2, {"do": "extend", "left": -8}, "moment 2: extend: left is -8"),
        (2, {"do": "extend", "left": 0, "right": True}, r"moment 2: actions\[0\].right: expected a whole number"),
        (2, {"do": "extend", "right": "many"}, r"moment 2: actions\[0\].right: expected a whole number"),
        (2, {}, r"moment 2: actions\[0\]: expected a table whose `do`"),
        (2, {"do": []}, r"moment 2: actions\[0\]: expected a table whose `do`"),
        (1, [], "moment 1: what was done is list"),
        (3, {"do": "fill", "seed": -1}, r"moment 3: actions\[0\].seed: expected a whole number from 0"),
        (0, None, "moment 0: it keeps pixels of a moment before it"),
    ],
)
def test_a_history_that_no_actions_lead_to_is_refused(tmp_path, number, did, reason):
    path = canvas().generate("a cat").extend(right=32).fill().save(tmp_path / "canvas.safetensors")
    with safe_open(path, "pt") as file:
        told, tensors = json.loads(file.metadata()["muse_canvas"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert Canvas.load(path, model()).size == (96, 32)
    if did is None:
        tensors["0.drawn"] = torch.ones_like(tensors["0.erased.large"])
    else:
        told["did"][number] = did
    save_file(tensors, path, {"muse_canvas": json.dumps(told)})
    with pytest.raises(UserError, match=f"of a model with other stages or grids, or damaged .{reason}"):
        Canvas.load(path, model())


def test_a_saved_canvas_is_a_file_that_others_may_read_where_the_umask_lets_them(tmp_path):
    (tmp_path / "other").touch()
    path = canvas().save(tmp_path / "canvas.safetensors")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_regions_that_can_not_be():
    with pytest.raises(UserError, match="lies outside the picture, which has 64x32 pixels"):
        canvas().erase("100,0,5,5")
    with pytest.raises(UserError, match="an array of"):
        canvas().erase(np.ones((3, 3)))
    with pytest.raises(ValueError, match="not valid Unicode"):
        canvas().generate("\ud800")


def test_it_opens_a_model_s_recipe_and_saves_it_along(tmp_path):
    with pytest.raises(RecipeError, match="promt"):
        Canvas.open({"extends": "models/emoji-base", "promt": "a cat"})
    opened = muse_studio.Canvas.open("models/emoji-base", {"stages.base.sampler.steps": 2}, seed=7)
    opened.generate("a red apple, noto style")
    again = Canvas.load(opened.save(tmp_path / "apple.safetensors"))
    assert again.recipe == opened.recipe and again.image.tobytes() == opened.image.tobytes()
    assert again.image.size == (64, 64) and opened._repr_png_().startswith(b"\x89PNG")


def test_a_written_picture_says_where_it_comes_from(tmp_path):
    drawn = canvas().generate("a cat")
    drawn.recipe = {"stages": {"base": {"transformer": {"weights": "base.safetensors"}}}}
    path = drawn.save_picture(tmp_path / "cat.png")
    with Image.open(path) as picture:
        assert (np.asarray(picture) == np.asarray(drawn.image)).all()
        packet = picture.info["xmp"].decode()
    assert "/trainedAlgorithmicMedia<" in packet and "AIPromptInformation>a cat<" in packet
    assert "muse_studio with base.safetensors<" in packet
    drawn.place(Image.new("RGB", (64, 32), "red")).reroll("0,0,9,9").save_picture(path)
    with Image.open(path) as picture:
        assert b"/compositeWithTrainedAlgorithmicMedia<" in picture.info["xmp"]
    with pytest.raises(UserError, match=r"x.png can't be written: File exists"):
        drawn.save_picture(tmp_path / "cat.png" / "x.png")


def test_filters_are_asked_before_a_canvas_draws_or_is_written(tmp_path):
    (tmp_path / "strict.py").write_text(
        "from muse_studio.hookspecs import hookimpl\n"
        "@hookimpl\ndef muse_prompt(prompt):\n    return 'no dogs' if 'dog' in prompt else None\n"
        "@hookimpl\ndef muse_picture(prompt):\n    return 'no cats'\n"
    )
    asking = canvas()
    asking.hook = Registry([tmp_path / "strict.py"], entries=()).hook
    with pytest.raises(Refused, match="filter strict: no dogs"):
        asking.generate("a dog")
    assert asking.history == []
    with pytest.raises(Refused, match="filter strict: no cats"):
        asking.generate("a cat").save_picture(tmp_path / "cat.png")
    assert not (tmp_path / "cat.png").exists()


def test_an_opened_canvas_has_the_environment_s_filters(monkeypatch):
    monkeypatch.setenv("MUSE_OBSERVERS", "word-filter")
    with pytest.raises(Refused, match="'a naked man' is refused by the filter word-filter"):
        Canvas.open("models/emoji-base").generate("a naked man")
