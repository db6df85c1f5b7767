"""Checkpoints at a second place: what a lost machine had is fetched, what can't be copied is told."""

import shutil
import uuid

import fsspec
import pytest
import torch
from torch import nn

from muse_studio.errors import UserError
from muse_studio.training import checkpoint, mirror
from muse_studio.training.loop import Output


def parts(seed=0):
    torch.manual_seed(seed)
    model = nn.Linear(2, 2)
    return {"net": model}, {"net": torch.optim.SGD(model.parameters(), 0.1)}


@pytest.fixture(params=["memory", "file"])
def address(request, tmp_path):
    return f"memory://{uuid.uuid4()}/run" if request.param == "memory" else f"file://{tmp_path}/elsewhere/run"


def test_a_lost_machine_loses_nothing(tmp_path, address):
    out = tmp_path / "out"
    for step in (3, 6, 9):
        modules, optimizers = parts(step)
        checkpoint.save(out / "checkpoints", step, modules, optimizers, keep=2)
        (out / "log.csv").write_text(f"step\n{step}\n")
        mirror.send(out, address, keep=2)
    shutil.rmtree(out)
    out.mkdir()
    mirror.fetch(out, address)
    found = checkpoint.newest(out / "checkpoints")
    fresh, optimizers = parts(1)
    assert checkpoint.load(found, fresh, optimizers) == 9
    assert torch.equal(fresh["net"].weight, modules["net"].weight)
    assert (out / "log.csv").read_text() == "step\n9\n"
    system, root = fsspec.url_to_fs(address)
    there = {path.rstrip("/").rsplit("/", 1)[-1] for path in system.ls(f"{root}/checkpoints", detail=False)}
    assert there == {"step-0000006", "step-0000009"}


def test_a_torn_copy_is_passed_over(tmp_path, address):
    out = tmp_path / "out"
    for step in (3, 6):
        checkpoint.save(out / "checkpoints", step, *parts(step), keep=2)
        mirror.send(out, address, keep=2)
    system, root = fsspec.url_to_fs(address)
    system.pipe_file(f"{root}/checkpoints/step-0000006/net.safetensors", b"half")
    shutil.rmtree(out)
    out.mkdir()
    mirror.fetch(out, address)
    assert checkpoint.newest(out / "checkpoints").name == "step-0000003"


def test_what_is_no_checkpoint_there_is_passed_over(tmp_path, address):
    out = tmp_path / "out"
    for step in (3, 6, 9):
        checkpoint.save(out / "checkpoints", step, *parts(step), keep=1)
        if step == 3:
            system, root = fsspec.url_to_fs(address)
            system.makedirs(f"{root}/checkpoints/step-of-mine", exist_ok=True)
            system.pipe_file(f"{root}/checkpoints/step-of-mine/notes.txt", b"notes")
        mirror.send(out, address, keep=1)
    there = {path.rstrip("/").rsplit("/", 1)[-1] for path in system.ls(f"{root}/checkpoints", detail=False)}
    assert there == {"step-of-mine", "step-0000009"}
    shutil.rmtree(out)
    mirror.fetch(out, address)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-0000009"]


def test_weights_are_copied_by_name(tmp_path, address):
    file = tmp_path / "net.safetensors"
    file.write_bytes(b"weights")
    mirror.send(tmp_path, address, keep=1, file=file)
    with fsspec.open(f"{address}/net.safetensors", "rb") as copy:
        assert copy.read() == b"weights"


def test_nowhere(tmp_path):
    checkpoint.save(tmp_path / "checkpoints", 3, *parts(), keep=2)
    with pytest.warns(UserWarning, match=r"nonsense://x could not be written \(Protocol not known: nonsense"):
        mirror.send(tmp_path, "nonsense://x", keep=2)
    with pytest.raises(UserError, match=r"could not be read .*; check fit\.upload, or set it to null"):
        mirror.fetch(tmp_path, "nonsense://x")
    mirror.fetch(tmp_path, f"memory://{uuid.uuid4()}")


@pytest.mark.parametrize("name", ["..", "a\\..\\b", "nul", "x" * 300])
def test_a_copy_s_files_stay_in_their_folder(tmp_path, name, monkeypatch):
    out = tmp_path / "out"
    checkpoint.save(out / "checkpoints", 3, *parts(), keep=2)
    address = f"memory://{uuid.uuid4()}/run"
    mirror.send(out, address, keep=2)
    system, _ = fsspec.url_to_fs(address)
    listed = system.ls
    monkeypatch.setattr(
        system, "ls", lambda path, **how: [*listed(path, **how), *([f"{path}/{name}"] if "step-" in path else [])]
    )
    with pytest.raises(UserError, match=f"{address} could not be read .*the name"):
        mirror.fetch(tmp_path / "new", address)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "out"]


@pytest.mark.parametrize("name", ["../outside", "", "a/b"])
def test_a_module_s_name_is_a_file_s(tmp_path, name):
    with pytest.raises(UserError, match="the name"):
        checkpoint.save(tmp_path / "out", 1, {name: nn.Linear(2, 2)}, {}, keep=1)
    with pytest.raises(UserError, match="the trained weights: the name"):
        Output(name, {})
    assert list(tmp_path.iterdir()) == []
