"""MaskGIT's transformer as a part: the class's token, mixtures, checkpointing, refusals."""

import pytest
import torch
from muse_maskgit.classes import Class
from muse_maskgit.transformer import MaskGIT

from muse_studio.contracts import MASK, TextEmbedding
from muse_studio.errors import UserError
from muse_studio.runtime import weights

SMALL = {"codebook_size": 30, "classes": 7, "grid": [4, 6], "width": 32, "layers": 2, "heads": 4, "mlp": 40}


def small(**settings):
    torch.manual_seed(0)
    return MaskGIT(**SMALL | settings).eval()


@torch.no_grad()
def test_the_token_in_front_is_the_class_s_row_behind_the_codes():
    model = small()
    (front,) = model.condition(Class(7)(["0", "6", ""]))
    assert torch.equal(front, model.embed.weight[[30, 36, 37]])


@torch.no_grad()
def test_several_classes_are_their_mean():
    model = small()
    both = Class(7)(["2", "5"])
    text = TextEmbedding(both.states.view(1, 2, 7), torch.tensor([[True, True]]))
    torch.testing.assert_close(model.condition(text)[0], model.embed.weight[[32, 35]].mean(0, keepdim=True))


def test_checkpointing_changes_no_gradient():
    tokens, said, gradients = torch.full((2, 4, 6), MASK), Class(7)(["1", ""]), []
    for checkpointing in (False, True):
        model = small(checkpointing=checkpointing)
        model(tokens, model.condition(said)).square().mean().backward()
        gradients.append(model.blocks[0].mlp[0].weight.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0


def test_weights_are_loaded_and_their_settings_are_told(tmp_path):
    first = small()
    weights.save(first.state_dict(), tmp_path / "w.safetensors", {"use": "maskgit", **SMALL})
    again = small(weights=str(tmp_path / "w.safetensors"))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in first.state_dict().items())
    with pytest.raises(UserError, match=r"does not fit here: .* It was written for .*maskgit"):
        small(mlp=44, weights=str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 5}, "heads is 5, which width 32 does not divide into"),
        ({"heads": 0}, "heads is 0; give 1 or more"),
        ({"layers": 0}, "layers is 0; give 1 or more"),
        ({"classes": 0}, "classes is 0; give 1 or more"),
        ({"grid": [4]}, r"grid is \[4\]; give two numbers, each 1 or more"),
    ],
)
def test_sizes_that_can_t_be_are_told_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        small(**settings)


def test_what_it_is_asked_must_fit():
    model = small()
    with pytest.raises(ValueError, match="is a base model and takes no low-resolution tokens"):
        model.condition(Class(7)(["1"]), torch.zeros(1, 2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"a grid of \(6, 4\) tokens was given, the transformer has grid \(4, 6\)"):
        model(torch.full((1, 6, 4), MASK), model.condition(Class(7)(["1"])))
