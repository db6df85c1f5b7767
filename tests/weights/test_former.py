"""Files of version 0.1 become today's by the command that their refusal names: weights, adapters, whole runs."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from muse_sampling.schedules import Cosine
from muse_training.adapters import LoRA
from muse_training.optimizers import AdamW
from muse_training.train import Train
from muse_transformer.muse import MuseTransformer
from PIL import Image
from safetensors.torch import load_file, save_file

import muse_studio
from muse_studio import parts, testing
from muse_studio.cli import main
from muse_studio.contracts import RunContext
from muse_studio.errors import UserError
from muse_studio.nn.lora import Adapter
from muse_studio.runtime import weights
from muse_studio.stage import Stage
from muse_studio.training.loop import Fit

BEFORE = {
    "low_blocks.": "read_low.",
    "condition_embedding.": "read_picture.",
    "text_projection.": "read_text.",
    ".self_attention.": ".look.",
    ".cross_attention.": ".read.",
    ".cross_attention1.": ".read1.",
    ".cross_attention2.": ".read2.",
    ".response_norm.": ".compete.",
    ".mlp.": ".think.",
}
SMALL = {"text_width": 8, "width": 16, "layers": 2, "heads": 2}
CLASSES = {"codebook_size": 12, "classes": 5, "grid": [2, 2], "width": 16, "layers": 3, "heads": 2, "mlp": 32}
PARTS = {
    "amused": {
        "codebook_size": 32, "vocabulary": 40, "grid": [4, 4], "text_width": 12, "pooled_width": 12,
        "text_positions": 3, "token_width": 16, "width": 16, "layers": 2, "heads": 2, "channels": 16, "conv_heads": 2,
        "conv_blocks": 1, "mlp": 32, "frequencies": 4,
    },
    "critic": {"codebook_size": 12, "grid": [2, 3], **SMALL},
    "critic-superres": {"grid": [4, 4], "low_grid": [2, 2], "low_layers": 1, "block": 2, **SMALL},
    "halton-maskgit": CLASSES,
    "maskgit": CLASSES,
    "muse": {"codebook_size": 12, "grid": [2, 3], **SMALL},
    "superres": {"grid": [4, 4], "low_grid": [2, 2], "low_layers": 1, "block": 2, **SMALL},
    "uvit": {"codebook_size": 12, "grid": [2, 2], "text_width": 8, "width": 16, "layers": 3, "heads": 2, "mlp": 32},
    "uvit-class": CLASSES,
}  # fmt: skip


def old(name):
    """A name as version 0.1 had it."""
    for today, before in BEFORE.items():
        name = name.replace(today, before)
    return name


def age(path):
    """Give a file of weights the names of version 0.1."""
    said = weights.header(path)[1]
    save_file({old(name): tensor for name, tensor in load_file(path).items()}, path, said)


def refusal(make):
    """The command that a refusal ends in, as a shell has it."""
    with pytest.raises(UserError) as refused:
        make()
    return re.search(r"muse (run import-weights .*)$", str(refused.value))[1]


def part(name, **settings):
    torch.manual_seed(0)
    return parts("transformer", name)[0].load()(**PARTS[name], **settings)


@pytest.mark.parametrize("name", PARTS)
def test_the_command_of_a_refusal_converts_the_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    tensors = part(name).state_dict()
    weights.save(tensors, Path("mine.safetensors"), {"use": name, **PARTS[name]}, kept="as it is")
    today = Path("mine.safetensors").read_bytes()
    age(Path("mine.safetensors"))
    before = Path("mine.safetensors").read_bytes()
    assert main(shlex.split(refusal(lambda: part(name, weights="mine.safetensors")))) == 0
    assert Path("mine.safetensors").read_bytes() == before != today
    made = part(name, weights="converted/mine.safetensors").state_dict()
    assert all(torch.equal(made[key], tensor) for key, tensor in tensors.items())
    assert weights.header(Path("converted/mine.safetensors"))[1]["kept"] == "as it is"
    assert yaml.safe_load(Path("converted/model.yaml").read_text()) == {
        "use": name, **PARTS[name], "weights": str(tmp_path / "converted" / "mine.safetensors")
    }  # fmt: skip


@pytest.mark.slow
def test_the_shipped_base_draws_the_same_once_it_was_aged_and_converted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = weights.local("package://muse_emoji/models/base.safetensors")
    Path("base.safetensors").write_bytes(shipped.read_bytes())
    age(Path("base.safetensors"))
    steps = {"stages.base.sampler.steps": 3, "stages.superres.sampler.steps": 2, "prompt": "a fox, noto style"}
    command = refusal(
        lambda: muse_studio.run("generate", {**steps, "stages.base.transformer.weights": "base.safetensors"})
    )
    assert main(shlex.split(command)) == 0
    muse_studio.run("generate", {**steps, "out": "shipped.png"})
    muse_studio.run(
        "generate",
        {**steps, "out": "converted.png", "stages.base.transformer": {"extends": "converted/model.yaml"}},
    )
    with Image.open("shipped.png") as one, Image.open("converted.png") as other:
        assert one.tobytes() == other.tobytes()


class Greys:
    """Plain pictures of four greys, captioned with their number."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        grey = index % 4
        return {"image": torch.full((3, 8, 8), 85 * grey, dtype=torch.uint8), "caption": f"grey {grey}"}


