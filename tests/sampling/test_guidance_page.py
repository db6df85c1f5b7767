"""docs/guidance.md names every schedule and every setting of guidance, and its picture is drawn by what it shows."""

import dataclasses
import re
import runpy
from pathlib import Path

import pytest
from muse_sampling import plugin
from muse_sampling.guidance import CFG
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs" / "guidance.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*plugin.muse_schedules(), *(field.name for field in dataclasses.fields(CFG))])
def test_the_page_names_it(name):
    assert re.search(rf"`{name}\b", TEXT), f"docs/guidance.md does not say what {name} is"


def test_the_picture_is_drawn_by_the_lines_beneath_it(tmp_path, monkeypatch):
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    script = tmp_path / "draw.py"
    script.write_text(re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    drawn = runpy.run_path(str(script))
    labels = [text.get_text() for text in drawn["masks"].get_legend().get_texts()]
    assert set(plugin.muse_schedules()) <= set(labels)
    with (
        Image.open(tmp_path / "docs/pictures/schedules.png") as made,
        Image.open(PAGE.parent / "pictures/schedules.png") as shown,
    ):
        assert made.size == shown.size
