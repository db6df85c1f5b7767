"""MUSE-Pytorch's two models against an independent one of the same names."""

import shutil

import pytest
import torch
import torch.nn.functional as F
from importing import importing
from muse_uvit.dialect import HEADS, muse_pytorch, muse_pytorch_class

import muse_studio
from muse_studio.contracts import MASK, TextEncoder, Transformer
from muse_studio.errors import UserError
from muse_studio.recipe.build import build
from muse_studio.recipe.merging import load
from muse_studio.registry.plugins import Registry
from muse_studio.runtime.dialects import Found
from muse_studio.runtime.matching import differences, match

CODES, SIDE, TEXT_WIDTH, POSITIONS, WIDTH, HEADS_OF_IT = 30, 4, 16, 77, 32, 4
FORMATS = ("muse-pytorch", "muse-pytorch-class")


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """A width that none of theirs has, for models that are quickly made."""
    monkeypatch.setitem(HEADS, WIDTH, HEADS_OF_IT)


def shapes(width, half, reads, codes=CODES, side=SIDE, text_width=TEXT_WIDTH):
    """The names and shapes of their UViT; `half` blocks lead down and as many up."""
    rows, mlp = codes + (1 if reads else 1002), 4 * width
    found = {
        "token_emb.position_ids": (1, side**2 + (not reads)),
        "token_emb.word_embeddings.weight": (rows, width),
        "token_emb.position_embeddings.weight": (side**2 + (not reads), width),
        "mlm_layer.bias": (1, 1, rows),
    }
    linear = {"mlm_layer.fc": (width, width)} | ({"context_embed": (width, text_width)} if reads else {})
    norms = ["token_emb.LayerNorm", "norm", "mlm_layer.ln"]
    names = [f"{way}_blocks.{number}" for way in ("in", "out") for number in range(half)] + ["mid_block"]
    for name in names:
        norms += [f"{name}.norm1", f"{name}.norm2"]
        found[f"{name}.attn.qkv.weight"] = (3 * width, width)
        linear |= {f"{name}.attn.proj": (width, width)}
        linear |= {f"{name}.mlp.fc1": (mlp, width), f"{name}.mlp.fc2": (width, mlp)}
        if name.startswith("out"):
            linear[f"{name}.skip_linear"] = (width, 2 * width)
    for name, shape in linear.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return found | {f"{name}.{each}": (width,) for name in norms for each in ("weight", "bias")}


def state(reads, half=1, seed=0):
    g = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes(WIDTH, half, reads).items():
        if name == "token_emb.position_ids":
            made[name] = torch.arange(shape[1])[None]
            continue
        scale = 0.3 if "embeddings" in name else 0.1 if len(shape) != 2 else shape[-1] ** -0.5
        gain = name.endswith("weight") and any(part in name.lower() for part in ("norm", "mlm_layer.ln"))
        made[name] = gain + scale * torch.randn(shape, generator=g)
    return made


def logits(held, tokens, front, heads=HEADS_OF_IT):
    """int64[B, N], K for the mask, and float[B, T, text width] or a class int64[B], to logits float[B, N, K]."""

    def dense(name, x):
        return F.linear(x, held[f"{name}.weight"], held.get(f"{name}.bias"))

    def norm(name, x, eps=1e-5):
        return F.layer_norm(x, x.shape[-1:], held[f"{name}.weight"], held[f"{name}.bias"], eps)

    def embed(ids):
        x = held["token_emb.word_embeddings.weight"][ids] + held["token_emb.position_embeddings.weight"]
        return norm("token_emb.LayerNorm", x, 1e-6)

    def block(name, x):
        query, key, value = (
            each.view(*x.shape[:2], heads, -1).transpose(1, 2)
            for each in dense(f"{name}.attn.qkv", norm(f"{name}.norm1", x)).chunk(3, -1)
        )
        share = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)
        x = x + dense(f"{name}.attn.proj", (share @ value).transpose(1, 2).flatten(2))
        return x + dense(f"{name}.mlp.fc2", F.gelu(dense(f"{name}.mlp.fc1", norm(f"{name}.norm2", x))))

    if front.ndim == 1:
        x = embed(torch.cat([front[:, None] + CODES + 1, tokens], 1))
    else:
        x = torch.cat([dense("context_embed", front), embed(tokens)], 1)
    half = sum(name.startswith("in_") and name.endswith("fc1.bias") for name in held)
    earlier = []
    for number in range(half):
        x = block(f"in_blocks.{number}", x)
        earlier.append(x)
    x = block("mid_block", x)
    for number in range(half):
        x = block(f"out_blocks.{number}", dense(f"out_blocks.{number}.skip_linear", torch.cat([x, earlier.pop()], -1)))
    x = norm("mlm_layer.ln", F.gelu(dense("mlm_layer.fc", norm("norm", x))))
    found = x @ held["token_emb.word_embeddings.weight"].T + held["mlm_layer.bias"]
    return found[:, -tokens.shape[1] :, :CODES]


