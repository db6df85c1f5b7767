"""The whole server over a model of fakes, at a real address; and the embedded model, for what needs its recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from muse_server.desk import Desk
from muse_server.gallery import Gallery
from muse_server.web.app import Served, make_app
from muse_server.web.connection import configured
from serving import serving
from watched import Watched

import muse_studio
from muse_studio.sampling.model import Model
from muse_studio.testing import FakeSampler, FakeTextEncoder, tiny_stage


@pytest.fixture(scope="session")
def emoji() -> Model:
    """The embedded model."""
    return muse_studio.load("models/emoji")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk whose model draws in milliseconds."""
    stages = {"base": tiny_stage(16, seed=1, sampler=FakeSampler(steps=4)), "large": tiny_stage(32, seed=2)}
    return Desk(Model(stages, FakeTextEncoder()), Gallery(tmp_path), tmp_path)


@pytest.fixture
def watched() -> Watched:
    """What the event loop's thread does that it may not."""
    return Watched()


@pytest.fixture
def http(desk: Desk, watched: Watched) -> Iterator[httpx.Client]:
    """A client of the whole server, all dialects spoken."""

    def made(port: int) -> Any:
        return configured(watched.within(make_app(desk, Served("models/emoji", "127.0.0.1", port, a1111=True))))

    with serving(made) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client


@pytest.fixture
def canvas(http: httpx.Client) -> str:
    """The path of a new canvas's routes."""
    return f"/api/sessions/{http.post('/api/sessions', json={'seed': 5}).json()['id']}"
