"""Learning one batch by heart: the same records at every step, and a verdict."""

import pytest

from muse_studio.training.health import verdict
from muse_studio.training.order import Order


def test_every_step_has_the_first_one_s_records():
    order = Order(50, 4, 3, 0, 9)
    repeated = Order(50, 4, 3, 2, 8, repeated=True)
    assert list(repeated) == [next(iter(order))] * 6
    assert len(repeated) == 6


def rows(*losses):
    return [{"step": step, "loss": loss, "accuracy": 0.0} for step, loss in enumerate(losses, 1)]


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ((8.0, 3.0, 0.05, 0.04, 0.03, 9.0, 0.02), "overfit: the loss came to 0.04, near zero"),
        ((8.0, 2.0, 2.0, 2.0, 2.0, 0.01), "overfit: the loss stays at 2, and should come below 0.1"),
        ((0.1,), "overfit: the loss stays at 0.1"),
        ((), "overfit: no step was logged"),
    ],
)
def test_the_verdict_is_of_the_last_five(losses, message):
    assert verdict(rows(*losses)).startswith(message)
