"""How long the muse command takes to start, beside a Python that does nothing.

    python benchmarks/startup.py            # medians of 15 rounds, the commands taken in turn

The first round is not counted: it fills the file cache, and writes bytecode. On a machine that does other things at the
same time, the processor's time says more than the clock.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "muse --help": ["-m", "muse_studio", "--help"],
    "muse parts": ["-m", "muse_studio", "parts"],
}
PROMISED = {"muse --help": 120.0, "muse parts": 200.0}
"""Milliseconds that the house allows, where nothing else runs."""


def milliseconds(arguments: list[str]) -> tuple[float, float]:
    """One process, from its start to its end: by the clock, and of the processor."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True, env=environment)
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock * 1e3, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def main() -> None:
    """Print each command's median and fastest time."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15)
    rounds = options.parse_args().rounds
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for counted in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            took = milliseconds(arguments)
            if counted:
                taken[name].append(took)
    print(f"{rounds} rounds, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; milliseconds")
    for name, times in taken.items():
        allowed = f"  (at most {PROMISED[name]:.0f})" if name in PROMISED else ""
        clock, processor = (statistics.median(each) for each in zip(*times, strict=True))
        print(
            f"{name:15}  median {clock:6.1f}  fastest {min(times)[0]:6.1f}  of the processor {processor:6.1f}{allowed}"
        )


if __name__ == "__main__":
    main()
