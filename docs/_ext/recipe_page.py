"""The page of all shipped recipes, each by the comment that its file opens with."""

from __future__ import annotations

import re
from pathlib import Path

from docstrings import plain

from muse_studio.recipe.sources import shipped

COMMAND = re.compile(r"#? *((?:muse|torchrun) .*)")


def page() -> str:
    """The page: recipes that are run, then the models and parts that they extend."""
    recipes = shipped()
    run = [name for name in recipes if "/" not in name]
    extended = [name for name in recipes if "/" in name]
    return "\n\n".join(
        [
            "# The shipped recipes",
            "`muse show NAME` prints one with all that it extends, ready to save as your own; `muse run NAME` runs it.",
            "## To run",
            *(_section(name, recipes[name]) for name in run),
            "## To extend",
            "Models and parts, which other recipes name by `extends`.",
            *(_section(name, recipes[name]) for name in extended),
            "",
        ]
    )


def header(path: Path) -> tuple[str, list[str], list[str]]:
    """A recipe's first sentence, its commands, and the lines of all else that the comment at its top says."""
    first, *rest = _comment(path)
    about = first.partition(" -- ")[2]
    commands = [found[1] for line in rest if (found := COMMAND.fullmatch(line))]
    return about, commands, [line.removeprefix("#") for line in rest if not COMMAND.fullmatch(line)]


def _comment(path: Path) -> list[str]:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line)
    return lines


def _section(name: str, path: Path) -> str:
    about, commands, rest = header(path)
    pieces = [f"### {name}", plain(about)]
    if commands:
        pieces.append("\n".join(["```sh", *commands, "```"]))
    if rest:
        pieces.append("\n".join(["```text", *(line.removeprefix(" ") for line in rest), "```"]))
    text = "".join(line for line in path.read_text(encoding="utf-8").splitlines(True) if not line.startswith("#"))
    pieces.append(f"<details><summary>{name}.yaml</summary>\n\n```yaml\n{text.strip()}\n```\n\n</details>")
    return "\n\n".join(pieces)
