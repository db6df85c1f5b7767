"""The mistakes of refusals.yaml, made: each gets the message that stands there and exit code 2, and writes nothing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[3]
GROUPS = yaml.safe_load(Path(__file__).with_name("refusals.yaml").read_text(encoding="utf-8"))
CASES = [case for group in GROUPS for case in group["cases"]]
COUNT = 113


def test_the_table_has_them_all() -> None:
    assert len(CASES) == COUNT
    assert all(group["title"] and group["about"] for group in GROUPS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.get("recipe", case.get("plugin", case["command"])))
def test_a_mistake_is_told(case: dict[str, Any], refused: Callable[..., str]) -> None:
    if "photo.png" in case["command"]:
        Image.new("RGB", (48, 36)).save("photo.png")
    for key, name in (("recipe", "bad.yaml"), ("plugin", "own.py")):
        if key in case:
            Path(name).write_text(case[key], encoding="utf-8")
    told = refused(*shlex.split(case["command"]))
    assert re.fullmatch(pattern(case["says"]), told.replace(f"{ROOT}/", "")), told


def pattern(says: str) -> str:
    """A message as a regular expression, where … stands for anything."""
    return ".*".join(map(re.escape, says.rstrip("\n").split("…"))) + "\n"
