"""Tools for the page's tests that npm has: packages of one version each, fetched once into the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from muse_studio.runtime.fetching import cache_folder


def package(name: str, version: str) -> Path:
    """The folder of a package; skips the test where it can't be had, and fails it there where CI is set."""
    folder = cache_folder() / f"{name}-{version}"
    if not (folder / "package").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        if why := _fetch(f"{name}@{version}", folder):
            assert not os.environ.get("CI"), why
            pytest.skip(why)
    return folder / "package"


def _fetch(what: str, folder: Path) -> str | None:
    """Why it can't be fetched, None where it is."""
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed"
    command = [npm, "pack", what, "--silent"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        return f"npm could not fetch {what}: {done.stderr.strip()}"
    with tarfile.open(next(folder.glob("*.tgz"))) as packed:
        packed.extractall(folder, filter="data")
    return None
