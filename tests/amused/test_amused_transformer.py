"""aMUSEd's transformer as a part: refusals, the empty sentence, checkpointing; tests/weights holds its numbers."""

import pytest
import torch
from muse_amused.transformer import Amused

from muse_studio.contracts import MASK, TextEmbedding
from muse_studio.errors import UserError
from muse_studio.runtime import weights

SMALL = {
    "codebook_size": 30, "vocabulary": 33, "grid": [4, 6], "stride": 8, "text_width": 8, "text_positions": 5,
    "pooled_width": 6, "token_width": 12, "channels": 16, "conv_blocks": 1, "conv_heads": 2, "width": 32, "layers": 1,
    "heads": 4, "mlp": 40, "frequencies": 4,
}  # fmt: skip


def small(**settings):
    torch.manual_seed(0)
    return Amused(**SMALL | settings).eval()


def text(positions=5, batch=2):
    return TextEmbedding(
        torch.randn(batch, positions, 8), torch.ones(batch, positions, dtype=torch.bool), torch.randn(batch, 6)
    )


@torch.no_grad()
@pytest.mark.parametrize("positions", [3, 5, 9])
def test_no_prompt_is_the_empty_sentence(positions):
    model = small()
    model.empty_states.normal_()
    model.empty_pooled.normal_()
    tokens = torch.full((1, 4, 6), MASK)
    whole = TextEmbedding(model.empty_states[None], torch.ones(1, 5, dtype=torch.bool), model.empty_pooled[None])
    expected = model(tokens, model.condition(whole))
    got = model(tokens, model.condition(text(positions, 1).null()))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert (model(tokens, model.condition(text(positions, 1))) - expected).abs().max() > 1e-3


def test_the_five_numbers_are_width_height_crop_and_score():
    model = small(crop=[3, 4], aesthetic=5.5)
    assert model.numbers(None, torch.zeros(2)).tolist() == [[48.0, 32.0, 3.0, 4.0, 5.5]] * 2


@torch.no_grad()
def test_what_is_known_of_a_picture_stands_in_their_place():
    model, usual, tokens = small(crop=[3, 4], aesthetic=5.5), text(), torch.full((2, 4, 6), MASK)
    nan = torch.nan
    known = torch.tensor([[nan, nan, nan, nan, nan], [640, nan, nan, 12, 9]])
    told = usual._replace(micro=known)
    assert model.numbers(known, known).tolist() == [[48.0, 32.0, 3.0, 4.0, 5.5], [640.0, 32.0, 3.0, 12.0, 9.0]]
    before, after = (model(tokens, model.condition(each)) for each in (usual, told))
    assert torch.equal(before[0], after[0])
    other = small(crop=[3, 12], aesthetic=9)
    other.numbers = lambda micro, rows: torch.tensor([[640.0, 32.0, 3.0, 12.0, 9.0]]).expand(len(rows), -1)
    torch.testing.assert_close(after[1], other(tokens, other.condition(usual))[1])
    assert (after[1] - before[1]).abs().max() > 1e-4


def test_checkpointing_changes_no_gradient():
    tokens, said, gradients = torch.full((2, 4, 6), MASK), text(), []
    for checkpointing in (False, True):
        model = small(checkpointing=checkpointing, halved=True)
        model(tokens, model.condition(said)).square().mean().backward()
        gradients.append(model.blocks[0].mlp.widen.weight.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0


def test_weights_are_loaded_and_their_settings_are_told(tmp_path):
    first = small()
    weights.save(first.state_dict(), tmp_path / "w.safetensors", {"use": "amused", **SMALL})
    again = small(weights=str(tmp_path / "w.safetensors"))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in first.state_dict().items())
    with pytest.raises(UserError, match=r"does not fit here: .* It was written for .*amused"):
        small(mlp=44, weights=str(tmp_path / "w.safetensors"))
    with pytest.raises(ValueError, match="adapters change weights, and there are none"):
        small(adapters=[object()])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 5}, "heads is 5, which width 32 does not divide into"),
        ({"conv_heads": 3}, "conv_heads is 3, which channels 16 does not divide into"),
        ({"layers": 0}, "layers is 0; give 1 or more"),
        ({"vocabulary": 30}, "vocabulary is 30; it must be more than codebook_size"),
        ({"grid": [4]}, r"grid is \[4\]; give two numbers, each 1 or more"),
        ({"grid": [4, 5], "halved": True}, r"grid is \[4, 5\], which can't be halved"),
        ({"crop": [0, -1]}, r"crop is \[0, -1\]; give two numbers, each 0 or more"),
        ({"frequencies": 5}, "frequencies is 5; give an even number, 2 or more"),
    ],
)
def test_sizes_that_can_t_be_are_told_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        small(**settings)


def test_what_it_is_asked_must_fit():
    model = small()
    with pytest.raises(ValueError, match="is a base model and takes no low-resolution tokens"):
        model.condition(text(), torch.zeros(2, 2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"needs a pooled text vector.* choose text encoder 'clip'"):
        model.condition(text()._replace(pooled=None))
    with pytest.raises(ValueError, match=r"a grid of \(6, 4\) tokens was given, the transformer has grid \(4, 6\)"):
        model(torch.full((2, 6, 4), MASK), model.condition(text()))
