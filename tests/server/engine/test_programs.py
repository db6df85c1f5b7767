"""Pictures for other programs: those of a canvas and of `Model.edit`, in the size that is asked for, and cancelled."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from muse_server.drawings import Advanced, Drawing, Finished, Partial
from muse_server.refusals import Full, Refusal
from PIL import Image

from muse_studio.errors import Refused
from muse_studio.hookspecs import hookimpl
from muse_studio.registry.plugins import Registry
from muse_studio.sampling.editing.canvas import Canvas

RED = Image.new("RGB", (48, 40), "red")


def drawn(opened, model, asked):
    """All that is told of a drawing."""

    async def draw():
        async with opened(model) as desk:
            return [each async for each in desk.draw("ann", asked)]

    return asyncio.run(draw())


def test_several_pictures_with_partials_and_steps(opened, model):
    told = drawn(opened, model, Drawing("a cat", "a dog", seed=3, count=2, partials=2, steps=True))
    finished = [each for each in told if isinstance(each, Finished)]
    for index, each in enumerate(finished):
        canvas = Canvas.of(model).generate("a cat", negative="a dog", seed=3 + index)
        assert (each.index, each.seed, each.tokens) == (index, 3 + index, 16 + 64)
        assert each.image.tobytes() == canvas.image.tobytes()
    partials = [each for each in told if isinstance(each, Partial)]
    assert [(each.index, each.number) for each in partials] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert partials[0].image.size == (16, 16)
    steps = [each for each in told if isinstance(each, Advanced)]
    assert steps and {each.steps for each in steps} <= {4, 2} and told[-1] is finished[-1]


def test_a_seed_is_drawn_by_lot_and_the_largest_is_followed_by_0(opened, model):
    (one,), (other,) = (drawn(opened, model, Drawing("a cat")) for _ in range(2))
    assert one.seed != other.seed
    last, first = drawn(opened, model, Drawing("a cat", seed=2**63 - 1, count=2))
    assert (last.seed, first.seed) == (2**63 - 1, 0)


@pytest.mark.parametrize(
    ("size", "of_canvas"),
    [((64, 64), (32, 32)), ((100, 50), (64, 32)), ((30, 48), (32, 56)), ((2000, 20), (128, 32))],
)
def test_a_size_is_drawn_in_whole_cells_and_scaled(opened, model, size, of_canvas):
    (each,) = drawn(opened, model, Drawing("a cat", size=size))
    assert each.image.size == size and each.tokens == 80 * of_canvas[0] * of_canvas[1] // 32**2


def test_a_picture_is_edited_in_its_region_alone(opened, model):
    region = np.zeros((40, 48), dtype=bool)
    region[:8, :8] = True
    (each,) = drawn(opened, model, Drawing("a cat", seed=3, picture=RED, region=region))
    edited = model.edit(RED, region, "a cat", seed=3)
    assert each.image.tobytes() == edited.image.tobytes() and each.image.size == (48, 40)
    assert np.asarray(each.image)[20:, 20:].tobytes() == np.asarray(RED)[20:, 20:].tobytes()
    assert each.provenance.edited and each.provenance.prompt == "a cat"


def test_a_picture_is_edited_by_words_or_varied(opened, model):
    editor = {"use": "variations", "strength": 0.5}
    (words,) = drawn(opened, model, Drawing("a cat", seed=3, picture=RED, editor={"use": "mask-free", "iterations": 2}))
    (varied,) = drawn(opened, model, Drawing("", seed=3, picture=RED, editor=editor, size=(20, 20)))
    assert (
        words.image.tobytes()
        == model.edit(RED, None, "a cat", seed=3, editor={"use": "mask-free", "iterations": 2}).image.tobytes()
    )
    assert varied.image.size == (20, 20)


def test_a_large_picture_is_edited_smaller_and_a_long_one_refused(opened, model):
    large = Image.new("RGB", (4096, 1500), "red")
    region = np.zeros((1500, 4096), dtype=bool)
    region[:40, :40] = True
    (each,) = drawn(opened, model, Drawing("a cat", seed=3, picture=large, region=region))
    assert each.image.size == large.size and each.tokens < 1000
    assert np.asarray(each.image)[1000:, 3000:].tobytes() == np.asarray(large)[1000:, 3000:].tobytes()
    with pytest.raises(Refusal, match="more than 4 times as long"):
        drawn(opened, model, Drawing("a cat", picture=Image.new("RGB", (400, 90))))


def test_settings_are_checked_before_anything_waits(opened, model):
    for asked in (Drawing("a", settings={"base": {"sampler": {"weights": "x"}}}), Drawing("a", editor={"use": "/x"})):
        with pytest.raises(Refusal):
            drawn(opened, model, asked)


def test_settings_are_used(opened, model):
    settings = {"base": {"sampler": {"use": "confidence", "steps": 2}}}
    told = drawn(opened, model, Drawing("a cat", seed=1, settings=settings, steps=True))
    canvas = Canvas.of(model).generate("a cat", seed=1, settings=settings)
    assert told[-1].image.tobytes() == canvas.image.tobytes()


class Strict:
    """A filter of prompts and pictures."""

    @hookimpl
    def muse_prompt(self, prompt):
        return "no dogs" if "dog" in prompt else None

    @hookimpl
    def muse_picture(self, image, prompt):
        return "too plain" if "plain" in prompt else None


@pytest.mark.parametrize("picture", [None, RED])
def test_filters_are_asked_and_no_partial_is_shown(opened, model, picture):
    registry = Registry(entries=())
    registry.observe([("strict", Strict())])
    model.hook = registry.hook
    for prompt, reason in (("a dog", "no dogs"), ("a plain", "too plain")):
        with pytest.raises(Refused, match=reason):
            drawn(opened, model, Drawing(prompt, picture=picture, editor=picture and {"use": "variations"}))
    told = drawn(opened, model, Drawing("a cat", partials=3))
    assert [type(each) for each in told] == [Finished]


def test_who_goes_away_cancels(opened, model, slow):
    model.stages["base"].sampler = slow

    async def test():
        async with opened(model) as desk:
            drawing = desk.draw("ann", Drawing("a cat", steps=True))
            first = asyncio.ensure_future(anext(drawing))
            await slow.reached()
            waiting = desk.draw("ann", Drawing("a dog"))
            second = asyncio.ensure_future(anext(waiting))
            await asyncio.sleep(0.05)
            assert len(desk.engine.queue()["waiting"]) == 1
            slow.go(1)
            assert (await first).step == 1
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            assert desk.engine.queue()["waiting"] == []
            await drawing.aclose()
            slow.go(1)
            for _ in range(200):
                if desk.engine.queue()["now"] is None:
                    return
                await asyncio.sleep(0.02)
            raise AssertionError("it is still drawn")

    asyncio.run(test())


def test_too_many_of_one_are_refused(opened, model, slow):
    model.stages["base"].sampler = slow

    async def test():
        async with opened(model) as desk:
            drawings = [desk.draw("ann", Drawing("a cat")) for _ in range(6)]
            firsts = [asyncio.ensure_future(anext(each)) for each in drawings[:1]]
            await slow.reached()
            firsts += [asyncio.ensure_future(anext(each)) for each in drawings[1:5]]
            await asyncio.sleep(0.05)
            with pytest.raises(Full, match="4 of your pictures wait already"):
                await anext(drawings[5])
            for each in firsts:
                each.cancel()
            slow.go(4)
            await asyncio.gather(*firsts, return_exceptions=True)

    asyncio.run(test())