def residual(made, name, into, out):
    for number, (before, after) in enumerate([(into, out), (out, out)], 1):
        made[f"{name}.norm{number}.weight"], made[f"{name}.norm{number}.bias"] = torch.ones(before), torch.zeros(before)
        made[f"{name}.conv{number}.weight"] = torch.randn(after, before, 3, 3) / (9 * before) ** 0.5


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """MAGE's, in small: two levels of 32 channels, two blocks each."""
    torch.manual_seed(0)
    made = {"quantize.embedding.weight": torch.randn(CODES, 4)}
    for half in ("encoder", "decoder"):
        for name in ("mid.block_1", "mid.block_2", *(f"{{}}.{a}.block.{b}" for a in (0, 1) for b in (0, 1))):
            residual(made, f"{half}.{name.format('down' if half == 'encoder' else 'up')}", 32, 32)
        made[f"{half}.norm_out.weight"], made[f"{half}.norm_out.bias"] = torch.ones(32), torch.zeros(32)
    ends = {"encoder.conv_in": (32, 3, 3), "encoder.conv_out": (4, 32, 1), "decoder.conv_in": (32, 4, 3)}
    ends |= {"decoder.conv_out": (3, 32, 3), "decoder.up.1.upsample.conv": (32, 32, 3)}
    for name, (out, into, side) in ends.items():
        made[f"{name}.weight"], made[f"{name}.bias"] = torch.randn(out, into, side, side) * 0.1, torch.zeros(out)
    del made["encoder.conv_in.bias"]
    file = tmp_path_factory.mktemp("mage") / "vqgan_jax_strongaug.ckpt"
    torch.save(made, file)
    return str(file)


