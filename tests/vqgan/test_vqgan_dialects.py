"""VQGANs of one file: each against an independent model with the dialect's own names."""

import pytest
import torch
import torch.nn.functional as F
from importing import importing
from safetensors.torch import save_file
from torch import nn

import muse_studio
from muse_studio.contracts import Tokenizer
from muse_studio.errors import UserError
from muse_studio.recipe.build import build
from muse_studio.recipe.merging import load
from muse_studio.registry.plugins import Registry


def take(source, format, out):
    """The tokenizer that the written recipe builds."""
    report = importing(str(source), format, str(out))()
    assert report.recipes == [out / "model.yaml"]
    assert [str(problem) for problem in muse_studio.check(str(out / "model.yaml"))] == []
    return build(load(out / "model.yaml"), Registry(), Tokenizer).eval()


def noisy(state):
    generator = torch.Generator().manual_seed(0)
    return {name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()}


TAMING = [
    ("down_blocks", "down"),
    ("up_blocks", "up"),
    ("resnets", "block"),
    ("conv_shortcut", "nin_shortcut"),
    ("downsamplers.0.conv", "downsample.conv"),
    ("upsamplers.0.conv", "upsample.conv"),
    ("mid_block.block.0", "mid.block_1"),
    ("mid_block.block.1", "mid.block_2"),
    ("mid_block.attentions.0", "mid.attn_1"),
    ("attentions", "attn"),
    ("group_norm", "norm"),
    ("to_q", "q"),
    ("to_k", "k"),
    ("to_v", "v"),
    ("to_out.0", "proj_out"),
    ("conv_norm_out", "norm_out"),
]
"""diffusers' names to taming's."""


def taming_name(name, levels):
    for theirs, other in TAMING:
        name = name.replace(theirs, other)
    head, _, rest = name.partition(".up.")
    if rest:
        level, _, rest = rest.partition(".")
        name = f"{head}.up.{levels - 1 - int(level)}.{rest}"  # taming counts from the largest resolution
    return name


def diffusers_vqgan(attention, **settings):
    """diffusers' model of three levels, and its tensors under taming's names, 1x1 convolutions in place of linear."""
    from diffusers import VQModel

    kinds = ["", "", "Attn" if attention else ""]
    theirs = VQModel(
        down_block_types=[f"{kind}DownEncoderBlock2D" for kind in kinds],
        up_block_types=[f"{kind}UpDecoderBlock2D" for kind in reversed(kinds)],
        block_out_channels=(32, 32, 64), layers_per_block=1, latent_channels=6, num_vq_embeddings=30,
        mid_block_add_attention=attention, **settings,
    ).eval()  # fmt: skip
    theirs.load_state_dict(noisy(theirs.state_dict()))
    theirs.quantize.embedding.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    state = {taming_name(name, 3): tensor for name, tensor in theirs.state_dict().items()}
    for name, tensor in state.items():
        if name.endswith((".q.weight", ".k.weight", ".v.weight", ".proj_out.weight")):
            state[name] = tensor[:, :, None, None]
    return theirs, state


def check_pictures(ours, theirs, codes, latents):
    """AssertionError unless the codes' pictures are alike, diffusers' being -1..1."""
    expected = (theirs.decode(latents, force_not_quantize=True).sample + 1) / 2
    torch.testing.assert_close(ours.decode(codes), expected.clamp(0, 1), atol=1e-4, rtol=0)
    assert expected.std() > 0.01 and codes.unique().numel() > 3


IMAGES = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
@pytest.mark.parametrize("attention", [True, False], ids=["attention", "plain"])
@pytest.mark.parametrize("wrapped", [True, False], ids=["lightning", "bare"])
def test_taming_s_vqgan_is_diffusers_of_the_same_numbers(tmp_path, attention, wrapped):
    theirs, state = diffusers_vqgan(attention)
    state["loss.discriminator.main.0.weight"] = torch.ones(3)
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, tmp_path / "last.ckpt")
    ours = take(tmp_path / "last.ckpt", "taming-vqgan", tmp_path / "out")
    found, _, (_, _, codes) = theirs.quantize(theirs.encode(IMAGES * 2 - 1).latents)
    assert torch.equal(ours.encode(IMAGES), codes.view(2, 4, 6))
    check_pictures(ours, theirs, codes.view(2, 4, 6), found)


