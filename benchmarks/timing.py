"""What benchmarks within one process share: seconds taken in turn, FLOPs, what the machine can do."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

MATRIX = 4096
"""Rows and columns of the product that says what the machine can do."""


def medians(
    runs: Mapping[str, Callable[[], object]],
    repeats: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Seconds of each run, the device's work among them: a warm-up of each, then the median of rounds in turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            began = clock()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append(clock() - began)
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def flops(run: Callable[[], object]) -> int:
    """Floating-point operations of one call."""
    # Written out for the count: the counter does not know every fused kernel, and counts it as nothing.
    packed = {torch.ops.mkldnn._linear_pointwise: _packed_flops}
    with FlopCounterMode(display=False, custom_mapping=packed) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


def _packed_flops(given: Sequence[int], *others: object, out_shape: Sequence[int], **settings: object) -> int:
    return 2 * math.prod(given) * out_shape[-1]


def product(dtype: torch.dtype, device: torch.device) -> Callable[[], torch.Tensor]:
    """The product of two MATRIX x MATRIX matrices, as a call of 2 * MATRIX**3 FLOPs."""
    matrix = torch.randn(MATRIX, MATRIX, dtype=dtype, device=device)
    return lambda: matrix @ matrix


def machine(device: torch.device) -> str:
    """torch's version, and what computes: "torch 2.13.0, cpu: 2 threads"."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    return f"torch {torch.__version__}, {device.type}: {name}"
