"""What the transformers may have beside Muse's own: each by hand, off by default, and what each refuses."""

import math

import pytest
import torch
from muse_transformer.attention import SelfAttention
from muse_transformer.muse import MuseTransformer
from muse_transformer.options import Gate, MaskRatio, Options, Rotation, Sketching, fold_cells, unfold_cells
from muse_transformer.superres import SuperResolution

from muse_studio.contracts import MASK
from muse_studio.errors import SettingError
from muse_studio.sampling.feature_cache import Cache
from muse_studio.testing import embedding

K, GRID = 11, [4, 6]
SKETCH = Sketching(things=3, manners=2, rank=5, code_width=4)
ALL = Options(rope=True, swiglu=True, mask_ratio=True, registers=3, fold=2, sketch=SKETCH)


def muse(options=None, **more):
    torch.manual_seed(0)
    model = MuseTransformer(K, GRID, text_width=8, width=32, layers=2, heads=4, mlp=40, options=options, **more)
    with torch.no_grad():  # weights far from their start, where every one shows
        for parameter in [*model.parameters(), *model.buffers()]:
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def grids(batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, K, (batch, *GRID), generator=generator)
    return torch.where(torch.rand(tokens.shape, generator=generator) < 0.5, MASK, tokens)


@torch.no_grad()
def logits(model, tokens, *places):
    return model(tokens, model.condition(embedding(len(tokens))), *places)


def test_a_turned_vector_by_hand():
    """Complex numbers: the first pair turns by the row, the second by the column, each at the one frequency of 1."""
    x, rotation = torch.randn(1, 1, 6, 4, generator=torch.Generator().manual_seed(1)), Rotation((2, 3), 4)
    for place, got in enumerate(rotation(x)[0, 0].tolist()):
        a, b, c, d = x[0, 0, place].tolist()
        row, column = divmod(place, 3)
        first, second = complex(a, c) * complex(math.cos(row), math.sin(row)), complex(b, d)
        second *= complex(math.cos(column), math.sin(column))
        assert got == pytest.approx([first.real, second.real, first.imag, second.imag], abs=1e-6)


def test_what_turned_vectors_have_in_common_is_how_far_apart_they_are():
    rotation, (query, key) = Rotation((5, 7), 16), torch.randn(2, 16)
    queries, keys = (rotation(each.expand(1, 1, 35, 16))[0, 0].view(5, 7, 16) for each in (query, key))
    near = queries[1, 1] @ keys[2, 3]
    torch.testing.assert_close(queries[3, 4] @ keys[4, 6], near)
    assert abs(near - queries[1, 1] @ keys[3, 2]) > 1e-3
    assert torch.equal(rotation(query.expand(1, 1, 35, 16))[0, 0, 0], query)


def test_some_places_turn_as_they_do_among_all_and_registers_do_not():
    rotation, x = Rotation((3, 4), 8, first=2), torch.randn(2, 4, 14, 8)
    places = torch.tensor([[5, 0, 13], [1, 7, 7]])
    index = places[:, None, :, None].expand(-1, 4, -1, 8)
    torch.testing.assert_close(rotation(x.gather(2, index), places), rotation(x).gather(2, index))
    assert torch.equal(rotation(x)[:, :, :2], x[:, :, :2])


def test_attention_turns_queries_and_keys_alone():
    torch.manual_seed(0)
    plain, turned = SelfAttention(16, 2), SelfAttention(16, 2, Rotation((2, 3), 8))
    turned.load_state_dict(plain.state_dict())
    x = torch.randn(1, 6, 16)
    (query, key, value), (q, k, v) = plain.divide(x), turned.divide(x)
    torch.testing.assert_close((q, k), (turned.rotation(query), turned.rotation(key)))
    assert torch.equal(value, v)


def test_a_gated_layer_by_hand():
    torch.manual_seed(0)
    gate, x = Gate(3, 2), torch.randn(5, 3)
    made = x @ gate.project.weight.T + gate.project.bias
    expected = made[:, :2] / (1 + (-made[:, :2]).exp()) * made[:, 2:]
    torch.testing.assert_close(gate(x), expected)


def test_the_masked_share_is_told_alone():
    torch.manual_seed(0)
    told = MaskRatio(8)
    tokens = torch.tensor([[[1, MASK], [2, 3]], [[MASK, 0], [0, 0]], [[MASK, MASK], [0, 0]]])
    first, second, third = told(tokens)
    assert torch.equal(first, second) and not torch.equal(first, third)
    waves = torch.tensor([math.cos(math.pi * k / 4) for k in range(16)])
    torch.testing.assert_close(first[0], told.project(waves))


def test_folded_cells_by_hand():
    x = torch.arange(2 * 4 * 6 * 3.0).view(2, 4, 6, 3)
    folded = fold_cells(x, 2)
    assert folded.shape == (2, 2, 3, 12)
    assert torch.equal(folded[1, 1, 2], torch.cat([x[1, 2, 4], x[1, 2, 5], x[1, 3, 4], x[1, 3, 5]]))
    assert torch.equal(unfold_cells(folded, 2), x)


