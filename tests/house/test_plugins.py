"""A folder of plugins/ is a plugin like anyone's: in the wheel, behind an entry point, and light to look at."""

from __future__ import annotations

import ast
import inspect
import sys
import tomllib
from pathlib import Path

import pytest

from muse_studio import testing
from muse_studio.registry.kinds import hook_points, kinds
from muse_studio.registry.plugins import GROUP, Registry

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = sorted(folder.name for folder in (ROOT / "plugins").iterdir() if folder.name.startswith("muse_"))
HEARD = {"muse_started", "muse_step", "muse_progress", "muse_finished", "muse_failed", "muse_prompt", "muse_picture"}


def test_each_folder_is_in_the_wheel_and_behind_an_entry_point():
    packages = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packages) == sorted(["muse_studio", *(f"plugins/{folder}" for folder in FOLDERS)])
    offered = PYPROJECT["project"]["entry-points"][GROUP]
    assert offered == {folder: f"{folder}.plugin" for folder in FOLDERS}


def test_each_package_says_that_it_is_typed():
    packages = [ROOT / "muse_studio", *(ROOT / "plugins" / folder for folder in FOLDERS)]
    assert [folder.name for folder in packages if not (folder / "py.typed").is_file()] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_its_entry_module_is_light(folder):
    testing.check_light(f"{folder}.plugin")


@pytest.mark.parametrize("folder", FOLDERS)
def test_its_entry_module_holds_hooks_and_nothing_else(folder):
    tree = ast.parse((ROOT / "plugins" / folder / "plugin.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    sources = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports}
    others = {name for name in sources if name.partition(".")[0] not in {folder, *sys.stdlib_module_names}}
    assert others == {"muse_studio.hookspecs"}
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    assert functions, "an entry module without a hook"
    for function in functions:
        assert ast.get_docstring(function), f"{function.name} has no docstring"
        assert [ast.unparse(each) for each in function.decorator_list] == ["hookimpl"], f"{function.name}: no @hookimpl"


def test_every_plugin_loads_and_offers_something_or_hears_every_run():
    registry = Registry()
    assert registry.failed == {}
    heard = {each.plugin_name for hook in HEARD for each in getattr(registry.hook, hook).get_hookimpls()}
    assert {part.plugin for part in registry.parts()} | heard >= set(FOLDERS)
    assert heard & set(FOLDERS) == {"muse_progress", "muse_observers"}


def test_every_hook_point_is_documented_with_its_contract():
    assert kinds()
    for kind in kinds().values():
        message = inspect.getdoc(hook_points()[kind.hook]) or ""
        assert f"`contracts.{kind.contract.__name__}`" in message, f"{kind.hook} does not say what its parts promise"


def test_every_observer_is_documented_with_its_arguments():
    observers = {name: hook for name, hook in hook_points().items() if inspect.signature(hook).parameters}
    assert set(observers) == HEARD
    for name, hook in observers.items():
        assert inspect.getdoc(hook), f"{name} has no docstring"
        for parameter in inspect.signature(hook).parameters.values():
            assert parameter.annotation is not parameter.empty, f"{name}({parameter.name}) has no type"
