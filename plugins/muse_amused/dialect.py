"""aMUSEd 256 and 512: diffusers' five folders, CLIP's text half among them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muse_studio import parts
from muse_studio.runtime.dialects import (
    Copied,
    Dialect,
    Found,
    Imported,
    Piece,
    Recipes,
    Rule,
    Settings,
    Tables,
    model_and_drawing,
)


def cross_attention(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Cross-attention: queries, then keys and values stacked, then what writes them out."""
    return (
        Rule(rf"{theirs}\.to_q\.weight", rf"{ours}.query.weight"),
        Rule(rf"{theirs}\.to_k\.weight", rf"{ours}.memory.weight", block=0),
        Rule(rf"{theirs}\.to_v\.weight", rf"{ours}.memory.weight", block=1),
        Rule(rf"{theirs}\.to_out\.0\.weight", rf"{ours}.out.weight"),
    )


CONVOLUTIONS = r"(down|up)_block\.res_blocks\.(\d+)"
ATTENTIONS = r"(down|up)_block\.attention_blocks\.(\d+)"
LAYER = r"transformer_layers\.(\d+)"

TRANSFORMER = (
    Rule(r"embed\.embeddings\.weight", "embed.weight"),
    Rule(r"embed\.layer_norm\.weight", "norm_embed.weight"),
    Rule(r"embed\.conv\.weight", "into_channels.weight", "linear"),
    Rule(r"encoder_proj\.weight", "text_projection.weight"),
    Rule(r"encoder_proj_layer_norm\.weight", "norm_text.weight"),
    Rule(r"cond_embed\.linear_1\.weight", "condition_embedding.0.weight"),
    Rule(r"cond_embed\.linear_2\.weight", "condition_embedding.2.weight"),
    Rule(r"down_block\.downsample\.norm\.weight", "norm_shrink.weight"),
    Rule(r"down_block\.downsample\.conv\.weight", "shrink.weight"),
    Rule(r"up_block\.upsample\.norm\.weight", "norm_grow.weight"),
    Rule(r"up_block\.upsample\.conv\.weight", "grow.weight"),
    Rule(rf"{CONVOLUTIONS}\.(depthwise|norm)\.weight", r"\1.\2.\3.weight"),
    Rule(rf"{CONVOLUTIONS}\.channelwise_linear_1\.weight", r"\1.\2.widen.weight"),
    Rule(rf"{CONVOLUTIONS}\.channelwise_norm\.gamma", r"\1.\2.response_norm.gain", "flat"),
    Rule(rf"{CONVOLUTIONS}\.channelwise_norm\.beta", r"\1.\2.response_norm.bias", "flat"),
    Rule(rf"{CONVOLUTIONS}\.channelwise_linear_2\.weight", r"\1.\2.narrow.weight"),
    Rule(rf"{CONVOLUTIONS}\.cond_embeds_mapper\.weight", r"\1.\2.modulate.weight"),
    Rule(rf"{ATTENTIONS}\.kv_mapper\.weight", r"\1.\2.text_projection.weight"),
    Rule(rf"{ATTENTIONS}\.norm([12])\.weight", r"\1.\2.norm\3.weight"),
    *cross_attention(rf"{ATTENTIONS}\.attn([12])", r"\1.\2.cross_attention\3"),
    Rule(r"project_to_hidden_norm\.weight", "norm_into.weight"),
    Rule(r"project_to_hidden\.weight", "into.weight"),
    *(Rule(rf"{LAYER}\.norm{n + 1}\.norm\.weight", r"blocks.\1.gains", block=n) for n in range(3)),
    *(Rule(rf"{LAYER}\.norm{n + 1}\.linear\.weight", r"blocks.\1.modulate.weight", block=n) for n in range(3)),
    *(
        Rule(rf"{LAYER}\.attn1\.to_{c}\.weight", r"blocks.\1.self_attention.project.weight", block=n)
        for n, c in enumerate("qkv")
    ),
    Rule(rf"{LAYER}\.attn1\.to_out\.0\.weight", r"blocks.\1.self_attention.out.weight"),
    *cross_attention(rf"{LAYER}\.attn2", r"blocks.\1.cross_attention"),
    Rule(rf"{LAYER}\.ff\.net\.0\.proj\.weight", r"blocks.\1.mlp.widen.weight"),
    Rule(rf"{LAYER}\.ff\.net\.2\.weight", r"blocks.\1.mlp.narrow.weight"),
    Rule(r"project_from_hidden_norm\.weight", "norm_from.weight"),
    Rule(r"project_from_hidden\.weight", "out_of.weight"),
    Rule(r"mlm_layer\.conv1\.weight", "head.0.weight", "linear"),
    Rule(r"mlm_layer\.layer_norm\.weight", "head.1.weight"),
    Rule(r"mlm_layer\.conv2\.weight", "head.2.weight", "linear"),
)
"""diffusers' UVit2DModel to our part `amused`."""

TOKENIZER = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
SCHEDULER = {"masking_schedule": "cosine"}


