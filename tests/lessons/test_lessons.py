"""The lessons: nine of them, each runs from nothing, has its pictures with it, and keeps to a lesson's form."""

from __future__ import annotations

import ast
import base64
import functools
import io
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import muse_studio
from muse_studio.sampling.cascade import sample

FOLDER = Path(__file__).parents[2] / "docs" / "lessons"
PATHS = sorted(FOLDER.glob("*.ipynb"))
NAMES = [path.stem for path in PATHS]
PLAIN = "9-from-noise-to-picture-in-plain-pytorch"
MEGABYTES, LINES, CELL = 4.0, 150, 15
"""The size of all lessons, the code lines of the plain one, the lines of a code cell."""


@functools.cache
def execute():
    """The names of execute.py, which imports what reads and runs notebooks."""
    return runpy.run_path(str(FOLDER / "execute.py"))


@functools.cache
def read(name):
    """A lesson as it is kept; not to be changed."""
    return execute()["read"](FOLDER / f"{name}.ipynb")


def code(lesson):
    return [cell for cell in lesson.cells if cell.cell_type == "code"]


def text(lesson):
    return "\n".join(cell.source for cell in lesson.cells if cell.cell_type == "markdown")


def outputs(lesson):
    return [output for cell in code(lesson) for output in cell.outputs]


def pictures(lesson):
    return [output.data["image/png"] for output in outputs(lesson) if "image/png" in output.get("data", {})]


def test_there_are_nine():
    assert [name.split("-")[0] for name in NAMES] == [str(number) for number in range(1, 10)]
    assert execute()["LESSONS"] == PATHS


def test_they_are_small_enough_to_be_shipped():
    assert sum(path.stat().st_size for path in PATHS) < MEGABYTES * 1e6


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_has_aims_steps_remarks_exercises_and_readings(name):
    message = text(read(name))
    assert message.startswith(f"# {name[0]} · ")
    for part in ("**Aims.**", "**You need**", "**What to notice.**", "## Exercises", "## Read on", "section"):
        assert part in message, f"it lacks {part}"
    exercises = message.split("## Exercises")[1].split("## Read on")[0]
    asked = re.findall(r"^\*\*\d\.\*\*", exercises, re.MULTILINE)
    answers = re.findall(
        r"^<details><summary>Answer</summary>\n\n.+?\n</details>$", exercises, re.MULTILINE | re.DOTALL
    )
    assert len(asked) == len(answers) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_s_links_lead_to_lessons(name):
    links = re.findall(r"\]\(([^)]+)\)", text(read(name)))
    assert links and all((FOLDER / link).is_file() for link in links)


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_s_code_comes_in_short_cells(name):
    for cell in code(read(name)):
        lines = cell.source.splitlines()
        assert len(lines) <= CELL and max(map(len, lines)) <= 100, f"too long: {lines[0]}"


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_is_shipped_as_it_ran(name):
    lesson = read(name)
    assert [cell.execution_count for cell in code(lesson)] == list(range(1, len(code(lesson)) + 1))
    assert not [output for output in outputs(lesson) if output.output_type == "error"]
    shown = pictures(lesson)
    assert len(shown) >= 2
    for picture in shown:
        with Image.open(io.BytesIO(base64.b64decode(picture))) as opened:
            opened.load()
            assert opened.format == "PNG" and min(opened.size) > 60


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_keeps_nothing_of_the_place_where_it_ran(name):
    import nbformat

    again = nbformat.from_dict(read(name))
    execute()["settle"](again)
    assert again == read(name)
    message = "\n".join(
        str(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in outputs(again)
    )
    assert not re.search(r"site-packages|/tmp|/home|at 0x[0-9a-f]{6}", message)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_runs(name):
    fresh = execute()["read"](FOLDER / f"{name}.ipynb")
    shipped = len(pictures(fresh))
    for cell in code(fresh):
        cell.outputs, cell.execution_count = [], None
    print(f"{name}: {execute()['execute'](fresh):.0f} s")
    assert len(pictures(fresh)) == shipped


def test_the_plain_one_uses_no_framework():
    whole = "\n".join(cell.source for cell in code(read(PLAIN)))
    assert sum(bool(line.strip()) for line in whole.splitlines()) <= LINES
    imported = set()
    for node in ast.walk(ast.parse(whole)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported - sys.stdlib_module_names == {"torch", "matplotlib", "safetensors", "transformers"}


@pytest.mark.slow
def test_the_plain_one_draws_the_framework_s_tokens(tmp_path):
    cells = [cell.source for cell in code(read(PLAIN))]
    end = next(number for number, source in enumerate(cells) if source.startswith("small, large = draw("))
    script = tmp_path / "plain.py"
    script.write_text("\n\n".join(cells[:end]), encoding="utf-8")
    with torch.set_grad_enabled(torch.is_grad_enabled()):  # the script switches gradients off for its whole process
        plain = runpy.run_path(str(script))
    prompt, seed = "an owl, noto style", 11
    with torch.no_grad():
        small, large = plain["draw"](prompt, seed)
        model = muse_studio.load("models/emoji", device="cpu")
        theirs = sample(
            model.stages,
            model.text_encoder([prompt]),
            torch.Generator().manual_seed(seed),
            watch=lambda stage, step, steps, tokens: None,
        )
        assert torch.equal(small[-1], theirs["base"])
        assert (large[-1] != theirs["superres"]).sum() <= 2  # of 256: a sum of another order may tip a draw
        pixels = model.stages["superres"].tokenizer.decode(large[-1])
        torch.testing.assert_close(plain["decode"](large[-1]), pixels, atol=1e-4, rtol=0)
