"""The dialects over a desk that draws plain colours, at a real address.

The `openai` client takes long to import, so it is done by what makes one, and not by everybody who lists the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

import httpx
import pytest
from fake_desk import FakeDesk
from muse_server.web.connection import configured
from serving import serving
from spoken import speaking

if TYPE_CHECKING:
    from openai import OpenAI


@pytest.fixture(scope="session")
def openai() -> ModuleType:
    """The package `openai`, for its client and its errors."""
    import openai

    return openai


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def address(desk: FakeDesk) -> Iterator[str]:
    """Where the desk's dialects answer."""
    with serving(lambda port: configured(speaking(desk))) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def client(address: str, openai: ModuleType) -> Iterator[OpenAI]:
    """The real client, which tries once."""
    with openai.OpenAI(api_key="unused", base_url=f"{address}/v1", max_retries=0) as opened:
        yield opened


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    """Plain HTTP to the same address."""
    with httpx.Client(base_url=address, timeout=10) as opened:
        yield opened
