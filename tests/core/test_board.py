"""What TensorBoard reads back: every number of the log once, however often the run was stopped."""

import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from muse_studio.board import Board
from muse_studio.errors import UserError


def points(folder, tag="loss"):
    read = EventAccumulator(str(folder))
    read.Reload()
    return [(event.step, round(event.value, 6)) for event in read.Scalars(tag)]


def written(folder, start, losses):
    board = Board(folder, start)
    for step, loss in enumerate(losses, start + 1):
        board.append({"step": step, "loss": loss, "pictures/s": 2.0})
    board.close()


def test_each_number_is_a_curve(tmp_path):
    written(tmp_path, 0, [3.0, 2.0, 1.0])
    assert points(tmp_path) == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert points(tmp_path, "pictures/s") == [(1, 2.0), (2, 2.0), (3, 2.0)]


def test_points_are_there_while_the_run_goes_on(tmp_path):
    board = Board(tmp_path, 0)
    board.append({"step": 5, "loss": 3.0})
    assert points(tmp_path) == [(5, 3.0)]
    board.close()


@pytest.mark.parametrize("start", [0, 2])
def test_a_resumed_run_doubles_no_point(tmp_path, start):
    written(tmp_path, 0, [3.0, 2.0, 1.0, 0.5])
    written(tmp_path, start, [0.75, 0.5])
    before = [(1, 3.0), (2, 2.0)][:start]
    assert points(tmp_path) == [*before, (start + 1, 0.75), (start + 2, 0.5)]


def test_without_the_package_it_is_told_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"fit\.tensorboard needs .*pip install 'muse-studio\[tensorboard\]'"):
        Board(tmp_path, 0)
