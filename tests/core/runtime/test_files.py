"""Paths with ~, folders proven writable, files whole or not there; and what a machine refuses."""

import errno
import os
from pathlib import Path

import pytest
import torch

from muse_studio.errors import UserError
from muse_studio.runtime import memory
from muse_studio.runtime.files import lines_of, open_folder, path_of, replacing, replacing_folder, temporary_name


def test_a_path_as_a_user_writes_it(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert path_of("~/x") == Path("/somewhere/x")
    assert path_of("~no-such-user/x") == Path("~no-such-user/x")
    assert path_of("a/~") == Path("a/~")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\r\nb\n", ["a", "b"]),
        ("a\n\nb", ["a", "", "b"]),
        ("a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n", ["a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"]),
    ],
)
def test_only_a_line_feed_ends_a_line(text, lines):
    assert lines_of(text) == lines


def test_a_folder_is_made_and_left_empty(here):
    folder = open_folder(here / "a" / "b", "out")
    assert (folder, os.listdir(folder)) == (here / "a" / "b", [])
    assert open_folder(folder, "out") == folder


def test_a_folder_that_can_not_be(here):
    (here / "file").touch()
    with pytest.raises(UserError, match=r"file can't be written: File exists; give another folder as fit\.out"):
        open_folder(here / "file", "fit.out")


class TestReplacing:
    def test_the_file_is_there_at_the_end(self, here):
        path = here / "new" / "x.txt"
        with replacing(path) as aside:
            aside.write_text("whole")
            assert aside.parent == path.parent
            assert not path.exists()
        assert path.read_text() == "whole"
        assert os.listdir(path.parent) == ["x.txt"]

    @pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
    def test_what_was_there_stays_where_it_fails(self, here, error):
        path = here / "x.txt"
        path.write_text("before")
        with pytest.raises(type(error)), replacing(path) as aside:
            aside.write_text("half")
            raise error
        assert os.listdir(here) == ["x.txt"]
        assert path.read_text() == "before"

    def test_an_error_of_the_disk_is_given_the_files_name(self, here):
        with pytest.raises(OSError, match="No space left") as caught, replacing(here / "x.txt"):
            raise OSError(errno.ENOSPC, "No space left")
        assert caught.value.filename == str(here / "x.txt")


class TestReplacingFolder:
    def test_the_folder_is_there_at_the_end(self, here):
        folder = here / "new" / "x"
        with replacing_folder(folder) as aside:
            (aside / "a.txt").write_text("whole")
            assert not folder.exists()
        assert os.listdir(folder.parent) == ["x"] and os.listdir(folder) == ["a.txt"]

    @pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
    def test_nothing_is_left_where_it_fails(self, here, error):
        with pytest.raises(type(error)), replacing_folder(here / "x") as aside:
            (aside / "a.txt").write_text("half")
            raise error
        assert os.listdir(here) == []

    def test_a_folder_that_is_there_stays(self, here):
        (here / "x").mkdir()
        (here / "x" / "a.txt").write_text("before")
        with pytest.raises(OSError, match="x"), replacing_folder(here / "x") as aside:
            (aside / "b.txt").touch()
        assert os.listdir(here) == ["x"] and os.listdir(here / "x") == ["a.txt"]

    def test_what_a_killed_process_left_is_no_part_of_it(self, here):
        temporary_name(here / "x").mkdir()
        (temporary_name(here / "x") / "old.txt").touch()
        with replacing_folder(here / "x") as aside:
            (aside / "new.txt").touch()
        assert os.listdir(here / "x") == ["new.txt"]


class TestMachine:
    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (
                OSError(errno.ENOSPC, "No space left", "x.bin"),
                "x.bin: No space left; make room, or choose",
            ),
            (OSError(errno.EROFS, "Read-only", "x"), "x: Read-only; choose a place that can be written"),
            (PermissionError(errno.EACCES, "Denied"), "Denied; choose a place that can be written"),
            (
                RuntimeError("InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config.cpp.cxx"),
                "compiling finds no compiler that works: install g++ (for a GPU triton), or set compile to",
            ),
            (
                MemoryError(),
                "there is not enough memory; choose smaller sizes, a smaller batch (in training, or more "
                "fit.accumulate), or fewer steps",
            ),
            (
                torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0"),
                "for 20.00 GiB",
            ),
            (FileNotFoundError(errno.ENOENT, "No such file", "x"), None),
            (RuntimeError("shapes differ"), None),
            (TypeError("no such argument"), None),
        ],
    )
    def test_what_it_refuses(self, error, message):
        told = memory.refusal(error)
        assert told is None if message is None else message in told

    @pytest.mark.parametrize("shape", [(10**15,), (2**40, 2**40), (10**19, 2)])
    def test_what_torch_says_of_sizes_that_no_machine_holds(self, shape):
        with pytest.raises((RuntimeError, TypeError)) as caught:
            torch.empty(shape)
        assert "there is not enough memory" in memory.refusal(caught.value)
