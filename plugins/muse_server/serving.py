"""Runs the server: tells its address, opens the browser, and comes to a good end.

The model stays in the main thread, and the event loop gets another. torch computes by OpenMP, which keeps threads for
each one that ever computed; where there are more of them than cores, all sleep between any two operations. A model that
is loaded in one thread and draws in another takes a quarter to a half as long again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import warnings
import webbrowser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from muse_server.desk import Desk
from muse_server.gallery import Gallery
from muse_server.web.app import make_app
from muse_server.web.connection import configured
from muse_server.web.offered import Served
from muse_server.work.tidying import share_arena
from muse_studio.errors import Terminated, UserError
from muse_studio.sampling.model import Model

ANYWHERE = {"0.0.0.0": ("127.0.0.1", socket.AF_INET), "::": ("::1", socket.AF_INET6)}
"""Hosts that stand for all addresses, each with this machine's own."""
FAR = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses for documentation (RFC 5737, 3849): which of ours would ask them is known without asking."""


@dataclass
class Ended:
    """What was served, once it has ended. pictures: that were added to the gallery of `folder` meanwhile."""

    address: str
    folder: Path
    pictures: int

    def summary(self) -> str:
        """One line: what there is now."""
        count = {0: "no", 1: "one"}.get(self.pictures, self.pictures)
        new = f"{count} new picture{'s' * (self.pictures != 1)}"
        return f"{self.folder}  {new} in its gallery; all canvases are saved"


def serve(model: Model, served: Served, folder: Path, listener: socket.socket, browse: bool) -> Ended:
    """Serve at a bound socket until Ctrl-C, or until SIGTERM, which raises Terminated once all is saved.

    It is called in the main thread, which alone hears signals; the model draws there. UserError where its device was
    lost meanwhile.

    folder: of the gallery and the canvases. browse: open the page in a browser here.
    """
    share_arena()
    gallery = Gallery(folder)
    before = len(gallery)
    closing = asyncio.Event()
    desk = Desk(model, gallery, folder, apart=False)
    server = _Server(configured(make_app(desk, served, closing)), desk, served, closing, browse)
    with ThreadPoolExecutor(1, "muse server") as apart, server.hearing():
        ended = apart.submit(server.run, [listener])
        ended.add_done_callback(lambda _: desk.engine.close())  # where it could not even begin
        desk.engine.run()
        ended.result()
    if server.heard == signal.SIGTERM:
        raise Terminated
    if desk.lost.is_set():
        raise UserError(f"the device {model.device} is gone; all canvases are saved: start again, or with device=cpu")
    return Ended(addresses(served)[0], folder, len(gallery) - before)


def addresses(served: Served) -> list[str]:
    """Where the page is, for who sits here and, where it listens to a network, for others; with the token."""
    here, family = ANYWHERE.get(served.host, (served.host, None))
    hosts = [here] if family is None else [here, *filter(None, [_address(family)])]
    end = f":{served.port}/" + ("" if served.token is None else f"#token={served.token}")
    return [f"http://{f'[{host}]' if ':' in host else host}{end}" for host in dict.fromkeys(hosts)]


def _address(family: socket.AddressFamily) -> str | None:
    """This machine's address on its network, None where it is on none; nothing is sent."""
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((FAR[family], 9))
        except OSError:
            return None
        found: str = asking.getsockname()[0]
        return found


class _Server(uvicorn.Server):
    """uvicorn's server, which tells its address when it is up, and ends its streams when it ends."""

    heard: int | None = None
    """The signal that ended it."""

    def __init__(
        self, config: uvicorn.Config, desk: Desk, served: Served, closing: asyncio.Event, browse: bool
    ) -> None:
        super().__init__(config)
        self._desk, self._served, self._closing, self._browse = desk, served, closing, browse

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say where."""
        await super().startup(sockets)
        if not self.started:
            return
        first, *others = addresses(self._served)
        lines = [f"muse studio: {first}", *(f"  on the network: {each}" for each in others), "Ctrl-C ends it"]
        print("\n".join(lines), file=sys.stderr, flush=True)
        if others or first.partition("//")[2].partition(":")[0] != "127.0.0.1":
            _warn_of_plain()
        if self._browse and _has_screen():
            self._browsing = asyncio.get_running_loop().run_in_executor(None, webbrowser.open, first)  # takes its time

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now, which is asked ten times a second: also where the model's device is gone."""
        return await super().on_tick(counter) or self._desk.lost.is_set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End streams, finish what is being answered, and save all canvases."""
        self._closing.set()
        await super().shutdown(sockets)

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Within it Ctrl-C and SIGTERM end the server, and do no more than that: the first one is kept as `heard`."""
        former = {each: signal.signal(each, self.handle_exit) for each in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for each, handler in former.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Have the server end; at the second Ctrl-C at once."""
        self.heard = self.heard or sig
        super().handle_exit(sig, frame)


def _warn_of_plain() -> None:
    warnings.warn(
        "what goes over the network is not encrypted: whoever listens there sees the token and all pictures; have a "
        "proxy with TLS before it, or only people whom you know on it",
        stacklevel=2,
    )


def _has_screen() -> bool:
    """Whether a browser could show itself: one that draws in the terminal would take it from its user."""
    return os.name == "nt" or sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
