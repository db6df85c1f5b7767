"""The dialects over a desk that draws plain colours, at a real address."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from fake_desk import FakeDesk
from muse_server.web.connection import configured
from openai import OpenAI
from serving import serving
from spoken import speaking


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def address(desk: FakeDesk) -> Iterator[str]:
    """Where the desk's dialects answer."""
    with serving(lambda port: configured(speaking(desk))) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def client(address: str) -> Iterator[OpenAI]:
    """The real client, which tries once."""
    with OpenAI(api_key="unused", base_url=f"{address}/v1", max_retries=0) as opened:
        yield opened


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    """Plain HTTP to the same address."""
    with httpx.Client(base_url=address, timeout=10) as opened:
        yield opened
