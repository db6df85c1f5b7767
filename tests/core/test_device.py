from dataclasses import dataclass

import pytest
import torch

from muse_studio.device import available, has_fast_bfloat16, pick, place
from muse_studio.errors import UserError

META = torch.device("meta")


def without_accelerator(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)


def with_two_gpus(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)


def test_auto_is_the_cpu_where_there_is_nothing_else(monkeypatch):
    without_accelerator(monkeypatch)
    assert (available(), pick("auto"), pick("cpu")) == (["cpu"], torch.device("cpu"), torch.device("cpu"))


def test_auto_is_the_first_accelerator(monkeypatch):
    with_two_gpus(monkeypatch)
    assert available() == ["cuda:0", "cuda:1", "cpu"]
    assert pick() == torch.device("cuda:0")
    assert [pick(name) for name in ("cuda", "cuda:1", "cpu")] == list(map(torch.device, ("cuda", "cuda:1", "cpu")))


@pytest.mark.parametrize("name", ["cuda:2", "tpu", "", "abacus", "meta"])
def test_a_missing_device_lists_what_there_is(monkeypatch, name):
    with_two_gpus(monkeypatch)
    with pytest.raises(UserError) as caught:
        pick(name)
    assert str(caught.value) == f"device {name!r} is not there; there is: auto, cuda:0, cuda:1, cpu"


@pytest.mark.parametrize(
    ("kind", "hardware", "fast"),
    [
        ("cpu", (False, False, True), False),
        ("cpu", (True, False, False), True),
        ("cpu", (False, True, False), True),
        ("cuda", (True, True, False), False),
        ("cuda", (False, False, True), True),
        ("tpu", (False, False, False), True),
        ("mps", (True, True, True), False),
    ],
)
def test_bfloat16_is_fast_by_hardware_alone(monkeypatch, kind, hardware, fast):
    avx, amx, cuda = hardware
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: cuda and not including_emulation)

    class Device:
        type = kind

    assert has_fast_bfloat16(Device()) is fast


def test_modules_move_wherever_they_are_held():
    @dataclass
    class Sampler:
        critic: torch.nn.Module
        steps: int = 3

    class Encoder:
        def to(self, device):
            self.device = device

    modules = [torch.nn.Linear(1, 1) for _ in range(3)]
    encoder = Encoder()
    place({"a": modules[0], "b": [modules[1], Sampler(modules[2])], "c": encoder, "d": "text", "e": None}, META)
    assert all(module.weight.device == META for module in modules)
    assert encoder.device == META
