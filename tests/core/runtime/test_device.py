import subprocess
import sys
import types
from dataclasses import dataclass

import pytest
import torch

from muse_studio.errors import UserError
from muse_studio.runtime import xla
from muse_studio.runtime.device import available, choose_device, has_fast_bfloat16, move_to_device, of_process

META = torch.device("meta")


def without_accelerator(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)


def with_two_gpus(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)


def test_auto_is_the_cpu_where_there_is_nothing_else(monkeypatch):
    without_accelerator(monkeypatch)
    assert (available(), choose_device("auto"), choose_device("cpu")) == (
        ["cpu"],
        torch.device("cpu"),
        torch.device("cpu"),
    )


def test_auto_is_the_first_accelerator(monkeypatch):
    with_two_gpus(monkeypatch)
    assert available() == ["cuda:0", "cuda:1", "cpu"]
    assert choose_device() == torch.device("cuda:0")
    assert [choose_device(name) for name in ("cuda", "cuda:1", "cpu")] == list(
        map(torch.device, ("cuda", "cuda:1", "cpu"))
    )


@pytest.mark.parametrize("name", ["cuda:2", "tpu", "", "abacus", "meta"])
def test_a_missing_device_lists_what_there_is(monkeypatch, name):
    with_two_gpus(monkeypatch)
    with pytest.raises(UserError) as caught:
        choose_device(name)
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


def test_each_process_has_its_device(monkeypatch):
    with_two_gpus(monkeypatch)
    chosen = []
    monkeypatch.setattr(torch.accelerator, "set_device_index", chosen.append)
    assert [of_process("auto", index) for index in (0, 1)] == [
        torch.device("cuda:0"),
        torch.device("cuda:1"),
    ]
    assert chosen == [0, 1]
    assert of_process("cpu", 5) == torch.device("cpu")
    with pytest.raises(UserError, match=r"process 2 .* there are 2 of the kind cuda; start 2 .* --nproc-per-node=2"):
        of_process("auto", 2)


def test_torch_xla_is_not_taken_because_it_is_installed(monkeypatch):
    without_accelerator(monkeypatch)
    monkeypatch.setitem(sys.modules, "torch_xla", types.ModuleType("torch_xla"))
    monkeypatch.setenv("PJRT_DEVICE", "CPU")
    assert choose_device() == torch.device("cpu")


def test_torch_xla_that_is_missing(monkeypatch):
    xla.start.cache_clear()
    monkeypatch.setitem(sys.modules, "torch_xla", None)
    with pytest.raises(UserError, match=r"device xla needs torch_xla .*pip install 'torch==2.9.\*' 'torch_xla==2.9.0'"):
        choose_device("xla")


def test_torch_xla_asked_for(monkeypatch):
    xla.start.cache_clear()
    runtime = types.ModuleType("torch_xla.runtime")
    runtime.use_spmd = lambda: None
    package = types.ModuleType("torch_xla")
    package.device, package.runtime = lambda: META, runtime
    monkeypatch.setitem(sys.modules, "torch_xla", package)
    monkeypatch.setitem(sys.modules, "torch_xla.runtime", runtime)
    assert choose_device("xla") is META
    xla.start.cache_clear()


TPU = """
import torch
torch.utils.rename_privateuse1_backend("tpu")
torch.accelerator.current_accelerator = lambda check_available: torch.device("tpu") if {there} else None
torch.accelerator.device_count = lambda: 1
torch.accelerator.current_device_index = lambda: 0
def refuse():
    raise RuntimeError("use torch.accelerator")
torch.tpu = type("tpu", (), dict(is_available=refuse, device_count=refuse))
from muse_studio.runtime.device import choose_device, compile_settings, of_process
print(choose_device(), of_process("auto", 3), compile_settings(choose_device()))
"""


@pytest.mark.parametrize(
    ("there", "expected"),
    [(False, "cpu cpu {}"), (True, "tpu:0 tpu:0 {'backend': 'tpu', 'dynamic': False}")],
    ids=["torch_tpu-without-a-chip", "torch_tpu"],
)
def test_torch_tpu(there, expected):
    """In a process of its own: torch's spare kind of device is named once and for all."""
    code = TPU.format(there=there)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == expected, done.stderr


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
    move_to_device(
        {"a": modules[0], "b": [modules[1], Sampler(modules[2])], "c": encoder, "d": "text", "e": None}, META
    )
    assert all(module.weight.device == META for module in modules)
    assert encoder.device == META
