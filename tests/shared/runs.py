"""What is compared of two training runs: their rows, and the tensors that they wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from muse_studio.training.loop import History


def rows(history: History) -> list[dict[str, float]]:
    """Every logged row, without the seconds, which no two runs share."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history.rows]


def same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether both have the same names and, bit for bit, the same tensors."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def check_same_files(one: Path, other: Path) -> None:
    """AssertionError unless the same safetensors files lie below both folders, with the same tensors."""
    names = {path.relative_to(one) for path in one.rglob("*.safetensors")}
    assert names and names == {path.relative_to(other) for path in other.rglob("*.safetensors")}
    for name in names:
        assert same_tensors(load_file(one / name), load_file(other / name)), name
