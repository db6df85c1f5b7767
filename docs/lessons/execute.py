"""Runs the lessons, each in a fresh kernel and an empty folder, and keeps their outputs in the notebooks.

    python docs/lessons/execute.py          # all of them
    python docs/lessons/execute.py 3 7      # the third and the seventh

It needs `pip install -e '.[test]'`. What changes from run to run without meaning anything is left out of what is kept,
so that a notebook's diff shows what a lesson says or draws differently.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

HERE = Path(__file__).parent
LESSONS = sorted(HERE.glob("*.ipynb"))
LIMIT = 600
"""Seconds after which a cell is given up, so that a lesson that hangs says so."""


def read(path: Path) -> NotebookNode:
    """A lesson as it is kept."""
    return nbformat.read(path, as_version=4)


def execute(lesson: NotebookNode) -> float:
    """Run every cell, outputs going into the notebook, and give the seconds that it took, the kernel's start with it.

    Raises nbclient.exceptions.CellExecutionError at the first error.
    """
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            lesson,
            timeout=LIMIT,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        began = time.monotonic()
        client.execute()
        return time.monotonic() - began


def settle(lesson: NotebookNode) -> None:
    """Leave out what says nothing: versions, bars and warnings of the moment, a picture's second format and bulk."""
    lesson.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for number, cell in enumerate(lesson.cells):
        cell.id = f"cell-{number:02}"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _says_something(output)]
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    output.data = {"image/png": lean(output.data["image/png"])}
                    output.metadata = {}


def _says_something(output: NotebookNode) -> bool:
    """Neither standard error, nor blank lines, nor a display without a picture, which is a progress bar."""
    if output.output_type == "stream":
        return output.name != "stderr" and bool(output.text.strip())
    return output.output_type != "display_data" or "image/png" in output.data


def lean(picture: str) -> str:
    """A PNG in base64 as one of 256 colours, which takes a third of the room; one that is so already stays."""
    with Image.open(io.BytesIO(base64.b64decode(picture))) as opened:
        if opened.mode == "P":
            return picture
        few = opened.convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE)
    file = io.BytesIO()
    few.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def main(numbers: list[str]) -> None:
    """Run the lessons of these numbers, or all, and write them."""
    for path in LESSONS:
        if numbers and path.name.split("-")[0].lstrip("0") not in numbers:
            continue
        lesson = read(path)
        seconds = execute(lesson)
        settle(lesson)
        nbformat.validate(lesson)
        nbformat.write(lesson, path)
        print(f"{path.name}: {seconds:.0f} s, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
