"""Checkpoints: whole or not there, the newest found, the old ones cleared away, another model's refused."""

import json
import shutil
import warnings

import pytest
import torch
from torch import nn

from muse_studio.errors import UserError
from muse_studio.training import checkpoint
from muse_studio.training.state import STATE


def parts(width=2, optimizer=torch.optim.AdamW, steps=0):
    torch.manual_seed(0)
    model = nn.Linear(2, width)
    made = optimizer(model.parameters(), 0.1)
    for _ in range(steps):
        made.zero_grad()
        model(torch.ones(1, 2)).square().sum().backward()
        made.step()
    return {"net": model}, {"net": made}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_state_comes_back_as_it_was(tmp_path):
    modules, optimizers = parts(steps=3)
    path = checkpoint.save(tmp_path, 3, modules, optimizers, keep=2)
    others, fresh = parts()
    assert checkpoint.load(path, others, fresh) == 3
    assert torch.equal(others["net"].weight, modules["net"].weight)
    before, after = optimizers["net"].state_dict()["state"], fresh["net"].state_dict()["state"]
    assert before.keys() == after.keys() == {0, 1}
    assert all(torch.equal(after[i][name], value) for i in before for name, value in before[i].items())


def test_the_recipe_s_rate_counts_and_not_the_checkpoint_s(tmp_path):
    path = checkpoint.save(tmp_path, 3, *parts(steps=3), keep=2)
    modules, optimizers = parts()
    optimizers["net"].param_groups[0]["lr"] = 0.5
    checkpoint.load(path, modules, optimizers)
    assert optimizers["net"].param_groups[0]["lr"] == 0.5


def test_an_optimizer_that_never_stepped(tmp_path):
    path = checkpoint.save(tmp_path, 0, *parts(), keep=1)
    assert checkpoint.load(path, *parts()) == 0


@pytest.mark.parametrize(("keep", "left"), [(1, [5]), (2, [4, 5]), (4, [2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])])
def test_the_newest_are_kept(tmp_path, keep, left):
    for step in range(1, 6):
        checkpoint.save(tmp_path, step, *parts(), keep=keep)
    assert names(tmp_path) == [f"step-{step:07d}" for step in left]


def test_a_broken_one_is_passed_over_and_cleared_away(tmp_path):
    for step in (1, 2, 9):
        checkpoint.save(tmp_path, step, *parts(), keep=5)
    broken = tmp_path / "step-0000009" / "net.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1])
    assert checkpoint.newest(tmp_path).name == "step-0000002"
    checkpoint.save(tmp_path, 3, *parts(), keep=1)
    assert names(tmp_path) == ["step-0000003"]


@pytest.mark.parametrize("harm", ["no state", "empty state", "a list", "a file less", "a file more"])
def test_what_is_not_whole_is_not_found(tmp_path, harm):
    path = checkpoint.save(tmp_path, 1, *parts(), keep=1)
    if harm == "no state":
        (path / STATE).unlink()
    elif harm == "empty state":
        (path / STATE).write_text("")
    elif harm == "a list":
        (path / STATE).write_text("[]")
    elif harm == "a file less":
        (path / "net.safetensors").unlink()
    else:
        shutil.copy(path / "net.safetensors", path / "more.safetensors")
    assert checkpoint.newest(tmp_path) is None


def test_nothing_and_strangers(tmp_path):
    assert checkpoint.newest(tmp_path / "nowhere") is None
    (tmp_path / "step-by-step").mkdir()
    assert checkpoint.newest(tmp_path) is None
    checkpoint.save(tmp_path, 1, *parts(), keep=1)
    assert names(tmp_path) == ["step-0000001", "step-by-step"]


def test_steps_are_ordered_as_numbers(tmp_path):
    for step in (9_999_999, 10_000_000):
        checkpoint.save(tmp_path, step, *parts(), keep=2)
    assert checkpoint.newest(tmp_path).name == "step-10000000"


def test_a_run_killed_while_it_writes(tmp_path):
    checkpoint.save(tmp_path, 1, *parts(), keep=2)
    half = tmp_path / ".step-0000002.4711"  # as a process of that number leaves it, which had no time to tidy up
    shutil.copytree(tmp_path / "step-0000001", half)
    (half / STATE).unlink()
    assert checkpoint.newest(tmp_path).name == "step-0000001"
    checkpoint.save(tmp_path, 2, *parts(), keep=2)
    assert names(tmp_path) == ["step-0000001", "step-0000002"]


def test_an_interrupt_while_it_writes_leaves_nothing_aside(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, *parts(), keep=2)

    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.State, "of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, 2, *parts(), keep=2)
    assert names(tmp_path) == ["step-0000001"]


def test_a_full_disk(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, *parts(), keep=1)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UserError, match=r"checkpoint of step 2 could not be written.*No space left.*make room"):
        checkpoint.save(tmp_path, 2, *parts(), keep=1)
    assert names(tmp_path) == ["step-0000001"]


def test_another_model_is_told(tmp_path):
    path = checkpoint.save(tmp_path, 1, *parts(width=3), keep=1)
    with pytest.raises(UserError, match=r"weight is \[3, 2\], not \[2, 2\].*give another folder as fit\.out"):
        checkpoint.load(path, *parts())


