"""How fast a run goes: times by a clock of our own, operations by hand, peaks as the makers state them."""

import pytest
import torch
from torch import nn

from muse_studio.training import speed as metering
from muse_studio.training.speed import Meter, name_of, peak_of

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA H200 NVL", 835),
        ("NVIDIA B200", 2250),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165),
        ("TPU v4", 275),
        ("TPU v5e", 197),
        ("TPU v5 lite", 197),
        ("TPU v5p", 459),
        ("TPU v6e", 918),
        ("TPU v6 lite", 918),
    ],
)
def test_a_device_is_known_by_torch_s_name_for_it(name, tera):
    assert peak_of(name) == tera * 1e12


@pytest.mark.parametrize("name", ["", "NVIDIA L40", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA A10", "NVIDIA H20"])
def test_a_device_that_is_merely_alike_is_not_known(name):
    assert peak_of(name) is None


def test_a_cpu_has_no_peak_and_nothing_is_counted():
    assert name_of(CPU) == ""
    meter = Meter(4, None, CPU)
    with meter.step():
        torch.ones(3, 3) @ torch.ones(3, 3)
    assert meter.operations is None
    assert "mfu" not in meter.speed(1.0)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    hands = {"now": 100.0}
    monkeypatch.setattr(metering.time, "perf_counter", lambda: hands["now"])
    return hands


def test_seconds_a_step_without_the_pauses(clock):
    meter = Meter(4, None, CPU)
    for _ in range(3):
        with meter.step():
            clock["now"] += 2
    with meter.paused():
        clock["now"] += 50
    clock["now"] += 3
    assert meter.lap() == 3.0  # three steps of two seconds, and three more between them
    with meter.step():
        clock["now"] += 5
    assert meter.lap() == 5.0


def test_a_pause_that_fails_is_a_pause(clock):
    meter = Meter(4, None, CPU)
    with meter.step():
        clock["now"] += 1
    with pytest.raises(OSError), meter.paused():
        clock["now"] += 50
        raise OSError
    assert meter.lap() == 1.0


def test_speed_by_hand():
    assert Meter(8, None, CPU).speed(0.5) == {"pictures/s": 16.0}
    assert Meter(8, 64, CPU).speed(0.5) == {"pictures/s": 16.0, "tokens/s": 1024.0}


def trained(model, inputs):
    model(inputs).sum().backward()


@pytest.mark.parametrize("compiled", [False, True])
def test_the_operations_of_the_first_step_by_hand(monkeypatch, compiled):
    monkeypatch.setattr(metering, "peak_of", lambda name: 1e6)
    meter = Meter(2, None, CPU)
    model = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 4))
    run = torch.compile(trained, backend="eager") if compiled else trained
    # forward: 2 * 2 * (3 * 5 + 5 * 4); weights' gradients the same; of inputs, the second layer's alone
    expected = 2 * 2 * (15 + 20) + 2 * 2 * (15 + 20) + 2 * 2 * 20
    for batch in (2, 7):
        with meter.step():
            run(model, torch.ones(batch, 3))
        assert meter.operations == expected
    assert meter.speed(0.01)["mfu"] == pytest.approx(expected / 0.01 / 1e6)


def test_counting_changes_no_number(monkeypatch):
    def step(meter):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Dropout(0.5), nn.Linear(16, 4))
        with meter.step():
            model(torch.randn(5, 8)).square().mean().backward()
        return [parameter.grad for parameter in model.parameters()]

    plain = step(Meter(5, None, CPU))
    monkeypatch.setattr(metering, "peak_of", lambda name: 1e6)
    counted = step(Meter(5, None, CPU))
    assert all(map(torch.equal, plain, counted))
