"""MUSE-Pytorch's two models: text to image (CC3M), and class-conditional (ImageNet)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from muse_studio import parts
from muse_studio.runtime.dialects import (
    IMAGENET,
    Dialect,
    Found,
    Imported,
    Piece,
    Recipes,
    Rule,
    Tables,
    model_and_drawing,
)
from muse_studio.runtime.sizes import heads_of, how_many, square_grid

CLASSES = 1000
"""ImageNet's."""
HEADS = {768: 12, 1152: 16}
"""By width; a file's shapes do not show them."""
FILE = "nnet_ema.pth"
"""The average of the weights, which theirs are measured with; nnet.pth, beside it, is what training goes on from."""
TOKENIZER = "vqgan_jax_strongaug.ckpt"
"""MAGE publishes it where no program can fetch it: it is looked for here, in the current folder."""
ENCODER = {"model": "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", "length": 77, "padded": True, "padding": 0}

BLOCK = (
    ("norm1.weight", "norm1.weight"),
    ("norm1.bias", "norm1.bias"),
    ("norm2.weight", "norm2.weight"),
    ("norm2.bias", "norm2.bias"),
    ("attn.qkv.weight", "project.weight"),
    ("attn.proj.weight", "out.weight"),
    ("attn.proj.bias", "out.bias"),
    ("mlp.fc1.weight", "mlp.0.weight"),
    ("mlp.fc1.bias", "mlp.0.bias"),
    ("mlp.fc2.weight", "mlp.2.weight"),
    ("mlp.fc2.bias", "mlp.2.bias"),
)
"""What a block holds."""
RULES = (
    Rule(r"token_emb\.word_embeddings\.weight", "embed.weight"),
    Rule(r"token_emb\.position_embeddings\.weight", "positions"),
    Rule(r"token_emb\.LayerNorm\.(weight|bias)", r"norm_embed.\1"),
    *(Rule(rf"in_blocks\.(\d+)\.{their}", rf"down.\1.{our}") for their, our in BLOCK),
    *(Rule(rf"mid_block\.{their}", f"middle.{our}") for their, our in BLOCK),
    *(Rule(rf"out_blocks\.(\d+)\.{their}", rf"up.\1.{our}") for their, our in BLOCK),
    Rule(r"out_blocks\.(\d+)\.skip_linear\.(weight|bias)", r"up.\1.join.\2"),
    Rule(r"norm\.(weight|bias)", r"norm.\1"),
    Rule(r"mlm_layer\.fc\.(weight|bias)", r"head.0.\1"),
    Rule(r"mlm_layer\.ln\.(weight|bias)", r"head.2.\1"),
    Rule(r"mlm_layer\.bias", "bias", "flat"),
    Rule(r"context_embed\.(weight|bias)", r"text_projection.\1"),
)
"""Their UViT to our parts `uvit` and `uvit-class`."""


def text_settings(found: Found) -> dict[str, Any]:
    """Our `uvit`'s settings, by the shapes."""
    codes = found.shapes["token_emb.word_embeddings.weight"][0] - 1
    text = {"text_width": found.shapes["context_embed.weight"][1], "text_positions": ENCODER["length"]}
    return {"codebook_size": codes, **text, **_settings(found, front=0)}


def class_settings(found: Found) -> dict[str, Any]:
    """Our `uvit-class`'s settings, by the shapes."""
    rows = found.shapes["token_emb.word_embeddings.weight"][0]
    codes = rows - CLASSES - 2
    if codes < 1:
        raise ValueError(f"rows for codes, MASK, {CLASSES} classes and none of them: its table has {rows}")
    return {"codebook_size": codes, "classes": CLASSES, **_settings(found, front=1)}


def _settings(found: Found, front: int) -> dict[str, Any]:
    """What both have; `front`: positions before the grid's."""
    shapes, layer = found.shapes, "in_blocks.{}.mlp.fc1.weight"
    mlp, width = shapes[layer.format(0)]
    return {
        "grid": square_grid(shapes["token_emb.position_embeddings.weight"][0], front),
        "width": width,
        "layers": 2 * how_many(layer, shapes) + 1,
        "heads": heads_of(width, HEADS),
        "mlp": mlp,
    }


def empty(folder: Path, settings: Tables) -> dict[str, Tensor]:
    """What the text encoder makes of the empty sentence, their unprompted half."""
    encoder = parts("text-encoder", "clip")[0].load()(**settings["text_encoder"])
    return {"empty_states": encoder.embed([""]).states[0]}


def recipes(imported: Imported) -> Recipes:
    """The model by their settings of sampling, and a recipe that draws with it."""
    settings = imported.settings
    reads = "text_encoder" in settings
    base = {
        "size": imported.size,
        "tokenizer": imported.part("vqgan", "tokenizer"),
        "transformer": imported.part("uvit" if reads else "uvit-class", "transformer"),
        "schedule": "cosine",
        "sampler": {"use": "gumbel", "steps": 18 if reads else 12, "temperature": 4.5},
        "guidance": {"use": "cfg", "scale": 10.0 if reads else 3.0, "schedule": "linear"},
    }
    if not reads:
        return model_and_drawing(base, {"use": "class", "classes": CLASSES, "names": IMAGENET}, "golden retriever")
    encoder = {"use": "clip", **settings["text_encoder"], "width": settings["transformer"]["text_width"]}
    return model_and_drawing(base, encoder, "a green train is coming down the tracks")


def pieces(part: str, settings: Callable[[Found], dict[str, Any]], made: tuple[str, ...] = ()) -> tuple[Piece, ...]:
    """The tokenizer, and the transformer that is our part of that name."""
    vq = parts("dialect", "maskgit-vqgan")[0].load()().pieces[0]
    dropped = (r"token_emb\.position_ids",)  # 0, 1, 2 ...
    return (
        replace(vq, home=TOKENIZER),
        Piece("transformer", "transformer", part, FILE, RULES, settings, drop=dropped, made=made),
    )


def muse_pytorch() -> Dialect:
    """MUSE-Pytorch's text-to-image model (CC3M), with MAGE's tokenizer."""
    return Dialect(
        name="muse-pytorch",
        pieces=pieces("uvit", text_settings, ("empty_states",)),
        given={"text_encoder": ENCODER},
        further={"transformer": empty},
        recipes=recipes,
    )


def muse_pytorch_class() -> Dialect:
    """MUSE-Pytorch's class-conditional model (ImageNet 256), with MAGE's tokenizer."""
    return Dialect(name="muse-pytorch-class", pieces=pieces("uvit-class", class_settings), recipes=recipes)
