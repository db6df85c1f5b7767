"""Runs that end badly: killed, taken away, left by a worker, started wrongly; by torchrun and alone."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import environment
from runs import same_tensors
from safetensors.torch import load_file

from muse_studio.training import checkpoint

SCRIPT = Path(__file__).with_name("teamwork.py")


def start(processes, *command, folder):
    """A run as a shell starts it, in a session of its own, so that it can be killed whole."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.Popen(
        [sys.executable, *(torchrun if processes > 1 else []), *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(OMP_NUM_THREADS="1"),
        start_new_session=True,
    )


def wait_for_steps(process, count):
    """Reads what a run tells until it told of so many steps; returns what else it said."""
    message = []
    for line in process.stderr:
        message.append(line)
        count -= "  loss " in line
        if count == 0:
            break
    return "".join(message)


@pytest.mark.slow
def test_a_mistake_is_told_once_by_all_processes(recipe):
    run = start(2, "-m", "muse_studio", "run", "train.yaml", "fit.batch=3", folder=recipe)
    message = run.communicate(timeout=300)[1]
    assert run.returncode != 0
    told = [line for line in message.splitlines() if line.startswith("error")]
    assert told == ["error: fit.batch is 3, which 2 processes with fit.accumulate 1 don't divide; give a multiple of 2"]


@pytest.mark.slow
def test_a_machine_that_is_taken_away(recipe):
    run = start(2, "-m", "muse_studio", "run", "train.yaml", folder=recipe)
    before = wait_for_steps(run, 3)
    os.kill(run.pid, signal.SIGTERM)  # as a cluster does, to the one process that it knows
    message = before + run.communicate(timeout=300)[1]
    kept = checkpoint.newest(recipe / "run" / "checkpoints")
    assert kept is not None, message
    step = int(kept.name.removeprefix("step-"))
    assert message.count(f"tokenizer: stopped at step {step}; the same command goes on from there") == 1
    alone = start(1, "-m", "muse_studio", "run", "train.yaml", f"fit.steps={step + 2}", folder=recipe)
    assert f"tokenizer {step + 1}/{step + 2}" in alone.communicate(timeout=300)[1]
    assert alone.returncode == 0


@pytest.mark.slow
def test_what_a_killed_torchrun_leaves_ends_too(recipe):
    run = start(2, "-m", "muse_studio", "run", "train.yaml", folder=recipe)
    before = wait_for_steps(run, 3)
    os.kill(run.pid, signal.SIGKILL)  # its processes are in sessions of their own, and hear nothing of it
    message = before + run.communicate(timeout=60)[1]  # until the last of them has closed its end
    kept = checkpoint.newest(recipe / "run" / "checkpoints")
    assert kept is not None, message
    step = int(kept.name.removeprefix("step-"))
    assert message.count(f"tokenizer: stopped at step {step}; the same command goes on from there") == 1
    alone = start(1, "-m", "muse_studio", "run", "train.yaml", f"fit.steps={step + 1}", folder=recipe)
    assert f"tokenizer {step + 1}/{step + 1}" in alone.communicate(timeout=300)[1]
    assert alone.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_twenty_times(tmp_path, processes):
    """The run loses the steps since its last checkpoint, and not a bit of what it becomes."""
    lots = random.Random(processes)
    runs = {name: tmp_path / name for name in ("through", "killed")}
    for name, out in runs.items():
        fit = {"steps": 120, "checkpoint_every": 3, "ema": 0.9}
        (tmp_path / f"{name}.json").write_text(json.dumps([{"of": "superres", "out": str(out), "fit": fit}]))
    through = start(processes, str(SCRIPT), str(tmp_path / "through.json"), folder=tmp_path)
    assert through.communicate(timeout=600) and through.returncode == 0
    done = 0
    for _ in range(20):
        run = start(processes, str(SCRIPT), str(tmp_path / "killed.json"), folder=tmp_path)
        wait_for_steps(run, lots.randint(1, 8))
        time.sleep(lots.random() * 0.02)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        found = checkpoint.newest(runs["killed"] / "checkpoints")
        now = 0 if found is None else int(found.name.removeprefix("step-"))
        assert now >= done, "a checkpoint was lost"
        done = now
    last = start(processes, str(SCRIPT), str(tmp_path / "killed.json"), folder=tmp_path)
    assert last.communicate(timeout=600) and last.returncode == 0
    for file in sorted(runs["through"].rglob("*.safetensors")):
        one, other = load_file(file), load_file(runs["killed"] / file.relative_to(runs["through"]))
        assert same_tensors(one, other), file.name
    rows = [json.loads((out / "rows.json").read_text()) for out in runs.values()]
    assert rows[0] == rows[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "message"),
    [
        ("die", r"RuntimeError: DataLoader worker \(pid\S* \d+\) .*(killed by signal|exited unexpectedly)"),
        ("hang", "RuntimeError: DataLoader timed out after 3 seconds"),
        ("fail", "LookupError: the tape is torn"),
    ],
)
def test_a_worker_that_is_no_help_ends_the_run(tmp_path, act, message):
    run = start(1, str(SCRIPT.with_name("broken_worker.py")), act, str(tmp_path), folder=tmp_path)
    told = run.communicate(timeout=60)[1]
    assert run.returncode == 1
    assert re.search(message, told.strip().splitlines()[-1]), told
    # What led to the end may be chained to it, but the run itself is told of once.
    assert told.count("in <module>") == 1, told


@pytest.mark.slow
def test_a_folder_that_another_run_has_is_refused_to_a_team_too(recipe):
    first = start(2, "-m", "muse_studio", "run", "train.yaml", folder=recipe)
    wait_for_steps(first, 1)
    second = start(2, "-m", "muse_studio", "run", "train.yaml", folder=recipe)
    told = [line for line in second.communicate(timeout=300)[1].splitlines() if line.startswith("error")]
    found = re.match(r"error: run is being written by another run, process (\d+) on ", told[0])
    assert len(told) == 1 and found, told
    os.kill(int(found[1]), signal.SIGKILL)
    first.communicate(timeout=300)
    third = start(1, "-m", "muse_studio", "run", "train.yaml", "fit.steps=2", folder=recipe)
    assert "tokenizer 2/2" in third.communicate(timeout=300)[1] and third.returncode == 0
