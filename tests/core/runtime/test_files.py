"""Paths with ~, folders proven writable, files whole or not there; and what a machine refuses."""

import errno
import os
from pathlib import Path

import pytest
import torch

from muse_studio.errors import UserError
from muse_studio.images.naming import slug
from muse_studio.runtime import memory
from muse_studio.runtime.files import (
    file_name,
    is_full,
    lines_of,
    name_problem,
    open_folder,
    path_of,
    replacing,
    replacing_folder,
    temporary_name,
    unwritable,
    within,
)


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

    def test_a_link_in_the_way_is_not_followed(self, here):
        """Its name can be known beforehand, and others may write to the folder."""
        (here / "victim").write_text("mine")
        temporary_name(here / "x.txt").symlink_to(here / "victim")
        with replacing(here / "x.txt") as aside:
            aside.write_text("whole")
        assert ((here / "victim").read_text(), (here / "x.txt").read_text()) == ("mine", "whole")
        assert not (here / "x.txt").is_symlink()


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


class TestFullDisk:
    def test_room_is_the_first_cure(self):
        full, denied = OSError(errno.ENOSPC, "No space left"), PermissionError(errno.EACCES, "Denied")
        cure = "give another folder as out"
        assert str(unwritable(Path("x"), full, cure)) == f"x can't be written: No space left; make room, or {cure}"
        assert str(unwritable(Path("x"), denied, cure)) == f"x can't be written: Denied; {cure}"

    def test_it_is_known_behind_another_error(self):
        error = UserError("x can't be written")
        assert not is_full(error)
        error.__cause__ = OSError(errno.EDQUOT, "Quota exceeded")
        assert is_full(error)
        assert is_full(RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"))


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


BAD_NAMES = {
    "": "is empty",
    " ": "is empty",
    ".": "ends in a dot",
    "..": "ends in a dot",
    "name.": "ends in a dot or a space",
    "name ": "ends in a dot or a space",
    "a/b": "has a / or",
    "/etc/passwd": "has a / or",
    "../../../OUTSIDE": "has a / or",
    "a\\b": "has a / or",
    "a\0b": "has a control character",
    "a\nb": "has a control character",
    "a\x1b[2Jb": "has a control character",
    "a\x85b": "has a control character",
    "a\u2028b": "has a control character",
    "a\ud800b": "is not valid Unicode",
    "a" * 300: "is longer than 200 bytes",
    "猫" * 70: "is longer than 200 bytes",
    "C:x": "begins with a drive",
    "nul": "is that of a device of Windows",
    "CON.safetensors": "is that of a device of Windows",
    "lpt1": "is that of a device of Windows",
}
"""Names that are none of a file right in a folder, and why not."""


@pytest.mark.parametrize(("name", "why"), BAD_NAMES.items())
def test_what_is_no_file_s_name(name, why):
    assert name_problem(name).startswith(why)
    with pytest.raises(UserError) as caught:
        file_name(name, "index.json")
    message = str(caught.value)
    assert message.startswith("index.json: the name ")
    assert why in message
    assert message.isprintable()
    assert len(message) < 200
    if name != "a/b":  # there, a file of the folder a
        with pytest.raises(UserError):
            within(Path("out"), f"inside/{name}", "index.json")


@pytest.mark.parametrize("name", ["base", "x2.superres", ".hidden", "猫", "console", "com", "a b", "a" * 200, "C"])
def test_what_is_a_file_s_name(name):
    assert file_name(name, "index.json") == name
    assert within(Path("out"), f"inside/{name}", "index.json") == Path("out/inside") / name


def test_what_is_no_text_is_no_name():
    with pytest.raises(UserError, match="the name 7 is no text"):
        file_name(7, "index.json")


@pytest.mark.parametrize("prompt", ["con", "NUL", "aux", "com1", "../../etc/passwd", "a\0b", "\\\\server\\share", ".."])
def test_a_prompt_s_name_is_always_one(prompt):
    assert name_problem(slug(prompt)) == ""
