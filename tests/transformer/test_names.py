"""What the transformers' tensors are called, and how files of the names before are refused."""

import pytest
import torch
from muse_training.adapters import LoRA
from muse_transformer.critic import SuperResolutionCritic
from muse_transformer.muse import MuseTransformer
from muse_transformer.superres import SuperResolution
from safetensors.torch import save_file

from muse_studio.errors import UserError
from muse_studio.nn.lora import Adapter
from muse_studio.runtime import weights
from muse_studio.training import checkpoint

SIZES = {"text_width": 8, "width": 16, "layers": 2, "heads": 2}
BASE = {"codebook_size": 12, "grid": [2, 3], **SIZES}
SUPERRES = {"codebook_size": 12, "grid": [4, 4], "low_codebook_size": 12, "low_grid": [2, 2], **SIZES}
SUPERRES |= {"low_layers": 1, "block": 2}

ATTENTION = ["project.weight", "norm_query.weight", "norm_key.weight", "out.weight"]
CROSS = ["query.weight", "memory.weight", "norm_query.weight", "norm_key.weight", "out.weight"]
MLP = ["0.weight", "0.bias", "2.weight", "2.bias"]
NORM = ["weight", "bias"]
LAYERS = {
    "norm1": NORM,
    "self_attention": ATTENTION,
    "norm2": NORM,
    "cross_attention": CROSS,
    "norm3": NORM,
    "mlp": MLP,
}
LOW_LAYERS = {"norm1": NORM, "self_attention": ATTENTION, "norm2": NORM, "mlp": MLP}
HEAD = ["head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias", "head.3.weight", "head.3.bias"]
TEXT = ["text_projection.0.weight", "text_projection.0.bias", "text_projection.1.weight", "text_projection.1.bias"]


def within(prefix, layers):
    return [f"{prefix}.{layer}.{name}" for layer, names in layers.items() for name in names]


TRUNK = ["positions", "embed.weight", *TEXT, *within("blocks.0", LAYERS), *within("blocks.1", LAYERS)]
TRUNK += ["norm.weight", "norm.bias", *HEAD]
LOW = ["low_positions", "embed_low.weight", *within("low_blocks.0", LOW_LAYERS), "norm_low.weight", "norm_low.bias"]

OLD = {
    "low_blocks.": "read_low.",
    "text_projection.": "read_text.",
    ".self_attention.": ".look.",
    ".cross_attention.": ".read.",
    ".mlp.": ".think.",
}


def old(name):
    """A name as version 0.1 had it."""
    for today, before in OLD.items():
        name = name.replace(today, before)
    return name


def put(path, tensors):
    """A file of version 0.1."""
    save_file({old(name): tensor for name, tensor in tensors.items()}, path)
    return str(path)


@pytest.mark.parametrize(
    ("part", "settings", "names"), [(MuseTransformer, BASE, TRUNK), (SuperResolution, SUPERRES, TRUNK + LOW)]
)
def test_tensors_have_the_fields_names(part, settings, names):
    assert sorted(part(**settings).state_dict()) == sorted(names)


@pytest.mark.parametrize(
    ("part", "settings"), [(MuseTransformer, BASE), (SuperResolution, SUPERRES), (SuperResolutionCritic, SUPERRES)]
)
def test_a_file_of_former_names_is_refused_with_the_command_that_converts_it(tmp_path, part, settings):
    file = put(tmp_path / "old one.safetensors", part(**settings).state_dict())
    with pytest.raises(UserError) as refusal:
        part(**settings, weights=file)
    assert str(refusal.value).endswith(f"muse run import-weights 'source={file}' format=muse-0.1 out=converted")
    assert "blocks.0.look.norm_key.weight for blocks.0.self_attention.norm_key.weight" in str(refusal.value)


def test_a_file_of_another_model_is_refused_as_before(tmp_path):
    file = put(tmp_path / "old.safetensors", MuseTransformer(**BASE).state_dict())
    with pytest.raises(UserError, match="does not fit here") as refusal:
        MuseTransformer(**BASE | {"layers": 3}, weights=file)
    assert "import-weights" not in str(refusal.value)


def test_an_adapter_of_former_names_is_refused_with_the_command(tmp_path):
    weights.save(MuseTransformer(**BASE).state_dict(), tmp_path / "base.safetensors", {})
    base = {**BASE, "weights": str(tmp_path / "base.safetensors")}
    learned = LoRA(rank=2).attach(MuseTransformer(**base), torch.Generator()).state_dict()
    said = {"adapter": {"alpha": 2.0}}
    weights.save({old(name): each for name, each in learned.items()}, tmp_path / "adapter.safetensors", said)
    adapter = str(tmp_path / "adapter.safetensors")
    with pytest.raises(UserError) as refusal:
        MuseTransformer(**base, adapters=[Adapter(adapter)])
    assert str(refusal.value).endswith(f"muse run import-weights source={adapter} format=muse-0.1 out=converted")


@pytest.mark.parametrize("adapter", [False, True])
def test_a_checkpoint_of_former_names_is_refused_with_the_command_for_its_run(tmp_path, adapter):
    model = MuseTransformer(**BASE)
    name, module = ("adapter", LoRA(rank=2).attach(model, torch.Generator())) if adapter else ("transformer", model)
    optimizer = torch.optim.SGD(module.parameters())

    class Old:
        def state_dict(self):
            return {old(name): each for name, each in module.state_dict().items()}

    folder = checkpoint.save(tmp_path / "run" / "checkpoints", 3, {name: Old()}, {name: optimizer}, keep=1)
    with pytest.raises(UserError, match=r"go on with fit\.out=converted") as refusal:
        checkpoint.load(folder, {name: module}, {name: optimizer})
    command = f"muse run import-weights source={tmp_path / 'run'} format=muse-0.1 out=converted"
    assert str(refusal.value).endswith(command)
