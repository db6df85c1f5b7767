"""The gallery of errors: what the command says to each mistake that a test makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from docstrings import plain

FILES = {"recipe": ("bad.yaml", "yaml"), "plugin": ("own.py", "python")}
"""The files that a case may come with: their names, and what language they are in."""


def page(path: Path) -> str:
    """The page of the cases in `path`, which tests/core/cli/test_refusals.py runs."""
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))
    count = sum(len(group["cases"]) for group in groups)
    return "\n\n".join(
        [
            "# What can go wrong, and what is then said",
            f"Each of these {count} mistakes is made by a test, which asserts the message that stands here. The exit "
            "code is 2, nothing is written, and `…` stands for the rest of a list or a path.",
            *(_group(group) for group in groups),
            "",
        ]
    )


def _group(group: dict[str, Any]) -> str:
    cases = "\n\n---\n\n".join(map(_case, group["cases"]))
    return "\n\n".join([f"## {group['title']}", plain(group["about"]), cases])


def _case(case: dict[str, str]) -> str:
    files = [_code(case[key], language, name) for key, (name, language) in FILES.items() if key in case]
    return "\n\n".join([*files, _code(f"muse {case['command']}", "sh"), _code(case["says"], "text")])


def _code(text: str, language: str, caption: str = "") -> str:
    # force: a recipe may well be no YAML, which the highlighter would warn of
    options = [":force:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join([f"```{{code-block}} {language}", *options, "", text.rstrip(), "```"])
