"""Many clients at once, on loopback: all are served, none hangs, and none is left in memory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import until
from small_studio import Studio, small_studio
from studios import process_of, started

pytestmark = pytest.mark.slow

CLIENTS = 24
ADDRESSES = 6
"""Of loopback, as one address may have 8 streams: four clients each."""
MIB = 2**20


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    with small_studio(tmp_path, steps=4, seconds=0.02) as running:
        yield running


def client(address: str, number: int = 0, **settings: Any) -> httpx.AsyncClient:
    """A client at an address of its own."""
    transport = httpx.AsyncHTTPTransport(local_address=f"127.0.0.{2 + number % ADDRESSES}", retries=0)
    return httpx.AsyncClient(base_url=address, transport=transport, timeout=120, **settings)


async def events(asking: httpx.AsyncClient, session: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The names and data of a session's events."""
    async with asking.stream("GET", f"/api/sessions/{session}/events") as stream:
        assert stream.status_code == 200
        name = ""
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


async def drawn(asking: httpx.AsyncClient, session: str, how: dict[str, Any]) -> list[str]:
    """Draws a picture while its events are heard; their names, up to the end."""
    heard: list[str] = []
    async for name, data in events(asking, session):
        heard.append(name)
        if len(heard) == 1:  # it listens: now it may draw
            answer = await asking.post(f"/api/sessions/{session}/actions", json={"do": "generate", **how})
            assert answer.status_code == 202, answer.text
            job = answer.json()["job"]
        elif name in ("done", "failed", "cancelled") and data["job"] == job:
            return heard
    raise AssertionError(f"the stream ended after {heard}")


async def one(address: str, number: int, pictures: int, how: dict[str, Any]) -> list[list[str]]:
    async with client(address, number) as asking:
        session = (await asking.post("/api/sessions", json={"seed": number})).json()["id"]
        return [await drawn(asking, session, {"prompt": f"picture {each}", **how}) for each in range(pictures)]


async def together(address: str, pictures: int, **how: Any) -> list[list[str]]:
    """What each of many clients heard of each of its pictures."""
    async with asyncio.timeout(600):
        each = await asyncio.gather(*(one(address, number, pictures, how) for number in range(CLIENTS)))
    return [heard for of_client in each for heard in of_client]


def listeners(studio: Studio) -> int:
    return sum(session.events.listeners for session in studio.desk._rooms)


def test_all_of_many_clients_end(studio: Studio) -> None:
    heard = asyncio.run(together(studio.address, pictures=4))
    assert len(heard) == CLIENTS * 4
    assert {names[-1] for names in heard} == {"done"}
    assert all("step" in names for names in heard)
    assert until(lambda: listeners(studio) == 0) is True
    assert studio.desk.engine.queue()["waiting"] == []
    assert {answer.status for answer in studio.answers} <= {200, 201, 202}


def test_clients_that_go_amid_a_stream_are_forgotten(studio: Studio) -> None:
    async def leave(number: int) -> None:
        async with client(studio.address, number) as asking:
            session = (await asking.post("/api/sessions", json={})).json()["id"]
            await asking.post(f"/api/sessions/{session}/actions", json={"do": "generate", "prompt": "a kite"})
            async for name, _ in events(asking, session):
                if name in ("step", "done"):
                    return

    async def all_leave() -> None:
        async with asyncio.timeout(120):
            await asyncio.gather(*(leave(number) for number in range(CLIENTS)))

    asyncio.run(all_leave())
    until(lambda: listeners(studio) == 0)
    assert until(lambda: studio.desk.engine.queue()["now"] is None)  # what they asked for is drawn all the same


def test_one_stream_too_many_is_refused_and_told_when_to_come_back(studio: Studio) -> None:
    async def ask() -> None:
        async with client(studio.address) as asking, asyncio.timeout(60):
            session = (await asking.post("/api/sessions", json={})).json()["id"]
            path = f"/api/sessions/{session}/events"
            streams = [asking.stream("GET", path) for _ in range(9)]
            answers = [await stream.__aenter__() for stream in streams]
            assert sorted(answer.status_code for answer in answers) == [200] * 8 + [429]
            refused = next(answer for answer in answers if answer.status_code == 429)
            assert refused.headers["retry-after"] == "1"
            assert (await asking.get("/api/queue")).status_code == 200
            await streams[0].__aexit__(None, None, None)
            async with client(studio.address, 1) as other, other.stream("GET", path) as answer:
                assert answer.status_code == 200  # another address has its own
            for _ in range(100):
                async with asking.stream("GET", path) as answer:
                    if answer.status_code == 200:
                        break
                await asyncio.sleep(0.05)
            assert answer.status_code == 200
            for stream in streams[1:]:
                await stream.__aexit__(None, None, None)

    asyncio.run(ask())
    until(lambda: listeners(studio) == 0)


def test_a_crowd_at_one_address_is_told_to_wait_and_all_get_theirs(studio: Studio) -> None:
    async def patient(asking: httpx.AsyncClient, number: int) -> int:
        """How often it was told to come back before it had its picture."""
        for tries in range(200):
            answer = await asking.post("/v1/images/generations", json={"prompt": f"picture {number}"})
            if answer.status_code == 200:
                assert answer.json()["data"][0]["b64_json"]
                return tries
            assert answer.status_code == 429
            await asyncio.sleep(min(0.2, float(answer.headers["retry-after"])))
        raise AssertionError("it was never served")

    async def crowd() -> list[int]:
        async with client(studio.address) as asking, asyncio.timeout(180):
            return await asyncio.gather(*(patient(asking, number) for number in range(CLIENTS)))

    assert max(asyncio.run(crowd())) > 0
    assert studio.desk.engine.queue()["now"] is None


def test_a_thousand_canvases_keep_their_places(studio: Studio) -> None:
    """More than fit into memory: the oldest go to disk, and come back when they are asked for."""

    async def ask() -> None:
        async with client(studio.address) as asking, asyncio.timeout(300):
            ids = [(await asking.post("/api/sessions", json={"seed": 1})).json()["id"] for _ in range(1000)]
            assert len(set(ids)) == 1000
            assert len(studio.desk._rooms) <= 64
            for id in ids[::100]:
                assert (await asking.get(f"/api/sessions/{id}")).json()["id"] == id

    asyncio.run(ask())


def resident(process: int) -> int:
    """Bytes of a process in memory, once it had time to give back what its work left."""
    time.sleep(0.5)
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_stays_after_two_hundred_pictures(tmp_path: Path) -> None:
    """The embedded model, by a few steps a picture, which is what the memory does not depend on."""
    quick = {"base": {"sampler": {"steps": 2}}, "superres": {"sampler": {"steps": 1}}}
    with started(tmp_path) as address:
        process = process_of(address)
        asyncio.run(one(address, 0, 1, {"settings": quick}))  # a weight is read from disk when it is first needed
        loaded = resident(process)
        asyncio.run(together(address, pictures=4, settings=quick))
        middle = resident(process)
        asyncio.run(together(address, pictures=5, settings=quick))
        end = resident(process)
    print(f"{loaded / MIB:.0f} MiB after the first, {middle / MIB:.0f} after 96 pictures, {end / MIB:.0f} after 216")
    assert end - loaded <= 64 * MIB
    assert end - middle <= 32 * MIB  # one that is kept takes 1 MiB: 120
