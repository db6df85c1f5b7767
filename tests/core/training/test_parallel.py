"""How a step goes down a loss: clipping, parts, and what several processes may not be asked."""

import pytest
import torch
from torch import nn

from muse_studio.errors import UserError
from muse_studio.training.distributed import World
from muse_studio.training.fit import Fit
from muse_studio.training.parallel import Parallel, optimizer_step, shard

CPU = torch.device("cpu")


class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_clipping_by_hand_whatever_the_parts(parts):
    def stepped(clip):
        module = Weighted()
        loss, norm = optimizer_step(
            torch.optim.SGD(module.parameters(), 1.0),
            [torch.tensor([3.0, 4.0]) / parts] * parts,
            lambda part: (module.weight * part).sum() + 1 / parts,
            module,
            clip,
        )
        assert loss.item() == pytest.approx(1)
        return norm.item(), module.weight.detach().tolist()

    assert stepped(1.0) == (pytest.approx(5), pytest.approx([-0.6, -0.8]))
    assert stepped(10.0) == (pytest.approx(5), pytest.approx([-3.0, -4.0]))
    assert stepped(None) == (pytest.approx(5), pytest.approx([-3.0, -4.0]))


def test_each_process_has_its_rows():
    rows = [list(range(12))[World(CPU, rank, 3).rows(12)] for rank in range(3)]
    assert rows == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert list(range(7))[World(CPU).rows(7)] == list(range(7))


def test_a_batch_that_can_not_be_shared():
    World(CPU, 0, 3).check_batch(12, 2, 3)
    with pytest.raises(UserError, match="the data set has 2 records for 3 processes; start fewer of them"):
        World(CPU, 0, 3).check_batch(12, 2, 2)
    with pytest.raises(UserError) as caught:
        World(CPU, 0, 3).check_batch(12, 8, 100)
    assert str(caught.value) == (
        "fit.batch is 12, which 3 processes with fit.accumulate 8 don't divide; give a multiple of 24"
    )


def test_replicas_that_the_processes_do_not_make():
    with pytest.raises(UserError, match=r"fit\.parallel\.replicas is 3, which doesn't divide the 8 processes"):
        shard(Weighted(), 8, "cpu", Parallel("fsdp", replicas=3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"replicas": 0, "strategy": "fsdp"}, "replicas is 0; give 1 to shard over all processes, or more"),
        ({"replicas": 2}, "replicas and gather belong to strategy fsdp"),
        ({"gather": "bfloat16"}, "replicas and gather belong to strategy fsdp"),
    ],
)
def test_settings_of_parallel_that_can_not_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        Parallel(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"parallel": Parallel("fsdp"), "compile": True}, "give compile: blocks"),
        ({"parallel": Parallel("fsdp", gather="bfloat16")}, "in which float32 can't be computed; set precision too"),
        ({"accumulate": 0}, "accumulate, checkpoint_every, keep and log_every must be 1 or more"),
        ({"patience": 0}, "patience is 0; give seconds above 0"),
    ],
)
def test_settings_of_fit_that_can_not_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        Fit(out="x", steps=1, batch=1, **wrong)
