"""A model from Python: what it draws is what the command writes, and its parts are shared."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import muse_studio as ms
from muse_studio.cli import main
from muse_studio.contracts import MASK
from muse_studio.errors import RecipeError, Refused, UserError
from muse_studio.recipe.merging import load as read
from muse_studio.sampling.previews import GREYS
from muse_studio.testing import FakeTextEncoder, tiny_stage

STEPS = {"stages.base.sampler.steps": 3, "stages.superres.sampler.steps": 2}
PROMPT = "a fox, noto style"


@pytest.fixture(scope="module")
def model():
    return ms.load("models/emoji", STEPS, device="cpu")


@pytest.fixture(scope="module")
def picture(model):
    return model.draw(PROMPT, seed=3)


def same(one, other):
    return np.array_equal(np.asarray(one.convert("RGB")), np.asarray(other.convert("RGB")))


class TestDrawing:
    @pytest.mark.slow
    def test_it_is_what_the_command_writes(self, picture, tmp_path):
        changes = [f"{key}={value}" for key, value in STEPS.items()]
        assert main(["generate", PROMPT, "seed=3", f"out={tmp_path / 'fox.png'}", "device=cpu", *changes]) == 0
        with Image.open(tmp_path / "fox.png") as written:
            assert same(picture.image, written)
        saved = picture.save(tmp_path / "saved.png")
        theirs, ours = (read(path).plain() for path in (tmp_path / "fox.png", saved))
        assert ours == picture.recipe
        assert {key: theirs[key] for key in ours} == ours and set(theirs) - set(ours) == {"animate", "previews"}
        again = ms.run(picture.recipe, {"out": str(tmp_path / "again.png"), "device": "cpu"})
        assert same(again.images[0], picture.image)

    def test_nothing_is_written(self, model, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        model.draw(PROMPT)
        assert list(tmp_path.iterdir()) == []

    def test_a_list_gives_each_as_if_alone_and_what_is_not_wanted_counts(self, model, picture):
        first, second = model.draw([PROMPT, "a tram"], seed=3)
        assert same(first.image, picture.image) and second.prompt == "a tram"
        assert not same(model.draw(PROMPT, negative="a tram", seed=3).image, picture.image)

    def test_the_last_step_is_the_picture(self, model, picture):
        steps = list(model.steps(PROMPT, seed=3))
        assert [(each.stage, each.step, each.steps) for each in steps] == [
            ("base", 1, 3), ("base", 2, 3), ("base", 3, 3), ("superres", 1, 2), ("superres", 2, 2)
        ]  # fmt: skip
        assert torch.equal(steps[2].tokens, picture.tokens["base"])
        assert torch.equal(steps[-1].tokens, picture.tokens["superres"]) and same(steps[-1].image, picture.image)
        cells = np.asarray(steps[0].image)[::8, ::8]
        assert (np.isin(cells, GREYS).all(-1) >= (steps[0].tokens[0] == MASK).numpy()).all()

    def test_its_repr_is_short_and_says_what_it_is(self, model):
        lines = repr(model).splitlines()
        assert len(lines) <= 10
        assert "base: 64x64 pixels, 8x8 tokens of 4,096 codes" in repr(model) and "12.7M" in repr(model)
        many = ms.Model({str(n): tiny_stage() for n in range(1)}, FakeTextEncoder())
        assert len(repr(many).splitlines()) <= 10


class TestUsing:
    def test_other_settings_by_the_same_weights(self, model, picture):
        other = model.using(base={"sampler": {"use": "halton", "steps": 5}, "guidance": {"scale": 1.0}})
        assert other.stages["base"].transformer is model.stages["base"].transformer
        assert other.text_encoder is model.text_encoder
        assert (other.stages["base"].sampler.steps, model.stages["base"].sampler.steps) == (5, 3)
        drawn = other.draw(PROMPT, seed=3)
        assert not same(drawn.image, picture.image) and same(model.draw(PROMPT, seed=3).image, picture.image)
        fresh = ms.load(other.recipe, device="cpu")
        assert same(fresh.draw(PROMPT, seed=3).image, drawn.image)

    def test_an_object_takes_a_part_s_place_and_the_recipe_says_so(self, model, tmp_path):
        class Ones:
            steps = 1

            def __call__(self, predict, tokens, schedule, generator):
                yield torch.where(tokens == MASK, 1, tokens)

        drawn = model.using(base={"sampler": Ones()}).draw(PROMPT)
        assert (drawn.tokens["base"] == 1).all()
        with pytest.raises(RecipeError, match=r"stages.base.sampler — an object of Python: .*Ones stood here; put"):
            ms.run(drawn.save(tmp_path / "ones.png"))
        again = ms.run(tmp_path / "ones.png", {"stages.base.sampler": Ones(), "out": str(tmp_path / "x.png")})
        assert same(again.images[0], drawn.image)

    @pytest.mark.parametrize(
        ("stages", "message"),
        [
            ({"bsae": {}}, "no stage 'bsae'; did you mean 'base'"),
            ({"base": {"smapler": "halton"}}, "no 'smapler'; did you mean 'sampler'"),
            ({"base": {"sampler": {"stpes": 3}}}, "stages.base.sampler.stpes — sampler 'confidence' has no 'stpes'"),
            ({"base": {"sampler": object()}}, "object is no sampler: it has no __call__"),
            ({"base": {"sampler": FakeTextEncoder}}, r"got a class; give an object of it, FakeTextEncoder\(...\)"),
            ({"base": {"size": 33}}, "stages.base — size: 33x33 pixels don't divide"),
            ({"base": {"size": 128}}, "the transformer's grid is 8x8"),
        ],
    )
    def test_what_is_wrong_is_told_as_check_tells_it(self, model, stages, message):
        with pytest.raises(RecipeError, match=message):
            model.using(**stages)


@pytest.mark.slow
def test_an_edit_is_what_the_command_writes(model, picture, tmp_path):
    before = picture.save(tmp_path / "fox.png")
    changes = [f"{key}={value}" for key, value in STEPS.items()]
    words = ["region=30,0,70,40", "prompt=a hat", "seed=2", f"out={tmp_path / 'hat.png'}", "device=cpu"]
    assert main(["run", "inpaint", f"picture={before}", *words, *changes]) == 0
    given = {"region": (30, 0, 70, 40), "prompt": "a hat", "seed": 2}
    edited = [model.edit(each, **given) for each in (picture, picture.image, before)]
    with Image.open(tmp_path / "hat.png") as written:
        assert all(same(each.image, written) for each in edited)
    again = ms.run(edited[2].recipe, {"out": str(tmp_path / "again.png"), "device": "cpu"})
    assert same(again.images[0], edited[2].image)
    with pytest.raises(RecipeError, match=r"picture — an object of Python: .*Picture stood here"):
        ms.run(edited[0].recipe)


def test_a_canvas_goes_on_with_the_model(model):
    canvas = model.canvas(seed=4).generate("a red apple")
    assert canvas.model is model and canvas.recipe == model.recipe
    fresh = ms.Canvas.open("models/emoji", STEPS, seed=4, device="cpu").generate("a red apple")
    assert same(canvas.image, fresh.image)


def test_filters_are_asked(tmp_path):
    plugin = tmp_path / "strict.py"
    plugin.write_text(
        "from muse_studio import hookimpl\n\n\n@hookimpl\ndef muse_prompt(prompt):\n"
        "    return 'no' if 'bad' in prompt else None\n\n\n@hookimpl\ndef muse_picture(image, prompt):\n"
        "    return 'ugly' if 'ugly' in prompt else None\n"
    )
    model = ms.load("models/emoji-base", {"stages.base.sampler.steps": 1}, [plugin], "cpu")
    for act in (model.draw, model.steps, lambda prompt: model.edit(Image.new("RGB", (64, 64)), prompt=prompt)):
        with pytest.raises(Refused, match="strict: no"):
            act("bad")
    (step,) = model.steps("ugly")
    for act in (model.draw, lambda _: step.image, lambda prompt: model.edit(Image.new("RGB", (64, 64)), prompt=prompt)):
        with pytest.raises(Refused, match="strict: ugly"):
            act("ugly")
    with pytest.raises(Refused):
        model.using(base={"schedule": "linear"}).draw("bad")


class TestLoadingAPart:
    def test_a_recipe_of_one_part_gives_that_part(self, picture):
        tokenizer = ms.load("models/emoji-tokenizer", device="cpu")
        assert not tokenizer.training
        tokens = tokenizer.encode(ms.to_tensor(picture.image))
        assert tokens.shape == (1, 16, 16) and ms.to_image(tokenizer.decode(tokens)).size == (128, 128)

    def test_any_kind_by_name(self):
        assert ms.load({"use": "halton", "steps": 8}).steps == 8
        assert ms.load({"use": "confidence"}, {"steps": 5}, kind="sampler").steps == 5

    def test_a_name_of_several_kinds_must_say_which(self, tmp_path):
        plugin = tmp_path / "twice.py"
        plugin.write_text(
            "from muse_studio import hookimpl\n\n\ndef made() -> object:\n    return lambda *given: given\n\n\n"
            "@hookimpl\ndef muse_schedules():\n    return {'twice': made}\n\n\n"
            "@hookimpl\ndef muse_guidances():\n    return {'twice': made}\n"
        )
        with pytest.raises(UserError, match="'twice' is the name of a guidance and a schedule; say which by kind"):
            ms.load({"use": "twice"}, plugins=[plugin])
        assert callable(ms.load({"use": "twice"}, plugins=[plugin], kind="guidance"))

    def test_what_is_wrong_is_said(self):
        with pytest.raises(RecipeError, match="no 'stpes'; did you mean 'steps'"):
            ms.load({"use": "halton", "stpes": 8})
        with pytest.raises(RecipeError, match="'hatlon'"):
            ms.load({"use": "hatlon"})
        with pytest.raises(UserError, match="no kind of part is called 'smapler'"):
            ms.load({"use": "halton"}, kind="smapler")


def test_pictures_and_tensors_go_back_and_forth(picture, tmp_path):
    path = picture.save(tmp_path / "fox.png")
    images = ms.to_tensor([picture.image, path, str(path)])
    assert images.shape == (3, 3, 128, 128) and images.dtype == torch.float32
    assert torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])
    assert all(same(each, picture.image) for each in ms.to_image(images))
    assert same(ms.to_image(images[:1]), picture.image) and same(ms.to_image(images[0]), picture.image)
    assert (ms.to_tensor(Image.new("RGBA", (2, 2))) == 1).all(), "what is transparent lies on white"
    with pytest.raises(ValueError, match="several sizes, 2x2, 4x2"):
        ms.to_tensor([Image.new("RGB", (2, 2)), Image.new("RGB", (4, 2))])
    for wrong in (images, np.zeros((2, 2, 3)), [3]):
        with pytest.raises(TypeError, match="expected a picture of pillow or a file's path"):
            ms.to_tensor(wrong)


def test_the_version_is_the_installed_one():
    from importlib.metadata import version

    assert ms.__version__ == version("muse-studio")


def test_every_task_can_be_called_without_a_hook():
    tasks = ms.parts("task")
    assert len(tasks) > 8
    for part in tasks:
        if not part.plugin.startswith("muse_"):
            continue
        parameters = list(inspect.signature(part.load().__call__).parameters.values())[1:]
        assert [each.name for each in parameters if each.default is each.empty] == [], part


class Words:
    """A data set of two pictures."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {"image": torch.full((3, 64, 64), 200 * index, dtype=torch.uint8), "caption": "a fox"}


class Ear:
    def __init__(self):
        self.losses = []

    @ms.hookimpl
    def muse_step(self, loss):
        self.losses.append(loss)


@pytest.mark.slow  # reads the text of a recipe that trains, and its samples
def test_a_recipe_runs_with_objects_where_it_has_names(tmp_path):
    ear = Ear()
    settings = {"fit.steps": 2, "fit.batch": 2, "fit.log_every": 1, "fit.out": str(tmp_path / "run"), "cache": None}
    settings |= {"fit.device": "cpu", "fit.precision": "float32"}
    history = ms.run("train-emoji-base", settings, dataset=Words(), observers=[ear])
    assert len(ear.losses) == 2 and Path(history.weights).is_file()
    problems = ms.check("train-emoji-base", {"dataset": 3.5, "optimizer": Words()})
    assert [problem.path for problem in problems] == ["dataset", "optimizer"]
    assert "Words is no optimizer: it has no __call__" in problems[1].message