def transformer(found: Found) -> dict[str, Any]:
    """Our transformer's settings, from UVit2DModel's, and what it must know of tokenizer and text encoder."""
    config = found.config
    if config["downsample"] != config["upsample"]:
        raise ValueError("an upsample that is its downsample's mirror")
    if found.configs["scheduler/scheduler_config.json"]["mask_token_id"] != config["vocab_size"] - 1:
        raise ValueError("a mask_token_id that is the last of vocab_size")
    if config["micro_cond_embed_dim"] != 5 * config["micro_cond_encode_dim"]:
        raise ValueError("five numbers of micro-conditioning, by micro_cond_embed_dim")
    return {
        "codebook_size": config["codebook_size"],
        "vocabulary": config["vocab_size"],
        "grid": [config["sample_size"]] * 2,
        "stride": 2 ** (len(found.configs["vqvae/config.json"]["block_out_channels"]) - 1),
        "text_width": config["encoder_hidden_size"],
        "text_positions": found.configs["text_encoder/config.json"]["max_position_embeddings"],
        "pooled_width": config["cond_embed_dim"],
        "token_width": config["in_channels"],
        "channels": config["block_out_channels"],
        "conv_blocks": config["num_res_blocks"],
        "conv_heads": config["block_num_heads"],
        "width": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "mlp": config["intermediate_size"],
        "frequencies": config["micro_cond_encode_dim"],
        "halved": config["downsample"],
    }


def text_encoder(found: Found) -> dict[str, Any]:
    """Our CLIP's settings: the penultimate layer's states, and padding that counts."""
    return {
        "length": found.config["max_position_embeddings"],
        "layer": -2,
        "padded": True,
        "offline": True,
        "width": found.config["hidden_size"],
    }


def clip_shapes(config: Settings) -> dict[str, list[int]]:
    """The tensors of transformers' CLIPTextModelWithProjection, whose file ours is too."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    with torch.device("meta"):
        model = CLIPTextModelWithProjection(CLIPTextConfig.from_dict(dict(config)))
    return {name: list(tensor.shape) for name, tensor in model.named_parameters()}


def empty(folder: Path, settings: Tables) -> dict[str, Tensor]:
    """What the text encoder that lies in `folder` makes of the empty sentence, aMUSEd's unprompted half."""
    encoder = parts("text-encoder", "clip")[0].load()(str(folder / "text_encoder"), **settings["text_encoder"])
    text = encoder.embed([""])
    return {"empty_states": text.states[0], "empty_pooled": text.pooled[0]}


def recipes(imported: Imported) -> Recipes:
    """The model by aMUSEd's own settings of sampling, and a recipe that draws with it."""
    settings = imported.settings
    base = {
        "size": settings["transformer"]["grid"][0] * settings["transformer"]["stride"],
        "precision": "auto",
        "tokenizer": imported.part("vqgan", "vqvae"),
        "transformer": imported.part("amused", "transformer"),
        "schedule": "cosine",
        "sampler": {"use": "amused", "steps": 12, "temperature": [2.0, 0.0]},
        "guidance": {"use": "cfg", "scale": 9.0, "schedule": "constant"},
    }
    encoder = {"use": "clip", "model": str(imported.folder / "text_encoder"), **settings["text_encoder"]}
    return model_and_drawing(base, encoder, "a photo of a red apple")


TEXT_ENCODER = Piece(
    "text_encoder",
    "text-encoder",
    "clip",
    "model.safetensors",
    folder="text_encoder",
    file="text_encoder/model.safetensors",
    rules=(Rule(r"(text_model|text_projection)\.(.+)", r"\1.\2"),),
    drop=(r".*\.position_ids",),  # 0, 1, 2 ... which old files hold and transformers counts itself
    expected={"model_type": "clip_text_model"},
    settings=text_encoder,
    shapes=clip_shapes,
)
UVIT = Piece(
    "transformer",
    "transformer",
    "amused",
    "diffusion_pytorch_model.safetensors",
    folder="transformer",
    rules=TRANSFORMER,
    expected={
        "_class_name": "UVit2DModel",
        "use_bias": False,
        "layer_norm_eps": 1e-6,
        "ln_elementwise_affine": True,
    },
    settings=transformer,
    made=("empty_states", "empty_pooled"),
)


def amused() -> Dialect:
    """aMUSEd 256 and 512, and their finetunes, in diffusers' layout."""
    vq = parts("dialect", "diffusers-vq")[0].load()().pieces[0]
    return Dialect(
        name="amused",
        declares={"model_index.json": {"_class_name": "AmusedPipeline"}, "scheduler/scheduler_config.json": SCHEDULER},
        copied=(
            Copied(
                "text_encoder",
                {
                    "config.json": "text_encoder/config.json",
                    **{name: f"tokenizer/{name}" for name in TOKENIZER},
                },
                optional=frozenset(TOKENIZER),
            ),
        ),
        pieces=(TEXT_ENCODER, replace(vq, name="vqvae", folder="vqvae"), UVIT),
        further={"transformer": empty},
        recipes=recipes,
    )
