"""Actions: whatever JSON comes, it is refused, or becomes a call of a Canvas with values alone; no file is opened."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from muse_server.canvases import actions, placing
from muse_server.canvases.actions import ACTIONS, read
from muse_server.canvases.fields import Surface
from muse_server.refusals import Refusal
from PIL import Image

from muse_studio.recipe.strangers import is_box
from muse_studio.sampling.editing.canvas import Canvas

SURFACE = Surface((32, 24), {"base": (3, 4), "large": (6, 8)}, 5, {"p_1": Image.new("L", (9, 9), 255)})
OPENED: list[str] = []
WATCHED = [False]


def _hear(event, arguments):
    if WATCHED[0] and event in ("open", "os.listdir", "os.scandir", "socket.connect", "subprocess.Popen"):
        OPENED.append(f"{event} {arguments[0]!r}")


sys.addaudithook(_hear)


@contextmanager
def nothing_is_opened():
    """Fails where anything within it opens a file, a folder or a connection."""
    OPENED.clear()
    WATCHED[0] = True
    try:
        yield
    finally:
        WATCHED[0] = False
    assert not OPENED


class FakeCanvas:
    """Has a canvas's methods, and holds what they are given against what they may be."""

    size = (32, 24)
    called = ()

    @property
    def history(self):
        """It stands at the third of five actions, at first."""
        return [{}] * (3 + self.called.count("redo") - self.called.count("undo"))

    def __getattr__(self, name):
        assert callable(getattr(Canvas, name, None)) and not name.startswith("_")

        def call(region=None, prompt="", editor="", settings=None, **given):
            self.called = (*self.called, name)
            assert isinstance(region, np.ndarray | list | None)
            if isinstance(region, np.ndarray):
                assert region.dtype == bool and region.shape == (24, 32) and region.any()
            assert all(is_box(box) for box in region) if isinstance(region, list) else True
            assert isinstance(prompt, str) and isinstance(editor, str | Mapping)
            assert settings is None or all(isinstance(each, Mapping) for each in settings.values())
            for key, each in given.items():
                assert key in ("seed", "watch", "negative", "left", "top", "right", "bottom")
                assert each is None or type(each) is (str if key == "negative" else int)

        return call


def act(action):
    """Read an action, and do it on a fake canvas."""
    asked = read(action, SURFACE)
    canvas = FakeCanvas()
    for seed in asked.seeds or (None,):
        if asked.do != "discard":  # which is about what is staged, and no canvas's
            asked.on(canvas, seed)
    return asked, canvas


@pytest.fixture(autouse=True, scope="module")
def fakes():
    """The calls that are no canvas's methods are noted too; for all cases of a property at once."""

    def placed(canvas, picture, at=None, scale=None):
        assert isinstance(picture, Image.Image)
        assert at is None or all(type(each) is int for each in at)

    np.asarray(SURFACE.pictures["p_1"])  # so that pillow has imported what it needs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actions, "placed", placed)
        yield


