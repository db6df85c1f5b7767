"""What all tests share: no model hub is asked, nobody else listens, and property tests take the time they need."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported, which reads it then
for name in ("MUSE_OBSERVERS", "MUSE_TRACE", "MUSE_TRACEBACK", "MUSE_WITHOUT"):
    os.environ.pop(name, None)  # of whoever runs the tests

settings.register_profile("muse_studio", deadline=None, derandomize=True)
settings.load_profile("muse_studio")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """Spare the garbage collector the modules: they are there to stay, and each look through them all takes long."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
