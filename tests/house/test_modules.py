"""How each module is written: short, documented, with nothing unsafe in it and nothing of the place it was made in.

Each test walks every file and names all that break its rule, by file and line.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parents[2]
MODULES = sorted([*(ROOT / "muse_studio").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FOLDERS = ("muse_studio", "plugins", "recipes", "examples", "benchmarks", "docs", "tests", ".ci")
ENDINGS = {".py", ".tmpl", ".yaml", ".md", ".ipynb", ".toml", ""}

LONGEST_MODULE, MEDIAN_MODULE, MOST_MODULES, LONGEST_FUNCTION = 350, 130, 16, 60
TOP = 14
"""Files and folders at the top of the core, beside `testing` and the marker that it is typed."""

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torchvision"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system"}
LEFT_OVER = re.compile(r"\b(TO" + "DO|FIX" + "ME|XX" + r"X)\b")
PLACES = re.compile(r"(?<![\w.])/(root|work|home|Users|opt|mnt)/\w")
CHECKING = re.compile(r"(raises|warns|fail|assert\w*|check\w*|refuse\w*|keep\w*|expect\w*|warned|getattr\(.*\))$")
RECORDS = re.compile(r"pytest\.warns\(|catch_warnings\(record=True")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse("\n".join(lines(path)), str(path))


def written() -> list[Path]:
    """Every file of text that somebody wrote."""
    below = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in ENDINGS]
    own = [path for path in below if path.is_file() and "_cache/" not in path.as_posix()]  # of a tool that ran there
    return sorted(own + [path for path in ROOT.glob("*") if path.suffix in {".md", ".toml", ".txt"}])


def broken(paths: list[Path], rule: Callable[[Path], Iterator[str]]) -> list[str]:
    return [f"{shown(path)}{wrong}" for path in paths for wrong in rule(path)]


def test_modules_are_short_and_folders_small():
    lengths = [len(lines(path)) for path in MODULES]
    long = [shown(path) for path in MODULES if len(lines(path)) > LONGEST_MODULE]
    assert not long, f"split these: {long}"
    assert median(lengths) <= MEDIAN_MODULE and quantiles(lengths, n=10)[-1] <= LONGEST_MODULE
    folders = {path.parent for path in MODULES}
    counts = {shown(each): len([path for path in each.glob("*.py") if path.name != "__init__.py"]) for each in folders}
    assert not {folder: count for folder, count in counts.items() if count > MOST_MODULES}


def test_the_top_of_the_core_is_seen_at_a_glance():
    top = {path.name for path in (ROOT / "muse_studio").iterdir()} - {"testing", "py.typed", "__pycache__", "recipes"}
    assert len(top) <= TOP, sorted(top)


def test_functions_are_short():
    def long(path: Path) -> Iterator[str]:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    yield f":{node.lineno} {node.name} has {length} lines"

    assert not broken(MODULES, long)


def test_a_module_says_in_a_sentence_what_it_is_for():
    def silent(path: Path) -> Iterator[str]:
        first = (ast.get_docstring(tree(path)) or "").split("\n\n")[0].rstrip()
        if not first.endswith((".", ":", "?")):
            yield ": its docstring's first paragraph is no sentence"

    assert not broken(MODULES, silent)


def test_a_module_does_nothing_unsafe():
    def unsafe(path: Path) -> Iterator[str]:
        for node in ast.walk(tree(path)):
            for wrong in _unsafe(node):
                yield f":{getattr(node, 'lineno', 0)} {wrong}"

    assert not broken(MODULES, unsafe)


def _unsafe(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        yield from (f"imports {name}" for name in names if name.split(".")[0] in UNSAFE_MODULES)
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called in UNSAFE_CALLS:
            yield f"calls {called}"
        safe = any(key.arg == "weights_only" and ast.unparse(key.value) == "True" for key in node.keywords)
        if called == "torch.load" and not safe:
            yield "calls torch.load without weights_only=True"
    if isinstance(node, ast.ExceptHandler) and node.type is None:
        yield "catches everything, Ctrl-C too"
    if isinstance(node, ast.ExceptHandler) and all(isinstance(each, ast.Pass) for each in node.body):
        yield "swallows an exception unseen"
    if isinstance(node, ast.Global):
        yield f"changes a global: {node.names}"


def test_a_file_leaves_nothing_over_and_names_no_place():
    def left(path: Path) -> Iterator[str]:
        for number, line in enumerate(lines(path), 1):
            for pattern, cure in ((LEFT_OVER, "do it, or leave it out"), (PLACES, "a place on one machine")):
                if found := pattern.search(line):
                    yield f":{number} says {found[0]}: {cure}"

    paths = written()
    assert len(paths) > len(MODULES)
    assert not broken(paths, left)


def test_a_test_can_fail():
    def idle(path: Path) -> Iterator[str]:
        for function in ast.walk(tree(path)):
            tests = isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
            if tests and not any(map(_checks, ast.walk(function))):
                yield f":{function.lineno} {function.name} can't fail"

    assert not broken(TESTS, idle)


def test_a_test_takes_no_warning_of_another_for_its_own():
    """What pytest and Python record holds also what another test left open and is collected just then."""

    def mixed(path: Path) -> Iterator[str]:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.withitem) and node.optional_vars and RECORDS.search(ast.unparse(node.context_expr)):
                yield f":{node.context_expr.lineno} records warnings of every kind: use tests/shared/warned.py"
            if isinstance(node, ast.arg) and node.arg == "recwarn":
                yield f":{node.lineno} records warnings of every kind: use tests/shared/warned.py"

    assert not broken([path for path in TESTS if path.name != "warned.py"], mixed)


def _checks(node: ast.AST) -> bool:
    """Whether a piece of a test raises where something is wrong: an assert, or a call whose name or setting says so."""
    if not isinstance(node, ast.Call):
        return isinstance(node, ast.Assert)
    if any(key.arg == "check" and ast.unparse(key.value) == "True" for key in node.keywords):
        return True
    return CHECKING.search(ast.unparse(node.func)) is not None