def test_off_there_is_no_weight_more():
    assert muse().state_dict().keys() == muse(Options()).state_dict().keys()
    assert torch.equal(logits(muse(), grids()), logits(muse(Options()), grids()))
    assert not [
        name
        for name in muse().state_dict()
        if "unfold" in name or "ratio" in name or "registers" in name or "sketch" in name
    ]


def test_how_many_weights_each_brings():
    def count(**more):
        return sum(each.numel() for each in muse(Options(**more)).parameters()) - plain

    plain = 0
    plain = count()
    assert count(rope=True) == 0 and count(dropout=0.3) == 0
    assert count(swiglu=True) == 2 * (32 + 1) * 40
    assert count(mask_ratio=True) == (16 + 1) * 32 + (32 + 1) * 32
    assert count(registers=5) == 5 * 32
    assert count(sketch=SKETCH) == 4 * 32 + 32 + 2 + 32 + 1
    assert count(fold=2) == -(K + 1) * 24 - 18 * 32 + (32 + 1) * 128


@pytest.mark.parametrize(
    "options",
    [
        {"rope": True},
        {"swiglu": True},
        {"mask_ratio": True},
        {"registers": 2},
        {"fold": 2},
        {"sketch": SKETCH},
        {"rope": True, "swiglu": True, "mask_ratio": True, "registers": 3, "fold": 2, "sketch": SKETCH},
    ],
    ids=str,
)
def test_some_places_get_the_logits_that_they_have_among_all(options):
    model, tokens = muse(Options(**options)), grids()
    every, places = logits(model, tokens), torch.tensor([[3, 0, 23], [7, 8, 9]])
    assert every.shape == (2, 4, 6, K)
    some = every.flatten(1, 2).gather(1, places[..., None].expand(-1, -1, K))
    torch.testing.assert_close(logits(model, tokens, places), some, atol=1e-5, rtol=1e-5)
    assert (every - logits(muse(), tokens)).abs().max() > 1e-2, "it changes nothing"
    other = tokens.clone()
    other[:, 3, 5] = torch.where(tokens[:, 3, 5] == 4, 5, 4)
    assert (logits(model, other) - every)[:, 0, 0].abs().max() > 1e-6, "the first place sees nothing of the last"


def test_dropout_is_training_s_alone():
    model, tokens = muse(Options(dropout=0.5)), grids()
    assert torch.equal(logits(model, tokens), logits(muse(), tokens))
    model.train()
    assert not torch.equal(logits(model, tokens), logits(model, tokens))


def test_a_position_that_is_no_token_has_no_cache():
    for options in (Options(registers=1), Options(fold=2)):
        with pytest.raises(SettingError, match="can't be computed at some places alone"):
            Cache().check(muse(options))
    Cache().check(muse(Options(rope=True, swiglu=True, mask_ratio=True, sketch=SKETCH)))


def test_super_resolution_takes_them_but_registers():
    torch.manual_seed(0)
    sizes = {"text_width": 8, "width": 32, "layers": 2, "low_layers": 1, "heads": 4, "block": 2}
    options = Options(rope=True, swiglu=True, mask_ratio=True, fold=2, dropout=0.1)
    model = SuperResolution(K, [8, 4], K, [4, 2], options=options, **sizes).eval()
    assert model.cells == (4, 2) and model.positions.shape == (4, 2, 32)
    low, tokens = torch.zeros(2, 4, 2, dtype=torch.int64), torch.full((2, 8, 4), MASK)
    with torch.no_grad():
        assert model(tokens, model.condition(embedding(2), low)).shape == (2, 8, 4, K)
    with pytest.raises(ValueError, match=r"options\.registers is 1; they have no place in blocks"):
        SuperResolution(K, [8, 4], K, [4, 2], options=Options(registers=1), **sizes)
    with pytest.raises(ValueError, match="block is 4, which does not divide the grid of 4x2 positions; these do: 1, 2"):
        SuperResolution(K, [8, 4], K, [4, 2], options=options, **sizes | {"block": 4})


def test_they_all_learn():
    model = muse(ALL).train()
    tokens, hidden = grids().clamp(min=0), torch.rand(2, *GRID) < 0.5
    asked = model(tokens.masked_fill(hidden, MASK), model.condition(embedding(2)))
    torch.nn.functional.cross_entropy(asked[hidden], tokens[hidden]).backward()
    still = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert still == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dropout": 1.0}, r"options\.dropout is 1\.0; give a share from 0, below 1"),
        ({"registers": -1}, r"options\.registers is -1; give 0 or more"),
        ({"fold": 0}, r"options\.fold is 0; give 1 for none"),
        (
            {"fold": 3},
            r"options\.fold is 3; it must divide both sides of the grid \[4, 6\], and its square the width 32",
        ),
    ],
)
def test_what_can_not_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        muse(Options(**wrong))


def test_heads_that_can_not_be_turned():
    with pytest.raises(ValueError, match=r"options\.rope turns quarters of a head, whose width is 6"):
        MuseTransformer(K, GRID, text_width=8, width=24, layers=1, heads=4, options=Options(rope=True))
