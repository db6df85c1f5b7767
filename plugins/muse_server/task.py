"""The task `studio`: a model behind a page to draw on, and behind the APIs of other programs."""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

from muse_server.web.asked import check_names
from muse_studio.contracts import NO_RUN, RunContext, TextEncoder
from muse_studio.errors import SettingError, UserError
from muse_studio.runtime.files import open_folder, path_of
from muse_studio.sampling.model import Model
from muse_studio.sampling.stage import Stage, check_fit

AUTO = "auto"
SHORTEST = 16
"""Letters of a token that one chooses oneself: whoever is on the network may try as many as there is time for."""
TOKEN_BYTES = 32
NEEDED = ("multipart", "starlette", "uvicorn")
"""Modules of the extra `studio`."""
MODEL = ("stages", "text_encoder")
"""What of the recipe a picture carries; where it was drawn, and by which token, is nobody's business."""


@dataclass
class Studio:
    """Serve a page to draw on, OpenAI's images API and, if asked, A1111's, until it is stopped by Ctrl-C.

    stages, text_encoder: the one model that all who ask share, one job after the other, in turn.
    name: of the model, for the page and for programs; `muse studio RECIPE` gives the recipe's.
    host: where it listens, a number or a name. Anything but this machine alone needs a token.
    port: of this host; 0 takes one that is free, which is printed.
    token: what a browser or a program must know: auto makes one and prints it with the address, null asks for none.
    hosts: further names by which this server is asked for, such as that of a proxy before it: studio.example.
    origins: pages of other sites whose scripts may ask, such as https://studio.example; none by default.
    out: a folder for the gallery, the canvases and the bin; made where it is missing.
    open: opens the page in this machine's browser.
    a1111: speaks a part of A1111's API too.
    strict_model: refuses programs that ask for a model of another name, where else they get this one.
    device: auto, cpu, cuda, cuda:1, mps, ...
    """

    stages: dict[str, Stage]
    text_encoder: TextEncoder
    name: str = "model"
    host: str = "127.0.0.1"
    port: int = 7860
    token: str | None = None
    hosts: list[str] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    out: str = "studio"
    open: bool = False
    a1111: bool = False
    strict_model: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        check_fit(self.stages, self.text_encoder)
        if not 0 <= self.port <= 65535:
            raise SettingError("port", f"port is {self.port}; give one from 1024 to 65535, or 0 for any that is free")
        if not self.host.strip() or any(each.isspace() or each in "/@#" for each in self.host):
            raise SettingError("host", f"host is {self.host!r}; give a number or a name, such as 127.0.0.1 or 0.0.0.0")
        if self.token is not None and self.token != AUTO and not _is_token(self.token):
            cure = f"give {SHORTEST} or more letters, digits, - and _, or auto to have one made"
            raise SettingError("token", f"token is too short, or has other letters; {cure}")
        if not is_loopback(self.host) and self.token is None:
            cure = "add token=auto, which makes one, or leave host at 127.0.0.1"
            raise SettingError("host", f"host is {self.host}: whoever reaches this machine could ask; {cure}")
        check_names(self.hosts, self.origins)
        if not self.out.strip():
            raise SettingError("out", 'out is empty; name a folder, such as "studio"')

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> Any:
        """Serve until Ctrl-C or SIGTERM; all canvases are saved then.

        Raises UserError where the extra `studio` is not installed, the port is taken, or `out` can't be written.
        """
        if missing := [name for name in NEEDED if find_spec(name) is None]:
            line = "pip install 'muse-studio[studio]'"
            raise UserError(f"the page needs {', '.join(missing)}, which is not installed; {line} installs it")
        from muse_server import ports, serving
        from muse_server.web.offered import Served

        folder = open_folder(path_of(self.out), "out")
        with ports.bound(self.host, self.port) as listener:  # before the model takes its time
            recipe = context.recipe and {key: context.recipe[key] for key in MODEL if key in context.recipe}
            model = Model.of_run(self.stages, self.text_encoder, self.device, hook, replace(context, recipe=recipe))
            served = Served(
                name=self.name,
                host=self.host,
                port=listener.getsockname()[1],
                hosts=tuple(self.hosts),
                origins=tuple(self.origins),
                token=secrets.token_urlsafe(TOKEN_BYTES) if self.token == AUTO else self.token,
                a1111=self.a1111,
                strict_model=self.strict_model,
            )
            return serving.serve(model, served, folder, listener, self.open)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's alone: a number of the loopback, or its own name for it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _is_token(token: str) -> bool:
    return len(token) >= SHORTEST and all(each.isascii() and (each.isalnum() or each in "-_") for each in token)
