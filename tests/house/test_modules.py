"""How each module is written: short, documented, with nothing unsafe in it and nothing of the place it was made in."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted([*(ROOT / "muse_studio").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])
TREES = {path: ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in MODULES}
TESTS = sorted((ROOT / "tests").rglob("*.py"))
WRITTEN = sorted(
    path
    for folder in ("muse_studio", "plugins", "recipes", "examples", "benchmarks", "docs", "tests", ".ci")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".tmpl", ".yaml", ".md", ".ipynb", ".toml", ""}
    and path.is_file()
    and "_cache/" not in path.as_posix()  # of a tool that ran there
) + sorted(path for path in ROOT.glob("*") if path.suffix in {".md", ".toml", ".txt"})

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torchvision"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system"}
LEFT_OVER = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
PLACES = re.compile(r"(?<![\w.])/(root|work|home|Users|opt|mnt)/\w")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_module_is_long_and_most_are_short():
    lengths = {shown(path): length(path) for path in MODULES}
    assert len(lengths) > 40
    long = {name: lines for name, lines in lengths.items() if lines > 350}
    assert not long, f"split these: {long}"
    assert median(lengths.values()) <= 130


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_a_module_says_in_a_sentence_what_it_is_for(path):
    message = ast.get_docstring(TREES[path])
    assert message, "no docstring at the top"
    assert message.split("\n\n")[0].rstrip().endswith((".", ":", "?")), "the docstring's first paragraph is a sentence"


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_a_module_does_nothing_unsafe(path):
    for node in ast.walk(TREES[path]):
        where = f"{shown(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            unsafe = {name for name in names if name.split(".")[0] in UNSAFE_MODULES}
            assert not unsafe, f"{where} imports {unsafe}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in UNSAFE_CALLS, f"{where} calls {called}"
            if called == "torch.load":
                safe = any(key.arg == "weights_only" and ast.unparse(key.value) == "True" for key in node.keywords)
                assert safe, f"{where} calls torch.load without weights_only=True"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{where} catches everything, Ctrl-C too"
            assert not all(isinstance(each, ast.Pass) for each in node.body), f"{where} swallows an exception unseen"
        if isinstance(node, ast.Global):
            raise AssertionError(f"{where} changes a global: {node.names}")


@pytest.mark.parametrize("path", WRITTEN, ids=shown)
def test_a_file_leaves_nothing_over_and_names_no_place(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        left = [word for word in LEFT_OVER if re.search(rf"\b{word}\b", line)]
        assert not left, f"{shown(path)}:{number} says {left[0]}; do it, or leave it out"
        place = PLACES.search(line)
        assert not place, f"{shown(path)}:{number} names a place on one machine: {place and place[0]}"


@pytest.mark.parametrize("path", TESTS, ids=shown)
def test_a_test_can_fail(path):
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
            assert any(map(_checks, ast.walk(function))), f"{shown(path)}:{function.lineno} {function.name} can't fail"


def _checks(node: ast.AST) -> bool:
    """Whether a piece of a test raises where something is wrong: an assert, or a call whose name or setting says so."""
    if not isinstance(node, ast.Call):
        return isinstance(node, ast.Assert)
    if any(key.arg == "check" and ast.unparse(key.value) == "True" for key in node.keywords):
        return True
    called = r"(raises|warns|fail|assert\w*|check\w*|refuse\w*|keep\w*|expect\w*|getattr\(.*\))$"
    return re.search(called, ast.unparse(node.func)) is not None
