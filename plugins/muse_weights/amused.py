"""aMUSEd 256 and 512: diffusers' five folders, CLIP's text half among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muse_studio import parts
from muse_weights.dialect import Copied, Dialect, Imported, Recipes, Tables, model_and_drawing
from muse_weights.table import Found, Piece, Rule, Settings
from muse_weights.vqgan import MODULE, places


def read(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Cross-attention: queries, then keys and values stacked, then what writes them out."""
    return (
        Rule(rf"{theirs}\.to_q\.weight", rf"{ours}.query.weight"),
        Rule(rf"{theirs}\.to_k\.weight", rf"{ours}.memory.weight", block=0),
        Rule(rf"{theirs}\.to_v\.weight", rf"{ours}.memory.weight", block=1),
        Rule(rf"{theirs}\.to_out\.0\.weight", rf"{ours}.out.weight"),
    )


CONVOLUTIONS = r"(down|up)_block\.res_blocks\.(\d+)"
LOOKS = r"(down|up)_block\.attention_blocks\.(\d+)"
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
    Rule(rf"{LOOKS}\.kv_mapper\.weight", r"\1.\2.text_projection.weight"),
    Rule(rf"{LOOKS}\.norm([12])\.weight", r"\1.\2.norm\3.weight"),
    *read(rf"{LOOKS}\.attn([12])", r"\1.\2.cross_attention\3"),
    Rule(r"project_to_hidden_norm\.weight", "norm_into.weight"),
    Rule(r"project_to_hidden\.weight", "into.weight"),
    *(Rule(rf"{LAYER}\.norm{n + 1}\.norm\.weight", r"blocks.\1.gains", block=n) for n in range(3)),
    *(Rule(rf"{LAYER}\.norm{n + 1}\.linear\.weight", r"blocks.\1.modulate.weight", block=n) for n in range(3)),
    *(
        Rule(rf"{LAYER}\.attn1\.to_{c}\.weight", r"blocks.\1.self_attention.project.weight", block=n)
        for n, c in enumerate("qkv")
    ),
    Rule(rf"{LAYER}\.attn1\.to_out\.0\.weight", r"blocks.\1.self_attention.out.weight"),
    *read(rf"{LAYER}\.attn2", r"blocks.\1.cross_attention"),
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
VQ = (
    Rule(rf"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.{MODULE}", r"encoder.\1.\2.\3.\4"),
    Rule(rf"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\.{MODULE}", r"decoder.\1.\2.\3.\4"),
    Rule(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.conv_shortcut\.(weight|bias)", r"encoder.\1.\2.shortcut.\3"),
    Rule(r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\.conv_shortcut\.(weight|bias)", r"decoder.\1.\2.shortcut.\3"),
    Rule(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0\.conv\.(weight|bias)", r"encoder.\1.change.conv.\2"),
    Rule(r"decoder\.up_blocks\.(\d+)\.upsamplers\.0\.conv\.(weight|bias)", r"decoder.\1.change.conv.\2"),
    Rule(rf"(encoder|decoder)\.mid_block\.resnets\.([01])\.{MODULE}", r"\1.middle.\2.\3.\4"),
    Rule(r"(encoder|decoder)\.(conv_in|conv_out)\.(weight|bias)", r"\1.\2.\3"),
    Rule(r"(encoder|decoder)\.conv_norm_out\.(weight|bias)", r"\1.norm_out.\2"),
    Rule(r"quant_conv\.(weight|bias)", r"pre.\1"),
    Rule(r"post_quant_conv\.(weight|bias)", r"post.\1"),
    Rule(r"quantize\.embedding\.weight", "quantizer.codes"),
)
"""diffusers' VQModel without attention to the names that `muse_weights.vqgan.places` knows."""


def transformer(found: Found) -> dict[str, Any]:
    """Our transformer's settings, from UVit2DModel's, and what it must know of tokenizer and text encoder."""
    config = found.config
    if config["downsample"] != config["upsample"]:
        raise ValueError("an upsample that is its downsample's mirror")
    if found.told["scheduler/scheduler_config.json"]["mask_token_id"] != config["vocab_size"] - 1:
        raise ValueError("a mask_token_id that is the last of vocab_size")
    if config["micro_cond_embed_dim"] != 5 * config["micro_cond_encode_dim"]:
        raise ValueError("five numbers of micro-conditioning, by micro_cond_embed_dim")
    return {
        "codebook_size": config["codebook_size"],
        "vocabulary": config["vocab_size"],
        "grid": [config["sample_size"]] * 2,
        "stride": 2 ** (len(found.told["vqvae/config.json"]["block_out_channels"]) - 1),
        "text_width": config["encoder_hidden_size"],
        "text_positions": found.told["text_encoder/config.json"]["max_position_embeddings"],
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


def tokenizer(found: Found) -> dict[str, Any]:
    """Our VQGAN's settings, from VQModel's."""
    config = found.config
    channels = config["block_out_channels"]
    least = min(channels)
    if any(each % least for each in channels) or config["norm_num_groups"] != 32 or least % 32:
        raise ValueError("channels that are multiples of the fewest, in norms of 32 groups")
    if config["vq_embed_dim"] not in (None, config["latent_channels"]):
        raise ValueError("codes as wide as its latents, by vq_embed_dim")
    return {
        "codebook_size": config["num_vq_embeddings"],
        "code_width": config["latent_channels"],
        "channels": least,
        "multipliers": [each // least for each in channels],
        "blocks": config["layers_per_block"],
        "cosine": False,
        "ema": 0.0,
        "revive_after": 0,
        "signed": False,
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
    said = encoder.embed([""])
    return {"empty_states": said.states[0], "empty_pooled": said.pooled[0]}


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


AMUSED = Dialect(
    about="aMUSEd 256 and 512, and their finetunes, in diffusers' layout",
    told={"model_index.json": {"_class_name": "AmusedPipeline"}, "scheduler/scheduler_config.json": SCHEDULER},
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
    pieces=(
        Piece(
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
        ),
        Piece(
            "vqvae",
            "tokenizer",
            "vqgan",
            "diffusion_pytorch_model.safetensors",
            folder="vqvae",
            rules=VQ,
            places=places,
            expected={
                "_class_name": "VQModel",
                "act_fn": "silu",
                "norm_type": "group",
                "mid_block_add_attention": False,
                "lookup_from_codebook": True,
                "in_channels": 3,
                "out_channels": 3,
            },
            defaults={"norm_type": "group"},
            settings=tokenizer,
            starts={"quantizer.idle": 0.0},
        ),
        Piece(
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
        ),
    ),
    further={"transformer": empty},
    recipes=recipes,
)
