"""How much memory there is, a plain word of what does not fit, and which errors are the machine's own."""

from __future__ import annotations

import dataclasses
import errno
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muse_studio.errors import UserError

if TYPE_CHECKING:
    import torch


PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
"""Where Linux tells of memory, and of the limits that a container or a batch system sets."""


def free(device: torch.device | None = None) -> int | None:
    """The bytes that can still be taken of a device's memory, of the machine's by default; None where nobody tells."""
    if device is None or device.type == "cpu":
        figures = [number for number in (_of_machine(), *_of_groups()) if number is not None]
        return max(0, min(figures)) if figures else None
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    return None


def check(need: int, what: str, cure: str, device: torch.device | None = None) -> None:
    """UserError where fewer bytes are free than needed, with both figures and the cure; `what`: "its weights take"."""
    there = free(device)
    if there is not None and need > there:
        where = "this machine" if device is None or device.type == "cpu" else str(device)
        raise UserError(f"not enough memory: {what} {size(need)}, and {where} has {size(there)} free; {cure}")


def size(count: int) -> str:
    """Bytes for people: "11.8 GiB"."""
    for unit, one in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count / 2**10:.1f} KiB"


def modules(part: Any) -> Iterator[Any]:
    """The torch modules within a part: in dicts, lists and dataclasses, as `device.place` looks through them."""
    import torch

    if isinstance(part, torch.nn.Module):
        yield part
    elif isinstance(part, dict | list | tuple):
        for value in part.values() if isinstance(part, dict) else part:
            yield from modules(value)
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        for field in dataclasses.fields(part):
            yield from modules(getattr(part, field.name, None))


def weigh(part: Any, beside: torch.device | None = None) -> int:
    """The bytes of the parameters and buffers in a part; of those that are not on the device `beside` yet."""
    held = {}
    for module in modules(part):
        for tensor in (*module.parameters(), *module.buffers()):
            if beside is None or tensor.device.type != beside.type:
                held[id(tensor)] = tensor.numel() * tensor.element_size()
    return sum(held.values())


def _of_machine() -> int | None:
    """What the kernel could give, swap included."""
    try:
        lines = (PROC / "meminfo").read_text().splitlines()
        fields = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
        return fields["MemAvailable"] + fields.get("SwapFree", 0)
    except (OSError, ValueError, LookupError):  # not Linux
        return None


def _of_groups() -> Iterator[int]:
    """What each control group that this process is in leaves of its limit, its own and those above it."""
    try:
        lines = (PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, names = CGROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if (left := _left(folder, *names)) is not None:
                yield left
            if folder == root:
                break


def _left(folder: Path, limit: str, used: str, reclaimable: str) -> int | None:
    """The bytes that a control group leaves of its limit, files that the kernel can drop not counted as used."""
    try:
        most, now = int((folder / limit).read_text()), int((folder / used).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no limit ("max"), or a container that sees its own group alone, at the root
        return None
    return most - now + int(stat.get(reclaimable, 0))


_MEMORY = "choose smaller sizes, a smaller batch (in training, or more fit.accumulate), or fewer steps"
_ROOM = "make room, or choose another disk"
_LEAVE = "choose a place that can be written"
_CURES = {
    errno.ENOMEM: _MEMORY,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EACCES: _LEAVE,
    errno.EPERM: _LEAVE,
    errno.EROFS: _LEAVE,
}
_NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|size calculation overflowed|overflow when unpacking", re.I
)
_NO_COMPILER = re.compile(r"No working C\+\+ compiler|Cannot find a working triton", re.I)


def lacks_memory(error: Exception) -> bool:
    """Whether an exception says that the memory does not suffice, a device's or the machine's."""
    reported = isinstance(error, RuntimeError | TypeError) and _NO_MEMORY.search(str(error))
    return isinstance(error, MemoryError) or bool(reported)


def refusal(error: Exception) -> str | None:
    """What the machine refuses, and the cure; None where an exception is about anything else.

    Lack of memory is told by the text too: on a CPU torch raises a plain RuntimeError, and a TypeError of sizes that no
    machine could hold.
    """
    if lacks_memory(error):
        asked = re.search(r"allocate ([\d.]+ \w+)", str(error))
        return f"there is not enough memory{f' for {asked[1]} at once' if asked else ''}; {_MEMORY}"
    if isinstance(error, RuntimeError) and _NO_COMPILER.search(str(error)):
        return "compiling finds no compiler that works: install g++ (for a GPU triton), or set compile to false"
    if isinstance(error, OSError) and error.errno in _CURES:
        where = "" if error.filename is None else f"{error.filename}: "
        return f"{where}{error.strerror}; {_CURES[error.errno]}"
    return None


BACKENDS = ("cuda", "xpu")
"""The kinds of device of which torch tells whether this process has begun to use them."""


def held() -> dict[str, int]:
    """Bytes of memory that torch's tensors hold on each kind of device in use; nothing is begun by asking."""
    found = {}
    for name in BACKENDS:
        backend = getattr(sys.modules.get("torch"), name, None)
        if backend is not None and backend.is_initialized():
            found[name] = backend.memory_allocated()
    return found


def taken(before: dict[str, int]) -> str:
    """What was taken since `before`, such as "begins to use cuda and keeps 12.0 MiB there"; empty where nothing."""
    messages = []
    for name, now in held().items():
        begins = [f"begins to use {name}"] if name not in before else []
        more = now - before.get(name, 0)
        keeps = [f"keeps {more / 2**20:.1f} MiB {'there' if begins else f'of {name} memory'}"] if more > 0 else []
        messages += [" and ".join(begins + keeps)] if begins or keeps else []
    return "; ".join(messages)
