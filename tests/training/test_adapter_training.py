"""Training an adapter: the model stays what it is, resume is bit for bit, and what is written draws the same."""

import json

import pytest
import torch
from muse_sampling.schedules import Cosine
from muse_training.adapters import LoRA, LowRank
from muse_training.optimizers import AdamW, Muon, groups
from muse_training.train import Train
from muse_transformer.muse import MuseTransformer
from runs import check_same_files, rows, same_tensors
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from muse_studio import testing
from muse_studio.contracts import RunContext
from muse_studio.errors import UserError
from muse_studio.nn import lora
from muse_studio.nn.lora import Adapter
from muse_studio.runtime import weights
from muse_studio.stage import Stage
from muse_studio.training.loop import Fit

SIZES = {"codebook_size": 64, "grid": [2, 2], "text_width": 8, "width": 16, "layers": 2, "heads": 2}
ATTENTIONS = [
    "cross_attention.memory",
    "cross_attention.out",
    "cross_attention.query",
    "self_attention.out",
    "self_attention.project",
]
PER_BLOCK = [*ATTENTIONS, "mlp.0", "mlp.2"]


class Greys:
    """Plain pictures of four greys, captioned with their number."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        grey = index % 4
        return {"image": torch.full((3, 8, 8), 85 * grey, dtype=torch.uint8), "caption": f"grey {grey}"}


@pytest.fixture
def base(tmp_path):
    torch.manual_seed(0)
    weights.save(MuseTransformer(**SIZES).state_dict(), tmp_path / "base.safetensors", {})
    return tmp_path / "base.safetensors"


def task(folder, base, adapter, **more):
    fit = {"out": str(folder), "steps": 9, "batch": 8, "log_every": 1, "checkpoint_every": 3, "device": "cpu"}
    fit |= more.pop("fit", {})
    model = MuseTransformer(**SIZES, weights=str(base), **more.pop("model", {}))
    stage = Stage(testing.FakeTokenizer(), model, Cosine(), testing.FakeSampler(), testing.FakeGuidance(), 8)
    settings = {"optimizer": AdamW(1e-2)} | more
    return Train({"base": stage}, testing.FakeTextEncoder(), Greys(), Fit(**fit), adapter=adapter, **settings)


def logits(model):
    tokens = torch.tensor([[[3, -1], [-1, 60]], [[-1, -1], [9, -1]]])
    with torch.no_grad():
        return model.eval()(tokens, model.condition(testing.fakes.embedding()))


@pytest.mark.filterwarnings("error")
def test_the_base_stays_to_the_bit_and_what_is_written_draws_the_same(tmp_path, base):
    before = base.read_bytes()
    made = task(tmp_path / "run", base, LoRA(rank=4, alpha=6, dropout=0.1))
    history = made(testing.RecordingObserver(), RunContext({"use": "train", "adapter": {"rank": 4}}))
    assert history.weights == tmp_path / "run" / "adapter.safetensors" and base.read_bytes() == before
    trained, plain = made.stage.transformer, load_file(base)
    left = {
        name.replace(".base.", "."): tensor for name, tensor in trained.state_dict().items() if ".lora_" not in name
    }
    assert same_tensors(left, plain)
    merged = MuseTransformer(**SIZES, weights=str(base), adapters=[Adapter(str(history.weights))])
    assert (logits(merged) - logits(MuseTransformer(**SIZES, weights=str(base)))).abs().max() > 1e-3
    torch.testing.assert_close(logits(merged), logits(trained), atol=1e-5, rtol=0)
    shapes, metadata = weights.header(history.weights)
    message = json.loads(metadata["muse_settings"])
    assert message["use"] == "train" and message["adapter"] == {
        "rank": 4, "alpha": 6, "targets": ["blocks.*"], "dropout": 0.1, "base": lora.fingerprint(merged_base(base))
    }  # fmt: skip
    wanted = {f"blocks.{block}.{name}.lora_{each}.weight" for block in (0, 1) for name in PER_BLOCK for each in "AB"}
    assert shapes.keys() == wanted
    assert shapes["blocks.1.mlp.0.lora_A.weight"] == [4, 16] and shapes["blocks.1.mlp.0.lora_B.weight"] == [64, 4]


def merged_base(base):
    return MuseTransformer(**SIZES, weights=str(base))


def test_at_first_the_model_is_the_base_and_its_checkpoints_hold_the_adapter_alone(tmp_path, base):
    model = merged_base(base)
    plain = logits(model)
    learning = LoRA().attach(model, torch.Generator().manual_seed(0))
    assert torch.equal(logits(model), plain)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(learning.state_dict())
    ones = [p for name, p in learning.named_parameters() if name.endswith("lora_A.weight")]
    assert all(0.7 < p.std() * p.shape[1] ** 0.5 < 1.3 for p in ones)
    task(tmp_path / "run", base, LoRA(), fit={"ema": 0.9})(testing.RecordingObserver())
    step = tmp_path / "run" / "checkpoints" / "step-0000009"
    names = {"adapter.safetensors", "average.safetensors", "transformer.optimizer.safetensors"}
    assert {file.name for file in step.glob("*.safetensors")} == names
    with safe_open(step / "adapter.safetensors", "pt") as file:
        assert set(file.keys()) == set(learning.state_dict())


def test_the_running_average_is_what_is_shipped(tmp_path, base):
    history = task(tmp_path / "run", base, LoRA(), fit={"ema": 0.9})(testing.RecordingObserver())
    step, shipped = tmp_path / "run" / "checkpoints" / "step-0000009", load_file(history.weights)
    average = load_file(step / "average.safetensors")
    assert all(torch.equal(shipped[name], average[name]) for name in shipped)
    last = load_file(step / "adapter.safetensors")
    assert not torch.equal(
        shipped["blocks.0.self_attention.out.lora_B.weight"], last["blocks.0.self_attention.out.lora_B.weight"]
    )


@pytest.mark.parametrize(
    "more",
    [{"fit": {"ema": 0.9}}, {"optimizer": Muon(1e-2), "model": {"checkpointing": True}}],
    ids=["average", "muon, computing layers again"],
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, base, more):
    adapter = LoRA(rank=2, dropout=0.2)
    through = task(tmp_path / "a", base, adapter, **more)(testing.RecordingObserver())
    with pytest.raises(RuntimeError, match="power"):
        task(tmp_path / "b", base, adapter, **more)(testing.RecordingObserver(dies_at=5))
    resumed = task(tmp_path / "b", base, adapter, **more)(testing.RecordingObserver())
    assert rows(through) == rows(resumed)
    check_same_files(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_it_learns(tmp_path, base):
    more = {"fit": {"steps": 100}, "optimizer": AdamW(3e-2), "text_dropout": 0.0}
    history = task(tmp_path / "run", base, LoRA(rank=4, targets=["*"]), **more)(testing.RecordingObserver())
    assert history.rows[0]["loss"] > 4 and sum(row["loss"] for row in history.rows[-10:]) / 10 < 1.5


def test_a_run_of_the_whole_model_is_not_gone_on_with(tmp_path, base):
    task(tmp_path / "run", base, None, fit={"steps": 1})(testing.RecordingObserver())
    with pytest.raises(UserError, match=r"this run needs adapter\.safetensors, .*another folder as fit\.out"):
        task(tmp_path / "run", base, LoRA(), fit={"steps": 1})(testing.RecordingObserver())


def test_optimizers_let_both_matrices_decay_and_muon_turns_them(base):
    model = merged_base(base)
    learning = LoRA(rank=2, targets=["blocks.*.self_attention.*"]).attach(model, torch.Generator())
    decays, stays = groups(learning, 0.1)
    assert len(decays["params"]) == 2 * 2 * 2 and stays["params"] == []
    assert {id(p) for p in decays["params"]} == {id(p) for p in learning.parameters()}
    turned = Muon()(learning).muon.param_groups[0]["params"]
    assert {id(p) for p in turned} == {id(p) for p in learning.parameters()}
    assert {id(p) for p in groups(model, 0.1)[0]["params"]} == {id(p) for p in learning.parameters()}


def test_dropout_is_of_the_adapter_s_way_alone():
    torch.manual_seed(0)
    base = nn.Linear(6, 5)
    layer = LowRank(base, 2, 0.5, 0.5, torch.Generator().manual_seed(1))
    x = torch.randn(4, 6)
    assert torch.equal(layer.train()(x), base(x)), "B is zero"
    with torch.no_grad():
        layer.lora_B.weight.normal_()
    expected = x @ base.weight.T + base.bias + 0.5 * x @ layer.lora_A.weight.T @ layer.lora_B.weight.T
    torch.testing.assert_close(layer.eval()(x), expected)
    assert not torch.allclose(layer.train()(x), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"rank": 0}, "rank is 0; give 1 or more"),
        ({"alpha": 0.0}, r"alpha is 0\.0; give a number above 0"),
        ({"alpha": float("nan")}, "alpha is nan; give a number above 0"),
        ({"targets": []}, r'targets is empty; name linear layers, such as \["blocks\.\*"\]'),
        ({"dropout": 1.0}, r"dropout is 1\.0; it lies in 0\.\.1 without 1"),
    ],
)
def test_settings_that_can_not_be(more, message):
    with pytest.raises(ValueError, match=message):
        LoRA(**more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"targets": ["blocks.*", "layers.*"]},
            r"adapter\.targets: layers\.\* is none of the linear layers: text_projection",
        ),
        ({"rank": 17}, r"adapter\.rank is 17, and blocks\.0\.self_attention\.project has rank 16 at most; give less"),
    ],
)
def test_what_does_not_fit_the_model_is_told_before(tmp_path, base, more, message):
    with pytest.raises(UserError, match=message):
        task(tmp_path / "run", base, LoRA(**more))(testing.RecordingObserver())
    assert not (tmp_path / "run" / "checkpoints").exists()
