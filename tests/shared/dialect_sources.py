"""A small source of each dialect: tensors by piece and published name, and the JSON files beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import maskgit_reference
import torch
from importing import dialect
from muse_weights.inverse import published
from torch import Tensor

import muse_studio
from muse_studio.runtime.dialects import Found, Piece, Rule
from muse_studio.runtime.matching import shapes_of

Source: TypeAlias = dict[str, dict[str, Tensor]]
Configs: TypeAlias = dict[str, dict[str, Any]]


def inverted(piece: Piece, shapes: dict[str, list[int]], settings: dict[str, Any]) -> dict[str, Tensor]:
    """What a table makes such a part of, read the other way."""
    found: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if name not in piece.made and name not in piece.starts:
            found |= published(name, torch.zeros(shape), piece, settings)
    return found


def of_part(piece: Piece, settings: dict[str, Any]) -> dict[str, Tensor]:
    """Likewise of the part with these settings."""
    part = muse_studio.parts(piece.kind, piece.part)[0].load()
    return inverted(piece, shapes_of(part, settings), settings)


def llamagen(piece: Piece) -> dict[str, Tensor]:
    """LlamaGen's tokenizer; its rule of two names, of which a half has one each, can't be read the other way."""
    halves = (("encoder", "downsample"), ("decoder", "upsample"))
    split = (
        Rule(rf"({half})\.conv_blocks\.(\d+)\.{change}\.conv\.(weight|bias)", r"\1.\2.change.conv.\3")
        for half, change in halves
    )
    rules = (rule for rule in piece.rules if "downsample" not in rule.pattern)
    return of_part(replace(piece, rules=(*split, *rules)), VQGAN | {"attention": True})


def halton() -> tuple[Source, Configs]:
    tokenizer, transformer = dialect("halton-maskgit").pieces
    return {"tokenizer": llamagen(tokenizer), "transformer": of_part(transformer, HALTON)}, {}


VQGAN = {"codebook_size": 8, "code_width": 4, "channels": 32, "multipliers": [1, 2], "blocks": 1, "decoder_blocks": 1}
FLAX = {"maskgit": True, "signed": False}
MAGVIT2 = {"bits": 5, "channels": 32, "multipliers": [1, 2], "blocks": 1}
UVIT = {"codebook_size": 8, "grid": [4, 4], "width": 768, "layers": 3, "heads": 12, "mlp": 16}
HALTON = {"codebook_size": 8, "classes": 5, "grid": [4, 4], "width": 384, "layers": 1, "heads": 6, "mlp": 16}
AMUSED: Configs = {
    "model_index.json": {"_class_name": "AmusedPipeline"},
    "scheduler/scheduler_config.json": {"masking_schedule": "cosine", "mask_token_id": 47},
    "text_encoder/config.json": {
        **{"model_type": "clip_text_model", "vocab_size": 9, "hidden_size": 16, "intermediate_size": 32},
        **{"num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 10, "max_position_embeddings": 12},
    },
    "vqvae/config.json": {
        **{"_class_name": "VQModel", "act_fn": "silu", "norm_type": "group", "mid_block_add_attention": False},
        **{"lookup_from_codebook": True, "in_channels": 3, "out_channels": 3, "block_out_channels": [32, 64]},
        **{"norm_num_groups": 32, "vq_embed_dim": None, "latent_channels": 6, "num_vq_embeddings": 40},
        **{"layers_per_block": 1},
    },
    "transformer/config.json": {
        **{"_class_name": "UVit2DModel", "use_bias": False, "layer_norm_eps": 1e-6, "ln_elementwise_affine": True},
        **{"hidden_size": 32, "cond_embed_dim": 10, "micro_cond_encode_dim": 8, "micro_cond_embed_dim": 40},
        **{"encoder_hidden_size": 16, "vocab_size": 48, "codebook_size": 40, "in_channels": 20, "sample_size": 8},
        **{"block_out_channels": 24, "num_res_blocks": 1, "block_num_heads": 3, "num_hidden_layers": 1},
        **{"num_attention_heads": 4, "intermediate_size": 44, "downsample": False, "upsample": False},
    },
}


def amused() -> tuple[Source, Configs]:
    source: Source = {}
    for piece in dialect("amused").pieces:
        config = AMUSED[f"{piece.folder}/config.json"]
        settings = piece.settings(Found(config, {}, AMUSED))
        if piece.shapes is not None:
            source[piece.name] = inverted(piece, piece.shapes(config), settings)
        else:
            source[piece.name] = of_part(piece, settings)
    return source, AMUSED


def diffusers_vq() -> tuple[Source, Configs]:
    source, configs = amused()
    return {"tokenizer": source["vqvae"]}, {"config.json": configs["vqvae/config.json"]}


def in_small(name: str, *settings: dict[str, Any]) -> tuple[Source, Configs]:
    """Each piece with the settings of that place."""
    pieces = dialect(name).pieces
    return {piece.name: of_part(piece, given) for piece, given in zip(pieces, settings, strict=True)}, {}


def taming() -> tuple[Source, Configs]:
    (source, configs) = in_small("taming-vqgan", VQGAN | {"attention": True})
    held = source["tokenizer"]
    held["quantize.embedding.weight"] = held.pop("quantize.embed.weight")  # those of the Gumbel ones
    return source, configs


def maskgit(tree: bool, whole: bool = True) -> tuple[Source, Configs]:
    """Its reference's trees, or these under maskgit-torch's names; without the transformer unless it is whole."""
    held = {"tokenizer": maskgit_reference.vqgan_tree()}
    if whole:
        held["transformer"] = maskgit_reference.transformer_tree()
    if not tree:
        held["tokenizer"] = maskgit_reference.torch_vqgan(held["tokenizer"])
        if whole:
            held["transformer"] = maskgit_reference.torch_transformer(held["transformer"])
    return held, {}


FORMER = ("amused-0.1", "halton-maskgit-0.1", "maskgit-0.1", "muse-0.1", "uvit-0.1")
"""Those that rename files of an earlier version, whatever these hold."""

SOURCES: dict[str, Callable[[], tuple[Source, Configs]]] = {
    "amused": amused,
    "diffusers-vq": diffusers_vq,
    "halton-maskgit": halton,
    "llamagen-vq": lambda: ({"tokenizer": llamagen(dialect("llamagen-vq").pieces[0])}, {}),
    "maskgit-256": lambda: maskgit(tree=False),
    "maskgit-256-flax": lambda: maskgit(tree=True),
    "maskgit-512": lambda: maskgit(tree=False),
    "maskgit-512-flax": lambda: maskgit(tree=True),
    "maskgit-vqgan": lambda: in_small("maskgit-vqgan", VQGAN | FLAX),
    "maskgit-vqgan-flax": lambda: maskgit(tree=True, whole=False),
    "maskgit-vqgan-torch": lambda: maskgit(tree=False, whole=False),
    "muse-pytorch": lambda: in_small("muse-pytorch", VQGAN | FLAX, UVIT | {"text_width": 8, "text_positions": 77}),
    "muse-pytorch-class": lambda: in_small("muse-pytorch-class", VQGAN | FLAX, UVIT | {"classes": 1000}),
    "open-magvit2": lambda: in_small("open-magvit2", MAGVIT2),
    "taming-vqgan": taming,
    **dict.fromkeys(FORMER, lambda: ({}, {})),
}
