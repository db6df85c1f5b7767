"""The picture of a run's curves: what is on it, when it is drawn, and that it touches nobody's plots."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from muse_observers.curves import BOLD, FILE, RAW, draw_curves, moving_mean
from PIL import Image, ImageColor

import muse_studio
from muse_studio.errors import UserError
from muse_studio.registry.plugins import Registry
from muse_studio.training.fit import Fit
from muse_studio.training.log import Log

ROWS = [{"step": 20 * (place + 1), "loss": 8 / (place + 1), "accuracy": place / 200} for place in range(200)]


def drawn(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def places(picture, colour):
    """Where a colour is, row and column."""
    return np.argwhere(abs(picture - ImageColor.getrgb(colour)).max(-1) <= 2)


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
from muse_observers.curves import draw_curves
assert "matplotlib" not in sys.modules
draw_curves([{"step": 1, "loss": 2.0}], Path(sys.argv[1]), "base")
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""


def test_matplotlib_is_imported_late_and_pyplot_never(tmp_path):
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "loss.png")], check=True)
    assert (tmp_path / "loss.png").is_file()


RECIPE = {
    "use": "train-tokenizer",
    "tokenizer": {
        "use": "vqgan", "codebook_size": 16, "code_width": 4, "channels": 8, "multipliers": [1], "blocks": 0, "patch": 4
    },
    "dataset": {"use": "folder", "path": "pictures", "size": 8},
    "optimizer": {"use": "adamw", "lr": 1e-3},
    "fit": {"out": "run", "steps": 2, "batch": 1, "log_every": 1, "device": "cpu"},
}  # fmt: skip


@pytest.mark.parametrize("without", ["", "muse_observers"])
def test_a_run_without_observers_leaves_its_curves_unless_the_plugin_is_left_out(here, monkeypatch, without):
    (here / "pictures").mkdir()
    Image.new("RGB", (8, 8), "red").save(here / "pictures" / "red.png")
    monkeypatch.setenv("MUSE_WITHOUT", without)
    muse_studio.run(RECIPE)
    assert (here / "run" / FILE).exists() is (not without)
    assert len((here / "run" / "log.csv").read_text().splitlines()) == 1 + 2


class Trains:
    """A task that trains in the folder `run`."""

    def __init__(self):
        self.fit = Fit(out="run", steps=9, batch=1)


def ended(here, error=None, task=None, rows=3):
    """Whether there are curves once a run of `rows` logged rows has ended."""
    hook, log = Registry().hook, Log(here / "run" / "log.csv", 0)
    task = Trains() if task is None else task
    for row in ROWS[:rows]:
        log.append(row)
        hook.muse_step(
            stage="base", step=row["step"], steps=99, tokens=None, loss=row["loss"], image=None, numbers={"loss": 1.0}
        )
    if error is None:
        hook.muse_finished(task=task, result=None)
    else:
        hook.muse_failed(task=task, error=error)
    return (here / "run" / FILE).exists()


@pytest.mark.parametrize(
    ("error", "drawn"),
    [(None, True), (KeyboardInterrupt(), True), (UserError("it runs away"), True), (ZeroDivisionError(), False)],
)
def test_the_curves_are_drawn_however_the_user_s_run_ends(here, error, drawn):
    assert ended(here, error) is drawn


def test_what_logs_nothing_or_is_no_training_has_no_curves(here):
    assert not ended(here, rows=0)
    assert not ended(here, task=object())
    assert not ended(here, rows=0), "the rows before were another run's"


def test_a_disk_that_refuses_is_a_warning(here):
    (here / "run" / FILE).mkdir(parents=True)
    with pytest.warns(UserWarning, match="no curves were drawn: .*loss.png"):
        ended(here)
