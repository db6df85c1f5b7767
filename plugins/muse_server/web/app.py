"""The application: routes behind the guard and the limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette

if TYPE_CHECKING:
    from muse_server.desk import Desk


@dataclass(frozen=True)
class Served:
    """How a server is reached, and what it offers.

    name: the model's recipe, as the page shows it. host, port: where it listens. hosts: further names that a Host
    header may have. origins: pages of others that may ask. token: what a client must know, None where it need not.
    a1111: whether the dialect of A1111 is spoken. strict_model: whether a program must name the served model.
    """

    name: str
    host: str
    port: int
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    token: str | None = None
    a1111: bool = False
    strict_model: bool = False


def make_app(desk: Desk, served: Served) -> Starlette:
    """The whole application, its guard around it; the desk is opened and closed with it."""
    raise NotImplementedError
