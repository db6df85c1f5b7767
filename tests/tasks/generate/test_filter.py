"""Filters are asked before anything is drawn and before anything is written; a filter that breaks lets nothing pass."""

import inspect

import pytest
from muse_editing.editors import MaskFree
from muse_tasks.edit.task import Edit
from muse_tasks.generate.task import Generate
from PIL import Image

from muse_studio.errors import PluginError, Refused
from muse_studio.registry.plugins import Registry

STRICT = """
from muse_studio.hookspecs import hookimpl

SEEN = []

@hookimpl
def muse_prompt(prompt):
    return "dogs are not drawn here" if "dog" in prompt else None

@hookimpl
def muse_picture(prompt, image):
    SEEN.append((prompt, image.size))
    return "it shows too much" if prompt == "a pear" else None
"""


@pytest.fixture
def hook(tmp_path):
    """What a task is called with where these lines are a plugin's file."""

    def hook(lines=STRICT):
        (tmp_path / "strict.py").write_text(lines)
        return Registry([tmp_path / "strict.py"], entries=()).hook

    return hook


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_prompt_of_several_is_refused_by_its_place_before_anything_is_drawn(stages, encoder, tmp_path, hook):
    task = Generate(stages, encoder, ["a cat", "a dog"], out=str(tmp_path / "out"))
    with pytest.raises(Refused) as refused:
        task(hook())
    assert str(refused.value) == (
        "prompt 2 of 2, 'a dog', is refused by the filter strict: dogs are not drawn here; nothing was drawn"
    )
    assert not (tmp_path / "out").exists()
    with pytest.raises(Refused, match=r"^the prompt 'a dog' is refused by the filter strict: dogs"):
        Generate(stages, encoder, "a dog", out=str(tmp_path / "out"))(hook())


def test_what_is_not_wanted_may_be_said(stages, encoder, tmp_path, hook):
    result = Generate(stages, encoder, "a cat", negative="a dog", out=str(tmp_path / "out"))(hook())
    assert result.paths[0].is_file()


def test_a_refused_picture_is_not_written_and_those_before_it_stay(stages, encoder, tmp_path, hook):
    task = Generate(stages, encoder, ["a cat", "a pear"], seed=3, out=str(tmp_path / "out"), animate=True)
    with pytest.raises(Refused) as refused:
        task(hook())
    assert str(refused.value) == (
        "the picture of 'a pear', seed 3, is refused by the filter strict: it shows too much; it was not written"
    )
    assert names(tmp_path / "out") == ["a-cat.png", "a-cat.webp"]


def test_editing_asks_of_its_prompt_and_of_every_picture(stages, encoder, tmp_path, hook):
    Image.new("RGB", (20, 10), "red").save(tmp_path / "photo.png")
    settings = {"picture": str(tmp_path / "photo.png"), "out": str(tmp_path / "out")}
    editor = MaskFree(iterations=3, fraction=0.2)
    with pytest.raises(Refused, match="the prompt 'a dog' is refused by the filter strict"):
        Edit(stages, encoder, editor, prompt="a dog", **settings)(hook())
    with pytest.raises(Refused, match="the picture of 'a pear', seed 0, is refused"):
        Edit(stages, encoder, editor, prompt="a pear", **settings)(hook())
    assert not (tmp_path / "out").exists() or names(tmp_path / "out") == []
    asked = hook()
    (filled,) = asked.muse_picture.get_hookimpls()
    Edit(stages, encoder, editor, prompt="a cat", every=1, **settings)(asked)
    assert inspect.unwrap(filled.function).__globals__["SEEN"] == [("a cat", (20, 10))] * 3


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("1 / 0", "plugin strict's muse_prompt raised ZeroDivisionError: division by zero"),
        ("True", "filter strict: muse_prompt gave True; give a reason as text, or None"),
        ("''", "filter strict: muse_prompt gave ''; give a reason"),
    ],
)
def test_a_filter_that_breaks_lets_nothing_pass(stages, encoder, tmp_path, hook, answer, message):
    lines = f"from muse_studio.hookspecs import hookimpl\n@hookimpl\ndef muse_prompt(prompt):\n    return {answer}\n"
    with pytest.raises(PluginError, match=message):
        Generate(stages, encoder, "a cat", out=str(tmp_path / "out"))(hook(lines))
    assert not (tmp_path / "out").exists()
