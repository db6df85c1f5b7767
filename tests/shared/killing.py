"""Signals a training at moments drawn by lot, has the same command go on, and says what was not as promised.

As a script: `python killing.py SEED COUNT`, which prints what it finds. Linux alone tells whose processes are whose.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from processes import environment
from runs import same_tensors
from safetensors.torch import load_file

from muse_studio.training import checkpoint
from muse_studio.training.fit import FOLDER
from muse_studio.training.log import read
from muse_studio.training.state import State

STEPS = 200
RECIPE = f"""
use: train-tokenizer
tokenizer: {{use: vqgan, codebook_size: 16, code_width: 4, channels: 8, multipliers: [1], blocks: 0, patch: 4}}
dataset: {{use: folder, path: ../pictures, size: 8}}
optimizer: {{use: adamw, rate: 1e-3}}
fit: {{out: run, steps: {STEPS}, batch: 2, log_every: 1, checkpoint_every: 10, device: cpu, ema: 0.9}}
"""
LAST = f"{FOLDER}/step-{STEPS:07d}"
OWNER = "MUSE_KILLED"
"""The variable that all processes of a run have, whatever session they are in."""
CODES = {signal.SIGKILL: {-9}, signal.SIGTERM: {-15, 143}, signal.SIGINT: {-2, 130}}
"""Exit codes of a process alone: shells show -15 as 143 and -2 as 130."""
PATIENCE = 60.0
"""Seconds within which a run is over that was signalled, its readers too."""


@dataclass(frozen=True)
class Strike:
    """A signal, to the first process `alone` or to all of the run, at a share of what the whole run takes."""

    number: signal.Signals
    alone: bool
    processes: int
    workers: int
    share: float

    def __str__(self) -> str:
        target = "the first process" if self.alone else "all processes"
        return f"{self.number.name} to {target} of {self.processes}, {self.workers} workers, at {self.share:.3f}"


def strikes(seed: int, count: int) -> list[Strike]:
    """So many of them, spread evenly over signals, targets, workers and processes, at moments drawn by lot."""
    lots = random.Random(seed)
    matrix = [
        (number, alone, processes, workers)
        for number in CODES
        for alone in (True, False)
        for processes in (1, 2)
        for workers in (0, 2)
    ]
    lots.shuffle(matrix)
    chosen = (matrix * (count // len(matrix) + 1))[:count]
    return [Strike(*each, lots.random()) for each in chosen]


def members(owner: str) -> list[int]:
    """The processes of a run that are there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{OWNER}={owner}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:  # it has just ended, or is another user's
            continue
    return found


