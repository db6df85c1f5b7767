"""A folder's lock: another is refused and told of whom, and nothing that is killed or forked leaves one behind."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from processes import environment

from muse_studio.errors import UserError
from muse_studio.runtime import locking
from muse_studio.runtime.locking import LOCK, FolderLock

HOLD = """
import os, sys, time
from pathlib import Path
from muse_studio.runtime.locking import FolderLock
lock = FolderLock(Path(sys.argv[1]), "fit.out")
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_is_refused_and_told_of_the_first(tmp_path, holder):
    with pytest.raises(UserError) as caught:
        FolderLock(tmp_path, "fit.out")
    assert str(caught.value) == (
        f"{tmp_path} is being written by another run, process {holder.pid} on {socket.gethostname()!r}; wait until it "
        "has ended, stop it, or give another folder as fit.out"
    )


def test_one_that_is_killed_leaves_no_lock(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / LOCK).exists()  # which says nothing
    FolderLock(tmp_path, "fit.out").release()
    assert list(tmp_path.iterdir()) == []


def test_in_one_process_too_and_again_once_it_is_released(tmp_path):
    first = FolderLock(tmp_path, "fit.out")
    with pytest.raises(UserError, match=f"process {os.getpid()} on"):
        FolderLock(tmp_path, "fit.out")
    first.release()
    first.release()
    FolderLock(tmp_path, "fit.out").release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks nothing")
def test_a_process_that_was_forked_has_no_share_in_it(tmp_path):
    lock = FolderLock(tmp_path, "fit.out")
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    child.start()
    lock._file.close()  # as the system does where this process is killed
    deadline = time.monotonic() + 10
    while True:  # the child forgets it as it starts
        try:
            FolderLock(tmp_path, "fit.out").release()
            break
        except UserError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.join()


@pytest.mark.parametrize("text", ["", "not JSON", "[]", '{"pid": "x", "host": 3}', '{"pid": 1}'])
def test_a_lock_that_does_not_say_whose_it_is_holds_all_the_same(tmp_path, text):
    lock = FolderLock(tmp_path, "fit.out")
    (tmp_path / LOCK).write_text(text)
    with pytest.raises(UserError, match="another run, which does not say who it is; wait"):
        FolderLock(tmp_path, "fit.out")
    lock.release()


def test_a_disk_that_locks_nothing_is_told(tmp_path, monkeypatch):
    def refuse(file):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locking, "_lock", refuse)
    with pytest.warns(UserWarning, match=r"can't be locked \(Operation not supported\); start one run there"):
        FolderLock(tmp_path, "fit.out").release()
