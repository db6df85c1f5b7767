"""Averaging a run's checkpoints: the formula by hand, torch's own, what is loaded from it, and what it refuses."""

import json

import pytest
import torch
from fsspec import filesystem
from muse_sampling.schedules import Cosine
from muse_training.average import Average
from muse_training.optimizers import AdamW
from muse_training.train import Train
from muse_transformer.muse import MuseTransformer
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import muse_studio
from muse_studio import testing
from muse_studio.errors import UserError
from muse_studio.runtime import weights
from muse_studio.stage import Stage
from muse_studio.training import checkpoint
from muse_studio.training.loop import Fit


def written(folder, numbers, dtype=torch.float32):
    """A safetensors file for each number, with a tensor w that holds it."""
    files = [folder / f"{place}.safetensors" for place in range(len(numbers))]
    for file, number in zip(files, numbers, strict=True):
        save_file({"w": torch.full((2, 3), number, dtype=dtype)}, file)
    return list(map(str, files))


def run_of(folder, states, **others):
    """A run's folder, with a checkpoint for each state of a linear layer, and other modules in all of them."""
    for step, state in states.items():
        model = nn.Linear(1, 1)
        nn.init.constant_(model.weight, state)
        optimizer = torch.optim.AdamW(model.parameters(), 0.1)
        model(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        nn.init.constant_(model.weight, state)
        checkpoint.save(folder / "checkpoints", step, {"net": model, **others}, {"net": optimizer}, keep=99)
    return str(folder)


@pytest.mark.parametrize(
    ("numbers", "decay", "expected"),
    [
        ([1, 2, 4], 0.5, 2.75),  # 1; 0.5 * 1 + 0.5 * 2 = 1.5; 0.5 * 1.5 + 0.5 * 4
        ([1, 2, 4], 0.7, 2.11),  # 1; 0.7 * 1 + 0.3 * 2 = 1.3; 0.7 * 1.3 + 0.3 * 4
        ([4, 2, 1], 0.7, 2.68),  # 4; 0.7 * 4 + 0.3 * 2 = 3.4; 0.7 * 3.4 + 0.3 * 1
        ([1, 2, 4], 0, 4),
        ([7], 0.7, 7),
    ],
)
def test_it_is_what_the_formula_says(tmp_path, numbers, decay, expected):
    out = tmp_path / "out" / "average.safetensors"
    made = Average(written(tmp_path, numbers), str(out), decay)()
    assert load_file(out)["w"].tolist() == [[pytest.approx(expected, rel=1e-6)] * 3] * 2
    assert made.weights == out and len(made.sources) == len(numbers)


def test_it_is_what_torch_s_running_average_says_and_the_model_loads_it(tmp_path):
    def muse(**settings):
        return MuseTransformer(11, [2, 3], text_width=5, width=16, layers=2, heads=2, **settings)

    model = muse()
    torchs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.7))
    for step in range(1, 7):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        torchs.update_parameters(model)
        checkpoint.save(tmp_path / "checkpoints", step * 5000, {"transformer": model}, {}, keep=6)
    out = tmp_path / "average.safetensors"
    Average(str(tmp_path), str(out))()
    loaded = muse(weights=str(out)).state_dict()
    assert loaded.keys() == torchs.module.state_dict().keys()
    for name, tensor in torchs.module.state_dict().items():
        assert torch.equal(loaded[name], tensor), name
        assert not torch.equal(loaded[name], model.state_dict()[name]), f"{name} is the last one's"


def test_counts_are_the_newest_and_running_means_are_averaged(tmp_path):
    norm = nn.BatchNorm1d(2)
    for step in (1, 2, 3):
        norm(torch.full((4, 2), float(step)) + torch.arange(4)[:, None])
        checkpoint.save(tmp_path / "checkpoints", step, {"norm": norm}, {}, keep=3)
    means = [
        load_file(tmp_path / "checkpoints" / f"step-000000{n}" / "norm.safetensors")["running_mean"] for n in (1, 2, 3)
    ]
    out = tmp_path / "average.safetensors"
    Average(str(tmp_path), str(out), decay=0.5)()
    averaged = load_file(out)
    assert averaged["num_batches_tracked"].item() == 3 and averaged["num_batches_tracked"].dtype == torch.int64
    torch.testing.assert_close(averaged["running_mean"], 0.25 * means[0] + 0.25 * means[1] + 0.5 * means[2])


def test_halves_are_averaged_in_float32_and_written_as_asked(tmp_path):
    files = written(tmp_path, [1.0, 1.0 + 2**-10], torch.float16)
    for dtype, expected in [("float32", 1 + 0.3 * 2**-10), ("float16", 1.0), ("bfloat16", 1.0)]:
        out = tmp_path / f"{dtype}.safetensors"
        Average(files, str(out), dtype=dtype)()
        assert load_file(out)["w"].dtype == getattr(torch, dtype)
        assert load_file(out)["w"][0, 0].item() == pytest.approx(expected, abs=2e-7)


