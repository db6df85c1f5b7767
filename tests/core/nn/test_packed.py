"""Packed linear layers: the numbers of plain ones, up to rounding, and in their place."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from muse_studio.nn.packed import PackedLinear, can_pack, pack

packs = pytest.mark.skipif(not can_pack(torch.device("cpu")), reason="this CPU is not fast at bfloat16")


def assert_near(got, wanted):
    """Sums of another order, rounded to bfloat16: one unit in the last place of eight bits."""
    torch.testing.assert_close(got, wanted, rtol=2**-7, atol=2**-7)


@packs
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 40), (3, 7, 40), (2, 3, 5, 40), (300, 40), (0, 40)])
def test_a_packed_layer_is_the_plain_one(shape, bias):
    torch.manual_seed(0)
    linear, x = nn.Linear(40, 24, bias=bias), torch.randn(shape)
    half = linear.to(torch.bfloat16)
    with torch.no_grad():
        got, wanted = PackedLinear(linear)(x), half(x.to(torch.bfloat16))
    assert got.dtype == torch.bfloat16
    assert_near(got, wanted)


@packs
def test_rows_that_do_not_lie_one_behind_the_other():
    torch.manual_seed(0)
    linear, x = nn.Linear(40, 24).to(torch.bfloat16), torch.randn(2, 40, 9, dtype=torch.bfloat16).transpose(1, 2)
    with torch.no_grad():
        assert_near(PackedLinear(linear)(x[:, 2:7]), linear(x[:, 2:7]))


@packs
def test_every_plain_layer_is_packed_and_a_shared_one_once():
    class Scaled(nn.Linear):
        """A kind of its own may compute something else."""

    shared = nn.Linear(8, 8)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared, nn.ReLU()), "c": Scaled(8, 8), "d": shared})
    pack(model)
    assert isinstance(model["a"], PackedLinear)
    assert model["a"] is model["b"][0]
    assert model["a"] is model["d"]
    assert type(model["c"]) is Scaled
    assert not any(weight is shared.weight for weight in model.parameters())
