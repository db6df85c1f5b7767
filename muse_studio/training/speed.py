"""How fast a run goes: seconds a step, pictures and tokens a second, and the share of the device's peak."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from muse_studio.training.log import Row

PEAKS = (
    # NVIDIA's data sheets state twice these numbers where they are "with sparsity".
    (r"\bA100\b", 312),  # A100 data sheet: 312, 624 with sparsity
    (r"\bH100 PCIe\b", 756),  # H100 data sheet of the PCIe card: 1,513 with sparsity
    (r"\bH[12]00 NVL\b", 835),  # H100 and H200 data sheets, NVL: 1,671 with sparsity
    (r"\bH[12]00\b", 989),  # H100 and H200 data sheets, SXM: 1,979 with sparsity
    (r"\bB200\b", 2250),  # Blackwell data sheet, HGX B200: 36 PFLOP/s of eight with sparsity
    (r"\bL40S\b", 362),  # L40S data sheet: 362, 733 with sparsity
    (r"\bL4\b", 121),  # L4 data sheet: 242 with sparsity
    (r"\bRTX 4090$", 165),  # Ada white paper, table of the RTX 4090: 165.2, summed in float32
    # Google's pages "TPU v4", "TPU v5e", "TPU v5p" and "TPU v6e" of the Cloud TPU manual: peak compute a chip.
    (r"\bTPU v4\b", 275),
    (r"\bTPU v5 ?(e|lite)", 197),
    (r"\bTPU v5p?\b", 459),
    (r"\bTPU v6 ?(e|lite)", 918),
)
"""Patterns of the names that torch gives to devices, and 10^12 operations a second; the first that fits counts."""


def peak_of(name: str) -> float | None:
    """Operations a second of the device of that name, such as "NVIDIA H100 80GB HBM3"; None where it is not known."""
    found = (tera * 1e12 for pattern, tera in PEAKS if re.search(pattern, name))
    return next(found, None)


def name_of(device: torch.device) -> str:
    """What torch calls a device; "" where it has no name for it, as for a CPU."""
    if device.type == "cpu":
        return ""
    ask = getattr(getattr(torch, device.type, None), "get_device_name", None)
    return "" if ask is None else str(ask(device))


class Meter:
    """Times the steps of a run on `device`.

    batch: records a step. tokens: what the model predicts of one record, None where that is no tokens.

    The operations of a step are counted at the first one alone, and only where the device's peak is known: on a CPU the
    counter takes a fused attention for nothing. That step is computed operation by operation, even where the run
    compiles. What a checkpointed layer computes twice counts twice; what a run takes up later, such as a
    discriminator, does not count.
    """

    def __init__(self, batch: int, tokens: int | None, device: torch.device) -> None:
        self.batch, self.tokens = batch, tokens
        self.peak = peak_of(name_of(device))
        self.operations: int | None = None
        self._began, self._steps = time.perf_counter(), 0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around each step."""
        self._steps += 1
        if self.peak is None or self.operations is not None:
            yield
            return
        with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
            yield
        self.operations = counter.get_total_flops()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is no part of a step."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._began += time.perf_counter() - before

    def lap(self) -> float:
        """Seconds a step since the last call; one step at least must have been taken."""
        now = time.perf_counter()
        seconds = (now - self._began) / self._steps
        self._began, self._steps = now, 0
        return seconds

    def speed(self, seconds: float) -> Row:
        """At so many seconds a step: pictures/s, tokens/s where there are tokens, mfu where the peak is known.

        mfu: model FLOPs utilization (Chowdhery et al., 2022): operations a second, of the device's bfloat16 peak.
        """
        row: Row = {"pictures/s": self.batch / seconds}
        if self.tokens is not None:
            row["tokens/s"] = self.batch * self.tokens / seconds
        if self.peak is not None and self.operations:
            row["mfu"] = self.operations / seconds / self.peak
        return row