def test_another_optimizer_is_told(tmp_path):
    path = checkpoint.save(tmp_path, 1, *parts(optimizer=torch.optim.SGD), keep=1)
    with pytest.raises(UserError, match=r"is of the optimizer SGD, not AdamW; give another folder as fit\.out"):
        checkpoint.load(path, *parts())


def test_a_part_more_is_told(tmp_path):
    path = checkpoint.save(tmp_path, 1, *parts(), keep=1)
    modules, optimizers = parts()
    with pytest.raises(UserError) as caught:
        checkpoint.load(path, modules | {"critic": nn.Linear(2, 2)}, optimizers)
    assert str(caught.value) == (
        f"{path} holds net.optimizer.safetensors, net.safetensors, this run needs critic.safetensors, "
        f"net.optimizer.safetensors, net.safetensors; {checkpoint.CURE}"
    )


def agree(path, state):
    """Whatever a checkpoint is of."""


def zero(path):
    file = path / "net.safetensors"
    file.write_bytes(bytes(file.stat().st_size))


def flip(path):
    file = path / "net.optimizer.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 4
    file.write_bytes(data)


def empty(path):
    shutil.rmtree(path)
    path.mkdir()
    (path / STATE).write_text('{"step": 9, "files": {}, "optimizers": {}}')


def say(**said):
    def harm(path):
        text = json.dumps(json.loads((path / STATE).read_text()) | said).replace('"1e400"', "1e400")
        (path / STATE).write_text(text)

    return harm


HARMS = {
    "zeroed bytes": zero,
    "a flipped bit": flip,
    "a stranger's empty folder": empty,
    "a folder in a file's place": lambda path: (
        (path / "net.safetensors").unlink() or (path / "net.safetensors").mkdir()
    ),
    "a step of text": say(step="nine"),
    "a step that is none": say(step=float("nan")),
    "a step beyond all numbers": say(step="1e400"),
    "another step": say(step=999_999),
    "a step that is true": say(step=True),
    "files in a list": say(files=["net.safetensors"]),
    "sizes of text": say(files={"net.safetensors": "big"}),
    "checksums of numbers": say(checksums={"net.safetensors": 1}),
    "checksums of other files": say(checksums={"../../elsewhere": "00"}),
    "optimizers of numbers": say(optimizers={"net": 3}),
    "an identity of text": say(identity="me"),
    "depth": lambda path: (path / STATE).write_text("[" * 100_000),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_damaged_one_is_passed_over_and_named(tmp_path, harm):
    for step in (3, 6, 9):
        checkpoint.save(tmp_path, step, *parts(steps=step), keep=9)
    harm(tmp_path / "step-0000009")
    modules, optimizers = parts()
    with pytest.warns(
        UserWarning, match=r"step-0000009 is passed over, and step-0000006 is taken: .*damaged-step-0000"
    ):
        assert checkpoint.restore(tmp_path, modules, optimizers, agree).step == 6
    assert torch.equal(modules["net"].weight, parts(steps=6)[0]["net"].weight)
    # It takes no sound one's place, and is told of once.
    checkpoint.save(tmp_path, 7, modules, optimizers, keep=2)
    assert names(tmp_path) == ["damaged-step-0000009", "step-0000006", "step-0000007"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoint.restore(tmp_path, *parts(), agree).step == 7


def test_where_none_is_sound_a_run_begins_anew(tmp_path):
    checkpoint.save(tmp_path, 3, *parts(steps=3), keep=9)
    zero(tmp_path / "step-0000003")
    modules, optimizers = parts()
    with pytest.warns(UserWarning, match="step-0000003 is passed over, and there is none before it that is sound"):
        assert checkpoint.restore(tmp_path, modules, optimizers, agree) is None
    assert torch.equal(modules["net"].weight, parts()[0]["net"].weight)


@pytest.mark.filterwarnings("ignore:.*is passed over")
def test_what_does_not_fit_is_passed_over_for_one_that_does(tmp_path):
    checkpoint.save(tmp_path, 3, *parts(steps=3), keep=9)
    checkpoint.save(tmp_path, 6, *parts(width=3, steps=3), keep=9)
    assert checkpoint.restore(tmp_path, *parts(), agree).step == 3
    assert names(tmp_path) == ["step-0000003", "step-0000006"]


def test_what_an_earlier_version_wrote_is_read(tmp_path):
    path = checkpoint.save(tmp_path, 3, *parts(steps=3), keep=9)
    said = json.loads((path / STATE).read_text())
    (path / STATE).write_text(json.dumps({key: said[key] for key in ("step", "files", "optimizers")}))
    found = checkpoint.restore(tmp_path, *parts(), agree)
    assert (found.step, found.checksums, found.identity) == (3, {}, None)


def test_the_disk_holds_a_checkpoint_before_it_has_its_name(tmp_path, monkeypatch):
    settled = []
    monkeypatch.setattr(checkpoint, "settle", lambda path: settled.append((path.name, path.exists())))
    checkpoint.save(tmp_path, 3, *parts(), keep=9)
    assert sorted(name for name, _ in settled[:3]) == ["net.optimizer.safetensors", "net.safetensors", STATE]
    assert settled[3][0].startswith(".step-0000003") and settled[4] == (tmp_path.name, True)
    assert all(there for _, there in settled)
