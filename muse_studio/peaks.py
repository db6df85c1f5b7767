"""The most that a device computes in a second: dense bfloat16 matrix products, as its maker states it."""

from __future__ import annotations

import re

import torch

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