@torch.no_grad()
def test_taming_s_gumbel_vqgan_takes_the_greatest_of_a_projection(tmp_path):
    theirs, state = diffusers_vqgan(True)
    table, project = state.pop("quantize.embedding.weight"), nn.Conv2d(6, 30, 1)
    state |= {
        "quantize.embed.weight": table,
        "quantize.proj.weight": project.weight,
        "quantize.proj.bias": project.bias,
    }
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    ours = take(tmp_path / "last.ckpt", "taming-vqgan", tmp_path / "out")
    codes = project(theirs.encode(IMAGES * 2 - 1).latents).argmax(1)
    assert torch.equal(ours.encode(IMAGES), codes)
    check_pictures(ours, theirs, codes, table[codes].permute(0, 3, 1, 2))
    reconstruction, quantized = ours.reconstruct(IMAGES, entropy=True)
    assert torch.equal(quantized.tokens, codes) and set(quantized.losses) == {"entropy"}
    torch.testing.assert_close(reconstruction.clamp(0, 1), ours.decode(codes), atol=1e-4, rtol=0)


def llamagen_name(name):
    """taming's names to LlamaGen's, whose decoder counts levels from the smallest resolution."""
    for theirs, other in [(".mid.block_1", ".mid.0"), (".mid.attn_1", ".mid.1"), (".mid.block_2", ".mid.2")]:
        name = name.replace(theirs, other)
    head, _, rest = name.partition(".up.")
    if rest:
        name = f"{head}.conv_blocks.{2 - int(rest[0])}{rest[1:]}"
    return name.replace(".down.", ".conv_blocks.").replace(".block.", ".res.")


@torch.no_grad()
@pytest.mark.parametrize("training", [True, False], ids=["checkpoint", "weights"])
def test_llamagen_s_vq_is_diffusers_on_unit_vectors(tmp_path, training):
    theirs, state = diffusers_vqgan(True, vq_embed_dim=4)
    state = {llamagen_name(name): tensor for name, tensor in state.items()}
    state["quantize.codebook_used"] = torch.zeros(65536)
    older = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    torch.save({"model": older, "ema": state, "steps": 3} if training else {"model": state}, tmp_path / "vq_ds16.pt")
    ours = take(tmp_path / "vq_ds16.pt", "llamagen-vq", tmp_path / "out")
    table = F.normalize(theirs.quantize.embedding.weight, dim=-1)
    latents = F.normalize(theirs.encode(IMAGES * 2 - 1).latents, dim=1)
    codes = torch.einsum("bchw,kc->bhwk", latents, table).argmax(-1)
    assert torch.equal(ours.encode(IMAGES), codes)
    check_pictures(ours, theirs, codes, table[codes].permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("settings", "millions"),
    [
        ({"attention": True}, 72.1),
        ({"attention": True, "codebook_size": 16384, "code_width": 8, "latent_width": 256}, 71.9),
        ({"maskgit": True, "decoder_blocks": 2}, 54.5),
    ],
    ids=["taming f16-1024", "LlamaGen VQ-16", "MaskGIT"],
)
def test_published_sizes_are_the_parts_of_these_settings(settings, millions):
    sizes = {"codebook_size": 1024, "channels": 128, "multipliers": [1, 1, 2, 2, 4], "blocks": 2, "ema": 0.0}
    with torch.device("meta"):
        part = muse_studio.parts("tokenizer", "vqgan")[0].load()(**sizes | settings)
    assert round(sum(parameter.numel() for parameter in part.parameters()) / 1e6, 1) == millions


