"""MaskGIT in small, as its published code computes it, over a tree of flax with its names: the reference of the tests.

Written from the formulas of its Transformer and VQVAE; nothing of ours has a part in it. Numbers are random.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

CODES, CLASSES, WIDTH, HEADS, MLP, LAYERS, SIDE = 30, 1000, 32, 16, 48, 2, 4
FILTERS, MULTIPLIERS, BLOCKS, LATENT = 32, (1, 1, 2), 2, 6


def draw(shape, generator, scale):
    return scale * torch.randn(shape, generator=generator)


def transformer_tree(layers=LAYERS, width=WIDTH, heads=HEADS, mlp=MLP, rows=CODES + CLASSES + 1, side=SIDE, seed=0):
    """The parameters of `Transformer`, each by its path."""
    g = torch.Generator().manual_seed(seed)
    head = width // heads
    tree = {
        "Embed_0/word_embeddings/embedding": draw((rows, width), g, 0.5),
        "Embed_0/position_embeddings/embedding": draw((side * side + 1, width), g, 0.5),
        "MlmLayer_0/mlm_dense/kernel": draw((width, width), g, 0.2),
        "MlmLayer_0/mlm_dense/bias": draw((width,), g, 0.2),
        "MlmLayer_0/mlm_bias/bias": draw((rows,), g, 0.2),
    }
    norms = ["Embed_0/embeddings_ln", "MlmLayer_0/mlm_ln"]
    for layer in (f"TransformerLayer_{n}" for n in range(layers)):
        look = f"{layer}/Attention_0/self_attention"
        for name in ("query", "key", "value"):
            tree[f"{look}/{name}/kernel"] = draw((width, heads, head), g, 0.3)
            tree[f"{look}/{name}/bias"] = draw((heads, head), g, 0.2)
        tree[f"{look}/out/kernel"] = draw((heads, head, width), g, 0.2)
        tree[f"{look}/out/bias"] = draw((width,), g, 0.2)
        tree[f"{layer}/Mlp_0/intermediate_output/kernel"] = draw((width, mlp), g, 0.2)
        tree[f"{layer}/Mlp_0/intermediate_output/bias"] = draw((mlp,), g, 0.2)
        tree[f"{layer}/Mlp_0/layer_output/kernel"] = draw((mlp, width), g, 0.2)
        tree[f"{layer}/Mlp_0/layer_output/bias"] = draw((width,), g, 0.2)
        norms += [f"{layer}/Attention_0/attention_output_ln", f"{layer}/Mlp_0/layer_output_ln"]
    for norm in norms:
        tree[f"{norm}/scale"], tree[f"{norm}/bias"] = 1 + draw((width,), g, 0.2), draw((width,), g, 0.2)
    return tree


def gelu(x):
    """jax.nn.gelu, which is approximate unless it is told otherwise."""
    return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))


def layer_norm(tree, name, x):
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + 1e-12).rsqrt()
    return centred * scale * tree[f"{name}/scale"] + tree[f"{name}/bias"]


def transformer(tree, ids):
    """int64[B, N], a class's row first and -1 for the mask, to logits float[B, N, rows]."""
    rows = tree["Embed_0/word_embeddings/embedding"]
    x = rows[ids] + tree["Embed_0/position_embeddings/embedding"][: ids.shape[1]]
    x = layer_norm(tree, "Embed_0/embeddings_ln", x)
    for n in range(sum(name.endswith("intermediate_output/bias") for name in tree)):
        layer, look = f"TransformerLayer_{n}", f"TransformerLayer_{n}/Attention_0/self_attention"
        query, key, value = (
            torch.einsum("bnw,whd->bnhd", x, tree[f"{look}/{name}/kernel"]) + tree[f"{look}/{name}/bias"]
            for name in ("query", "key", "value")
        )
        share = (torch.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5).softmax(-1)
        seen = torch.einsum("bhqk,bkhd->bqhd", share, value)
        seen = torch.einsum("bqhd,hdw->bqw", seen, tree[f"{look}/out/kernel"]) + tree[f"{look}/out/bias"]
        x = layer_norm(tree, f"{layer}/Attention_0/attention_output_ln", seen + x)
        hidden = gelu(dense(tree, f"{layer}/Mlp_0/intermediate_output", x))
        x = layer_norm(tree, f"{layer}/Mlp_0/layer_output_ln", dense(tree, f"{layer}/Mlp_0/layer_output", hidden) + x)
    x = layer_norm(tree, "MlmLayer_0/mlm_ln", gelu(dense(tree, "MlmLayer_0/mlm_dense", x)))
    return x @ rows.T + tree["MlmLayer_0/mlm_bias/bias"]


