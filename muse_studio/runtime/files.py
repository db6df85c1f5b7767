"""Paths as users write them, folders proven writable before anything costly, files that are whole or not there."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from muse_studio.errors import UserError, words_of

LONGEST = 200
"""Bytes of a name: file systems allow 255, and what is written beside a file has a longer one."""
DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL)
"""What Windows takes for a device, whatever ending stands behind it."""
NOT_SHOWN = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")
"""Control characters and breaks of lines."""
SHOWN = 60
"""Letters of a name that a message repeats."""
MARK = ".muse-run.json"
"""In a run's folder, which tasks write there: what they wrote they may replace, and nothing else."""
LEFT = re.compile(r"\..+\.(png|webp|csv|json|md|safetensors)\.([0-9]+)")
"""What a process that was killed leaves of a file that it wrote aside; the number is the process's."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a disk that has no room."""


def path_of(text: str) -> Path:
    """A path with its ~ for the home folder; unlike pathlib's own, it leaves the ~ of an unknown user as it is."""
    return Path(os.path.expanduser(text))


def lines_of(text: str) -> list[str]:
    r"""The lines of a file of data. They end at \n or \r\n alone: str.splitlines also cuts at U+2028, U+0085 and
    others, which JSON has inside its strings and people inside their names.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def name_problem(name: object) -> str:
    """What keeps a name from being that of a file right in a folder, on any machine; "" where nothing does."""
    if not isinstance(name, str) or not name.strip():
        return "is empty" if isinstance(name, str) else "is no text"
    if "/" in name or "\\" in name:
        return "has a / or \\ in it"
    if NOT_SHOWN.search(name):
        return "has a control character in it"
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        return "is not valid Unicode"
    if len(name.encode()) > LONGEST:
        return f"is longer than {LONGEST} bytes"
    if name[-1] in ". ":  # . and .. among them; Windows drops both, and "a." would be "a"
        return "ends in a dot or a space"
    if name[1:2] == ":":
        return "begins with a drive"
    return "is that of a device of Windows" if DEVICES.fullmatch(name) else ""


def file_name(name: str, place: str) -> str:
    """The name itself, which may be joined to a folder's path; UserError, naming the `place` that it is from, if not.

    All that becomes a file or a folder comes through here, where a recipe, data or an address says its name.
    """
    if problem := name_problem(name):
        shown = repr(name) if len(repr(name)) <= SHOWN else f"{name!r:.{SHOWN}}…"
        raise UserError(f"{place}: the name {shown} {problem}, so no file may be called that; give another")
    return name


def within(folder: Path, name: str, place: str) -> Path:
    """The file below a folder that a name such as "text_encoder/config.json" means; UserError as of `file_name`."""
    return folder.joinpath(*(file_name(part, place) for part in name.split("/")))


def unwritable(path: Path, error: OSError, cure: str) -> UserError:
    """What to raise where the disk refuses to write a path, from what it said; the cure of a full one is room first."""
    room = "make room, or " if error.errno in FULL else ""
    return UserError(f"{path} can't be written: {error.strerror or words_of(error)}; {room}{cure}")


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, says that a disk has no room."""
    if error is None:
        return False
    told = isinstance(error, OSError) and error.errno in FULL
    return told or "(os error 28)" in str(error) or is_full(error.__cause__)  # safetensors' errors have no number


def open_folder(folder: Path, setting: str) -> Path:
    """The folder, made where it is missing; UserError, naming the `setting` to change, where it can't be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise unwritable(folder, error, f"give another folder as {setting}") from error


def claim_folder(folder: Path, setting: str, task: str, names: Collection[str], former: str = "") -> Path:
    """A run's own folder, made where it is missing: one that is marked as the task's, or holds nothing of these names.

    names: what the task writes, which is replaced and deleted from then on. former: a pattern of files by which a
    folder without a mark is known to be the task's; "" for none. UserError, with nothing written, where what is there
    is another's, or the folder can't be written; it names the `setting` to change.
    """
    open_folder(folder, setting)
    tasks = _tasks(folder)
    if task not in tasks:
        taken = [name for name in names if os.path.lexists(folder / name)]
        if taken and not (former and any(folder.glob(former))):
            raise UserError(
                f"{folder} holds {', '.join(taken)}, which no {task} wrote that is known here and which would be "
                f"replaced; give another folder as {setting}, or move that away"
            )
        try:
            with replacing(folder / MARK) as aside:
                aside.write_text(json.dumps({"tasks": sorted({*tasks, task})}) + "\n", encoding="utf-8")
        except OSError as error:
            raise unwritable(folder / MARK, error, f"give another folder as {setting}") from error
    for each in (folder, *(folder / name for name in names)):
        _clear(each)
    return folder


def _tasks(folder: Path) -> set[str]:
    """The tasks that a folder is marked by."""
    try:
        return set(map(str, json.loads((folder / MARK).read_text(encoding="utf-8"))["tasks"]))
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def _clear(folder: Path) -> None:
    """Delete what killed processes of this user left half written in a run's own folder."""
    with suppress(OSError):  # it is none
        for path in folder.iterdir():
            found = LEFT.fullmatch(path.name)
            if found and is_own(path.lstat()) and not _goes_on(int(found[2])):
                path.unlink()


def _goes_on(process: int) -> bool:
    """Whether there is a process of that number; True where that can't be asked."""
    if os.name == "nt":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def temporary_name(path: Path) -> Path:
    """The name beside `path` that this process writes to before it renames: hidden, and on the same file system."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def leftovers(path: Path) -> list[Path]:
    """What is there by the names that this and other processes write `path` to: of those that go on, or were killed."""
    names = re.compile(rf"\.{re.escape(path.name)}\.[0-9]+")
    try:
        return [path.with_name(name) for name in os.listdir(path.parent) if names.fullmatch(name)]
    except OSError:  # there is no such folder
        return []


def is_own(found: os.stat_result) -> bool:
    """Whether that is a plain file of this user's, and no link to one."""
    owned = found.st_uid == os.getuid() if hasattr(os, "getuid") else True
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and owned


def settle(path: Path) -> None:
    """Have the disk hold a file's content, or a folder's names, where the system can be asked to."""
    if os.name == "nt":  # it opens no folder, and writes through no handle that only reads
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some network disks know no order of names
            raise
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write a file to, which takes its place at the end, and vanishes where that fails.

    The folder is made where it is missing. An OSError that names no file, as a full disk's, is given this one.
    """
    aside = temporary_name(path)
    try:
        with _renaming(aside, path):
            aside.unlink(missing_ok=True)  # of a process that had this one's number; or a link, to lead it elsewhere
            yield aside
    finally:
        with suppress(OSError):  # it was renamed, or there was no folder to write it to
            aside.unlink()


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder` to write to, which takes its place at the end, and vanishes where that fails.

    OSError where `folder` is there by then and is not empty: nothing is overwritten. Else as `replacing`.
    """
    aside = temporary_name(folder)
    shutil.rmtree(aside, ignore_errors=True)  # of a process that had this one's number, and was killed
    try:
        with _renaming(aside, folder):
            aside.mkdir()
            yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _renaming(aside: Path, path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
        os.replace(aside, path)
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
