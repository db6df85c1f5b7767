"""MaskGIT's class-conditional models of ImageNet: the authors' flax checkpoints, and maskgit-torch's files of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from muse_studio import parts
from muse_studio.runtime.dialects import (
    IMAGENET,
    Change,
    Dialect,
    Found,
    Imported,
    Piece,
    Recipes,
    Rule,
    model_and_drawing,
)
from muse_studio.runtime.sizes import how_many, square_grid

CLASSES, HEADS = 1000, 16
"""ImageNet's, and the heads that a torch file's shapes do not show; the same in all that was published."""
STEPS = {256: 8, 512: 12}
"""The paper's section 4.2."""

LAYER = r"TransformerLayer_(\d+)"
ATTENTION = rf"{LAYER}/Attention_0/self_attention"
SCALED = (("scale", "weight"), ("bias", "bias"))
"""What flax calls a norm's gain and bias."""
PROJECTED: tuple[tuple[str, str, Change], ...] = (("kernel", "weight", "to_heads"), ("bias", "bias", "flat"))
DENSE: tuple[tuple[str, str, Change], ...] = (("kernel", "weight", "transposed"), ("bias", "bias", ""))
"""What flax calls the two tensors of a linear layer, what torch does, and how one becomes the other."""

FLAX = (
    Rule(r"Embed_0/word_embeddings/embedding", "embed.weight"),
    Rule(r"Embed_0/position_embeddings/embedding", "positions"),
    *(Rule(rf"Embed_0/embeddings_ln/{their}", f"norm.{our}") for their, our in SCALED),
    *(
        Rule(rf"{ATTENTION}/{each}/{their}", rf"blocks.\1.self_attention.project.{our}", change, n)
        for their, our, change in PROJECTED
        for n, each in enumerate(("query", "key", "value"))
    ),
    Rule(rf"{ATTENTION}/out/kernel", r"blocks.\1.self_attention.out.weight", "from_heads"),
    Rule(rf"{ATTENTION}/out/bias", r"blocks.\1.self_attention.out.bias"),
    *(Rule(rf"{LAYER}/Attention_0/attention_output_ln/{their}", rf"blocks.\1.norm1.{our}") for their, our in SCALED),
    *(
        Rule(rf"{LAYER}/Mlp_0/{name}/{their}", rf"blocks.\1.mlp.{place}.{our}", change)
        for name, place in (("intermediate_output", 0), ("layer_output", 2))
        for their, our, change in DENSE
    ),
    *(Rule(rf"{LAYER}/Mlp_0/layer_output_ln/{their}", rf"blocks.\1.norm2.{our}") for their, our in SCALED),
    Rule(r"MlmLayer_0/mlm_dense/kernel", "head.0.weight", "transposed"),
    Rule(r"MlmLayer_0/mlm_dense/bias", "head.0.bias"),
    *(Rule(rf"MlmLayer_0/mlm_ln/{their}", f"head.2.{our}") for their, our in SCALED),
    Rule(r"MlmLayer_0/mlm_bias/bias", "bias"),
)
"""The authors' Transformer to our part `maskgit`."""

BLOCK = r"blocks\.(\d+)"
TORCH = (
    Rule(r"tok_emb\.weight", "embed.weight"),
    Rule(r"pos_emb", "positions"),
    Rule(r"emb_ln\.(weight|bias)", r"norm.\1"),
    Rule(rf"{BLOCK}\.MultiHeadAttention\.in_proj_(weight|bias)", r"blocks.\1.self_attention.project.\2"),
    Rule(rf"{BLOCK}\.MultiHeadAttention\.out_proj\.(weight|bias)", r"blocks.\1.self_attention.out.\2"),
    Rule(rf"{BLOCK}\.AttentionLN\.(weight|bias)", r"blocks.\1.norm1.\2"),
    Rule(rf"{BLOCK}\.MLP\.([02])\.(weight|bias)", r"blocks.\1.mlp.\2.\3"),
    Rule(rf"{BLOCK}\.MlpLN\.(weight|bias)", r"blocks.\1.norm2.\2"),
    Rule(r"Token_Prediction\.([02])\.(weight|bias)", r"head.\1.\2"),
    Rule(r"bias", "bias"),
)
"""maskgit-torch's BidirectionalTransformer."""


