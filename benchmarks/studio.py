"""What the page costs: its start, a picture on it beside one drawn without it, its answers under load, its memory.

    python benchmarks/studio.py            # a table in Markdown
    python benchmarks/studio.py --only queue memory

A server of the embedded model in a process of its own, and a real Chromium, Debian's, driven by playwright. The picture
is drawn in turn on the page, every step of it shown, and by `model.draw` in this process; that ratio counts, the times
are those of the machine. Clients of the load have addresses of loopback of their own, as an address may have 8 streams.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

import muse_studio as ms

PROMPT = "a red apple, noto style"
CLIENTS, ADDRESSES, PICTURES = 24, 6, 200
MIB = 2**20

DRAWN = """() => new Promise(done => {
    const [draw, stop] = [document.getElementById("draw"), document.getElementById("stop")];
    const began = performance.now();
    let drawing = false;
    const watching = new MutationObserver(() => {
        if (stop.hidden && drawing) {
            watching.disconnect();
            done(performance.now() - began);
        }
        drawing = drawing || !stop.hidden;
    });
    watching.observe(stop, { attributes: true });
    draw.click();
})"""
"""Draws, and gives the milliseconds until the page is ready for the next; it has the page paint nothing for that."""


class Row(NamedTuple):
    """A line of the table."""

    what: str
    measured: str
    asked: str


@contextmanager
def served(out: Path) -> Iterator[tuple[str, int]]:
    """The address and the process of a `muse studio`."""
    command = [sys.executable, "-m", "muse_studio", "studio", "port=0", "open=false", f"out={out}"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        for line in server.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0], server.pid
                return
        raise SystemExit("muse studio ended without an address")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)


def opened(browser: Browser, address: str) -> Page:
    """The page, ready to be drawn on."""
    page = browser.new_page()
    page.goto(address)
    page.locator("html[data-ready]").wait_for(state="attached", timeout=60_000)
    return page


def start(browser: Browser, folder: Path) -> list[Row]:
    """From the start of the process to a page that can be used; the first one fills the file cache."""
    took = []
    for number in range(4):
        began = time.perf_counter()
        with served(folder / f"start-{number}") as (address, _):
            page = opened(browser, address)
            took.append(time.perf_counter() - began)
            page.close()
    told = f"{statistics.median(took[1:]):.1f} s (fastest {min(took[1:]):.1f})"
    return [Row("start to usable page, whole process", told, "<= 6 s")]


def picture(browser: Browser, folder: Path) -> list[Row]:
    """A picture on the page, all its steps shown, and one by `model.draw`, in turn."""
    model = ms.load("models/emoji")
    on_page, alone = [], []
    with served(folder / "picture") as (address, _):
        page = opened(browser, address)
        page.fill("#prompt", PROMPT)
        for seed in range(8):
            page.fill("#seed", str(seed))
            on_page.append(page.evaluate(DRAWN))
            began = time.perf_counter()
            model.draw(PROMPT, seed=seed)
            alone.append((time.perf_counter() - began) * 1e3)
        page.close()
    there, here = statistics.median(on_page[2:]), statistics.median(alone[2:])
    return [
        Row("a picture on the page, steps shown", f"{there:.0f} ms", ""),
        Row("`model.draw`, in turn with it", f"{here:.0f} ms", ""),
        Row("ratio", f"{there / here:.2f}", "<= 1.5"),
    ]


def sample(port: int, until: float, told: Any) -> None:
    """Ask for the queue again and again, in a process of its own, and tell the milliseconds that each took."""
    took = []
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while time.time() < until:
        began = time.perf_counter()
        asking.request("GET", "/api/queue")
        asking.getresponse().read()
        took.append((time.perf_counter() - began) * 1e3)
        time.sleep(0.02)
    told.send(took)


async def client(address: str, number: int, on: Callable[[int], bool]) -> int:
    """Draws pictures one after the other, its stream open, as long as it may; how many."""
    transport = httpx.AsyncHTTPTransport(local_address=f"127.0.0.{2 + number % ADDRESSES}")
    done = 0
    async with httpx.AsyncClient(base_url=address, transport=transport, timeout=600) as asking:
        session = f"/api/sessions/{(await asking.post('/api/sessions', json={})).json()['id']}"
        async with asking.stream("GET", f"{session}/events") as stream:
            name = ""
            async for line in stream.aiter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                if not line.startswith("data: ") or name not in ("state", "done"):
                    continue
                done += name == "done"
                if not on(done):
                    return done
                if done or not json.loads(line.removeprefix("data: "))["job"]:
                    await asking.post(f"{session}/actions", json={"do": "generate", "prompt": PROMPT})
    return done


def crowd(address: str, on: Callable[[int], bool], clients: int = CLIENTS) -> int:
    """So many clients at once, in a thread, as playwright has the loop of this one; the pictures that they had."""

    async def together() -> int:
        return sum(await asyncio.gather(*(client(address, number, on) for number in range(clients))))

    with ThreadPoolExecutor(1) as apart:
        return apart.submit(lambda: asyncio.run(together())).result()


def queue(browser: Browser, folder: Path) -> list[Row]:
    """How fast the server answers others while 24 clients draw with their streams open."""
    seconds = 30.0
    with served(folder / "queue") as (address, _):
        until = time.time() + seconds
        hears, tells = multiprocessing.Pipe(duplex=False)
        asking = multiprocessing.get_context("spawn").Process(
            target=sample, args=(int(address.rpartition(":")[2]), until, tells)
        )
        asking.start()
        pictures = crowd(address, lambda _: time.time() < until)
        took = sorted(hears.recv())
        asking.join()
    cuts = statistics.quantiles(took, n=100)
    return [
        Row(f"pictures in {seconds:.0f} s, {CLIENTS} clients with streams", f"{pictures}", "all end"),
        Row(f"GET /api/queue meanwhile, median of {len(took)}", f"{cuts[49]:.1f} ms", ""),
        Row("the same, p99", f"{cuts[98]:.1f} ms (longest {took[-1]:.0f})", "< 50 ms"),
    ]


def memory(browser: Browser, folder: Path) -> list[Row]:
    """What the server's process takes, before and after many pictures."""
    each = -(-PICTURES // CLIENTS // 2)
    with served(folder / "memory") as (address, process):
        crowd(address, lambda done: done < 1, clients=1)  # a weight is read from disk when it is first needed
        loaded = resident(process)
        first = crowd(address, lambda done: done < each)
        middle = resident(process)
        second = crowd(address, lambda done: done < each)
        end = resident(process)
    return [
        Row("memory after the first picture", f"{loaded / MIB:.0f} MiB", ""),
        Row(f"after {first} pictures", f"{middle / MIB:.0f} MiB", ""),
        Row(f"after {first + second} pictures", f"{end / MIB:.0f} MiB", f"<= {loaded / MIB + 64:.0f} MiB"),
    ]


def resident(process: int) -> int:
    """Bytes of a process in memory, by /proc."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


MEASURED = {"start": start, "picture": picture, "queue": queue, "memory": memory}


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", choices=MEASURED, default=list(MEASURED))
    options.add_argument("--chromium", default=shutil.which("chromium"))
    asked = options.parse_args()
    print(
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n\n| what | measured | asked |\n| --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=asked.chromium, args=["--no-sandbox"])
        for name in asked.only:
            for row in MEASURED[name](browser, Path(folder)):
                print(f"| {' | '.join(row)} |", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
