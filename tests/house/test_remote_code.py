"""Nobody's model folder may bring code, and one function opens addresses: a walk over the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [path for folder in ("muse_studio", "plugins") for path in sorted((ROOT / folder).rglob("*.py"))]
LOADING = ("from_pretrained", "from_config", "pipeline")
"""What transformers and diffusers call that which looks for code beside the weights."""

OPENING = ("url_to_fs", "open_files", "get_fs_token_paths", "get_mapper", "filesystem", "open_local")
"""What opens an address in fsspec."""


def unsafe(source: str) -> Iterator[int]:
    """The lines of calls that might run what a model's folder brings."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        if _name(node.func) in LOADING:
            said = {each.arg: each.value for each in node.keywords}.get("trust_remote_code")
            if not isinstance(said, ast.Constant) or said.value is not False:
                yield node.lineno
        if _name(node.func) == "getattr" and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            named = node.args[1].value  # what it is kept as is called somewhere; the same file must say so there
            if named in LOADING and "(config, trust_remote_code=False)" not in source:
                yield node.lineno


def opens(source: str) -> Iterator[int]:
    """The lines that open an address by fsspec itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of_fsspec = ast.unparse(node.func.value) == "fsspec" and node.func.attr == "open"
            if of_fsspec or node.func.attr in OPENING:
                yield node.lineno
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fsspec":
            yield from (node.lineno for each in node.names if each.name in (*OPENING, "open"))


def _name(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("AutoModel.from_pretrained(x)", 1),
        ("loader.from_pretrained(x, trust_remote_code=True)", 1),
        ("loader.from_pretrained(x, trust_remote_code=given)", 1),
        ("AutoModel.from_config(x)", 1),
        ("getattr(loader, 'from_config', loader)(x)", 1),
        ("AutoModel.from_pretrained(x, trust_remote_code=False)", 0),
    ],
)
def test_the_walk_sees_what_it_is_for(source, found):
    assert len(list(unsafe(source))) == found


def test_no_model_brings_code():
    text = {path: path.read_text(encoding="utf-8") for path in FILES}
    assert sum("from_pretrained(" in each for each in text.values()) >= 3
    assert [f"{path}:{line}" for path, each in text.items() for line in unsafe(each)] == []


def test_one_function_opens_addresses():
    assert len(list(opens("fsspec.open(x)\nfsspec.core.url_to_fs(x)\nfrom fsspec.core import url_to_fs"))) == 3
    found = {path for path in FILES if any(opens(path.read_text(encoding="utf-8")))}
    assert found == {ROOT / "muse_studio/runtime/fetching.py"}
