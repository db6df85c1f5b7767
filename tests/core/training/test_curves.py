"""The picture of a run's curves: what is on it, and that it is drawn without touching anyone's plots."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from PIL import Image

from muse_studio.training.curves import BOLD, RAW, draw_curves, moving_mean

ROWS = [{"step": 20 * (place + 1), "loss": 8 / (place + 1), "accuracy": place / 200} for place in range(200)]


def drawn(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def places(picture, colour):
    """Where a colour is, row and column."""
    wanted = (np.array(to_rgb(colour)) * 255).round()
    return np.argwhere(abs(picture - wanted).max(-1) <= 2)


def test_a_falling_loss_falls_and_a_rising_accuracy_rises(tmp_path):
    draw_curves(ROWS, tmp_path / "a" / "loss.png", "base")
    picture = drawn(tmp_path / "a" / "loss.png")
    assert len(places(picture, RAW))
    bold, half = places(picture, BOLD), len(picture) // 2
    for panel, falls in ((bold[bold[:, 0] < half], True), (bold[bold[:, 0] >= half], False)):
        left, right = panel[panel[:, 1].argmin()], panel[panel[:, 1].argmax()]
        assert right[1] - left[1] > picture.shape[1] / 2
        assert (right[0] > left[0] + 50) if falls else (right[0] < left[0] - 50)


def test_there_is_a_panel_for_each_number_that_was_logged(tmp_path):
    heights = []
    for keys in (["loss"], ["loss", "accuracy"], ["loss", "psnr", "accuracy"]):
        rows = [{"step": step, "norm": 1.0} | dict.fromkeys(keys, 0.5) for step in range(1, 9)]
        draw_curves(rows, tmp_path / "loss.png", "base", log_steps=True)
        heights.append(len(drawn(tmp_path / "loss.png")))
    assert heights[1] - heights[0] == heights[2] - heights[1] > 100


def test_without_rows_there_is_no_picture(tmp_path):
    draw_curves([], tmp_path / "loss.png", "base")
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.integers(0, 8))
def test_the_moving_mean_is_numpy_s(values, reach):
    kernel = np.ones(2 * reach + 1)
    sums = np.convolve(values, kernel)[reach : reach + len(values)]
    counts = np.convolve(np.ones(len(values)), kernel)[reach : reach + len(values)]
    assert moving_mean(values, reach) == pytest.approx(sums / counts, abs=1e-9)


SCRIPT = """
import sys
from pathlib import Path
from muse_studio.training.curves import draw_curves
assert "matplotlib" not in sys.modules
draw_curves([{"step": 1, "loss": 2.0}], Path(sys.argv[1]), "base")
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""


def test_matplotlib_is_imported_late_and_pyplot_never(tmp_path):
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "loss.png")], check=True)
    assert (tmp_path / "loss.png").is_file()
