"""What torchrun tells a process by its environment, for the command line too: nothing here imports torch at first."""

from __future__ import annotations

import os
from datetime import timedelta


def processes() -> tuple[int, int]:
    """This process's rank, and how many there are: (0, 1) where torchrun did not start it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def by_torchrun() -> bool:
    """Whether torchrun started this process, be it the only one."""
    return "WORLD_SIZE" in os.environ


def is_main() -> bool:
    """Whether this process speaks for all."""
    return processes()[0] == 0


def first_to_report(text: str) -> bool:
    """Whether no other process has said this: all meet the same mistake, and one line of it is enough.

    Where the processes can't be asked, each says it.
    """
    rank, size = processes()
    if size == 1:
        return True
    import hashlib

    from torch import distributed

    key = f"muse_studio/said/{hashlib.sha256(text.encode()).hexdigest()}"
    try:
        store = distributed.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=5),
        )
        return store.compare_set(key, "", str(rank)).decode() == str(rank)
    except (KeyError, ValueError, distributed.DistError):
        return True
