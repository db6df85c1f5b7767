"""Each line of the page on safety names a test that there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8")
PART = PAGE.partition("## What a stranger's files can and can't do")[2]
ROW = re.compile(r"^\| (?!what \||---)(.+) \| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")


def names(file: str) -> set[str]:
    """The tests of a file, those of a class with its name before theirs."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    found = {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}
    for each in tree.body:
        if isinstance(each, ast.ClassDef):
            found |= {f"{each.name}::{inner.name}" for inner in each.body if isinstance(inner, ast.FunctionDef)}
    return found


def test_each_line_has_a_test_that_there_is() -> None:
    rows = ROW.findall(PART)
    assert len(rows) > 50
    assert [what for what, tests in rows if not TEST.search(tests)] == []
    assert [f"{file}::{name}" for file, name in TEST.findall(PART) if name not in names(file)] == []
