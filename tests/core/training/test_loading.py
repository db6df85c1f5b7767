"""An error of a worker is the error without workers: its type, its words, and what is said of it."""

import pytest
import torch

from muse_studio.errors import PluginError, UserError
from muse_studio.training.loading import batches


class Odd(Exception):
    """What no pickle brings back: it takes two arguments, and keeps one."""

    def __init__(self, one, other):
        super().__init__(one)


class Failing:
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 3:
            raise self.error()
        return torch.tensor([index])


class AtOnce(Failing):
    def __getitems__(self, indices):
        return [self[index] for index in indices]


class Elsewhere(Failing):
    """Fails in a worker alone."""

    def __getitem__(self, index):
        if index == 3 and torch.utils.data.get_worker_info() is not None:
            raise self.error()
        return torch.tensor([index])


ORDER = [[0, 1], [2, 3], [4, 5]]
ERRORS = {
    "a user's mistake": lambda: UserError("pictures/a.png is gone; bring it back"),
    "a plugin's fault": lambda: PluginError("dataset 'odd' of plugin odd: gives nothing"),
    "a full disk": lambda: OSError(28, "No space left on device", "x.bin"),
    "a bug": lambda: LookupError("the tape is torn"),
    "what can't be pickled": lambda: Odd("one", "other"),
    "no words": lambda: ValueError(),
}


def outcome(data, workers):
    seen = []
    try:
        for batch in batches(data, ORDER, workers=workers):
            seen.append(batch.flatten().tolist())
    except Exception as error:
        return seen, type(error), str(error), error.__traceback__.tb_next is not None
    return seen, None


@pytest.mark.parametrize("kind", [Failing, AtOnce])
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_workers_change_no_error(error, kind):
    alone = outcome(kind(error), 0)
    assert alone[:2] == ([[0, 1]], type(error()))
    assert outcome(kind(error), 2) == alone


def test_what_only_a_worker_can_not_read_is_told():
    assert outcome(Elsewhere(ERRORS["a user's mistake"]), 1)[1:3] == (
        UserError,
        "pictures/a.png is gone; bring it back",
    )
    assert outcome(Elsewhere(ERRORS["a plugin's fault"]), 1)[1] is PluginError
    _, kind, said, _ = outcome(Elsewhere(ERRORS["a bug"]), 1)
    assert kind is RuntimeError and "records [2, 3], which can be read without" in said and "tape is torn" in said


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_their_order(workers):
    assert [batch.flatten().tolist() for batch in batches(list(torch.arange(6)), ORDER, workers=workers)] == ORDER