WORDS = st.sampled_from(
    [
        "/etc/passwd",
        "..",
        "~/x",
        "http://a.test/x",
        "base",
        "large",
        "p_1",
        "mask-free",
        "",
        "halton",
        "0,0,8,8",
        "\ud800",
    ]
)
NUMBERS = st.one_of(st.integers(-3, 40), st.integers(), st.floats(), st.just(10**400))
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.text(max_size=8))
KEYS = st.one_of(
    st.sampled_from(
        [*{key for keys in ACTIONS.values() for key in keys}, "do", "boxes", "cells", "stage", "bits", "use"]
    ),
    st.text(max_size=5),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
BITS = st.binary(max_size=7).map(lambda content: base64.b64encode(content).decode())
REGIONS = st.one_of(
    st.fixed_dictionaries({"boxes": st.lists(st.lists(st.integers(-9, 40), min_size=3, max_size=5), max_size=4)}),
    st.fixed_dictionaries(
        {"cells": st.fixed_dictionaries({"stage": st.sampled_from(["base", "large", "x"]), "bits": BITS})}
    ),
    st.just({"picture": "p_1"}),
    JSON,
)
FIELDS = {
    "region": REGIONS,
    "prompt": st.one_of(st.text(max_size=9), JSON),
    "seed": NUMBERS,
    "count": st.one_of(st.integers(1, 4), JSON),
    "settings": st.one_of(JSON, st.dictionaries(st.sampled_from(["base", "large"]), st.dictionaries(KEYS, JSON))),
    "to": st.integers(-1, 7),
    "picture": st.one_of(st.just("p_1"), JSON),
    "at": st.one_of(st.lists(st.integers(-9, 40), min_size=2, max_size=2), JSON),
    **dict.fromkeys(("left", "top", "right", "bottom"), st.integers(-1, 40)),
}


@st.composite
def nearly_actions(draw):
    """Objects that are actions, but for what may be wrong in each field."""
    do = draw(st.sampled_from(list(ACTIONS)))
    keys = draw(st.lists(st.sampled_from(ACTIONS[do]), unique=True)) if ACTIONS[do] else []
    more = draw(st.dictionaries(KEYS, JSON, max_size=1)) if draw(st.integers(0, 9)) == 0 else {}
    return {**more, "do": do} | {key: draw(FIELDS.get(key, JSON)) for key in keys}


def check(action):
    with nothing_is_opened():
        try:
            asked, _ = act(action)
        except Refusal as error:
            assert str(error) and error.status == 400 and (error.param is None or isinstance(error.param, str))
            return
    assert asked.do in ACTIONS and len(asked.seeds) <= 16


@settings(max_examples=200)
@given(st.one_of(nearly_actions(), JSON))
def test_any_json_is_refused_or_becomes_a_call_with_values(action):
    check(action)


@pytest.mark.slow
@settings(max_examples=2000)
@given(st.one_of(nearly_actions(), JSON))
def test_any_json_at_length(action):
    check(action)


def test_the_audit_hook_hears_of_a_file_that_is_opened():
    with pytest.raises(AssertionError), nothing_is_opened(), open("/etc/hostname"):
        pass


def cells(stage, *bits):
    return {"cells": {"stage": stage, "bits": base64.b64encode(np.packbits(np.array(bits) > 0).tobytes()).decode()}}


def test_what_becomes_of_a_region():
    asked = read({"do": "erase", "region": cells("base", 0, 1, 0, 0, *[0] * 7, 1)}, SURFACE)
    mask = asked.region.of((32, 24))
    assert mask.shape == (24, 32) and mask[:8, 8:16].all() and mask[16:, 24:].all() and mask.sum() == 2 * 64
    assert read({"do": "erase", "region": {"boxes": [[-1, 0, 4, 5]]}}, SURFACE).region.of((32, 24)) == ["-1,0,4,5"]
    assert read({"do": "erase", "region": {"picture": "p_1"}}, SURFACE).region.of((32, 24)).all()
    assert read({"do": "erase", "region": None}, SURFACE).region is None


def test_what_a_drawing_action_says():
    action = {"do": "generate", "prompt": "a", "negative": "b", "seed": 2**63 - 4, "count": 4, "settings": {"base": {}}}
    asked = read(action, SURFACE)
    assert asked.seeds == tuple(range(2**63 - 4, 2**63)) and asked.staged and asked.draws
    assert asked.given == {"prompt": "a", "negative": "b", "settings": {"base": {}}}
    lot = {read({"do": "reroll"}, SURFACE).seeds for _ in range(3)}
    assert len(lot) == 3 and not read({"do": "reroll"}, SURFACE).staged
    assert read({"do": "reroll", "staged": True}, SURFACE).staged
    assert act({"do": "go", "to": 5})[1].called == ("redo", "redo")
    assert act({"do": "go", "to": 1})[1].called == ("undo", "undo")


@pytest.mark.parametrize(
    ("action", "param", "message"),
    [
        ([], "do", "an action is an object"),
        ({"do": "generat"}, "do", "did you mean 'generate'"),
        ({"do": "undo", "path": 1}, "path", "undo takes nothing, and no 'path'"),
        ({"do": "generate"}, "prompt", "generate needs it"),
        ({"do": "generate", "prompt": "a" * 2001}, "prompt", "at most 2000 letters"),
        ({"do": "generate", "prompt": "a", "count": 17}, "count", "from 1 to 16"),
        ({"do": "generate", "prompt": "a", "seed": True}, "seed", "a whole number"),
        ({"do": "generate", "prompt": "a", "seed": 2**63 - 1, "count": 2}, "seed", "the last one"),
        ({"do": "generate", "prompt": "a", "staged": 1}, "staged", "true or false"),
        ({"do": "generate", "prompt": "a", "settings": {"base": 1}}, "settings", "a table by stage"),
        ({"do": "edit", "editor": {"use": "x", "weights": "/etc/passwd"}}, "editor.weights", "names a place"),
        ({"do": "edit", "editor": 1}, "editor", "the name of one"),
        ({"do": "fill", "region": {"boxes": [[0, 0, 1, 1]]}}, "region", "fill draws all that is erased"),
        ({"do": "erase", "region": "/etc/passwd"}, "region", "expected"),
        ({"do": "erase", "region": {"boxes": [[0, 0, 0, 1]]}}, "region.boxes", "at most 256"),
        ({"do": "erase", "region": {"boxes": []}}, "region.boxes", "at most 256"),
        ({"do": "erase", "region": {"cells": {"stage": "base"}}}, "region.cells", "its name"),
        ({"do": "erase", "region": cells("other", 1)}, "region.cells.stage", "one of base, large"),
        ({"do": "erase", "region": cells("base", 1)}, "region.cells.bits", "base64 of 2 bytes"),
        ({"do": "erase", "region": cells("base", *[0] * 12)}, "region.cells.bits", "no cell is chosen"),
        ({"do": "erase", "region": {"picture": "p_2"}}, "region.picture", "drop it once again"),
        ({"do": "place", "picture": "/etc/passwd"}, "picture", "drop it once again"),
        ({"do": "place", "picture": "p_1", "at": [0]}, "at", "two whole numbers"),
        ({"do": "place", "picture": "p_1", "scale": 0}, "scale", "from 0.01 to 100"),
        ({"do": "extend", "left": -1}, "left", "from 0 to"),
        ({"do": "go", "to": 6}, "to", "from 0 to 5"),
    ],
)
def test_what_is_wrong_is_named(action, param, message):
    with pytest.raises(Refusal, match=message) as error:
        read(action, SURFACE)
    assert error.value.param == param


def test_a_picture_that_is_much_enlarged_is_scaled_where_it_is_seen(model, monkeypatch):
    canvas = Canvas.of(model)
    placing.placed(canvas, Image.new("RGB", (2048, 2048), "red"), (-5000, -5000), 100.0)
    assert not any(bool(grid.any()) for grid in canvas.now.erased.values())
