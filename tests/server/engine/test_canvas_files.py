"""Canvas files of anybody: ours are read again, all else is refused by name, and no recipe in one is obeyed."""

from __future__ import annotations

import json
import operator

import pytest
import torch
from muse_server.canvases import files as canvas_files
from muse_server.canvases import moments
from muse_server.refusals import Refusal
from runs import same_tensors
from safetensors.torch import load, save

from muse_studio.runtime import weights
from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.sampling.editing.history import KEY


@pytest.fixture
def content(model, tmp_path):
    canvas = Canvas.of(model, seed=5, dilate=0)
    canvas.generate("a cat", settings={"base": {"sampler": {"use": "confidence", "steps": 2}}})
    canvas.erase("0,0,8,8").fill().extend(right=8).undo()
    return canvas.save(tmp_path / "canvas.safetensors").read_bytes()


def parts(content):
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return load(content), json.loads(header["__metadata__"][KEY])


def changed(content, tensors=None, **settings):
    """The file with other tensors or settings."""
    own, told = parts(content)
    return save({**own, **(tensors or {})}, {KEY: json.dumps(told | settings)})


def test_a_canvas_comes_back_with_its_history(content, model):
    canvas = canvas_files.read(content, model)
    original = Canvas.of(model, seed=5, dilate=0)
    original.generate("a cat", settings={"base": {"sampler": {"use": "confidence", "steps": 2}}}).erase(
        "0,0,8,8"
    ).fill()
    assert same_tensors(canvas.tokens, original.tokens) and canvas.history == original.history
    assert canvas.actions == original.actions and moments.undone(canvas) == 1
    assert (canvas.seed, canvas.dilate, canvas.keep_steps) == (5, 0, True)
    assert canvas.image.tobytes() == original.image.tobytes()


def test_the_recipe_in_it_is_ignored(content, model):
    bad = changed(content, recipe={"extends": "/etc/hostname", "observers": [{"use": "csv", "file": "/tmp/x"}]})
    assert canvas_files.read(bad, model).recipe is model.recipe


def test_a_long_history_loses_its_beginning_alone(model):
    canvas = Canvas.of(model, keep_steps=True).generate("a cat")
    for _ in range(6):
        canvas.freeze("0,0,8,8").thaw()
    canvas.generate("a dog").generate("an apple")
    tokens, image = canvas.tokens, canvas.image
    short = moments.trimmed(moments.copied(canvas), kept=4, with_steps=1)
    assert same_tensors(short.tokens, tokens) and short.image.tobytes() == image.tobytes()
    assert len(short.history) == 4 and len(canvas.history) == 15 and short.actions is None
    assert short.steps and not short.at(3).steps and canvas.moments[1].steps
    assert moments.trimmed(moments.copied(canvas)).actions == canvas.actions
    assert len(moments.trimmed(moments.copied(short), kept=3).history) == 3
    assert short.now is canvas.now, "its pixels would be made again"
    assert all(map(operator.is_, moments.trimmed(moments.copied(canvas)).moments, canvas.moments))
    early = moments.trimmed(canvas.at(2), kept=4)
    assert early.history == []


def name_of(did, **more):
    return [{"do": "start"}, did | more]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"place": 9}, "its place is no whole number from 0 to 4"),
        ({"seed": -1}, "its seed"),
        ({"dilate": True}, "its dilate"),
        ({"did": []}, "tells of no moment"),
        ({"did": [{"do": "start"}] * 502}, "more than 500"),
        ({"did": 5}, "tells of no moment"),
        ({"did": [{"do": "start"}, {"do": "run"}], "place": 0}, "whose `do` is one of"),
        ({"did": [{"do": "start"}, "x"], "place": 0}, "no table"),
        ({"did": [{"do": "start"}, {"do": "erase", "region": "/etc/passwd"}], "place": 0}, "a file's name"),
        ({"did": [{"do": "start"}, {"do": "erase", "region": ["0,0,1,1", "/x"]}], "place": 0}, "a file's name"),
        ({"did": [{"do": "start"}, {"do": "erase", "region": {"base": "/x"}}], "place": 0}, "is no grid"),
        ({"did": [{"do": "start"}, {"do": "edit", "editor": {"weights": "x"}}], "place": 0}, "names a place"),
        ({"did": [{"do": "start"}, {"do": "fill", "settings": {"base": {"a": "/x"}}}], "place": 0}, "no path"),
        ({"did": [{"do": "start"}], "place": 0}, "none of a canvas"),
    ],
)
def test_what_it_says_is_judged(content, model, settings, message):
    with pytest.raises(Refusal, match=message) as error:
        canvas_files.read(changed(content, **settings), model)
    assert error.value.param == "file"


GRID = torch.zeros(1, 4, 4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"1.codes.base": GRID + 64}, "the code 64 of base, and the model that is served has 64"),
        ({"1.codes.base": GRID - 2}, "the code -2 of base"),
        ({"1.codes.base": GRID - 1}, "no code at a place of base that is not erased"),
        ({"1.codes.base": GRID.float()}, "float32, and torch.int64 is due"),
        ({"1.erased.base": GRID}, "int64, and torch.bool is due"),
        ({"1.codes.other": GRID}, "a stage 'other', and the model that is served has base, large"),
        ({"9.codes.base": GRID}, "none of a canvas"),
        ({"weights": GRID}, "none of a canvas"),
        ({"1.codes.base": GRID[0]}, r"of shape \[4, 4\]"),
        ({"1.codes.base": GRID[:, :0]}, r"of shape \[1, 0, 4\]"),
        ({"1.codes.base": GRID[:, :2]}, "of different sizes"),
        ({"1.drawn": GRID[:, :2] > 0}, "what was drawn"),
        (
            {
                f"1.{what}.base": GRID[:, :2].to(kind)
                for what, kind in (("codes", torch.int64), ("erased", torch.bool), ("frozen", torch.bool))
            },
            "fits none of the others",
        ),
    ],
)
def test_what_it_holds_is_judged(content, model, tensors, message):
    with pytest.raises(Refusal, match=message):
        canvas_files.read(changed(content, tensors), model)


def test_what_is_no_canvas_is_refused(content, model):
    own, _ = parts(content)
    for bad in (
        b"",
        b"{}",
        content[:-1],
        content + b"0",
        b"\xff" * 64,
        (2**25).to_bytes(8, "little") + b" " * 64,
        save(own),
        save(own, {KEY: "["}),
        save(own, {KEY: "[" * 100_000}),
        save(own, {KEY: "5"}),
        save(own, {KEY: "{}"}),
        save(
            {name: each for name, each in own.items() if name != "1.codes.base"}, {KEY: json.dumps(parts(content)[1])}
        ),
    ):
        with pytest.raises(Refusal, match="no canvas that can be opened here"):
            canvas_files.read(bad, model)


def test_a_list_tells_of_a_canvas_without_its_tensors(content, tmp_path):
    path = tmp_path / "one.safetensors"
    path.write_bytes(content)
    done, undone = canvas_files.described(weights.header(path)[1])
    assert [each["do"] for each in done] == ["generate", "erase", "fill"] and undone == 1
    for bad in ({}, {KEY: "[" * 100_000}, {KEY: '{"did": 1, "place": 2}'}):
        with pytest.raises(ValueError, match=r"muse_canvas|recursion|subscriptable"):
            canvas_files.described(bad)
