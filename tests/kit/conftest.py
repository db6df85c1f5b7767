"""Plugins as their users have them: generated or from examples/, put on the path as pip would have installed them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import environment

from muse_studio.registry.plugins import GROUP


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[Path]], list[str]]:
    """Describes packages as an editable install does; gives the folders that Python's path then needs."""
    return lambda packages: describe(packages, tmp_path_factory.mktemp("site"))


def describe(packages: list[Path], site: Path) -> list[str]:
    """Write what pip knows of packages to `site`; all the folders that Python's path then needs."""
    for package in packages:
        project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir(parents=True)
        head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        (info / "METADATA").write_text(head, encoding="utf-8")
        doors = "".join(f"{name} = {module}\n" for name, module in project["entry-points"][GROUP].items())
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{doors}", encoding="utf-8")
    return [str(site), *map(str, packages)]


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python: `python(path, *arguments, cwd=...)`."""
    return run


def run(path: list[str], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python on these arguments, with these folders on its path."""
    return subprocess.run([sys.executable, *arguments], env=environment(path), cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="session")
def passed() -> Callable[..., dict[str, int]]:
    """Runs the tests of packages: `passed(path, packages, cwd)`."""
    return count


def count(path: list[str], packages: list[Path], cwd: Path) -> dict[str, int]:
    """How many tests of each package pass, by one pytest for all of them; AssertionError where one fails."""
    report, folders = cwd / "report.xml", [str(package / "tests") for package in packages]
    options = ["--import-mode=importlib", "-p", "no:cacheprovider", "-n", "0", f"--rootdir={packages[0].parent}"]
    done = run(path, "-m", "pytest", "-q", *options, f"--junitxml={report}", *folders, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [case.get("classname", "") for case in ET.parse(report).iter("testcase") if not len(case)]
    return {package.name: sum(name.startswith(f"{package.name}.") for name in names) for package in packages}
