"""A request's head, as the guard reads it: each header that decides, once, and by which of our names it asks."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from muse_studio.errors import SettingError

if TYPE_CHECKING:
    from starlette.types import Scope

ONCE = frozenset({"authorization", "content-length", "content-type", "host", "origin"})
"""Headers that decide something, and may stand in a request once only, as all that begin with `sec-fetch-`."""

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""What this machine always goes by for itself."""

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


class Malformed(Exception):
    """A head that no browser and no client sends."""


@dataclass(frozen=True)
class Asked:
    """A request's head.

    headers: by names in lower case; of a header that came twice, and decides nothing, the first.
    cookies: all that came, as text. local: the address and port that it reached.
    """

    method: str
    path: str
    headers: dict[str, str]
    cookies: str
    scheme: str
    local: str

    @classmethod
    def of(cls, scope: Scope) -> Asked:
        """Raises Malformed where it has no Host or two, or two of another header that decides."""
        headers: dict[str, str] = {}
        cookies = []
        for raw, value in scope["headers"]:
            name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
            if name in headers and (name in ONCE or name.startswith("sec-fetch-")):
                raise Malformed(f"the header {name} stands there twice")
            headers.setdefault(name, text)
            if name == "cookie":
                cookies.append(text)
        if "host" not in headers:
            raise Malformed("the header host is missing")
        if not scope.get("raw_path", b"/").startswith(b"/"):
            raise Malformed("what is asked for must begin with a slash")
        scheme = scope.get("scheme", "http")
        return cls(scope["method"], scope["path"], headers, ";".join(cookies), scheme, _local(scope))

    @property
    def host(self) -> str:
        """What it calls this server, with the port where it says one."""
        return self.headers["host"].lower()

    @property
    def kind(self) -> str:
        """Its content type without parameters, such as application/json; empty where it has none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def has_body(self) -> bool:
        """Whether its head says that a body follows."""
        return "transfer-encoding" in self.headers or self.headers.get("content-length", "0").strip() != "0"


def names(host: str, port: int, hosts: Sequence[str]) -> frozenset[str]:
    """What a request may call this server: loopback's names and `host` with our port, and what `hosts` names.

    A name of `hosts` without a port is meant with ours, and alone, as behind a proxy.
    """
    ours = {*LOOPBACK, *([] if _is_any(host) else [_bracketed(host)])}
    exact = {f"{name}:{port}" for name in ours} | (ours if port == 80 else set())
    named = {name.lower() for name in hosts}
    return frozenset(exact | named | {f"{name}:{port}" for name in named if not re.search(r":\d+$", name)})


def check_names(hosts: Iterable[str], origins: Iterable[str]) -> None:
    """Raise SettingError for a name of a host or an origin that no request can have."""
    for name in hosts:
        if not _HOST.fullmatch(name.lower()):
            raise SettingError(
                "hosts", f"{name!r} is no name of a host; give one such as studio.example or 10.0.0.5:80"
            )
    for origin in origins:
        scheme, _, host = origin.partition("://")
        if scheme not in ("http", "https") or not _HOST.fullmatch(host):
            raise SettingError("origins", f"{origin!r} is no origin; give one such as https://studio.example")


def _is_any(host: str) -> bool:
    """Whether a server there listens at each of the machine's addresses."""
    return host in ("", "0.0.0.0", "::")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host.lower()


def _local(scope: Scope) -> str:
    """The very address and port that the client reached us at: a name that was pointed here is none. Else empty."""
    server = scope.get("server")
    if server is None or server[1] is None:
        return ""
    try:
        address = ipaddress.ip_address(server[0].partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return f"{_bracketed(str(mapped or address))}:{server[1]}"