def training(folder, steps, adapter=None, base=None):
    torch.manual_seed(0)
    model = MuseTransformer(64, [2, 2], **SMALL, weights=base)
    fit = Fit(out=str(folder), steps=steps, batch=4, log_every=1, checkpoint_every=2, device="cpu", ema=0.9)
    stage = Stage(testing.FakeTokenizer(), model, Cosine(), testing.FakeSampler(), testing.FakeGuidance(), 8)
    return Train({"base": stage}, testing.FakeTextEncoder(), Greys(), fit, AdamW(1e-2), adapter=adapter)


@pytest.mark.parametrize("adapter", [None, LoRA(rank=2)])
def test_a_run_goes_on_where_it_stood(tmp_path, monkeypatch, adapter):
    monkeypatch.chdir(tmp_path)
    base = None
    if adapter is not None:
        base = "base.safetensors"
        weights.save(MuseTransformer(64, [2, 2], **SMALL).state_dict(), Path(base), {})
    whole = training("whole", 4, adapter, base)(testing.RecordingObserver())
    training("run", 4, adapter, base)(testing.RecordingObserver())
    shutil.rmtree("run/checkpoints/step-0000004")
    for path in Path("run").rglob("*.safetensors"):
        if "optimizer" not in path.name:
            age(path)
    for state in Path("run").rglob("state.json"):
        said = json.loads(state.read_text())
        said["files"] = {name: (state.parent / name).stat().st_size for name in said["files"]}
        del said["checksums"], said["identity"]  # as that version wrote it
        state.write_text(json.dumps(said))
    assert main(shlex.split(refusal(lambda: training("run", 4, adapter, base)(testing.RecordingObserver())))) == 0
    assert training("converted", 4, adapter, base)(testing.RecordingObserver()).weights.name == whole.weights.name
    one, other = (load_file(Path(folder) / whole.weights.name) for folder in ("whole", "converted"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.filterwarnings("error")
def test_an_adapter_keeps_its_alpha_and_is_added_without_a_warning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights.save(MuseTransformer(64, [2, 2], **SMALL).state_dict(), Path("base.safetensors"), {})
    made = training("run", 2, LoRA(rank=2, alpha=3.0), "base.safetensors")
    path = made(testing.RecordingObserver(), RunContext({"use": "train"})).weights

    def model(adapter):
        return MuseTransformer(64, [2, 2], **SMALL, weights="base.safetensors", adapters=[Adapter(str(adapter))])

    wanted = model(path).state_dict()
    age(path)
    assert main(shlex.split(refusal(lambda: model(path)))) == 0
    assert [file.name for file in Path("converted").iterdir()] == ["adapter.safetensors"]
    found = model("converted/adapter.safetensors").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    said = json.loads(weights.header(Path("converted/adapter.safetensors"))[1]["muse_settings"])
    assert said["use"] == "train" and said["adapter"]["alpha"] == 3.0 and "base" not in said["adapter"]


def test_a_dry_run_counts_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    weights.save(part("muse").state_dict(), Path("mine.safetensors"), {})
    age(Path("mine.safetensors"))
    arguments = ["run", "import-weights", "source=mine.safetensors", "format=muse-0.1", "out=converted"]
    assert main([*arguments, "dry_run=true"]) == 0
    assert "mine.safetensors: 30 tensors of mine.safetensors become 30" in capsys.readouterr().out
    assert not Path("converted").exists()


def test_what_needs_no_renaming_and_what_would_fill_one_name_twice_is_refused(tmp_path):
    tensors = part("muse").state_dict()
    weights.save(tensors, tmp_path / "today.safetensors", {})
    request = {"source": str(tmp_path / "today.safetensors"), "format": "muse-0.1", "out": str(tmp_path / "out")}
    with pytest.raises(UserError, match=r"has no tensor of a name that format 'muse-0.1' knows; it needs none"):
        muse_studio.run("import-weights", request)
    both = tensors | {old(name): tensor.clone() for name, tensor in tensors.items()}
    weights.save(both, tmp_path / "both.safetensors", {})
    with pytest.raises(UserError, match="30 given twice"):
        muse_studio.run("import-weights", request | {"source": str(tmp_path / "both.safetensors")})
    assert not (tmp_path / "out").exists()
