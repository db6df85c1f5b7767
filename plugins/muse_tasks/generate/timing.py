"""How long pictures take, and on what machine: what makes times comparable."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def timed(seconds: list[float], pictures: int) -> Iterator[None]:
    """Add the seconds a picture of what is done within; it must end on the CPU, as a device goes on by itself."""
    began = time.perf_counter()
    yield
    seconds.append((time.perf_counter() - began) / pictures)


def machine(device: torch.device) -> str:
    """What computes, in a line: "Intel(R) Xeon(R) Processor, 2 threads, torch 2.13.0"."""
    if device.type == "cuda":
        computes = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        threads = torch.get_num_threads()
        computes = f"{_processor()}, {threads} thread{'s' * (threads != 1)}"
    else:
        computes = device.type
    return f"{computes}, torch {torch.__version__}"


def _processor() -> str:
    """The processor's name where the system tells it, else its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:  # not Linux
        names = []
    return next(iter(names), platform.processor() or platform.machine())
