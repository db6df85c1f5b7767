"""The muse command as a user has it: the real parts, in a folder of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from muse_studio.cli import main
from muse_studio.runtime.files import MARK


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a test works in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def muse(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command; gives its exit code and what it printed on both streams, which is never a traceback."""

    def muse(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return muse


@pytest.fixture
def refused(muse: Callable[..., tuple[int, str, str]], here: Path) -> Callable[..., str]:
    """Runs a command that must be refused as its user's mistake; gives the message. No file may come of it."""

    def refused(*arguments: str) -> str:
        before = files(here)
        code, out, err = muse(*arguments)
        assert (code, out) == (2, ""), err
        assert files(here) == before
        return err

    return refused


def files(folder: Path) -> set[Path]:
    """Every file below a folder, but for what Python itself writes when it imports one, and the mark of an empty
    folder that a run took before it failed.
    """
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc" and path.name != MARK}
