"""The tokenizer part: sizes, strides, what it refuses, and the paper's shape."""

import pytest
import torch
from muse_vqgan.vqgan import VQGAN

from muse_studio.errors import UserError
from muse_studio.runtime import weights

SMALL = {"codebook_size": 16, "code_width": 4, "channels": 8, "multipliers": [1, 2], "blocks": 1}


@pytest.mark.parametrize(
    ("more", "stride"),
    [({}, 2), ({"multipliers": [1, 1, 1]}, 4), ({"patch": 4}, 8), ({"multipliers": [1], "patch": 1}, 1)],
)
@pytest.mark.parametrize("quantizer", [{}, {"quantizer": "lfq"}, {"quantizer": {"use": "fsq", "levels": [4, 4]}}])
def test_every_stride_and_quantizer_there_and_back(more, stride, quantizer):
    torch.manual_seed(0)
    model = VQGAN(**SMALL | more | quantizer)
    assert model.stride == stride
    images = torch.rand(2, 3, 2 * stride, 3 * stride)
    tokens = model.encode(images)
    assert tokens.shape == (2, 2, 3) == (2, *model.grid_shape(2 * stride, 3 * stride))
    assert tokens.dtype == torch.int64
    made = model.decode(tokens)
    assert made.shape == images.shape
    assert made.min() >= 0 and made.max() <= 1
    assert torch.equal(model.eval().reconstruct(images)[1].tokens, tokens)


@pytest.mark.parametrize(("further", "times"), [([1, 1, 2], 2), ([1, 1, 1, 2], 4)])
def test_a_decoder_of_further_levels_draws_larger_than_the_encoder_reads(further, times):
    torch.manual_seed(0)
    plain, larger = VQGAN(**SMALL), VQGAN(**SMALL, decoder_multipliers=further)
    larger.load_state_dict({n: t for n, t in plain.state_dict().items() if not n.startswith("decoder.")}, strict=False)
    assert larger.stride == times * plain.stride
    images = torch.rand(2, 3, 8 * times, 4 * times)
    squares = images.unflatten(3, (-1, times)).unflatten(2, (-1, times)).mean((3, 5))
    tokens = larger.encode(images)
    assert torch.equal(tokens, plain.encode(squares))
    assert larger.decode(tokens).shape == larger.reconstruct(images)[0].shape == images.shape


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((30, 16), "30x16 pixels don't divide into tokens of 16x16; the nearest that do: 32x16"),
        ((3, 100), "3x100 pixels don't divide into tokens of 16x16; the nearest that do: 16x96"),
        ((0, 16), "0x16 pixels don't divide into tokens of 16x16; the nearest that do: 16x16"),
    ],
)
def test_sizes_that_do_not_divide(size, message):
    model = VQGAN(**SMALL | {"multipliers": [1, 1], "patch": 8})
    with pytest.raises(ValueError, match=message):
        model.grid_shape(*size)
    if min(size):
        with pytest.raises(ValueError, match=message):
            model.encode(torch.rand(1, 3, *size))


@pytest.mark.parametrize("wrong", [-1, 16, 400])
def test_what_is_no_code_is_not_drawn(wrong):
    tokens = torch.zeros(1, 2, 2, dtype=torch.int64)
    tokens[0, 1, 1] = wrong
    low, high = min(wrong, 0), max(wrong, 0)
    with pytest.raises(ValueError, match=f"tokens from {low} to {high} can't be decoded: codes go from 0 to 15"):
        VQGAN(**SMALL).decode(tokens)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"codebook_size": 0}, "must be 1 or more"),
        ({"multipliers": [1, 0]}, "must be 1 or more"),
        ({"decoder_multipliers": [1, 0]}, "must be 1 or more"),
        (
            {"decoder_multipliers": [1]},
            r"decoder_multipliers are \[1\]; give as many as multipliers, \[1, 2\]",
        ),
        ({"blocks": -1}, "must be 0 or more"),
        ({"quantizer": {"use": "vq", "ema": 1.0}}, "ema in 0..1 without 1"),
        ({"levels": [4, 4]}, "levels belong to the quantizer fsq; give quantizer: {use: fsq, levels: ...}"),
        ({"quantizer": "fsq"}, "fsq needs both equal, levels of 2 or more, such as"),
        ({"quantizer": {"use": "fsq", "levels": [4, 3]}}, "make 12 codes, codebook_size is 16; fsq needs both equal"),
        ({"quantizer": {"use": "fsq", "levels": [16, 1]}}, "levels of 2 or more, such as"),
        ({"quantizer": "lfq", "codebook_size": 12}, "codebook_size is 12; lfq takes a power of two, such as 8"),
        ({"quantizer": "lfq", "codebook_size": 1}, "codebook_size is 1; lfq takes a power of two, such as 2"),
    ],
)
def test_settings_that_can_not_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        VQGAN(**SMALL | wrong)


def test_weights_come_back(tmp_path):
    torch.manual_seed(0)
    model = VQGAN(**SMALL)
    path = tmp_path / "tokenizer.safetensors"
    weights.save(model.state_dict(), path, {"use": "vqgan"} | SMALL)
    again = VQGAN(**SMALL, weights=str(path))
    images = torch.rand(1, 3, 8, 8)
    assert torch.equal(model.encode(images), again.encode(images))
    with pytest.raises(UserError, match=r"does not fit here: .* It was written for .*\"channels\": 8"):
        VQGAN(**SMALL | {"channels": 16}, weights=str(path))


def test_the_paper_s_tokenizer_has_stride_16_and_8192_codes():
    with torch.device("meta"):
        model = VQGAN()
        finetuned = VQGAN(decoder_channels=256, decoder_blocks=4)
    assert (model.stride, model.codebook_size) == (16, 8192)
    assert model.grid_shape(256, 256) == (16, 16)
    assert sum(p.numel() for p in model.encoder.parameters()) == sum(p.numel() for p in finetuned.encoder.parameters())
    assert finetuned.decoder.layers[0].out_channels == 1024
