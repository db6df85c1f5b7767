"""Dependencies point one way: plugins to the core, the core to itself, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "muse_studio").rglob("*.py"))
FOLDERS = sorted(folder for folder in (ROOT / "plugins").iterdir() if folder.name.startswith("muse_"))
PLUGINS = {folder.name for folder in FOLDERS}
FOR_PLUGINS_NEVER = {"cli", "build", "plan", "registry", "testing"}
"""What makes parts out of recipes: a part is handed what it needs, so none of them has to reach for these."""


def named(path: Path, root: Path) -> str:
    """The dotted name of a module file."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path, root: Path, types: bool = True) -> Iterator[tuple[str, bool]]:
    """All that a module imports, anywhere in it, by dotted name, and whether it does so when it is itself imported.

    types: what is imported for type checkers alone, too.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    if not types:
        for node in filter(_for_type_checkers, list(ast.walk(tree))):
            node.body = [ast.Pass()]
    later = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _for_type_checkers(node)
        for inner in ast.walk(node)
    }
    package = named(path, root) if path.name == "__init__.py" else named(path, root).rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in later) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}", id(node) not in later


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def test_there_is_something_to_walk():
    assert len(CORE) > 10
    assert len(FOLDERS) > 5


@pytest.mark.parametrize("path", CORE, ids=lambda path: named(path, ROOT))
def test_the_core_never_imports_a_plugin(path):
    plugins = {name for name, _ in imported(path, ROOT) if name.split(".")[0] in PLUGINS}
    assert not plugins, f"{named(path, ROOT)} imports {plugins}; parts come to the core by name"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_plugin_imports_no_other_plugin(folder):
    for path in sorted(folder.rglob("*.py")):
        others = {name for name, _ in imported(path, ROOT / "plugins") if name.split(".")[0] in PLUGINS - {folder.name}}
        assert not others, f"{path.relative_to(ROOT)} imports {others}; plugins get each other from the recipe"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_plugin_uses_the_core_as_a_third_party_may(folder):
    for path in sorted(folder.rglob("*.py")):
        for name, _ in imported(path, ROOT / "plugins"):
            core, _, rest = name.partition(".")
            assert core != "muse_studio" or rest.split(".")[0] not in FOR_PLUGINS_NEVER, (
                f"{path.relative_to(ROOT)} imports {name}; take what the part needs as a setting"
            )


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_modules_of_a_plugin_import_each_other_in_no_circle(folder):
    paths = sorted(folder.rglob("*.py"))
    modules = {named(path, ROOT / "plugins") for path in paths}
    graph = {}
    for path in paths:
        wanted = [name for name, _ in imported(path, ROOT / "plugins", types=False)]
        nearest = {name if name in modules else name.rpartition(".")[0] for name in wanted}
        graph[named(path, ROOT / "plugins")] = nearest & modules - {folder.name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(circle.args[1])}")


def test_the_core_has_no_circle_and_a_foundation():
    modules = {named(path, ROOT) for path in CORE}
    graph: dict[str, set[str]] = {}
    for path in CORE:
        wanted = [name for name, _ in imported(path, ROOT)]
        nearest = {name if name in modules else name.rpartition(".")[0] for name in wanted}
        graph[named(path, ROOT)] = (nearest & modules) - {"muse_studio"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(f"modules of the core import each other in a circle: {' -> '.join(circle.args[1])}")
    assert not graph["muse_studio.contracts"], "contracts stands on nothing"
    assert not graph["muse_studio.errors"], "errors stands on nothing"
    assert graph["muse_studio.hookspecs"] <= {"muse_studio.contracts"}, "hookspecs stands on contracts alone"
    for name, below in graph.items():
        if name != "muse_studio.__main__":
            assert "muse_studio.cli.commands" not in below, f"{name} imports the command line, which stands on top"
        if not name.startswith("muse_studio.testing"):
            assert not any(each.startswith("muse_studio.testing") for each in below), f"{name} imports testing"
