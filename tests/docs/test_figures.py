"""The figures of the explanations can be drawn again, as large as those that are shown."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.mark.slow  # draws some fifteen pictures
def test_how_muse_works_is_drawn_by_its_script(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "docs" / "figures" / "how_muse_works.py"))
    model = script["Model"]()
    script["save"].__globals__["FOLDER"] = tmp_path
    for name in ("tokens", "masked", "decoding", "guidance", "stages"):
        script[name](model)
        with (
            Image.open(tmp_path / f"how-{name}.png") as made,
            Image.open(ROOT / "docs" / "pictures" / f"how-{name}.png") as shown,
        ):
            assert made.size == shown.size


def test_the_losses_are_drawn_from_the_logs(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "docs" / "figures" / "losses.py"))
    script["draw"](tmp_path / "losses.png")
    with Image.open(tmp_path / "losses.png") as made, Image.open(ROOT / "docs" / "pictures" / "losses.png") as shown:
        assert made.size == shown.size
    for curve in script["CURVES"]:
        for log in curve.logs:
            steps, values = script["read"](log, curve.number)
            assert steps == sorted(steps) and len(values) == len(steps) > 100
