"""What was set and done is told as a recipe that runs, and as Python that does it again."""

from __future__ import annotations

import pytest
from muse_server.written import as_code, as_yaml
from runs import same_tensors

import muse_studio
from muse_studio.recipe import merging
from muse_studio.recipe.tree import parse
from muse_studio.sampling.model import Model


def test_the_recipe_is_the_served_models_with_what_was_changed(tmp_path) -> None:
    asked = {"prompt": "a: #1 'fox'", "negative": "blurry", "seed": 7}
    text = as_yaml("models/emoji", asked, {"base": {"sampler": {"use": "halton", "steps": 3}}})
    assert parse(text, "x").plain() == {
        "extends": "models/emoji",
        "use": "generate",
        **asked,
        "stages": {"base": {"sampler": {"use": "halton", "steps": 3}}},
    }
    (tmp_path / "mine.yaml").write_text(text)
    assert muse_studio.check(tmp_path / "mine.yaml") == []
    whole = merging.load(tmp_path / "mine.yaml").plain()
    assert whole["stages"]["base"]["sampler"] == {"use": "halton", "steps": 3}
    assert "stages" not in as_yaml("models/emoji", {}, None)


@pytest.mark.slow
def test_the_code_draws_the_same(emoji: Model, tmp_path, monkeypatch) -> None:
    canvas = emoji.canvas(3)
    canvas.generate("a red apple").freeze("0,0,20,20").erase((30, 30, 40, 40)).fill("a pear", negative="blue")
    canvas.extend(right=16).fill().reroll((10, 10, 30, 30), settings={"base": {"sampler": {"steps": 3}}})
    code = as_code("models/emoji", 3, canvas.actions)
    monkeypatch.chdir(tmp_path)
    done: dict = {}
    exec(code, done)
    assert same_tensors(done["canvas"].tokens, canvas.tokens)
    assert (tmp_path / "picture.png").is_file()


def test_what_can_not_be_told_is_said() -> None:
    assert "can't be told in full" in as_code("models/emoji", 0, None)
    assert 'canvas.place("picture.png")' in as_code("m", 0, [{"do": "place", "tokens": {"base": "…"}}])
    assert "\ncanvas.extend(right=16)\n" in as_code("m", 0, [{"do": "extend", "left": 0, "right": 16}])
