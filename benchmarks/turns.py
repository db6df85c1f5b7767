"""Programs timed in turn, each in a process of its own: its own packages, its own peak of memory.

A worker calls `serve` with what it can run; the benchmark starts one `Side` a worker and asks each for one run at a
time, so that a machine which slows down slows all. Standard library alone: a rival's environment has nothing of ours.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def serve(calls: dict[str, Callable[[], Any]], **facts: Any) -> None:
    """Answer requests, one a line of standard input, until it ends; standard output is for answers alone.

    facts: what the benchmark should know before the first run, such as {"flops": 1e12}.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        calls[line.strip()]()
        spent = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": spent, "peak": peak}), file=answers, flush=True)


class Side:
    """A worker: `facts` it told, `seconds` of each kind of run, `peak` bytes of its process so far."""

    def __init__(self, script: str, arguments: Sequence[object], python: str = sys.executable) -> None:
        self.command = [python, str(HERE / script), *map(str, arguments)]
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.seconds: dict[str, list[float]] = {}
        self.peak = 0
        self.facts = self._answer()

    def run(self, call: str) -> None:
        """One run of one of the worker's calls, kept in `seconds`."""
        assert self.process.stdin is not None
        self.process.stdin.write(call + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.seconds.setdefault(call, []).append(answer["seconds"])
        self.peak = max(self.peak, answer["peak"])

    def median(self, call: str) -> float:
        """Seconds of a run, the first one left out, which warms up."""
        return statistics.median(self.seconds[call][1:])

    def close(self) -> None:
        """End the worker."""
        self.process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.command} ended with code {self.process.wait()}; see its message above")
        return json.loads(line)


def alternate(runs: Iterable[tuple[Side, str]], repeats: int) -> None:
    """A warm-up of each, then `repeats` rounds in turn."""
    runs = list(runs)
    for number in range(repeats + 1):
        for side, call in runs:
            side.run(call)
        print(f"round {number} of {repeats}", file=sys.stderr)
