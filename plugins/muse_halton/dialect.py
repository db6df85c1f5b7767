"""Halton-MaskGIT's class-conditional transformers, one file each, which draw with LlamaGen's tokenizer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from muse_studio import parts
from muse_studio.runtime.dialects import IMAGENET, Dialect, Found, Imported, Piece, Recipes, Rule, model_and_drawing
from muse_studio.runtime.sizes import heads_of, how_many, square_grid

HEADS = {384: 6, 512: 6, 768: 12, 1024: 16, 1152: 16}
"""Of their five sizes, by width: tiny to extra large. A file's shapes do not show them."""
TOKENIZER = "hf://FoundationVision/LlamaGen/vq_ds16_c2i.pt"
BLOCK = r"transformer\.layers\.(\d+)"
RULES = (
    Rule(r"tok_emb\.weight", "embed.weight"),
    Rule(r"cls_emb\.weight", "classes.weight"),
    Rule(r"pos_emb\.weight", "positions"),
    Rule(r"reg_tokens\.weight", "registers"),
    Rule(rf"{BLOCK}\.mlp\.1\.(weight|bias)", r"blocks.\1.modulate.\2"),
    Rule(rf"{BLOCK}\.ln([12])\.weight", r"blocks.\1.norm\2.weight"),
    *(
        Rule(rf"{BLOCK}\.attn\.w{each}\.weight", r"blocks.\1.self_attention.project.weight", block=n)
        for n, each in enumerate("qkv")
    ),
    Rule(rf"{BLOCK}\.attn\.wo\.weight", r"blocks.\1.self_attention.out.weight"),
    Rule(rf"{BLOCK}\.ff\.w1\.weight", r"blocks.\1.mlp.gate.weight"),
    Rule(rf"{BLOCK}\.ff\.w2\.weight", r"blocks.\1.mlp.narrow.weight"),
    Rule(rf"{BLOCK}\.ff\.w3\.weight", r"blocks.\1.mlp.widen.weight"),
    Rule(r"last_norm\.norm_final\.weight", "norm.weight"),
    Rule(r"last_norm\.norm_final\.bias", "shift"),
    Rule(r"last_norm\.mlp\.1\.(weight|bias)", r"modulate.\1"),
    Rule(r"head\.bias", "bias"),
)
"""Their Transformer to our part `halton-maskgit`."""


def transformer(found: Found) -> dict[str, Any]:
    """Our transformer's settings, by the shapes."""
    shapes, layer = found.shapes, "transformer.layers.{}.ff.w1.weight"
    rows, width = shapes["tok_emb.weight"]
    return {
        "codebook_size": rows - 1,
        "classes": shapes["cls_emb.weight"][0] - 1,
        "grid": square_grid(shapes["pos_emb.weight"][0]),
        "width": width,
        "layers": how_many(layer, shapes),
        "heads": heads_of(width, HEADS),
        "mlp": shapes[layer.format(0)][0],
        "registers": shapes.get("reg_tokens.weight", [0])[0],
    }


TRANSFORMER = Piece(
    "transformer",
    "transformer",
    "halton-maskgit",
    "",
    RULES,
    transformer,
    copies={"head.weight": "tok_emb.weight"},
    unwrap=("model_state_dict",),
)


def recipes(imported: Imported) -> Recipes:
    """The model by their example's settings of sampling, and a recipe that draws with it."""
    base = {
        "size": imported.size,
        "tokenizer": imported.part("vqgan", "tokenizer"),
        "transformer": imported.part("halton-maskgit", "transformer"),
        "schedule": "arccos",
        "sampler": {"use": "halton", "steps": 32, "sampling_temperature": [1.0, 0.83], "roll": True},
        "guidance": {"use": "cfg", "scale": 2.0, "schedule": "constant"},
    }
    encoder = {"use": "class", "classes": imported.settings["transformer"]["classes"], "names": IMAGENET}
    return model_and_drawing(base, encoder, "golden retriever")


def halton_maskgit() -> Dialect:
    """Halton-MaskGIT's transformers tiny to extra large, at 256 and 384 pixels, with LlamaGen's tokenizer."""
    vq = parts("dialect", "llamagen-vq")[0].load()().pieces[0]
    return Dialect(name="halton-maskgit", pieces=(replace(vq, home=TOKENIZER), TRANSFORMER), recipes=recipes)