def dense(tree, name, x):
    return x @ tree[f"{name}/kernel"] + tree[f"{name}/bias"]


def vqgan_tree(filters=FILTERS, multipliers=MULTIPLIERS, latent=LATENT, codes=CODES, seed=1):
    """The parameters of `VQVAE`, each by its path: convolutions and blocks count through in each half."""
    g = torch.Generator().manual_seed(seed)
    tree = {"quantizer/codebook": draw((codes, latent), g, 1.0)}
    top = filters * multipliers[-1]

    def conv(name, into, out, side=3, bias=False):
        tree[f"{name}/kernel"] = draw((side, side, into, out), g, (side * side * into) ** -0.5)
        if bias:
            tree[f"{name}/bias"] = draw((out,), g, 0.2)

    def norm(name, width):
        tree[f"{name}/scale"], tree[f"{name}/bias"] = 1 + draw((width,), g, 0.2), draw((width,), g, 0.2)

    def block(name, into, out):
        norm(f"{name}/GroupNorm_0", into)
        conv(f"{name}/Conv_0", into, out)
        norm(f"{name}/GroupNorm_1", out)
        conv(f"{name}/Conv_1", out, out)
        if into != out:
            conv(f"{name}/Conv_2", out, out, 1)

    def blocks(half, wide, now):
        for number, out in enumerate(each for each in wide for _ in range(BLOCKS)):
            block(f"{half}/ResBlock_{number}", now, out)
            now = out
        norm(f"{half}/GroupNorm_0", now)

    wide = [filters * each for each in multipliers]
    conv("encoder/Conv_0", 3, filters)
    blocks("encoder", [*wide, top], filters)
    conv("encoder/Conv_1", top, latent, 1, bias=True)
    conv("decoder/Conv_0", latent, top, bias=True)
    blocks("decoder", [top, *reversed(wide)], top)
    for number, width in enumerate(reversed(wide[1:]), 1):
        conv(f"decoder/Conv_{number}", width, width, bias=True)
    conv(f"decoder/Conv_{len(wide)}", filters, 3, bias=True)
    return tree