@pytest.fixture(scope="module")
def encoder(imported, tmp_path_factory):
    """A small CLIP of 77 positions in a folder, with the tokenizer of the others here."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    folder = shutil.copytree(imported / "text_encoder", tmp_path_factory.mktemp("clip") / "clip")
    config = CLIPTextConfig(
        vocab_size=9, hidden_size=TEXT_WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        projection_dim=10, max_position_embeddings=POSITIONS, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPTextModelWithProjection(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def others(tokenizer, encoder):
    return {
        "muse-pytorch": {"tokenizer": tokenizer, "text_encoder": encoder},
        "muse-pytorch-class": {"tokenizer": tokenizer},
    }


def save(held, folder):
    folder.mkdir(exist_ok=True)
    torch.save(held, folder / "nnet_ema.pth")
    return str(folder)


def part(recipe, kind, *path):
    table = load(recipe).plain()
    for key in path:
        table = table[key]
    return build(load(table), Registry(), kind)


@torch.no_grad()
@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_is_the_independent_model_of_the_same_numbers(tmp_path, others, format):
    reads = format == "muse-pytorch"
    held = state(reads)
    report = importing(save(held, tmp_path / "nnet"), format, str(tmp_path / "out"), others=others[format])()
    assert [str(problem) for problem in muse_studio.check(str(report.recipes[1]))] == []
    ours = part(report.recipes[0], Transformer, "stages", "base", "transformer").eval()
    tokens = torch.randint(CODES, (3, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    tokens[:, ::2, 1:] = MASK
    theirs = torch.where(tokens == MASK, CODES, tokens).flatten(1)
    read = part(report.recipes[0], TextEncoder, "text_encoder")
    if reads:
        text, front = read(["a red apple", "", "blue"]), read.embed(["a red apple", "", "blue"]).states
    else:
        text, front = read(["5", "", "999"]), torch.tensor([5, 1000, 999])
    expected = logits(held, theirs, front).view(3, SIDE, SIDE, CODES)
    torch.testing.assert_close(ours(tokens, ours.condition(text)), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1 and (expected[0] - expected[1]).abs().max() > 1e-3


@torch.no_grad()
def test_the_text_is_filled_up_by_open_clip_s_padding(encoder):
    from transformers import CLIPTextModelWithProjection

    clip = muse_studio.parts("text-encoder", "clip")[0].load()
    said = clip(encoder, length=8, padded=True, padding=3, offline=True)(["a red apple"])
    ids = torch.tensor([[1, 4, 5, 6, 2, 3, 3, 3]])
    expected = CLIPTextModelWithProjection.from_pretrained(encoder)(ids).last_hidden_state
    torch.testing.assert_close(said.states, expected, atol=1e-5, rtol=0)
    other = clip(encoder, length=8, padded=True, offline=True)
    assert (other(["a red apple"]).states - expected).abs().max() > 1e-3
    assert other.identity != clip(encoder, length=8, padded=True, padding=3).identity
    with pytest.raises(ValueError, match="padding is -1; give the id of a token"):
        clip(encoder, padding=-1)


@pytest.mark.parametrize(("format", "prompt"), [("muse-pytorch", "a red apple"), ("muse-pytorch-class", "7")])
def test_one_command_draws(tmp_path, others, format, prompt, monkeypatch):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    source = save(state(format == "muse-pytorch"), tmp_path / "nnet")
    settings = {"source": source, "others": others[format], "out": str(tmp_path / "out"), "prompt": [prompt, ""]}
    drawn = muse_studio.run(format, settings | {"changes.stages.base.sampler.steps": 2})
    assert [picture.size for picture in drawn.images] == [(8, 8)] * 2
    assert drawn.images[0].tobytes() != drawn.images[1].tobytes()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda held: held.pop("out_blocks.0.skip_linear.bias"), "1 missing: up.0.join.bias"),
        (lambda held: held.update({"pos_embed": torch.ones(2)}), "1 not used: pos_embed"),
        (lambda held: held["norm.bias"][3:4].fill_(torch.nan), "1 not finite: norm.bias"),
        (lambda held: held.update({"norm.bias": torch.ones(5)}), r"\[5\], and norm.bias is \[32\]"),
        (lambda held: held.update({"token_emb.position_embeddings.weight": torch.ones(16, 32)}), "square grid"),
        (lambda held: held.update({"token_emb.word_embeddings.weight": torch.ones(1002, 32)}), "its table has 1002"),
        (lambda held: held.pop("in_blocks.0.mlp.fc1.weight"), "is another model's: its transformer lacks"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, others, edit, message):
    held = state(False)
    edit(held)
    source, apart = save(held, tmp_path / "nnet"), others["muse-pytorch-class"]
    with pytest.raises(UserError, match=message):
        importing(source, "muse-pytorch-class", str(tmp_path / "out"), others=apart)()
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_is_to_be_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = save(state(False), tmp_path / "nnet")
    with pytest.raises(
        UserError, match=r"vqgan_jax_strongaug\.ckpt is no file; .* what others\.tokenizer says is taken"
    ):
        importing(source, "muse-pytorch-class", dry_run=True)()


@pytest.mark.parametrize(
    ("name", "dialect", "width", "half", "count", "millions"),
    [
        ("muse-pytorch", muse_pytorch, 1152, 14, 361, 503.6),
        ("muse-pytorch-class", muse_pytorch_class, 768, 6, 167, 101.5),
    ],
)
def test_the_published_sizes_have_our_names(name, dialect, width, half, count, millions):
    piece = dialect().pieces[1]
    theirs = {n: list(s) for n, s in shapes(width, half, dialect is muse_pytorch, 1024, 16, 1280).items()}
    assert len(theirs) == count
    settings = piece.settings(Found({}, theirs, {}))
    said = load(f"models/{name}").plain()["stages"]["base"]["transformer"]
    assert said == {"use": piece.part, **settings, "weights": None}
    with torch.device("meta"):
        ours = muse_studio.parts("transformer", piece.part)[0].load()(**settings)
    wanted = {each: list(tensor.shape) for each, tensor in ours.named_parameters()}
    wrong = differences(match(theirs, piece, settings), theirs, wanted)
    assert not any(wrong.values()), wrong
    assert round(sum(parameter.numel() for parameter in ours.parameters()) / 1e6, 1) == millions
