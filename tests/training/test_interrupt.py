"""Ctrl-C at the command line: the step is finished, its checkpoint kept, and the same command goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors import safe_open

from muse_studio.cli import main
from muse_studio.training import checkpoint
from muse_studio.training.stopping import ignore_signals


@pytest.mark.slow
def test_ctrl_c_keeps_a_checkpoint_and_the_same_command_goes_on(recipe, monkeypatch, capsys):
    monkeypatch.chdir(recipe)
    process = subprocess.Popen(
        [sys.executable, "-m", "muse_studio", "run", "train.yaml", "fit.workers=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
        # A shell starts what it runs in the background with SIGINT ignored; a terminal's is what is tested.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    told = []
    for line in process.stderr:
        told.append(line)
        if line.startswith("tokenizer 3/"):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the process that reads records too
            break
    rest, message = process.communicate(timeout=300)
    assert process.returncode == 130, "".join(told) + message
    assert rest == ""
    kept = checkpoint.newest(recipe / "run" / "checkpoints")
    step = int(kept.name.removeprefix("step-"))
    assert step >= 3
    assert message.endswith(f"tokenizer: stopped at step {step}; the same command goes on from there\ninterrupted\n")
    assert not (recipe / "run" / "tokenizer.safetensors").exists()

    assert main(["run", "train.yaml", "fit.workers=1", f"fit.steps={step + 2}"]) == 0
    shown = capsys.readouterr()
    assert [line.split()[1] for line in shown.err.splitlines() if line.startswith("tokenizer ")] == [
        f"{done}/{step + 2}" for done in (step + 1, step + 2)
    ]
    assert shown.out.splitlines()[0].endswith("tokenizer.safetensors")
    with safe_open(recipe / "run" / "tokenizer.safetensors", "pt") as file:
        assert '"use": "train-tokenizer"' in file.metadata()["muse_settings"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("times", [1, 2])
def test_sigterm_to_the_whole_process_group_keeps_the_last_step(recipe, workers, times):
    """As a cluster takes a machine away: all processes hear it, those that read records too, and perhaps twice."""
    process = subprocess.Popen(
        [sys.executable, "-m", "muse_studio", "run", "train.yaml", f"fit.workers={workers}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=recipe,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    for line in process.stderr:
        if line.startswith("tokenizer 3/"):
            for _ in range(times):
                os.killpg(process.pid, signal.SIGTERM)
            break
    message = process.communicate(timeout=300)[1]
    assert process.returncode == 143, message
    kept = checkpoint.newest(recipe / "run" / "checkpoints")
    assert kept is not None, message
    step = int(kept.name.removeprefix("step-"))
    assert f"tokenizer: stopped at step {step}; the same command goes on from there" in message
    with pytest.raises(ProcessLookupError):  # no worker stays behind
        os.killpg(process.pid, 0)


def worker_of(act):
    """A process that ignores signals as a loader's worker does, once it says that it is there."""
    pipe, told = multiprocessing.Pipe(duplex=False)

    def work():
        ignore_signals(0)
        told.send(os.getpid())
        act()

    process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    process.start()
    pipe.recv()
    return process


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="this system does not tell who sent a signal")
def test_a_worker_hears_its_parent_alone():
    process = worker_of(lambda: time.sleep(60))
    for number in ("TERM", "INT"):
        subprocess.run(["/bin/sh", "-c", f"kill -{number} {process.pid}"], check=True)
    process.join(0.5)
    assert process.is_alive()
    process.terminate()
    process.join(10)
    assert not process.is_alive()


def test_a_folder_that_can_not_be_written_is_told_at_the_command_line(recipe, monkeypatch, capsys):
    monkeypatch.chdir(recipe)
    (recipe / "run").touch()
    assert main(["run", "train.yaml"]) == 2
    assert capsys.readouterr().err == "error: run can't be written: File exists; give another folder as fit.out\n"
