"""What TensorBoard reads back: every number of the log once, however often the run was stopped."""

import sys

import numpy as np
import pytest
import torch
from muse_observers.tensorboard import TensorBoard
from PIL import Image

from muse_studio.errors import UserError


class Task:
    """A training's task, as far as an observer looks at it."""

    def __init__(self, out="out"):
        self.out = out


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def points(folder, tag="loss"):
    return [(event.step, round(event.value, 6)) for event in read(folder).Scalars(tag)]


def told(start, losses, observer=None):
    observer = observer or TensorBoard()
    observer.muse_started(Task())
    for step, loss in enumerate(losses, start + 1):
        observer.muse_step(step, None, {"loss": loss, "pictures/s": 2.0})
    observer.muse_finished()


def test_each_number_is_a_curve(here):
    told(0, [3.0, 2.0, 1.0])
    assert points(here / "out/tensorboard") == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert points(here / "out/tensorboard", "pictures/s") == [(1, 2.0), (2, 2.0), (3, 2.0)]


def test_points_and_samples_are_there_while_the_run_goes_on(here):
    observer = TensorBoard()
    observer.muse_started(Task())
    observer.muse_step(5, None, {"loss": 3.0})
    sheet = torch.arange(3 * 4 * 6, dtype=torch.uint8).view(3, 4, 6)
    observer.muse_step(5, sheet, None)
    assert points(here / "out/tensorboard") == [(5, 3.0)]
    (image,) = read(here / "out/tensorboard").Images("samples")
    (here / "read.png").write_bytes(image.encoded_image_string)
    with Image.open(here / "read.png") as picture:
        assert np.array_equal(np.asarray(picture), sheet.permute(1, 2, 0).numpy()) and image.step == 5
    observer.muse_failed()


@pytest.mark.parametrize("start", [0, 2])
def test_a_resumed_run_doubles_no_point(here, start):
    told(0, [3.0, 2.0, 1.0, 0.5])
    told(start, [0.75, 0.5])
    before = [(1, 3.0), (2, 2.0)][:start]
    assert points(here / "out/tensorboard") == [*before, (start + 1, 0.75), (start + 2, 0.5)]


def test_a_run_within_a_run_has_its_own_and_what_is_no_training_has_none(here):
    observer = TensorBoard()
    observer.muse_started(Task("sweep"))
    observer.muse_started(Task("sweep/1"))
    observer.muse_step(1, None, {"loss": 3.0})
    observer.muse_finished()
    observer.muse_started(Task("sweep/2"))
    observer.muse_step(1, None, None)
    observer.muse_finished()
    observer.muse_finished()
    assert [path.parent.name for path in here.glob("**/tensorboard")] == ["1"]
    assert points(here / "sweep/1/tensorboard") == [(1, 3.0)]


def test_without_the_package_it_is_told_how_to_get_it(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"observer tensorboard needs .*pip install 'muse-studio\[tensorboard\]'"):
        TensorBoard().muse_started(Task())


def test_a_folder_that_can_t_be_written_is_told(here):
    (here / "out").write_text("a file")
    with pytest.raises(UserError, match=r"out can't be written: .*; give another folder as out of the observer tensor"):
        TensorBoard().muse_started(Task())