@dataclass
class Trial:
    """One way to train, in a folder of its own, once undisturbed, and then struck again and again.

    seconds: what it takes undisturbed, `start` of them before the first step. found: what was not as promised.
    """

    folder: Path
    processes: int
    workers: int
    seconds: float = 0.0
    start: float = 0.0
    found: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        (self.folder / "train.yaml").write_text(RECIPE)
        self.run, self.through = self.folder / "run", self.folder / "through"
        began = time.monotonic()
        self._finish(self._start())
        self.seconds = time.monotonic() - began
        self.start = self.seconds - sum(row["seconds"] for row in read(self.run / "log.csv"))
        self.run.rename(self.through)

    def strike(self, strike: Strike) -> None:
        """Start the command, strike, and see what is left of it."""
        before = len(self.found)
        process = self._start()
        try:
            process.wait(strike.share * self._left())
        except subprocess.TimeoutExpired:
            self._send(process, strike)
        began = time.monotonic()
        code = self._wait(process)
        if code == 0:
            self._check_finished()
        else:
            self._check_stopped(strike, code)
        took = time.monotonic() - began
        print(f"{strike}: exit code {code} and all ended after {took:.1f} s, {self._message()!r:.200}", flush=True)
        self.found[before:] = [f"{strike} (exit code {code}): {each}" for each in self.found[before:]]

    def end(self) -> None:
        """Have the same command go on to the end, and look at what it made."""
        self._finish(self._start())
        self._check_finished()

    def _start(self) -> subprocess.Popen[bytes]:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={self.processes}"]
        command = ["-m", "muse_studio", "run", "train.yaml", f"fit.workers={self.workers}"]
        with (self.folder / "stderr").open("wb") as stderr:
            return subprocess.Popen(
                [sys.executable, *(torchrun if self.processes > 1 else []), *command],
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=self.folder,
                env=environment(OMP_NUM_THREADS="1", **{OWNER: str(self.folder)}),
                start_new_session=True,
                # What runs in the background has SIGINT ignored, and its children too.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def _left(self) -> float:
        """Seconds that the command takes from where the run is now."""
        kept = checkpoint.newest(self.run / FOLDER)
        done = 0 if kept is None else State.read(kept).step
        return self.start + (self.seconds - self.start) * (1 - done / STEPS)

    def _send(self, process: subprocess.Popen[bytes], strike: Strike) -> None:
        # torchrun gives each of its processes a session, so a group is not all of them.
        for each in [process.pid] if strike.alone else members(str(self.folder)):
            try:
                os.kill(each, strike.number)
            except ProcessLookupError:
                continue

    def _wait(self, process: subprocess.Popen[bytes], patience: float = PATIENCE) -> int | None:
        """The exit code once no process of the run is left; those that don't end are a fault, and killed."""
        began = time.monotonic()
        while (left := members(str(self.folder))) and time.monotonic() - began < patience:
            process.poll()
            time.sleep(0.05)
        if left:
            commands = [Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ") for each in left]
            self.found.append(f"still there after {patience:.0f} s: {commands}")
        for each in left:
            os.kill(each, signal.SIGKILL)
        return process.wait(patience)

    def _message(self) -> str:
        lines = (self.folder / "stderr").read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if "  loss " not in line)

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        code = self._wait(process, 300)
        if code != 0:
            self.found.append(f"exit code {code} of a run that nobody stopped: {self._message()}")

    def _check_stopped(self, strike: Strike, code: int | None) -> None:
        message = self._message()
        if strike.processes == 1 and code not in CODES[strike.number]:
            self.found.append("the exit code is another one")
        ours = _less_others(message + "\n", strike.processes > 1)
        if "Traceback" in ours or re.search(r"(?m)^(error|warning)", ours):
            self.found.append(f"it says {message!r}")
        steps = re.findall(r"(?m)^tokenizer (\d+)/\d+  loss ", (self.folder / "stderr").read_text(errors="replace"))
        stopped = re.findall(r"(?m)^tokenizer: stopped at step (\d+);", message)
        if strike.number != signal.SIGKILL and steps and steps[-1] != str(STEPS):
            if len(stopped) != 1 or int(stopped[0]) < int(steps[-1]):
                self.found.append(f"it came to step {steps[-1]}, and says {message!r}")
            elif not (self.run / FOLDER / f"step-{int(stopped[0]):07d}").exists():
                self.found.append(f"it stopped at step {stopped[0]}, and has no checkpoint of it")

    def _check_finished(self) -> None:
        """The run's folder is what the undisturbed one's is; the next run begins anew."""
        names = [{path.name for path in each.iterdir()} for each in (self.run, self.through)]
        if names[0] ^ names[1] not in (set(), {"loss.png"}):  # which a run draws that did a step
            self.found.append(f"in its folder are {sorted(names[0] ^ names[1])} more or less")
        kept = sorted((self.run / FOLDER).iterdir())
        files = {path.name for path in (self.through / LAST).iterdir()}
        for each in kept:
            if not re.fullmatch(r"step-\d{7}", each.name) or {path.name for path in each.iterdir()} != files:
                self.found.append(f"there is {each} with {sorted(path.name for path in each.iterdir())}")
        for path in self.through.glob("*.safetensors"):
            if path.read_bytes() != (self.run / path.name).read_bytes():
                self.found.append(f"{path.name} differs")
        for path in (self.through / LAST).glob("*.safetensors"):
            if not same_tensors(load_file(path), load_file(kept[-1] / path.name)):
                self.found.append(f"{path.name} of the last checkpoint differs")
        rows = [
            [{key: row[key] for key in row if key != "seconds"} for row in read(each / "log.csv")]
            for each in (self.run, self.through)
        ]
        if rows[0] != rows[1]:
            self.found.append("log.csv differs")
        shutil.rmtree(self.run)


def _less_others(message: str, launched: bool) -> str:
    """A message less what torchrun says of signals, and Python of a Ctrl-C before it has come to any code of ours."""
    if launched:
        message = re.sub(r"(?s)Traceback.*?SignalException.*?\n", "", message)
    for trace in re.findall(r"(?s)Traceback.*?\nKeyboardInterrupt\n", message):
        if "muse_studio/" not in trace:
            message = message.replace(trace, "")
    return message


def trial(folder: Path, seed: int, count: int) -> list[str]:
    """Strike `count` times; returns what was not as promised."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (8, 8), colour).save(pictures / f"{colour}.png")
    chosen = strikes(seed, count)
    found = []
    for processes, workers in sorted({(each.processes, each.workers) for each in chosen}):
        began = time.monotonic()
        one = Trial(folder / f"{processes}-{workers}", processes, workers)
        print(f"{processes} processes, {workers} workers: {one.seconds:.1f} s undisturbed", flush=True)
        for strike in chosen:
            if (strike.processes, strike.workers) == (processes, workers):
                one.strike(strike)
        one.end()
        print(f"{time.monotonic() - began:.0f} s in all", flush=True)
        found += one.found
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(trial(Path(place), int(sys.argv[1]), int(sys.argv[2])), indent=1))