def flax(found: Found) -> dict[str, Any]:
    """Our transformer's settings, by the shapes of a tree."""
    shapes, layer = found.shapes, "TransformerLayer_{}/Mlp_0/intermediate_output/kernel"
    _, heads, _ = shapes["TransformerLayer_0/Attention_0/self_attention/query/kernel"]
    words, positions = (shapes[f"Embed_0/{name}_embeddings/embedding"] for name in ("word", "position"))
    return _settings(words, positions, heads, layer, found, shapes[layer.format(0)][-1])


def torch_settings(found: Found) -> dict[str, Any]:
    """Likewise, of maskgit-torch's file."""
    shapes, layer = found.shapes, "blocks.{}.MLP.0.weight"
    return _settings(shapes["tok_emb.weight"], shapes["pos_emb"], HEADS, layer, found, shapes[layer.format(0)][0])


def _settings(words: list[int], positions: list[int], heads: int, layer: str, found: Found, mlp: int) -> dict[str, Any]:
    (rows, width), grid = words, square_grid(positions[0], front=1)
    if rows <= CLASSES + 1:
        raise ValueError(f"rows for codes before {CLASSES} classes and MASK: its table has {rows}")
    return {
        "codebook_size": rows - CLASSES - 1,
        "classes": CLASSES,
        "grid": grid,
        "width": width,
        "layers": how_many(layer, found.shapes),
        "heads": heads,
        "mlp": mlp,
    }


def model(name: str, size: int, tree: bool) -> Dialect:
    """The dialect of a folder that holds the tokenizer and the transformer of pictures of `size` pixels a side."""
    end, whose = ("_checkpoint", "flax") if tree else (".ckpt", "torch")
    rules, set_by, key = (FLAX, flax, "params") if tree else (TORCH, torch_settings, "state_dict")
    vq = parts("dialect", f"maskgit-vqgan-{whose}")[0].load()().pieces[0]

    def recipes(imported: Imported) -> Recipes:
        """The model by the paper's settings of sampling, and a recipe that draws with it."""
        base = {
            "size": imported.size,
            "tokenizer": imported.part("vqgan", "tokenizer"),
            "transformer": imported.part("maskgit", "transformer"),
            "schedule": "cosine",
            "sampler": {"use": "confidence", "steps": STEPS[size], "temperature": 4.5},
            "guidance": "none",
        }
        return model_and_drawing(base, {"use": "class", "classes": CLASSES, "names": IMAGENET}, "golden retriever")

    transformer = Piece(
        "transformer", "transformer", "maskgit", f"maskgit_imagenet{size}{end}", rules, set_by, unwrap=(key,)
    )
    tokenizer = replace(vq, weights=f"tokenizer_imagenet{size}{end}")
    return Dialect(name=name, pieces=(tokenizer, transformer), recipes=recipes)


def torch_256() -> Dialect:
    """MaskGIT 256, class-conditional, in maskgit-torch's files."""
    return model("maskgit-256", 256, tree=False)


def torch_512() -> Dialect:
    """MaskGIT 512, class-conditional, in maskgit-torch's files."""
    return model("maskgit-512", 512, tree=False)


def flax_256() -> Dialect:
    """MaskGIT 256, class-conditional, in its authors' flax checkpoints."""
    return model("maskgit-256-flax", 256, tree=True)


def flax_512() -> Dialect:
    """MaskGIT 512, class-conditional, in its authors' flax checkpoints."""
    return model("maskgit-512-flax", 512, tree=True)
