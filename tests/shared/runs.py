"""What is compared of two training runs: their rows, and the tensors that they wrote."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from muse_studio.training.loop import History


def rows(history: History) -> list[dict[str, float]]:
    """Every logged row, without the seconds, which no two runs share."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history.rows]


def different(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The names that are not in both, or whose tensors are not the same bit for bit."""

    def same(name: str) -> bool:
        return name in one and name in other and one[name].dtype == other[name].dtype and equal(one[name], other[name])

    def equal(mine: Tensor, theirs: Tensor) -> bool:
        bits = [each.flatten().view(torch.uint8) for each in (mine, theirs)]
        return mine.shape == theirs.shape and torch.equal(*bits)

    return [name for name in {**one, **other} if not same(name)]


def same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether both have the same names and, bit for bit, the same tensors."""
    return not different(one, other)


def check_same_files(one: Path, other: Path, computed: Collection[str] = ()) -> None:
    """AssertionError unless the same safetensors files lie below both folders, with the same tensors bit for bit.

    computed: tensors that a network has made, which may differ as a product rounds that starts at another address.
    """
    names = {path.relative_to(one) for path in one.rglob("*.safetensors")}
    assert names and names == {path.relative_to(other) for path in other.rglob("*.safetensors")}
    for name in names:
        mine, theirs = load_file(one / name), load_file(other / name)
        wrong = different(mine, theirs)
        assert not set(wrong) - set(computed), f"{name}: {wrong}"
        for each in wrong:
            torch.testing.assert_close(mine[each], theirs[each])
