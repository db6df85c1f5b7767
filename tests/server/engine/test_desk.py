"""The desk: sessions are drawn on in turn, told of, kept on disk, and none of them is lost."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading

import numpy as np
import pytest
from muse_server.refusals import Busy, Full, NotFound, Refusal
from PIL import Image
from runs import same_tensors

from muse_studio.errors import UserError
from muse_studio.hookspecs import hookimpl
from muse_studio.registry.plugins import Registry
from muse_studio.sampling.editing.canvas import Canvas

APPLE = {"do": "generate", "prompt": "an apple", "seed": 7}


def test_a_drawing_is_the_one_of_a_canvas_and_is_kept(opened, finished, model, tmp_path):
    async def test():
        async with opened(model) as desk:
            session = await desk.open()
            before = await desk.state(session)
            assert (before["place"], before["size"], before["job"], before["history"]) == (0, [32, 32], None, [])
            assert before["grids"]["base"] == {"grid": [4, 4], "known": "AAA=", "frozen": "AAA=", "erased": "//8="}
            done = await finished(desk, session, APPLE)
            drawn = Canvas.of(model).generate("an apple", seed=7)
            assert done.name == "done" and same_tensors(session.shot.canvas.tokens, drawn.tokens)
            state = done.data["state"]
            assert state == await desk.state(session) and json.dumps(state)
            assert state["history"] == [
                {
                    "n": 1,
                    "did": {"do": "generate", "prompt": "an apple", "seed": 7},
                    "seed": 7,
                    "thumbnail": f"/api/sessions/{session.id}/image?n=1",
                }
            ]
            assert (state["prompt"], state["title"], state["redo"], state["dilate"]) == ("an apple", "an apple", 0, 1)
            with Image.open(io.BytesIO(await desk.image(session))) as picture:
                assert picture.tobytes() == drawn.image.tobytes() and picture.size == (32, 32)
            with Image.open(io.BytesIO(await desk.image(session, 1, 3))) as picture:
                assert picture.size == (96, 96) and "Software" in picture.text
            (kept,) = desk.gallery.listed()
            assert (kept["prompt"], kept["seed"], kept["session"]) == ("an apple", 7, session.id)
            assert desk.gallery.path(kept["id"]).read_bytes() == await desk.image(session, 1)
            (listed,) = await desk.listed()
            assert (listed["id"], listed["title"], listed["actions"]) == (session.id, "an apple", 1)
            return session.id, state

    id, state = asyncio.run(test())

    async def again():
        async with opened(model) as desk:
            session = await desk.session(id)
            assert await desk.state(session) == state and await desk.session(id) is session

    asyncio.run(again())


def test_quick_actions_are_done_at_once_and_each_is_saved(opened, finished, model):
    async def test():
        async with opened(model) as desk:
            session = await desk.open()
            await finished(desk, session, APPLE)
            cells = {"cells": {"stage": "base", "bits": base64.b64encode(bytes([0b10000000, 0])).decode()}}
            heard = desk.events(session)
            await anext(heard)
            for action in (
                {"do": "freeze", "region": {"boxes": [[0, 0, 8, 8]]}},
                {"do": "erase", "region": None},
                {"do": "undo"},
                {"do": "thaw", "region": cells},
                {"do": "erase", "region": cells},
                {"do": "extend", "right": 8},
                {"do": "undo"},
                {"do": "redo"},
                {"do": "go", "to": 2},
                {"do": "go", "to": 4},
            ):
                assert await desk.act(session, action) is None
                event = await asyncio.wait_for(anext(heard), 5)
                assert event.name == "state" and event.data == await desk.state(session)
                assert same_tensors(desk._store.load(session.id, model).tokens, session.shot.canvas.tokens)
            state = await desk.state(session)
            assert [each["did"]["do"] for each in state["history"]] == ["generate", "freeze", "thaw", "erase"]
            assert state["redo"] == 1 and state["grids"]["base"]["erased"] != "AAA="
            assert (await desk.actions(session))[1] == {"do": "freeze", "region": ["0,0,8,8"]}
            done = await finished(desk, session, {"do": "fill"})
            assert done.name == "done" and done.data["state"]["grids"]["base"]["erased"] == "AAA="
            await heard.aclose()

    asyncio.run(test())


def test_a_cancelled_drawing_leaves_all_as_it_was(opened, finished, end_of, model, slow):
    async def test():
        async with opened(model) as desk:
            session = await desk.open()
            await finished(desk, session, APPLE)
            await desk.act(session, {"do": "erase", "region": {"boxes": [[0, 0, 16, 16]]}})
            file, state, shot = await desk.file(session), await desk.state(session), session.shot
            number = session.events.number
            desk.model.stages["base"].sampler = slow
            job = await desk.act(session, {"do": "reroll", "prompt": "a pear"})
            await slow.reached()
            slow.go(1)
            await slow.reached()
            assert (await desk.state(session))["job"] == {"id": job.id, "index": 0, "count": 1}
            for action in ({"do": "undo"}, APPLE, {"do": "discard"}):
                with pytest.raises(Busy):
                    await desk.act(session, action)
            assert not desk.cancel(job.id, "another owner") and desk.cancel(job.id)
            slow.go(1)
            assert (await end_of(desk, session, job, number)).name == "cancelled"
            assert not desk.cancel(job.id)
            assert session.shot is shot and await desk.state(session) == state and await desk.file(session) == file

    asyncio.run(test())


def test_what_takes_no_time_does_not_wait_for_others_drawings(opened, end_of, model, slow):
    model.stages["base"].sampler = slow

    async def test():
        async with opened(model) as desk:
            artist, other = await desk.open(), await desk.open()
            job = await desk.act(artist, APPLE)
            await slow.reached()
            quick = asyncio.ensure_future(desk.act(other, {"do": "freeze", "region": None}))
            opening = asyncio.ensure_future(desk.open())
            await asyncio.sleep(0.05)
            assert not quick.done()
            slow.go(1)
            await slow.reached()
            assert await quick is None and (await opening).id and artist.busy
            with pytest.raises(Busy):
                await desk.act(artist, {"do": "undo"})
            number = artist.events.number
            slow.go(10)
            assert (await end_of(desk, artist, job, number)).name == "done"
            drawn = Canvas.of(model).generate("an apple", seed=7)
            assert same_tensors(artist.shot.canvas.tokens, drawn.tokens)

    asyncio.run(test())


def test_places_are_told_while_one_waits(opened, end_of, model, slow):
    model.stages["base"].sampler = slow

    async def test():
        async with opened(model) as desk:
            sessions = [await desk.open() for _ in range(3)]
            numbers = [each.events.number for each in sessions]
            listening = [desk.events(each) for each in sessions]
            for each in listening:
                await anext(each)
            jobs = [await desk.act(each, APPLE) for each in sessions]
            await slow.reached()
            told = await asyncio.wait_for(anext(listening[2]), 5)
            assert told.name == "waiting" and told.data == {"job": jobs[2].id, "place": 2, "seconds": None}
            desk.cancel(jobs[1].id)
            told = await asyncio.wait_for(anext(listening[2]), 5)
            assert told.data["place"] == 1
            slow.go(20)
            ends = [await end_of(desk, *each) for each in zip(sessions, jobs, numbers, strict=True)]
            assert [each.name for each in ends] == ["done", "cancelled", "done"]
            for each in listening:
                await each.aclose()

    asyncio.run(test())


def test_variants_are_staged_and_the_one_that_is_taken_is_that_picture(opened, finished, model):
    async def test():
        async with opened(model) as desk:
            session = await desk.open()
            done = await finished(desk, session, APPLE | {"count": 3})
            state = done.data["state"]
            assert state["place"] == 0 and state["history"] == [] and not desk.gallery.listed()
            assert [each["seed"] for each in state["staged"]] == [7, 8, 9] and state["staged_job"] == done.data["job"]
            for job, index in ((done.data["job"], 3), ("j_none", 0)):
                with pytest.raises(NotFound):
                    await desk.accept(session, job, index)
            await desk.accept(session, done.data["job"], 1)
            drawn = Canvas.of(model).generate("an apple", seed=8)
            assert same_tensors(session.shot.canvas.tokens, drawn.tokens)
            head, _, content = state["staged"][1]["image"].partition(",")
            with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
                assert head == "data:image/png;base64" and picture.tobytes() == drawn.image.tobytes()
            (kept,) = desk.gallery.listed()
            assert kept["seed"] == 8 and (await desk.state(session))["staged"] == []
            await finished(desk, session, {"do": "reroll", "staged": True})
            assert len(session.staged) == 1
            await desk.act(session, {"do": "discard"})
            state = await desk.state(session)
            assert (state["staged"], state["staged_job"], state["place"]) == ([], None, 1)

    asyncio.run(test())


def test_seeds_that_nobody_gave_are_drawn_by_lot(opened, finished, model):
    async def test():
        async with opened(model) as desk:
            session = await desk.open()
            events = [await finished(desk, session, {"do": "generate", "prompt": "a cat"}) for _ in range(2)]
            seeds = {event.data["state"]["history"][-1]["seed"] for event in events}
            assert len(seeds) == 2

    asyncio.run(test())


def test_steps_come_with_previews_while_somebody_listens(opened, finished, model):
    async def test():
        async with opened(model) as desk:
            session = await desk.open()
            steps = []
            publish = session.events.publish
            session.events.publish = lambda name, data: (publish(name, data), steps.append((name, data)))
            heard = desk.events(session)
            await anext(heard)
            await finished(desk, session, APPLE)
            told = [data for name, data in steps if name == "step"]
            assert [(each["stage"], each["step"], each["steps"]) for each in told] == [
                *(("base", step, 4) for step in range(1, 5)),
                *(("large", step, 2) for step in range(1, 3)),
            ]
            assert told[3]["image"] and told[5]["grid"] == [8, 8] and told[3]["known"] == "//8="
            await heard.aclose()
            steps.clear()
            await finished(desk, session, APPLE)
            assert [name for name, _ in steps].count("step") == 6

    asyncio.run(test())


def test_nobody_listens_and_no_preview_is_made(opened, model):
    async def test():
        async with opened(model) as desk:
            session = await desk.open()
            told = []
            session.events.publish = lambda name, data: told.append((name, data))
            job = await desk.act(session, APPLE)
            await asyncio.wrap_future(job.result)
            await asyncio.sleep(0)
            images = [data["image"] for name, data in told if name == "step"]
            assert images == [None] * 6

    asyncio.run(test())


class Strict:
    """A filter of prompts and pictures."""

    @hookimpl
    def muse_prompt(self, prompt):
        return "no dogs" if "dog" in prompt else None

    @hookimpl
    def muse_picture(self, image, prompt):
        return "too plain" if "plain" in prompt else None


def test_a_filter_is_asked_and_nothing_is_shown_before(opened, finished, model):
    registry = Registry(entries=())
    registry.observe([("strict", Strict())])
    model.hook = registry.hook

    async def test():
        async with opened(model) as desk:
            assert not desk.previews
            session = await desk.open()
            shot = session.shot
            heard = desk.events(session)
            await anext(heard)
            told = []
            publish = session.events.publish
            session.events.publish = lambda name, data: (publish(name, data), told.append((name, data)))
            for prompt, reason in (("a dog", "no dogs"), ("a plain", "too plain")):
                event = await finished(desk, session, {"do": "generate", "prompt": prompt, "count": 2})
                assert event.name == "failed" and event.data["refused"] and reason in event.data["message"]
                assert session.shot is shot and not session.staged and not desk.gallery.listed()
            assert not any(data.get("image") for name, data in told if name in ("step", "staged"))
            done = await finished(desk, session, APPLE)
            assert done.name == "done"
            assert all(each["image"] is None for each in (await desk.steps(session, 1))["steps"])
            await heard.aclose()

    asyncio.run(test())


def test_every_step_of_a_moment_can_be_looked_at(opened, finished, model):
    async def test():
        async with opened(model) as desk:
            session = await desk.open()
            await finished(desk, session, APPLE)
            await desk.act(session, {"do": "erase", "region": {"boxes": [[0, 0, 8, 8]]}})
            steps = (await desk.steps(session, 1))["steps"]
            assert [(each["stage"], each["step"]) for each in steps] == [("base", n) for n in (1, 2, 3, 4)] + [
                ("large", 1),
                ("large", 2),
            ]
            codes = np.frombuffer(base64.b64decode(steps[-1]["codes"]), "<u2").reshape(steps[-1]["grid"])
            assert (codes == Canvas.of(model).generate("an apple", seed=7).tokens["large"][0].numpy()).all()
            first = np.frombuffer(base64.b64decode(steps[0]["codes"]), "<u2")
            known = np.unpackbits(np.frombuffer(base64.b64decode(steps[0]["known"]), np.uint8))
            assert ((first != 65535) == known).all() and steps[0]["image"].startswith("data:image/png")
            assert (await desk.steps(session, 2)) == {"steps": []}
            for n in (-1, 3):
                with pytest.raises(NotFound):
                    await desk.steps(session, n)
                with pytest.raises(NotFound):
                    await desk.image(session, n)

    asyncio.run(test())


def test_sessions_are_copied_placed_on_and_go_out_and_in(opened, finished, model):
    async def test():
        async with opened(model) as desk:
            session = await desk.open(seed=3)
            await finished(desk, session, APPLE)
            copy = await desk.open(canvas=session.id)
            assert same_tensors(copy.shot.canvas.tokens, session.shot.canvas.tokens) and copy.id != session.id
            await desk.act(copy, {"do": "undo"})
            assert copy.shot.place == 0 and session.shot.place == 1
            picture = await desk.place_picture(Image.new("RGB", (50, 40), "red"))
            placed = await desk.open(picture=picture)
            assert placed.shot.history == [{"do": "place", "picture": "a picture"}]
            again = await desk.read(await desk.file(session))
            assert same_tensors(again.shot.canvas.tokens, session.shot.canvas.tokens)
            assert again.shot.history == session.shot.history
            blank = await desk.open()
            assert (await desk.read(await desk.file(blank))).shot.place == 0
            with pytest.raises(Refusal, match="seed: expected a whole number"):
                await desk.open(seed=-1)
            for ask in (
                desk.open(picture="p_none"),
                desk.open(picture=[]),
                desk.open(canvas={}),
                desk.open(canvas="x" * 22),
                desk.session("../../etc/passwd"),
            ):
                with pytest.raises(NotFound):
                    await ask
            with pytest.raises(Refusal):
                await desk.read(b"not a canvas")

    asyncio.run(test())


def test_pictures_are_placed_at_a_place_and_all_around_stays(opened, finished, model):
    async def test():
        async with opened(model) as desk:
            session = await desk.open()
            picture = await desk.place_picture(Image.new("RGB", (8, 8), "red"))
            await finished(desk, session, APPLE)
            before = session.shot.canvas.tokens
            await desk.act(session, {"do": "place", "picture": picture, "at": [0, 16], "scale": 2.0})
            after = session.shot.canvas.tokens
            changed = (before["large"] != after["large"])[0]
            assert not changed[:4].any() and not changed[:, 4:].any()
            await desk.act(session, {"do": "erase", "region": {"boxes": [[24, 0, 8, 8]]}})
            await desk.act(session, {"do": "place", "picture": picture, "at": [-4, 0]})
            assert bool((session.shot.canvas.tokens["large"][0, 0, 6:] == -1).all())
            with pytest.raises(Refusal, match="outside of the canvas"):
                await desk.act(session, {"do": "place", "picture": picture, "at": [40, 0]})
            mask = await desk.place_picture(Image.new("L", (8, 8), 255))
            await desk.act(session, {"do": "freeze", "region": {"picture": mask}})
            black = await desk.place_picture(Image.new("L", (8, 8), 0))
            with pytest.raises(Refusal, match="white nowhere"):
                await desk.act(session, {"do": "freeze", "region": {"picture": black}})

    asyncio.run(test())


def test_the_oldest_idle_session_leaves_memory_and_comes_back(opened, finished, model, slow):
    async def test():
        async with opened(model, sessions=2) as desk:
            first = await desk.open()
            second = await desk.open()
            await finished(desk, second, APPLE)
            await desk.open()
            assert next(iter(desk._rooms)) is second
            back, same = await asyncio.gather(desk.session(first.id), desk.session(first.id))
            assert back is same and back is not first and back.shot.place == 0
            assert [each["id"] for each in await desk.listed()] == [second.id]
            listening = [desk.events(each) for each in desk._rooms]
            for each in listening:
                await anext(each)
            with pytest.raises(Full, match="canvases are in use"):
                await desk.open()
            for each in listening:
                await each.aclose()

    asyncio.run(test())


def test_where_the_disk_refuses_the_canvas_stays_as_it_was(opened, finished, model, monkeypatch):
    async def test():
        async with opened(model) as desk:
            session = await desk.open()
            await finished(desk, session, APPLE)
            shot = session.shot

            def full(id, canvas):
                raise UserError(f"{desk._store.path(id)} could not be written: no space left; make room")

            monkeypatch.setattr(desk._store, "save", full)
            event = await finished(desk, session, {"do": "reroll"})
            assert event.name == "failed" and "no space left" in event.data["message"]
            assert str(desk._store.folder) not in event.data["message"]
            with pytest.raises(UserError, match="no space left"):
                await desk.act(session, {"do": "undo"})
            assert session.shot is shot

    asyncio.run(test())


def test_torch_is_the_model_threads_alone(opened, finished, model, monkeypatch):
    threads = set()
    decode, encode = type(model.last).decode, type(model.last.tokenizer).encode

    def noted(call):
        def noting(*given):
            threads.add(threading.current_thread().name)
            return call(*given)

        return noting

    monkeypatch.setattr(type(model.last), "decode", noted(decode))
    monkeypatch.setattr(type(model.last.tokenizer), "encode", noted(encode))

    async def test():
        async with opened(model) as desk:
            session = await desk.open(picture=await desk.place_picture(Image.new("RGB", (50, 40), "red")))
            await finished(desk, session, APPLE)
            await desk.act(session, {"do": "undo"})
            await desk.image(session, 2)
            await desk.steps(session, 2)
            await desk.read(await desk.file(session))

    asyncio.run(test())
    assert threads == {"muse model"}


def test_closing_cancels_what_is_drawn_and_ends_the_streams(opened, model, slow):
    model.stages["base"].sampler = slow

    async def test():
        async with opened(model) as desk:
            session = await desk.open()
            heard = desk.events(session)
            await anext(heard)
            job = await desk.act(session, APPLE)
            await slow.reached()
            asyncio.get_running_loop().call_later(0.05, slow.go, 10)
        assert job.state == "cancelled"
        with pytest.raises(StopAsyncIteration):
            while True:
                await asyncio.wait_for(anext(heard), 5)

    asyncio.run(test())
