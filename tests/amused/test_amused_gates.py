"""The gated layer multiplies by its halves apart, and by the whole where an adapter is being trained around it."""

import torch
import torch.nn.functional as F
from muse_amused.blocks import GatedMLP
from muse_training.adapters import LoRA


def by_hand(mlp, weight, x):
    value, gate = (x @ weight.T).chunk(2, -1)
    return (value * F.gelu(gate)) @ mlp.narrow.weight.T


def test_an_adapter_around_it_is_heard_and_learns():
    torch.manual_seed(0)
    mlp, x = GatedMLP(8, 12), torch.randn(2, 5, 8)
    weight = mlp.widen.weight.detach().clone()
    torch.testing.assert_close(mlp(x), by_hand(mlp, weight, x))
    learning = LoRA(rank=2, alpha=4.0, targets=["widen"]).attach(mlp, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mlp(x), by_hand(mlp, weight, x))
    down, up = learning.widen["lora_A"].weight, learning.widen["lora_B"].weight
    with torch.no_grad():
        up.normal_()
    torch.testing.assert_close(mlp(x), by_hand(mlp, weight + 2 * up @ down, x))
    mlp(x).sum().backward()
    assert up.grad.abs().sum() > 0 and down.grad.abs().sum() > 0