def test_the_checkpoints_themselves_stay_as_they_are(tmp_path):
    files = written(tmp_path, [1, 2, 4])
    Average(files, str(tmp_path / "average.safetensors"))()
    assert [load_file(file)["w"][0, 0].item() for file in files] == [1, 2, 4]


def test_files_come_from_any_address_in_the_order_given(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    first, second = written(tmp_path, [1, 3])
    with filesystem("memory").open("/average/far.safetensors", "wb") as far, open(first, "rb") as near:
        far.write(near.read())
    out = tmp_path / "average.safetensors"
    Average([second, "memory://average/far.safetensors"], str(out), 0.75)()
    assert load_file(out)["w"][0, 0].item() == 2.5
    filesystem("memory").rm("/average/far.safetensors")


def test_a_run_s_checkpoints_are_taken_by_their_steps_and_what_lies_aside_is_not(tmp_path):
    run = run_of(tmp_path, {10_000_000: 4.0, 9_999_999: 2.0, 500: 1.0}, discriminator=nn.Linear(1, 1))
    (tmp_path / "checkpoints" / ".step-0000600.1").mkdir()
    out = tmp_path / "average.safetensors"
    made = Average(run, str(out), 0.5)()
    assert [file.parent.name for file in made.sources] == ["step-0000500", "step-9999999", "step-10000000"]
    assert {file.name for file in made.sources} == {"net.safetensors"}
    assert load_file(out)["weight"].item() == 2.75
    assert made.summary() == (
        f"{out}\n3 checkpoints, {made.sources[0]} to {made.sources[-1]}; at decay 0.5 the oldest counts 25.00%"
    )


def test_another_module_is_averaged_where_it_is_named(tmp_path):
    critic = nn.Linear(1, 1)
    run = run_of(tmp_path, {1: 1.0}, discriminator=critic, average=AveragedModel(critic))
    out = tmp_path / "average.safetensors"
    made = Average(run, str(out), module="discriminator")()
    assert torch.equal(load_file(out)["weight"], critic.weight)
    assert made.summary() == f"{out}\n1 checkpoint, {made.sources[0]}: its own weights; raise fit.keep to have more"


def test_what_the_newest_says_of_its_settings_is_kept_and_a_note_added(tmp_path):
    files = written(tmp_path, [1, 2])
    weights.save(load_file(files[1]), tmp_path / "1.safetensors", {"use": "train", "steps": 9})
    out = tmp_path / "average.safetensors"
    note = {"average of": "2 checkpoints, 0.safetensors to 1.safetensors", "decay": 0.7}
    Average(files, str(out))()
    metadata = weights.header(out)[1]
    assert json.loads(metadata[weights.SETTINGS]) == {"use": "train", "steps": 9}
    assert json.loads(metadata["muse_average"]) == note
    Average(run_of(tmp_path / "run", {1: 1.0, 2: 2.0}), str(out))()
    metadata = weights.header(out)[1]
    assert metadata[weights.SETTINGS] == metadata["muse_average"]
    assert json.loads(metadata["muse_average"])["average of"] == (
        "2 checkpoints, step-0000001/net.safetensors to step-0000002/net.safetensors"
    )


def test_the_recipe_averages_what_a_training_run_left(tmp_path):
    fakes = (
        testing.FakeTokenizer(),
        testing.FakeTransformer(),
        Cosine(),
        testing.FakeSampler(),
        testing.FakeGuidance(),
    )
    fit = Fit(str(tmp_path), steps=4, batch=2, checkpoint_every=1, keep=3, ema=0.5, device="cpu")
    stages = {"base": Stage(*fakes, size=8)}
    Train(stages, testing.FakeTextEncoder(), testing.FakeDataset(), fit, AdamW(1e-2))(testing.RecordingObserver())
    out = tmp_path / "average.safetensors"
    made = muse_studio.run("average", {"checkpoints": str(tmp_path), "out": str(out)})
    assert [f"{file.parent.name}/{file.name}" for file in made.sources] == [
        f"step-000000{step}/transformer.safetensors" for step in (2, 3, 4)
    ]
    states, averaged = [load_file(file) for file in made.sources], load_file(out)
    for name, tensor in averaged.items():
        expected = 0.49 * states[0][name] + 0.21 * states[1][name] + 0.3 * states[2][name]
        torch.testing.assert_close(tensor, expected)
    weights.load(stages["base"].transformer, str(out))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"decay": 1.0}, r"decay is 1\.0; it lies in 0\.\.1 without 1, and 0 takes the newest alone"),
        ({"decay": -0.1}, r"decay is -0\.1; it lies in 0\.\.1"),
        ({"decay": float("nan")}, r"decay is nan; it lies in 0\.\.1"),
        ({"checkpoints": []}, "checkpoints is empty; give a run's folder, or a list of safetensors files"),
        ({"checkpoints": ""}, "checkpoints is empty"),
        ({"checkpoints": ["a"], "module": "net"}, "module chooses among the files of a run's folder; leave it out"),
        ({"module": "average"}, r"module is 'average', the running average of fit\.ema; name the module that was"),
        ({"out": "average"}, r"out is 'average'; name a file that ends in \.safetensors"),
    ],
)
def test_settings_that_can_not_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        Average(**{"checkpoints": "run", "out": "average.safetensors"} | wrong)