def conv(tree, name, x):
    kernel = tree[f"{name}/kernel"].permute(3, 2, 0, 1)
    return F.conv2d(x, kernel, tree.get(f"{name}/bias"), padding=kernel.shape[-1] // 2)


def group_norm(tree, name, x):
    return F.group_norm(x, 32, tree[f"{name}/scale"], tree[f"{name}/bias"], 1e-6)


def residual(tree, name, x):
    y = conv(tree, f"{name}/Conv_0", F.silu(group_norm(tree, f"{name}/GroupNorm_0", x)))
    y = conv(tree, f"{name}/Conv_1", F.silu(group_norm(tree, f"{name}/GroupNorm_1", y)))
    return y + (conv(tree, f"{name}/Conv_2", y) if f"{name}/Conv_2/kernel" in tree else x)


def encode(tree, images):
    """float[B, 3, H, W] in 0..1 to int64[B, h, w]."""
    x, levels = conv(tree, "encoder/Conv_0", images), len(MULTIPLIERS)
    for number in range(BLOCKS * (levels + 1)):
        x = residual(tree, f"encoder/ResBlock_{number}", x)
        if (number + 1) % BLOCKS == 0 and (number + 1) // BLOCKS < levels:
            x = F.avg_pool2d(x, 2)
    latents = conv(tree, "encoder/Conv_1", F.silu(group_norm(tree, "encoder/GroupNorm_0", x)))
    apart = torch.cdist(latents.flatten(2).mT, tree["quantizer/codebook"][None])
    return apart.argmin(-1).view(len(x), *x.shape[2:])


def decode(tree, codes):
    """int64[B, h, w] to float[B, 3, H, W], within 0..1."""
    x, levels = conv(tree, "decoder/Conv_0", tree["quantizer/codebook"][codes].permute(0, 3, 1, 2)), len(MULTIPLIERS)
    for number in range(BLOCKS * (levels + 1)):
        x = residual(tree, f"decoder/ResBlock_{number}", x)
        level = (number + 1) // BLOCKS - 1  # 0 is the middle's, 1 the smallest resolution's
        if (number + 1) % BLOCKS == 0 and 0 < level < levels:
            x = conv(tree, f"decoder/Conv_{level}", F.interpolate(x, scale_factor=2))
    x = F.silu(group_norm(tree, "decoder/GroupNorm_0", x))
    return conv(tree, f"decoder/Conv_{levels}", x).clamp(0, 1)


def nested(flat):
    """A tree by its paths to one of tables."""
    tree: dict = {}
    for path, tensor in flat.items():
        *above, name = path.split("/")
        inside = tree
        for key in above:
            inside = inside.setdefault(key, {})
        inside[name] = tensor
    return tree


def pack(flat, file: Path, key="params"):
    """Write what flax.serialization.to_bytes makes of a tree: an array is its shape, type and bytes, extension 1."""
    import msgpack

    def array(tensor):
        numbers = tensor.numpy()
        return msgpack.ExtType(1, msgpack.packb((numbers.shape, numbers.dtype.name, numbers.tobytes())))

    file.write_bytes(msgpack.packb({key: nested(flat)}, default=array))


def torch_transformer(flat):
    """A tree under maskgit-torch's names."""
    state = {}
    for name, tensor in flat.items():
        *above, kind = name.split("/")
        layer = name.partition("/")[0].removeprefix("TransformerLayer_")
        match above:
            case ["Embed_0", "word_embeddings"]:
                state["tok_emb.weight"] = tensor
            case ["Embed_0", "position_embeddings"]:
                state["pos_emb"] = tensor
            case ["MlmLayer_0", "mlm_bias"]:
                state["bias"] = tensor
            case [_, _, "self_attention", "query" | "key" | "value"]:
                continue
            case [_, _, "self_attention", "out"]:
                made = tensor.reshape(-1, tensor.shape[-1]).T if kind == "kernel" else tensor
                state[f"blocks.{layer}.MultiHeadAttention.out_proj.{weight(kind)}"] = made.contiguous()
            case _:
                place = {
                    "embeddings_ln": "emb_ln",
                    "mlm_dense": "Token_Prediction.0",
                    "mlm_ln": "Token_Prediction.2",
                    "attention_output_ln": f"blocks.{layer}.AttentionLN",
                    "layer_output_ln": f"blocks.{layer}.MlpLN",
                    "intermediate_output": f"blocks.{layer}.MLP.0",
                    "layer_output": f"blocks.{layer}.MLP.2",
                }[above[-1]]
                state[f"{place}.{weight(kind)}"] = tensor.T.contiguous() if kind == "kernel" else tensor
    for layer in range(sum(name.endswith("intermediate_output/bias") for name in flat)):
        look = f"TransformerLayer_{layer}/Attention_0/self_attention"
        for kind in ("kernel", "bias"):
            each = [flat[f"{look}/{name}/{kind}"] for name in ("query", "key", "value")]
            made = [x.reshape(x.shape[0], -1).T if kind == "kernel" else x.reshape(-1) for x in each]
            state[f"blocks.{layer}.MultiHeadAttention.in_proj_{weight(kind)}"] = torch.cat(made)
    return state


def torch_vqgan(flat):
    """A tree under maskgit-torch's names."""
    last = max(int(name.split("/")[1][5:]) for name in flat if name.startswith("decoder/Conv_"))
    state = {"quantizer.codebook.weight": flat["quantizer/codebook"]}
    for name, tensor in flat.items():
        half, *rest, kind = name.split("/")
        if half == "quantizer":
            continue
        tensor = tensor.permute(3, 2, 0, 1).contiguous() if kind == "kernel" else tensor
        if len(rest) == 2:
            number = int(rest[0].removeprefix("ResBlock_"))
            part = {"Conv_2": "conv_res"}.get(rest[1], rest[1].replace("GroupNorm_", "norm").replace("Conv_", "conv"))
            place = f"res_blocks.{number // BLOCKS}.{number % BLOCKS}.{part}"
        elif rest[0] == "GroupNorm_0":
            place = "norm_out"
        else:
            number = int(rest[0].removeprefix("Conv_"))
            ends = {0: "conv_in", (1 if half == "encoder" else last): "conv_out"}
            place = ends.get(number, f"res_blocks.{number}.{BLOCKS + 1}")
        state[f"{half}.{place}.{weight(kind)}"] = tensor
    return state


def weight(kind):
    return "bias" if kind == "bias" else "weight"


def publish(folder: Path, tree: bool, size=256) -> Path:
    """A folder as its authors' (tree) or maskgit-torch's, tokenizer and transformer."""
    folder.mkdir(parents=True, exist_ok=True)
    if tree:
        pack(vqgan_tree(), folder / f"tokenizer_imagenet{size}_checkpoint")
        pack(transformer_tree(), folder / f"maskgit_imagenet{size}_checkpoint")
    else:
        torch.save({"state_dict": torch_vqgan(vqgan_tree())}, folder / f"tokenizer_imagenet{size}.ckpt")
        torch.save({"state_dict": torch_transformer(transformer_tree())}, folder / f"maskgit_imagenet{size}.ckpt")
    return folder
