"""aMUSEd in small, with random weights, saved by diffusers in its published layout: five folders and their index.

diffusers and transformers take seconds to import, so only what makes a model does so.
"""

import json
from pathlib import Path

import pytest
import torch
from importing import importing

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "a", "red", "apple", "blue", "car"]
POSITIONS = 12


def noisy(model):
    """Norms, biases and response norms away from their start, where they would not show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate(WORDS)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 1), ("</s>", 2)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=POSITIONS, **special)


def pipeline(halved: bool):
    """diffusers' pipeline of 8x8 tokens of 2 pixels a side; halved as aMUSEd 512 is."""
    diffusers = pytest.importorskip("diffusers")
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(0)
    transformer = diffusers.UVit2DModel(
        hidden_size=32, cond_embed_dim=10, micro_cond_encode_dim=8, micro_cond_embed_dim=40, encoder_hidden_size=16,
        vocab_size=48, codebook_size=40, in_channels=20, block_out_channels=24, num_res_blocks=2, block_num_heads=3,
        num_hidden_layers=2, num_attention_heads=4, intermediate_size=44, downsample=halved, upsample=halved,
        sample_size=8,
    )  # fmt: skip
    vqvae = diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64), layers_per_block=1, latent_channels=6, num_vq_embeddings=40,
        mid_block_add_attention=False, lookup_from_codebook=True, force_upcast=True,
    )  # fmt: skip
    text = CLIPTextConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        projection_dim=10, max_position_embeddings=POSITIONS, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    vqvae.quantize.embedding.weight.data.normal_()  # apart enough for one code to be nearest
    return diffusers.AmusedPipeline(
        noisy(vqvae),
        tokenizer(),
        noisy(CLIPTextModelWithProjection(text)),
        noisy(transformer),
        diffusers.AmusedScheduler(mask_token_id=47),
    )


def publish(made, folder: Path) -> Path:
    """The folder that diffusers writes."""
    made.save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "AmusedPipeline"
    return folder


def take(published: Path, out: Path) -> Path:
    """What the import makes of it."""
    importing(str(published), "amused", str(out))()
    return out


@pytest.fixture(scope="session", params=[False, True], ids=["256", "512"])
def pipe(request):
    """diffusers' own, the reference."""
    made = pipeline(request.param)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="session")
def twin(pipe, tmp_path_factory) -> Path:
    """That, imported."""
    return take(publish(pipe, tmp_path_factory.mktemp("pipe")), tmp_path_factory.mktemp("twin") / "amused")


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Path:
    """One published folder."""
    return publish(pipeline(False), tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="session")
def imported(published, tmp_path_factory) -> Path:
    """The same, imported."""
    return take(published, tmp_path_factory.mktemp("imported") / "amused")