def refused(tmp_path, checkpoints, **settings):
    """What the user is told; nothing has been written then."""
    out = tmp_path / "average.safetensors"
    with pytest.raises(UserError) as told:
        Average(checkpoints, **{"out": str(out)} | settings)()
    assert not out.exists()
    return str(told.value)


def test_a_folder_without_checkpoints(tmp_path):
    cure = "give as checkpoints a run's folder, as its fit.out names it, or a list of safetensors files"
    assert refused(tmp_path, str(tmp_path)) == f"no checkpoints in {tmp_path / 'checkpoints'}; {cure}"
    (tmp_path / "checkpoints" / ".step-0000001.77").mkdir(parents=True)
    assert refused(tmp_path, str(tmp_path)).startswith("no checkpoints in")
    assert "no weights at nowhere.safetensors" in refused(tmp_path, ["nowhere.safetensors"])


def test_a_module_that_must_be_named_or_is_not_there(tmp_path):
    run = run_of(tmp_path, {1: 1.0, 2: 2.0}, other=nn.Linear(1, 1), discriminator=nn.Linear(1, 1))
    one, two = (tmp_path / "checkpoints" / f"step-000000{step}" for step in (1, 2))
    holds = "holds discriminator, net, other; say by module which one to average"
    assert refused(tmp_path, run) == f"{two} {holds}"
    message = "holds no nets, but discriminator, net, other; set module to another one, or move that checkpoint away"
    assert f"{one} {message}" in refused(tmp_path, run, module="nets")
    (one / "net.safetensors").unlink()
    assert f"{one} holds no net, but discriminator, other; " in refused(tmp_path, run, module="net")
    for file in two.iterdir():
        file.unlink()
    assert f"{two} holds nothing; say by module" in refused(tmp_path, run)


def test_another_model_s_weights(tmp_path):
    files = written(tmp_path, [1, 2])
    save_file({"w": torch.zeros(2, 4)}, files[1])
    other = f"{files[1]} is of another model than {files[0]}:"
    cure = "average checkpoints of one run"
    assert refused(tmp_path, files) == f"{other} w is [2, 4] in the one, [2, 3] in the other; {cure}"
    save_file({"w": torch.zeros(2, 3), "more": torch.zeros(())}, files[1])
    assert refused(tmp_path, files) == f"{other} more is [] in the one, missing in the other; {cure}"
    save_file({"v": torch.zeros(2, 3)}, files[1])
    assert refused(tmp_path, files) == f"{other} w is missing in the one, [2, 3] in the other; {cure}"


def test_a_broken_file_is_named(tmp_path):
    files = written(tmp_path, [1, 2, 3])
    whole = (tmp_path / "1.safetensors").read_bytes()
    (tmp_path / "1.safetensors").write_bytes(whole[:-1])
    assert refused(tmp_path, files).startswith(f"{files[1]} is not a whole safetensors file")
    (tmp_path / "1.safetensors").write_bytes(whole.replace(b'"F32"', b'"F99"'))
    assert refused(tmp_path, files).startswith(f"{files[1]} is damaged (")


def test_numbers_that_are_not_finite(tmp_path):
    files = written(tmp_path, [1, float("nan"), 3])
    cure = "move that checkpoint away, or list the others as checkpoints"
    assert refused(tmp_path, files) == f"w in {files[1]} has numbers that are not finite; {cure}"
    large = written(tmp_path, [1e6, 1e6])
    message = "w has numbers too large for float16; set dtype to bfloat16 or float32"
    assert refused(tmp_path, large, dtype="float16") == message


def test_a_checkpoint_is_not_written_over(tmp_path):
    files = written(tmp_path, [1, 2])
    with pytest.raises(UserError, match=r"out is .*1\.safetensors, one of the checkpoints; give another file"):
        Average(files, files[1])()
    assert load_file(files[1])["w"][0, 0].item() == 2


def test_a_folder_that_can_not_be_written(tmp_path):
    files = written(tmp_path, [1, 2])
    message = refused(tmp_path, files, out=str(tmp_path / "0.safetensors" / "average.safetensors"))
    assert message.startswith(f"{tmp_path / '0.safetensors'} can't be written") and message.endswith(
        "another folder as out"
    )
