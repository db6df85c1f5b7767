"""Which device a run computes on, and how parts get there."""

from __future__ import annotations

import ctypes
import dataclasses
import sys
from typing import Any

import torch
from torch import Tensor

from muse_studio.errors import UserError
from muse_studio.runtime import memory


def available() -> list[str]:
    """The devices of this machine, the one that `auto` takes first: ["cuda:0", "cuda:1", "cpu"]."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ["cpu"]
    return [*(f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count())), "cpu"]


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` is the accelerator where there is one (cuda, xpu, mps, tpu), else the CPU.

    xla, that is torch_xla, is taken where it is asked for by name alone. Raises UserError, which lists what there is,
    where the name is unknown or the device is missing.
    """
    if name == "xla":
        from muse_studio.runtime import xla

        return xla.start()
    names = available()
    if name == "auto":
        return torch.device(names[0])
    # A kind alone ("cuda") means its current device, as everywhere in torch.
    if name in names or name in {known.partition(":")[0] for known in names}:
        return torch.device(name)
    raise UserError(f"device {name!r} is not there; there is: auto, {', '.join(names)}")


def of_process(name: str, index: int) -> torch.device:
    """The device of one process of several on this machine, the `index`-th of them; `name` as `choose_device` takes it.

    A process on a TPU sees its own chip alone, whose index the runtime knows. UserError where there are more processes
    than devices.
    """
    kind = choose_device(name).type
    if kind == "cpu":
        return torch.device("cpu")
    if kind == "tpu":
        return torch.device(kind, torch.accelerator.current_device_index())
    count = torch.accelerator.device_count()
    if index >= count:
        raise UserError(
            f"process {index} of this machine has no device: there are {count} of the kind {kind}; "
            f"start {count} processes, with --nproc-per-node={count}"
        )
    torch.accelerator.set_device_index(index)
    return torch.device(kind, index)


def compile_settings(on: torch.device) -> dict[str, Any]:
    """What torch.compile must be told for a device: compilers other than its usual one, and that shapes stay."""
    return {
        "tpu": {"backend": "tpu", "dynamic": False},
        "xla": {"backend": "openxla", "dynamic": False},
    }.get(on.type, {})


def put_rows(tensor: torch.Tensor, on: torch.device) -> torch.Tensor:
    """A tensor of rows on the device, or divided among those that it stands for."""
    if on.type == "xla":
        from muse_studio.runtime import xla

        return xla.put_rows(tensor)
    return tensor.to(on, non_blocking=True)


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of every process, as many from each, in the order of ranks, which is that of a step's records."""
    if not torch.distributed.is_initialized():
        return rows
    parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, rows)
    return torch.cat(parts)


def finish_step(on: torch.device) -> None:
    """Tell a device that notes down what it is asked for that a step ends here."""
    if on.type == "xla":
        from muse_studio.runtime import xla

        xla.finish_step()


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones: by hardware, not by emulation."""
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # torch 2.9 has no other way
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type in ("tpu", "xla", "xpu")


def computes_in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether a setting "bfloat16", "float32" or "auto" stands for bfloat16 there: "auto" does where that is fast."""
    return precision == "bfloat16" or (precision == "auto" and has_fast_bfloat16(device))


def move_to_device(part: Any, device: torch.device) -> None:
    """Move every module in `part` to the device, in place.

    A module moves whole. Dicts, lists and dataclasses are looked through (a stage holds its parts, a sampler may hold
    a critic); a plain object with a `to` method is asked to move itself; anything else has nothing that could move.

    Raises UserError, before anything is moved, where the device has no room for all modules.
    """
    cure = "choose a smaller model, another device, or end what else computes on it"
    memory.check(memory.weigh(part, device), "the weights take", cure, device)
    _move(part, device)


def _move(part: Any, device: torch.device) -> None:
    if isinstance(part, torch.nn.Module) or (not isinstance(part, type) and callable(getattr(part, "to", None))):
        part.to(device)
    elif isinstance(part, dict):
        for value in part.values():
            _move(value, device)
    elif isinstance(part, list | tuple):
        for value in part:
            _move(value, device)
    elif dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            _move(getattr(part, field.name), device)


def device_of(model: Any, default: torch.device) -> torch.device:
    """Where a module's parameters are; `default` for what is no module, or has none."""
    parameters = model.parameters() if isinstance(model, torch.nn.Module) else iter(())
    return next((each.device for each in parameters), default)


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next step, instead of giving it back to the kernel.

    A step on a CPU, of training or of sampling a batch, asks for the same large tensors each time; without this, up to
    half of its time went into the kernel's handing out zeroed pages. Elsewhere than on Linux with glibc this does
    nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h's numbers
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, -1)
    mallopt(top_pad, 1 << 28)
