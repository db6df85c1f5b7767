"""A real `muse studio` for tests, in a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from processes import environment

_running: dict[str, int] = {}


def process_of(address: str) -> int:
    """The number of the process that serves there."""
    return _running[address]


@contextmanager
def started(out: Path, *arguments: str, plugins: Sequence[Path] = ()) -> Iterator[str]:
    """Serves the embedded model, and yields the address that it printed; Ctrl-C ends it."""
    options = [f"--plugin={path}" for path in plugins]
    command = [
        sys.executable,
        "-m",
        "muse_studio",
        "studio",
        "port=0",
        "open=false",
        f"out={out}",
        *arguments,
        *options,
    ]
    pipe, place = subprocess.PIPE, {**environment(), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=place)
    assert server.stdout is not None
    said: list[str] = []
    try:
        for line in server.stdout:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/\S*", line):
                break
        else:
            raise AssertionError(f"it ended without an address: {''.join(said)}")
        reading = threading.Thread(target=lambda: said.extend(server.stdout or ()), daemon=True)
        reading.start()  # a full pipe would stop it
        _running[found[0]] = server.pid
        yield found[0]
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0, "".join(said)
    assert "Traceback" not in "".join(said), "".join(said)
