"""What README tells a newcomer to type is what .ci/run types, and each command that it names exists."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from muse_studio.cli import muse
from muse_studio.recipe_files import shipped

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
SET_UP = (
    """pip install -c constraints.txt -e . && muse generate "a red apple, noto style\"""",
    """pip install -c constraints.txt -e '.[test]' && pytest""",
)
"""The two lines that do everything on a bare machine."""


def commands() -> list[str]:
    """Each command of README's code blocks, split at &&, without prompts and comments."""
    found = []
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    for block in [text for language, text in blocks if language in ("", "sh", "bash", "console")]:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while "&&" in words:
                end = words.index("&&")
                found.append(words[:end])
                words = words[end + 1 :]
            found.append(words)
    return [shlex.join(words) for words in found if words]


@pytest.mark.parametrize("line", SET_UP)
def test_the_set_up_lines_are_in_readme_and_in_ci_word_for_word(line):
    assert line in README
    for command in line.split(" && "):
        assert re.search(rf"^(\s*|.*&& ){re.escape(command)}( .*)?$", CI, re.MULTILINE), f".ci/run lacks `{command}`"


@pytest.mark.parametrize("command", sorted({each for each in commands() if each.startswith("muse ")}))
def test_a_muse_command_of_readme_exists(command):
    _, subcommand, *words = shlex.split(command)
    if subcommand.startswith("-"):
        return
    assert subcommand in muse.commands, f"`{command}`: there is no muse {subcommand}"
    if subcommand in ("run", "check", "show") and words and "." not in words[0]:
        assert words[0] in shipped(), f"`{command}`: there is no recipe {words[0]}"


def test_readme_has_commands_to_check():
    assert sum(each.startswith("muse ") for each in commands()) > 0
    assert sum(each.startswith("pip install") for each in commands()) >= len(SET_UP)


def test_ci_is_a_script_that_stops_at_the_first_error():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert CI.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in CI