class Block(nn.Module):
    """MaskGIT's residual block, its slip included, under its torch ports' names."""

    def __init__(self, into, out):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(32, into, 1e-6), nn.GroupNorm(32, out, 1e-6)
        self.conv1 = nn.Conv2d(into, out, 3, 1, 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        if into != out:
            self.nin_shortcut = nn.Conv2d(out, out, 1, bias=False)

    def forward(self, x):
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (self.nin_shortcut(y) if hasattr(self, "nin_shortcut") else x)


def parts(**modules):
    """A module with these submodules, and nothing to run."""
    made = nn.Module()
    for name, module in modules.items():
        made.add_module(name, module)
    return made


class MaskGIT(nn.Module):
    """Two levels of 32 and 64 channels, two blocks each: MaskGIT's tokenizer as its paper's code computes it."""

    def __init__(self, mage):
        super().__init__()
        middle = ("block_1", "block_2") if mage else ("0", "1")

        def mid():
            return parts(**{name: Block(64, 64) for name in middle})

        def level(into, out):
            return parts(block=nn.ModuleList([Block(into, out), Block(out, out)]))

        self.mage = mage
        self.encoder = parts(
            conv_in=nn.Conv2d(3, 32, 3, 1, 1, bias=False),
            down=nn.ModuleList([level(32, 32), level(32, 64)]),
            mid=mid(),
            norm_out=nn.GroupNorm(32, 64, 1e-6),
            conv_out=nn.Conv2d(64, 6, 1),
        )
        up = [level(64, 32), level(64, 64)]
        grow = nn.Conv2d(64, 64, 3, 1, 1)
        up[1].add_module("upsample" if mage else "upsample_conv", parts(conv=grow) if mage else grow)
        self.grow = [grow]
        self.decoder = parts(
            conv_in=nn.Conv2d(6, 64, 3, 1, 1),
            mid=mid(),
            up=nn.ModuleList(up),
            norm_out=nn.GroupNorm(32, 32, 1e-6),
            conv_out=nn.Conv2d(32, 3, 3, 1, 1),
        )
        self.quantize = parts(embedding=nn.Embedding(30, 6))

    def encode(self, images):
        x = self.encoder.conv_in(images)
        for block in self.encoder.down[0].block:
            x = block(x)
        x = F.avg_pool2d(x, 2)
        for block in [*self.encoder.down[1].block, *self.encoder.mid.children()]:
            x = block(x)
        latents = self.encoder.conv_out(F.silu(self.encoder.norm_out(x)))
        return (
            torch.cdist(latents.flatten(2).mT, self.quantize.embedding.weight[None])
            .argmin(-1)
            .view(len(x), *x.shape[2:])
        )

    def decode(self, codes):
        x = self.decoder.conv_in(self.quantize.embedding(codes).permute(0, 3, 1, 2))
        for block in [*self.decoder.mid.children(), *self.decoder.up[1].block]:
            x = block(x)
        x = self.grow[0](F.interpolate(x, scale_factor=2))
        for block in self.decoder.up[0].block:
            x = block(x)
        return self.decoder.conv_out(F.silu(self.decoder.norm_out(x))).clamp(0, 1)


@torch.no_grad()
@pytest.mark.parametrize("mage", [False, True], ids=["open-muse", "mage"])
def test_maskgit_s_vqgan_is_an_independent_one_of_the_same_numbers(tmp_path, mage):
    torch.manual_seed(0)
    theirs = MaskGIT(mage).eval()
    theirs.load_state_dict(noisy(theirs.state_dict()))
    state = theirs.state_dict()
    if mage:
        torch.save({"state_dict": state}, tmp_path / "vqgan_jax_strongaug.ckpt")
        source = tmp_path / "vqgan_jax_strongaug.ckpt"
    else:
        save_file(state, tmp_path / "model.safetensors")
        source = tmp_path / "model.safetensors"
    ours = take(source, "maskgit-vqgan", tmp_path / "out")
    images = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(2))
    codes = theirs.encode(images)
    assert torch.equal(ours.encode(images), codes) and codes.unique().numel() > 3
    expected = theirs.decode(codes)
    torch.testing.assert_close(ours.decode(codes), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.01


def test_one_dialect_s_file_is_no_other_s(tmp_path):
    torch.save(MaskGIT(False).state_dict(), tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"(?s)26 not used: encoder\.mid\.0.*59 missing: "):
        importing(str(tmp_path / "model.pt"), "taming-vqgan", str(tmp_path / "out"))()
    with pytest.raises(UserError, match=r"is no file; give the file itself, as it was published"):
        importing(str(tmp_path), "taming-vqgan", str(tmp_path / "out"))()
    torch.save({"weight": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="is another model's: its tokenizer lacks"):
        importing(str(tmp_path / "other.pt"), "taming-vqgan", str(tmp_path / "out"))()
