"""A seed draws one picture: on the page, by a canvas, by the model, and by `muse run` of what was saved."""

from __future__ import annotations

import asyncio
import io

import pytest
from PIL import Image

import muse_studio
from muse_studio.sampling.editing.canvas import Canvas

ACTIONS = [
    {"do": "generate", "prompt": "a red apple, noto style", "seed": 7},
    {"do": "freeze", "region": {"boxes": [[0, 0, 128, 40]]}},
    {"do": "reroll", "prompt": "a green pear", "region": {"boxes": [[40, 40, 60, 60]]}, "seed": 8},
    {"do": "edit", "editor": {"use": "variations", "strength": 0.3}, "seed": 9},
]


@pytest.fixture(scope="module")
def embedded():
    return muse_studio.load("models/emoji", device="cpu")


@pytest.mark.slow
def test_the_page_a_canvas_the_model_and_muse_run_draw_the_same(opened, finished, embedded, tmp_path):
    async def test():
        async with opened(embedded) as desk:
            session = await desk.open()
            for action in ACTIONS:
                if "seed" in action:
                    event = await finished(desk, session, action)
                    assert event.name == "done", event.data
                else:
                    await desk.act(session, action)
            return [await desk.image(session, n) for n in (1, len(ACTIONS))]

    first, last = asyncio.run(test())
    canvas = Canvas.of(embedded).generate("a red apple, noto style", seed=7)
    with Image.open(io.BytesIO(first)) as picture:
        assert picture.tobytes() == canvas.image.tobytes()
        assert picture.tobytes() == embedded.draw("a red apple, noto style", seed=7).image.tobytes()
    canvas.freeze((0, 0, 128, 40)).reroll((40, 40, 60, 60), "a green pear", seed=8)
    canvas.edit(editor={"use": "variations", "strength": 0.3}, seed=9)
    for name, content in (("first", first), ("last", last)):
        (tmp_path / f"{name}.png").write_bytes(content)
        drawn = muse_studio.run(tmp_path / f"{name}.png", {"out": str(tmp_path / f"again-{name}.png")}, device="cpu")
        with Image.open(io.BytesIO(content)) as picture:
            assert drawn.images[0].tobytes() == picture.tobytes()
    with Image.open(io.BytesIO(last)) as picture:
        assert picture.tobytes() == canvas.image.tobytes()
