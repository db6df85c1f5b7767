"""Notices what takes hold of a GPU: a plugin's import, or a part's constructor; both are to leave it alone."""

from __future__ import annotations

import sys

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
