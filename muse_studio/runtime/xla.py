"""The adapter for torch_xla, which drives TPUs from one process over all chips (SPMD).

Used where a recipe says `device: xla`, never because the package happens to be installed.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from muse_studio.errors import UserError


@functools.cache
def start() -> torch.device:
    """The device that stands for all chips. UserError where torch_xla is missing, or finds none."""
    try:
        import torch_xla
        import torch_xla.runtime as runtime
    except ImportError as error:
        raise UserError(
            f"device xla needs torch_xla ({error}); install it with the torch that it was made for: "
            "pip install 'torch==2.9.*' 'torch_xla==2.9.0', with 'torch_xla[tpu]' on a TPU"
        ) from error
    try:
        runtime.use_spmd()
        return torch_xla.device()
    except RuntimeError as error:
        raise UserError(
            f"device xla finds no chip ({error}); set PJRT_DEVICE to TPU, or to CPU to try it out"
        ) from error


@functools.cache
def _mesh() -> Any:
    import numpy as np
    import torch_xla.distributed.spmd as spmd
    import torch_xla.runtime as runtime

    count = runtime.global_runtime_device_count()
    return spmd.Mesh(np.arange(count), (count,), ("data",))


def put_rows(tensor: Tensor) -> Tensor:
    """A tensor on the device, its rows divided among the chips."""
    import torch_xla.distributed.spmd as spmd

    moved = tensor.to(start())
    spmd.mark_sharding(moved, _mesh(), ("data", *[None] * (moved.ndim - 1)))
    return moved


def finish_step() -> None:
    """Run what a step has asked for: until here it is only noted down."""
    import torch_xla

    torch_xla.sync()
