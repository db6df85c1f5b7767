"""Filters of the environment and of installed plugins are asked on every way to a picture, without being given."""

import numpy as np
import pytest
from muse_editing.editors import Inpaint
from muse_observers.words import WordFilter
from muse_tasks.edit.task import Edit
from muse_tasks.generate.task import Generate
from PIL import Image

import muse_studio as ms
from muse_studio.errors import RecipeError, Refused
from muse_studio.hookspecs import hookimpl
from muse_studio.recipe.running import prepare
from muse_studio.registry.plugins import Registry
from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.sampling.model import Model
from muse_studio.testing import FakeSampler, FakeTextEncoder, tiny_stage


def model():
    stages = {"base": tiny_stage(16, 1, sampler=FakeSampler(steps=3)), "large": tiny_stage(32, 2)}
    return Model(stages, FakeTextEncoder())


def loaded(folder, prompt):
    """A canvas of a model, saved before there was any filter to ask."""
    model().canvas().save(folder / "canvas.safetensors")
    return Canvas.load(folder / "canvas.safetensors", model=model()).generate(prompt).image


def finished_step(stage):
    def look(folder, prompt):
        return [each for each in model().steps(prompt) if each.stage == stage][-1].image

    return look


def made(task, folder, prompt, **more):
    parts = model()
    Image.new("RGB", (40, 40)).save(folder / "photo.png")
    return task(parts.stages, parts.text_encoder, prompt=prompt, out=str(folder / "out"), device="cpu", **more)()


WAYS = {
    "draw": lambda folder, prompt: model().draw(prompt),
    "draw several": lambda folder, prompt: model().draw(["a cat", prompt]),
    "edit": lambda folder, prompt: model().edit(Image.new("RGB", (40, 40)), prompt=prompt),
    "first stage's last step": finished_step("base"),
    "last step": finished_step("large"),
    "canvas of a model": lambda folder, prompt: model().canvas().generate(prompt).image,
    "canvas of parts": lambda folder, prompt: Canvas(model().stages, FakeTextEncoder()).generate(prompt).image,
    "canvas rerolled": lambda folder, prompt: model().canvas().generate("a cat").reroll("0,0,9,9", prompt).image,
    "canvas shown": lambda folder, prompt: model().canvas().generate(prompt)._repr_png_(),
    "canvas erased": lambda folder, prompt: model().canvas().generate(prompt).erase("0,0,4,4").image,
    "canvas written": lambda folder, prompt: model().canvas().generate(prompt).save_picture(folder / "out.png"),
    "canvas loaded": loaded,
    "task generate": lambda folder, prompt: made(Generate, folder, prompt),
    "task edit": lambda folder, prompt: made(Edit, folder, prompt, editor=Inpaint(), picture=str(folder / "photo.png")),
}


@pytest.fixture
def filtering(monkeypatch):
    """The environment's filter, which looks at pictures too."""
    seen = []

    @hookimpl
    def muse_picture(self, image, prompt):
        seen.append(image.size)
        return "it is ugly" if "ugly" in prompt else None

    monkeypatch.setattr(WordFilter, "muse_picture", muse_picture, raising=False)
    monkeypatch.setenv("MUSE_OBSERVERS", "word-filter")
    return seen


@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_past_a_filter(filtering, tmp_path, way):
    with pytest.raises(Refused, match=r"'a naked man'.* is refused by the filter word-filter"):
        WAYS[way](tmp_path, "a naked man")
    assert not filtering or way == "canvas rerolled"
    with pytest.raises(Refused, match="'an ugly cat', seed 0, is refused by the filter word-filter: it is ugly"):
        WAYS[way](tmp_path, "an ugly cat")
    assert not [path for path in tmp_path.rglob("*.png") if path.name != "photo.png"]
    WAYS[way](tmp_path, "a cat")


def test_the_plugins_that_are_installed_are_asked(monkeypatch):
    """Which they are, a registry alone knows."""
    strict = type("Strict", (), {"muse_prompt": hookimpl(lambda self, prompt: "no")})()
    before = Registry.__init__

    def with_one_more(self, *given, **more):
        before(self, *given, **more)
        self._register(strict, "strict", "plugin strict", "leave it out")

    monkeypatch.setattr(Registry, "__init__", with_one_more)
    for act in (model().draw, Canvas(model().stages, FakeTextEncoder()).generate):
        with pytest.raises(Refused, match="refused by the filter strict: no"):
            act("a cat")


def test_a_loaded_canvas_has_its_model_s_filters(tmp_path):
    (tmp_path / "strict.py").write_text(
        "from muse_studio import hookimpl\n\n\n@hookimpl\ndef muse_prompt(prompt):\n    return 'no'\n"
    )
    with_filter = model()
    with_filter.hook = Registry([tmp_path / "strict.py"], entries=()).hook
    model().canvas().save(tmp_path / "canvas.safetensors")
    with pytest.raises(Refused, match="refused by the filter strict: no"):
        Canvas.load(tmp_path / "canvas.safetensors", model=with_filter).generate("a cat")


def test_a_mistake_in_the_environment_lets_nothing_pass(monkeypatch):
    monkeypatch.setenv("MUSE_OBSERVERS", "word-filtre")
    with pytest.raises(RecipeError, match="did you mean 'word-filter'"):
        model().draw("a cat")


def test_each_of_several_processes_asks(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MUSE_OBSERVERS", "word-filter, preview")
    prepared = prepare("generate", {"prompt": "a naked man"})
    assert [name for name, _ in prepared.observers] == ["word-filter"]
    with pytest.raises(Refused, match="word-filter"):
        prepared()


def test_a_picture_that_was_placed_is_the_user_s_own(filtering):
    placed = model().canvas().place(Image.fromarray(np.zeros((32, 32, 3), np.uint8)))
    assert placed.image.size == (32, 32) and not filtering


def test_a_run_s_filters_are_those_of_what_it_draws_with(monkeypatch, tmp_path):
    """Its recipe's observers too, where a task draws by a model made of parts."""
    (tmp_path / "drawing.py").write_text(
        "from muse_studio import hookimpl\n\n\n@hookimpl\ndef muse_tasks():\n    return {'drawing': Drawing}\n\n\n"
        'class Drawing:\n    """Draws."""\n\n    def __call__(self, hook):\n'
        "        from muse_studio.sampling.model import Model\n"
        "        from muse_studio.testing import FakeTextEncoder, tiny_stage\n\n"
        "        return Model({'base': tiny_stage(16, 1)}, FakeTextEncoder()).draw('a naked man')\n"
    )
    with pytest.raises(Refused, match="word-filter"):
        ms.run({"use": "drawing", "observers": ["word-filter"]}, plugins=[tmp_path / "drawing.py"])
