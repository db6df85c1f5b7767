"""Dependencies point one way: plugins to the core, a room to those below it, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "muse_studio").rglob("*.py"))
FOLDERS = sorted(folder for folder in (ROOT / "plugins").iterdir() if folder.name.startswith("muse_"))
PLUGINS = {folder.name for folder in FOLDERS}

FLOORS = (
    ("errors", "contracts"),
    ("hookspecs",),
    ("runtime",),
    ("registry",),
    ("recipe",),
    ("nn", "images"),
    ("sampling",),
    ("training", "stage", "testing"),
    ("cli", ""),
    ("__main__",),
)
"""The rooms of the core from the ground up ("" is `muse_studio` itself); each rests on those below it alone."""

FOR_PLUGINS_NEVER = {"cli", "registry.plugins", "recipe.build", "recipe.plan", "testing"}
"""What makes parts out of recipes: a part is handed what it needs, so none of them has to reach for these."""


def named(path: Path, root: Path) -> str:
    """The dotted name of a module file."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


@cache
def imported(path: Path, root: Path) -> frozenset[str]:
    """All that a module imports, anywhere in it, in functions and for type checkers too, by dotted name."""
    return frozenset(_imported(path, root))


def _imported(path: Path, root: Path) -> Iterator[str]:
    package = named(path, root) if path.name == "__init__.py" else named(path, root).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def graph(paths: list[Path], root: Path) -> dict[str, set[str]]:
    """The modules of a tree, and which of them each imports."""
    modules = {named(path, root) for path in paths}
    found = {}
    for path in paths:
        nearest = {name if name in modules else name.rpartition(".")[0] for name in imported(path, root)}
        found[named(path, root)] = (nearest & modules) - {named(path, root)}
    return found


def room(module: str) -> str:
    """The room of the core that a module is in; a module at its top is one by itself."""
    return module.removeprefix("muse_studio").lstrip(".").partition(".")[0]


def circle(imports: dict[str, set[str]]) -> str:
    """A circle of modules in words, empty where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return " -> ".join(error.args[1])
    return ""


def test_the_core_never_imports_a_plugin():
    wrong = {
        (named(path, ROOT), name) for path in CORE for name in imported(path, ROOT) if name.split(".")[0] in PLUGINS
    }
    assert not wrong, f"parts come to the core by name: {wrong}"


def test_no_arrow_goes_up():
    height = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    imports = graph(CORE, ROOT)
    assert {room(module) for module in imports} == set(height), "each room has its floor, and each floor is there"
    wrong = [
        f"{module} -> {below}"
        for module, belows in imports.items()
        for below in belows
        if room(module) != room(below) and height[room(module)] <= height[room(below)]
    ]
    assert not wrong


def test_there_is_no_circle():
    assert not circle(graph(CORE, ROOT))
    plugins = [path for folder in FOLDERS for path in sorted(folder.rglob("*.py"))]
    assert not circle(graph(plugins, ROOT / "plugins"))


def test_contracts_and_errors_stand_on_nothing():
    imports = graph(CORE, ROOT)
    rooms = {module: {room(below) for below in found} for module, found in imports.items()}
    contracts = set().union(*(rooms[module] for module in imports if room(module) == "contracts"))
    assert contracts <= {"contracts"} and not rooms["muse_studio.errors"]
    assert rooms["muse_studio.hookspecs"] <= {"contracts"}


def test_a_plugin_imports_no_other_plugin():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in FOLDERS
        for path in sorted(folder.rglob("*.py"))
        for name in imported(path, ROOT / "plugins")
        if name.split(".")[0] in PLUGINS - {folder.name}
    ]
    assert len(FOLDERS) > 5
    assert not wrong, f"plugins get each other from the recipe: {wrong}"


def test_a_plugin_uses_the_core_as_a_third_party_may():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in FOLDERS
        for path in sorted(folder.rglob("*.py"))
        for name in imported(path, ROOT / "plugins")
        if any(f"{name}.".startswith(f"muse_studio.{each}.") for each in FOR_PLUGINS_NEVER)
    ]
    assert not wrong, f"take what the part needs as a setting: {wrong}"
