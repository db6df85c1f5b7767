"""Encoder, quantizer and decoder against diffusers' VQModel with the same random weights."""

from collections.abc import Iterator

import pytest
import torch
from muse_vqgan.network import Down, Residual, Up
from muse_vqgan.quantizers.vector import VectorQuantizer
from muse_vqgan.vqgan import VQGAN
from torch import nn


def coder_names(levels: int, blocks: int, encoder: bool) -> Iterator[str]:
    """diffusers' names of an encoder's or decoder's modules, in the order in which they act."""
    inner, outer, change = (
        ("down_blocks", "conv_in", "downsamplers") if encoder else ("up_blocks", "conv_in", "upsamplers")
    )
    middle = [f"mid_block.resnets.{index}" for index in range(2)]
    yield outer
    if not encoder:
        yield from middle
    for level in range(levels):
        yield from (f"{inner}.{level}.resnets.{block}" for block in range(blocks))
        if level < levels - 1:
            yield f"{inner}.{level}.{change}.0.conv"
    if encoder:
        yield from middle
    yield from ("conv_norm_out", "conv_out")


def copy(ours: nn.Module, theirs: nn.Module) -> None:
    """theirs gets our weights; a residual block's parts go by their names."""
    if isinstance(ours, Down | Up):
        ours = ours.conv
    pairs = [(ours, theirs)]
    if isinstance(ours, Residual):
        names = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2"}
        if not isinstance(ours.shortcut, nn.Identity):
            names["shortcut"] = "conv_shortcut"
        pairs = [(getattr(ours, mine), getattr(theirs, other)) for mine, other in names.items()]
    for source, target in pairs:
        target.load_state_dict(source.state_dict())


def both(multipliers: list[int], blocks: int):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    ours = VQGAN(
        40,
        6,
        channels=32,
        multipliers=multipliers,
        blocks=blocks,
        quantizer=VectorQuantizer(cosine=False, revive_after=0),
    ).eval()
    with torch.no_grad():  # norms and biases away from their start, where they would not show
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    levels = len(multipliers)
    theirs = diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(32 * each for each in multipliers),
        layers_per_block=blocks,
        latent_channels=6,
        vq_embed_dim=6,
        num_vq_embeddings=40,
        norm_num_groups=32,
        mid_block_add_attention=False,
    ).eval()
    pairs = [(ours.pre, theirs.quant_conv), (ours.post, theirs.post_quant_conv)]
    for mine, other, each in ((ours.encoder, theirs.encoder, blocks), (ours.decoder, theirs.decoder, blocks + 1)):
        modules = [module for module in mine.layers if not isinstance(module, nn.SiLU)]
        names = coder_names(levels, each, mine is ours.encoder)
        pairs += [(module, other.get_submodule(name)) for module, name in zip(modules, names, strict=True)]
    for mine, other in pairs:
        copy(mine, other)
    theirs.quantize.embedding.weight.data.copy_(ours.quantizer.codes)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    return ours, theirs


@pytest.mark.parametrize(
    ("multipliers", "blocks", "size"), [([1], 1, (5, 7)), ([1, 2], 1, (16, 24)), ([1, 1, 2], 2, (32, 16))]
)
def test_it_is_diffusers_model(multipliers, blocks, size):
    ours, theirs = both(multipliers, blocks)
    images = torch.rand(2, 3, *size)
    with torch.no_grad():
        latents = theirs.encode(images * 2 - 1).latents
        torch.testing.assert_close(ours.latents(images), latents, atol=1e-4, rtol=1e-4)
        tokens = theirs.quantize(latents)[2][2].view(2, *latents.shape[2:])
        assert torch.equal(ours.encode(images), tokens)
        assert tuple(tokens.shape[1:]) == ours.grid_shape(*size)
        assert tokens.unique().numel() > 3, "too few codes to tell them apart"
        made = theirs.decode(latents).sample
        torch.testing.assert_close(ours.decode(tokens), ((made + 1) / 2).clamp(0, 1), atol=1e-4, rtol=0)
        reconstruction, quantized = ours.reconstruct(images)
        torch.testing.assert_close(reconstruction, (made + 1) / 2, atol=1e-4, rtol=1e-4)
        assert torch.equal(quantized.tokens, tokens)
        assert made.std() > 0.01
