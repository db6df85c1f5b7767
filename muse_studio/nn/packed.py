"""Linear layers whose weights lie as a CPU reads them fastest, for products of few rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from muse_studio.nn.casting import in_float32
from muse_studio.runtime.device import has_fast_bfloat16


class PackedLinear(nn.Module):
    """An `nn.Linear` in bfloat16 for inference, its weight in oneDNN's own order; the plain one is not kept.

    A plain product puts the weight into that order at every call, which takes longer than the product itself where
    the rows are few: of 64 rows by 1024 x 2816 numbers, two cores with AMX make 1.5 times as many a second when it is
    packed, of 512 a fifth more, and of 4,096 no more. torch's compiler packs so too when it freezes a model; the
    operations are its own.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = None if linear.bias is None else linear.bias.detach().to(torch.bfloat16)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().to(torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        """float[..., D] to bfloat16[..., D'], as the layer's own."""
        product = torch.ops.mkldnn._linear_pointwise
        made: Tensor = product(x.to(torch.bfloat16), self.packed, self.bias, "none", [], "")
        return made


def can_pack(on: torch.device) -> bool:
    """Whether a device multiplies packed weights: a CPU that is fast at bfloat16, by a torch with oneDNN."""
    return on.type == "cpu" and torch.backends.mkldnn.is_available() and has_fast_bfloat16(on)


def pack(model: nn.Module) -> None:
    """Put a packed layer for each linear one that does not compute in float32; shared layers stay shared."""
    exact = in_float32(model)
    packed: dict[nn.Module, PackedLinear] = {}
    for place, module in list(model.named_modules(remove_duplicate=False)):
        if type(module) is nn.Linear and module not in exact:
            if module not in packed:
                packed[module] = PackedLinear(module)
            model.set_submodule(place, packed[module])
