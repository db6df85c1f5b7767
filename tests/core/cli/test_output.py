"""Output that can't be written: full, closed or with nobody who reads it, each with one line and its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = f"{sys.executable} -m muse_studio"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )


@FULL
@pytest.mark.parametrize(
    ("command", "unbuffered"), [("parts", ""), ("parts", "1"), ("--help", ""), ("show generate", "1")]
)
def test_a_full_stdout_is_one_line(command, unbuffered):
    done = shell(f"{COMMAND} {command} > /dev/full", PYTHONUNBUFFERED=unbuffered)
    text = "error: stdout can't be written (No space left on device); make room, or send it to another place\n"
    assert (done.returncode, done.stderr) == (2, text)


@pytest.mark.parametrize("command", ["parts", "--help"])
def test_a_reader_that_has_gone_is_no_error(command):
    done = shell(f"{COMMAND} {command} | head -0; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) in ((141, ""), (0, ""))


def test_a_closed_stdout_is_told_and_the_work_is_done():
    done = shell(f"{COMMAND} check generate >&-")
    text = "warning: stdout is closed, so nothing is printed; send it to /dev/null if that is meant\n"
    assert (done.returncode, done.stderr) == (0, text)


@FULL
@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_a_lost_stderr_leaves_the_exit_code(where):
    assert shell(f"{COMMAND} parts nosuch {where}").returncode == 2


def test_a_ctrl_c_while_python_tidies_up_is_no_traceback():
    """A library's exit function sends it, which was registered before ours and so runs after it."""
    source = (
        "import atexit, os, signal, sys\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
        "from muse_studio.cli import main\n"
        "sys.argv = ['muse', 'parts', 'schedule']\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "") and "cosine" in done.stdout
