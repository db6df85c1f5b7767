"""What was imported is exported again, tensor by tensor, and diffusers loads it."""

import pytest
import torch
from dialect_sources import FORMER, SOURCES
from importing import dialect
from muse_weights.export import ExportWeights
from muse_weights.inverse import published
from runs import same_tensors
from safetensors.torch import load_file, save_file

from muse_studio.errors import UserError

MODULES = ("transformer", "vqvae", "text_encoder")


@pytest.mark.filterwarnings("ignore")
def test_diffusers_loads_what_was_exported(pipe, twin, tmp_path):
    from diffusers import AmusedPipeline

    ExportWeights(str(twin), str(tmp_path / "out"))()
    loaded = AmusedPipeline.from_pretrained(tmp_path / "out")
    for module in MODULES:
        mine, theirs = (getattr(each, module).state_dict() for each in (loaded, pipe))
        assert same_tensors(mine, theirs)
    assert loaded.scheduler.config.mask_token_id == 47
    assert loaded.tokenizer("a red apple").input_ids == pipe.tokenizer("a red apple").input_ids


def test_other_weights_take_the_place_of_the_imported_ones(imported, tmp_path):
    changed = {name: tensor + 1 for name, tensor in load_file(imported / "transformer.safetensors").items()}
    save_file(changed, tmp_path / "mine.safetensors")
    ExportWeights(str(imported), str(tmp_path / "out"), weights={"transformer": str(tmp_path / "mine.safetensors")})()
    written = load_file(tmp_path / "out" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(written["project_to_hidden.weight"], changed["into.weight"])
    assert torch.equal(
        written["transformer_layers.1.attn1.to_k.weight"], changed["blocks.1.self_attention.project.weight"][32:64]
    )


def test_refusals(imported, tmp_path):
    with pytest.raises(UserError, match="has no folder 'published'; give as source a folder that import-weights wrote"):
        ExportWeights(str(tmp_path), str(tmp_path / "out"))()
    save_file({"into.weight": torch.ones(2)}, tmp_path / "other.safetensors")
    other = {"transformer": str(tmp_path / "other.safetensors")}
    with pytest.raises(UserError, match=r"weights\.transformer: .*other\.safetensors is of another model"):
        ExportWeights(str(imported), str(tmp_path / "out"), weights=other)()
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="weights has 'unet', which format 'amused' lacks"):
        ExportWeights("x", "y", weights={"unet": "z"})
    with pytest.raises(ValueError, match="'taming-vqgan', which is imported alone"):
        ExportWeights("x", "y", dialect("taming-vqgan"))


@pytest.mark.parametrize("format", [name for name in SOURCES if name not in FORMER])
def test_no_group_of_a_pattern_lies_in_another(format):
    for piece in dialect(format).pieces:
        for rule in piece.rules:
            assert "((" not in rule.pattern, "its inverse could not be found"
    nothing = dialect(format).pieces[0]
    assert published("no.such.name", torch.ones(1), nothing, {"multipliers": [1], "blocks": 1}) == {}
