"""Halton-MaskGIT's files against an independent model of the same names, its tokenizer being published apart."""

import pytest
import torch
import torch.nn.functional as F
from importing import importing
from muse_halton.dialect import HEADS, TRANSFORMER

import muse_studio
from muse_studio.contracts import MASK, TextEmbedding, Transformer
from muse_studio.errors import UserError
from muse_studio.recipe.build import build
from muse_studio.recipe.merging import load
from muse_studio.registry.plugins import Registry
from muse_studio.runtime.dialects import Found
from muse_studio.runtime.matching import differences, match

CODES, CLASSES, SIDE, WIDTH, HEADS_OF_IT = 30, 9, 4, 26, 4
"""26 by 4 heads leaves two numbers over, as their 512 by 6 does."""


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """A width that none of theirs has, for models that are quickly made."""
    monkeypatch.setitem(HEADS, WIDTH, HEADS_OF_IT)


def shapes(width, layers, heads, codes=CODES, classes=CLASSES, places=SIDE * SIDE):
    """The names and shapes of their Transformer."""
    inner, mlp = heads * (width // heads), 256 * -(-(8 * width // 3) // 256)
    found = {
        "cls_emb.weight": (classes + 1, width),
        "tok_emb.weight": (codes + 1, width),
        "pos_emb.weight": (places, width),
        "reg_tokens.weight": (1, width),
        "last_norm.norm_final.weight": (width,),
        "last_norm.norm_final.bias": (width,),
        "last_norm.mlp.1.weight": (2 * width, width),
        "last_norm.mlp.1.bias": (2 * width,),
        "head.weight": (codes + 1, width),
        "head.bias": (codes + 1,),
    }
    for layer in (f"transformer.layers.{number}" for number in range(layers)):
        found |= {f"{layer}.mlp.1.weight": (6 * width, width), f"{layer}.mlp.1.bias": (6 * width,)}
        found |= {f"{layer}.ln{n}.weight": (width,) for n in (1, 2)}
        found |= {f"{layer}.attn.w{each}.weight": (inner, width) for each in "qkv"}
        found |= {f"{layer}.attn.wo.weight": (width, inner), f"{layer}.ff.w2.weight": (width, mlp)}
        found |= {f"{layer}.ff.w{n}.weight": (mlp, width) for n in (1, 3)}
    return found


def state(layers=2, seed=0):
    """Random numbers."""
    g = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes(WIDTH, layers, HEADS_OF_IT).items():
        scale = {1: 0.1}.get(len(shape), 0.5 if "emb" in name else shape[-1] ** -0.5)
        made[name] = (".ln" in name or "norm_final.weight" in name) + scale * torch.randn(shape, generator=g)
    return made | {"head.weight": made["tok_emb.weight"]}


def rms(x, weight=1.0):
    return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight


def logits(held, tokens, classes, heads=HEADS_OF_IT):
    """int64[B, N], K for the mask, and int64[B], the last row for none, to logits float[B, N, K + 1]."""
    y = F.silu(held["cls_emb.weight"][classes])[:, None]
    x = held["tok_emb.weight"][tokens] + held["pos_emb.weight"]
    x = torch.cat([x, held["reg_tokens.weight"].expand(len(x), -1, -1)], 1)
    for n in range(sum(name.endswith("ln1.weight") for name in held)):
        layer = {k.split(".", 3)[3]: v for k, v in held.items() if k.startswith(f"transformer.layers.{n}.")}
        told = y @ layer["mlp.1.weight"].T + layer["mlp.1.bias"]
        shift1, scale1, weight1, shift2, scale2, weight2 = told.chunk(6, -1)
        seen = rms(x, layer["ln1.weight"]) * (1 + scale1) + shift1
        query, key, value = (seen @ layer[f"attn.w{each}.weight"].T for each in "qkv")
        query, key, value = (
            each.view(*each.shape[:2], heads, -1).transpose(1, 2) for each in (rms(query), rms(key), value)
        )
        share = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        x = x + weight1 * ((share @ value).transpose(1, 2).flatten(2) @ layer["attn.wo.weight"].T)
        seen = rms(x, layer["ln2.weight"]) * (1 + scale2) + shift2
        seen = F.silu(seen @ layer["ff.w1.weight"].T) * (seen @ layer["ff.w3.weight"].T)
        x = x + weight2 * (seen @ layer["ff.w2.weight"].T)
    shift, scale = (y @ held["last_norm.mlp.1.weight"].T + held["last_norm.mlp.1.bias"]).chunk(2, -1)
    x = rms(x[:, :-1], held["last_norm.norm_final.weight"]) + held["last_norm.norm_final.bias"]
    return (x * (1 + scale) + shift) @ held["head.weight"].T + held["head.bias"]


def llamagen():
    """A tokenizer under LlamaGen's names, of two levels of 32 channels with a block each, and strides of 2."""
    g = torch.Generator().manual_seed(0)
    made = {"quantize.embedding.weight": torch.randn(CODES, 4, generator=g)}

    def conv(name, into, out, side=3):
        made[f"{name}.weight"] = torch.randn(out, into, side, side, generator=g) / (into * side**2) ** 0.5
        made[f"{name}.bias"] = torch.zeros(out)

    def norm(name):
        made[f"{name}.weight"], made[f"{name}.bias"] = torch.ones(32), torch.zeros(32)

    def block(name):
        for number in (1, 2):
            norm(f"{name}.norm{number}")
            conv(f"{name}.conv{number}", 32, 32)

    def attention(name):
        norm(f"{name}.norm")
        for each in ("q", "k", "v", "proj_out"):
            conv(f"{name}.{each}", 32, 32, 1)

    for half, blocks, smallest, into, out in (("encoder", 1, 1, 3, 8), ("decoder", 2, 0, 8, 3)):
        conv(f"{half}.conv_in", into, 32)
        block(f"{half}.mid.0")
        attention(f"{half}.mid.1")
        block(f"{half}.mid.2")
        for level in (0, 1):
            for number in range(blocks):
                block(f"{half}.conv_blocks.{level}.res.{number}")
                if level == smallest:
                    attention(f"{half}.conv_blocks.{level}.attn.{number}")
        conv(f"{half}.conv_blocks.0.{'downsample' if half == 'encoder' else 'upsample'}.conv", 32, 32)
        norm(f"{half}.norm_out")
        conv(f"{half}.conv_out", 32, out)
    conv("quant_conv", 8, 4, 1)
    conv("post_quant_conv", 4, 8, 1)
    return made


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    file = tmp_path_factory.mktemp("llamagen") / "vq_ds16_c2i.pt"
    torch.save({"model": llamagen()}, file)
    return str(file)


def save(held, folder, prefix=""):
    file = folder / "ImageNet_384_small.pth"
    wrapped = {"model_state_dict": {f"{prefix}{name}": tensor for name, tensor in held.items()}, "iter": 3}
    torch.save(wrapped | {"optimizer_state_dict": None}, file)
    return str(file)


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "module._orig_mod."])
def test_a_file_is_the_independent_model_of_the_same_numbers(tmp_path, tokenizer, prefix):
    held = state()
    source = save(held, tmp_path, prefix)
    report = importing(source, "halton-maskgit", str(tmp_path / "out"), others={"tokenizer": tokenizer})()
    assert [str(problem) for problem in muse_studio.check(str(report.recipes[1]))] == []
    table = load(report.recipes[0]).plain()["stages"]["base"]["transformer"]
    ours = build(load(table), Registry(), Transformer).eval()
    tokens = torch.randint(CODES, (3, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    tokens[:, ::2, 1:] = MASK
    states = torch.eye(CLASSES)[[0, 5, 8]][:, None]
    text = TextEmbedding(states, torch.tensor([[True], [True], [False]]))
    theirs = torch.where(tokens == MASK, CODES, tokens).flatten(1)
    expected = logits(held, theirs, torch.tensor([0, 5, CLASSES]))[..., :CODES].view(3, SIDE, SIDE, CODES)
    torch.testing.assert_close(ours(tokens, ours.condition(text)), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1


def test_one_command_draws(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    settings = {"source": save(state(), tmp_path), "others": {"tokenizer": tokenizer}, "out": str(tmp_path / "out")}
    settings |= {"prompt": ["3", ""], "changes.stages.base.sampler.steps": 3}
    drawn = muse_studio.run("halton-384", settings)
    assert [picture.size for picture in drawn.images] == [(8, 8)] * 2
    assert drawn.images[0].tobytes() != drawn.images[1].tobytes()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda held: held.pop("last_norm.norm_final.bias"), "1 missing: shift"),
        (lambda held: held.update({"in_proj.weight": torch.ones(2)}), "1 not used: in_proj.weight"),
        (lambda held: held["cls_emb.weight"][2].fill_(torch.inf), "1 not finite: cls_emb.weight"),
        (lambda held: held.update({"reg_tokens.weight": torch.ones(2, 5)}), r"\[2, 5\], and registers is \[2, 26\]"),
        (lambda held: held.update({"pos_emb.weight": torch.ones(15, 26)}), "positions of a square grid: it has 15"),
        (lambda held: held.update({"tok_emb.weight": torch.ones(31, 500)}), "known widths 384, .*: it has 500"),
        (lambda held: held.update({"head.weight": torch.ones(31, 26)}), "1 no copies: head.weight differs from tok_"),
        (lambda held: held.pop("tok_emb.weight"), "is another model's: its transformer lacks 'tok_emb.weight'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, tokenizer, edit, message):
    held = state(layers=1)
    edit(held)
    with pytest.raises(UserError, match=message):
        source, others = save(held, tmp_path), {"tokenizer": tokenizer}
        importing(source, "halton-maskgit", str(tmp_path / "out"), others=others)()
    assert not (tmp_path / "out").exists()


def test_others_names_a_piece_that_is_published_apart(tmp_path, tokenizer):
    with pytest.raises(ValueError, match=r"others has 'vqvae', which of format 'halton-maskgit' .*are: tokenizer"):
        importing("x", "halton-maskgit", others={"vqvae": "y"})
    with pytest.raises(ValueError, match=r"others has 'vqvae', which of format 'amused' .*; nothing is"):
        importing("x", "amused", others={"vqvae": "y"})
    source, others = save(state(layers=1), tmp_path), {"tokenizer": str(tmp_path / "ImageNet_384_small.pth")}
    with pytest.raises(
        UserError,
        match=r"ImageNet_384_small\.pth is another model's: its tokenizer lacks .*; what others.tokenizer says",
    ):
        importing(source, "halton-maskgit", str(tmp_path / "out"), others=others)()


@pytest.mark.parametrize(
    ("width", "layers", "heads", "places", "millions"),
    [(384, 6, 6, 256, 23), (512, 12, 6, 256, 69), (768, 12, 12, 576, 142), (1024, 24, 16, 576, 480)],
    ids=["tiny 256", "small 256", "base 384", "large 384"],
)
def test_the_published_sizes_have_our_names(width, layers, heads, places, millions):
    piece = TRANSFORMER
    theirs = {n: list(shape) for n, shape in shapes(width, layers, heads, 16384, 1000, places).items()}
    settings = piece.settings(Found({}, theirs, {}))
    if width == 1024:
        said = load("models/halton-384").plain()["stages"]["base"]
        assert said["transformer"] == {"use": "halton-maskgit", **settings, "weights": None} and len(theirs) == 274
    with torch.device("meta"):
        ours = muse_studio.parts("transformer", "halton-maskgit")[0].load()(**settings)
    wanted = {name: list(tensor.shape) for name, tensor in ours.named_parameters()}
    wrong = differences(match(theirs, piece, settings), theirs, wanted)
    assert not any(wrong.values()), wrong
    assert round(sum(parameter.numel() for parameter in ours.parameters()) / 1e6) == millions
