"""Tiny pretrained models in folders, with a tokenizer built on the spot: no network, no fixed numbers.

transformers takes seconds to import, so only what makes a model does so.
"""

import socket

import pytest
import torch

WORDS = ["a", "red", "blue", "apple", "cat", "car", "the", "of", "to", "left", "two"]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]


def save_tokenizer(folder, template):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(name, vocabulary[name]) for name in ("<s>", "</s>")]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory):
    """A whole T5 with decoder, as the hub has them; gated like v1.1, with weights far from their initial size."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("t5")
    config = T5Config(
        vocab_size=40, d_model=24, d_kv=6, d_ff=32, num_layers=3, num_heads=4, feed_forward_proj="gated-gelu",
        pad_token_id=0, eos_token_id=2, decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    save_tokenizer(folder, "$A </s>")
    return folder


@pytest.fixture(scope="session")
def t5_encoder_folder(tmp_path_factory, t5_folder):
    """Its encoder alone, in two shards."""
    from transformers import T5EncoderModel

    folder = tmp_path_factory.mktemp("t5-encoder")
    T5EncoderModel.from_pretrained(t5_folder).save_pretrained(folder, max_shard_size="20KB")
    save_tokenizer(folder, "$A </s>")
    assert (folder / "model.safetensors.index.json").is_file()
    return folder


TEXT = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "projection_dim": 12, "max_position_embeddings": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
VISION = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 8}


def noisy(model):
    """Weights of a size at which attention and norms matter, unlike CLIP's initial ones."""
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="session", params=["whole", "projected", "text"])
def clip_folder(request, tmp_path_factory):
    """A CLIP in each form that the hub has: with its picture half, the text half, and that without projection."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "whole":
        config = CLIPConfig(text_config=TEXT, vision_config={**VISION, "patch_size": 4}, projection_dim=12)
        noisy(CLIPModel(config)).save_pretrained(folder)
    elif request.param == "projected":
        noisy(CLIPTextModelWithProjection(CLIPTextConfig(**TEXT))).save_pretrained(folder)
    else:
        noisy(CLIPTextModel(CLIPTextConfig(**TEXT))).save_pretrained(folder)
    save_tokenizer(folder, "<s> $A </s>")
    return folder


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
