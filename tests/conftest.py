"""What all tests share: no model hub is asked, nobody else listens, and property tests take the time they need."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported, which reads it then
for name in ("MUSE_OBSERVERS", "MUSE_TRACE", "MUSE_TRACEBACK", "MUSE_WITHOUT"):
    os.environ.pop(name, None)  # of whoever runs the tests

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # each computes on its share of the cores
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // int(workers)))

# A busy machine is no failure of what is tested.
patient = [HealthCheck.too_slow]
settings.register_profile("muse_studio", deadline=None, derandomize=True, suppress_health_check=patient)
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
