"""What does not fit the memory is told before it is loaded, with what it needs and what there is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from muse_studio import testing
from muse_studio.contracts import Transformer
from muse_studio.errors import RecipeError, UserError
from muse_studio.recipe.build import build
from muse_studio.recipe.merging import load
from muse_studio.registry.plugins import Registry
from muse_studio.runtime import device, memory
from muse_studio.runtime.pickled import unpickled
from muse_studio.sampling.cascade import make_ready, one_picture

GIB = 2**30


@pytest.fixture
def linux(tmp_path, monkeypatch):
    """A machine with 8 GiB free and 1 GiB of swap; returns a function that writes one of its files."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write(
        "proc/meminfo", f"MemTotal: {16 << 20} kB\nMemAvailable: {8 << 20} kB\nSwapFree: {1 << 20} kB\nHugePages: 0\n"
    )
    return write


def group(linux, folder, limit, used, idle=0):
    """Files of a control group of version 2."""
    linux(f"groups/{folder}/memory.max", f"{limit}\n")
    linux(f"groups/{folder}/memory.current", f"{used}\n")
    linux(f"groups/{folder}/memory.stat", f"anon 5\ninactive_file {idle}\n")


def test_free_is_what_the_kernel_tells(linux):
    assert memory.free() == memory.free(torch.device("cpu")) == 9 * GIB


def test_free_is_none_where_nobody_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROC", tmp_path)
    assert memory.free() is None
    memory.check(10**18, "this takes", "run away")


def test_a_control_group_limits_it_and_so_do_those_above(linux):
    linux("proc/self/cgroup", "0::/job/step\n")
    group(linux, "job/step", "max", GIB)
    assert memory.free() == 9 * GIB
    group(linux, "job", 4 * GIB, 3 * GIB, idle=GIB // 2)
    assert memory.free() == 1.5 * GIB
    group(linux, "job/step", 2 * GIB, int(1.75 * GIB))
    assert memory.free() == GIB // 4
    group(linux, "job/step", 2 * GIB, 3 * GIB)
    assert memory.free() == 0


def test_a_container_that_sees_its_own_group_alone(linux):
    linux("proc/self/cgroup", "0::/a/path/of/the/host\n")
    group(linux, ".", 2 * GIB, GIB)
    assert memory.free() == GIB


def test_control_groups_of_the_first_version(linux):
    linux("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/job\n0::/\n")
    linux("groups/memory/memory.limit_in_bytes", "9223372036854771712\n")
    linux("groups/memory/memory.usage_in_bytes", f"{GIB}\n")
    linux("groups/memory/memory.stat", "total_inactive_file 0\n")
    assert memory.free() == 9 * GIB
    linux("groups/memory/job/memory.limit_in_bytes", f"{3 * GIB}\n")
    linux("groups/memory/job/memory.usage_in_bytes", f"{2 * GIB}\n")
    linux("groups/memory/job/memory.stat", f"inactive_file 7\ntotal_inactive_file {GIB // 2}\n")
    assert memory.free() == 1.5 * GIB


def test_the_refusal_says_both_figures_and_the_cure(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device=None: 3 * GIB)
    memory.check(3 * GIB, "the weights take", "choose less")
    message = r"not enough memory: the weights take 11\.8 GiB, and this machine has 3\.0 GiB free; choose less"
    with pytest.raises(UserError, match=message):
        memory.check(int(11.8 * GIB), "the weights take", "choose less")
    with pytest.raises(UserError, match="and cuda:1 has"):
        memory.check(4 * GIB, "the weights take", "choose less", torch.device("cuda", 1))


@pytest.mark.parametrize(("count", "message"), [(3 * GIB, "3.0 GiB"), (5 << 20, "5.0 MiB"), (512, "0.5 KiB")])
def test_sizes_are_for_people(count, message):
    assert memory.size(count) == message


def test_weighing_counts_each_tensor_once_buffers_and_halves_too():
    net = nn.Sequential(nn.Linear(10, 5), nn.BatchNorm1d(5), nn.Linear(5, 10, bias=False).bfloat16())
    # 50 + 5 and 5 + 5 parameters, 5 + 5 running numbers of 4 bytes, a counter of 8, 50 halves of 2
    assert memory.weigh({"a": [net], "b": net}) == 4 * (55 + 10 + 10) + 8 + 2 * 50
    assert memory.weigh(net, beside=torch.device("cpu")) == 0
    assert memory.weigh([1, None, "text"]) == 0


def test_a_part_that_does_not_fit_is_never_made(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "free", lambda device=None: asked.append(device) or 2**20)
    made = []
    real = nn.Linear.reset_parameters
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda self: made.append(self.weight.device.type) or real(self))
    recipe = {"use": "muse", "codebook_size": 8, "grid": [2, 2], "text_width": 4, "width": 256, "layers": 2, "heads": 4}
    with pytest.raises(RecipeError, match=r"its weights take \d+\.\d MiB, and this machine has 1\.0 MiB free") as error:
        build(load(recipe), Registry(), expect=Transformer)
    assert "muse" in str(error.value)
    assert asked and set(made) == {"meta"}
    monkeypatch.setattr(memory, "free", lambda device=None: 2**30)
    assert memory.weigh(build(load(recipe), Registry(), expect=Transformer)) > 2**20


def test_what_moves_to_a_device_is_weighed_before(monkeypatch):
    net = nn.Linear(2**10, 2**10)
    monkeypatch.setattr(memory, "free", lambda device=None: 2**20)
    moved = []
    monkeypatch.setattr(nn.Linear, "to", lambda self, on: moved.append(on))
    with pytest.raises(UserError, match=r"the weights take 4\.0 MiB, and meta has 1\.0 MiB free"):
        device.move_to_device([net], torch.device("meta"))
    assert moved == []
    device.move_to_device([net], torch.device("cpu"))
    assert moved == [torch.device("cpu")]


def test_a_pickled_file_is_weighed_before_it_is_read(tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(300)}, tmp_path / "net.pt")
    monkeypatch.setattr(memory, "free", lambda device=None: 1024)
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(UserError, match=r"net\.pt, which is read at once, takes .* KiB, .* has 1\.0 KiB free"):
        unpickled(tmp_path / "net.pt")


def test_drawing_needs_room_for_one_picture(monkeypatch):
    stage = testing.tiny_stage(16, sampler=testing.FakeSampler(steps=4))
    assert one_picture(stage) == 3 * 4 * 16 * stage.tokenizer.codebook_size
    monkeypatch.setattr(memory, "free", lambda device=None: 100)
    with pytest.raises(UserError, match=r"one picture take at least .* 0\.1 KiB free; choose precision"):
        make_ready({"base": stage}, testing.FakeTextEncoder(), torch.device("cpu"))
