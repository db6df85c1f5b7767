"""The super-resolution transformer: what it looks at, what it must not mind, and what it refuses."""

import math

import pytest
import torch
from muse_transformer.attention import MultiAxisAttention
from muse_transformer.superres import SuperResolution, waves

from muse_studio.contracts import MASK
from muse_studio.testing.fakes import embedding

K, LOW_K, GRID, LOW_GRID = 11, 7, [4, 6], [2, 3]


def superres(seed=0, **settings):
    torch.manual_seed(seed)
    tokens = {"codebook_size": K, "grid": GRID, "low_codebook_size": LOW_K, "low_grid": LOW_GRID, "block": 2}
    sizes = {"text_width": 8, "width": 24, "layers": 2, "low_layers": 2, "heads": 2, "mlp": 40}
    model = SuperResolution(**tokens | sizes | settings)
    with torch.no_grad():  # weights far from their start, where every norm and bias shows
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def drawn(batch=2, seed=0):
    """Masked larger tokens and finished smaller ones."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, K, (batch, *GRID), generator=generator)
    low = torch.randint(0, LOW_K, (batch, *LOW_GRID), generator=generator)
    return torch.where(torch.rand(tokens.shape, generator=generator) < 0.5, MASK, tokens), low


@torch.no_grad()
def test_every_low_token_counts_everywhere():
    model, text = superres(), embedding(1)
    tokens, low = drawn(1)
    before = model(tokens, model.condition(text, low))
    for place in range(low.numel()):
        other = low.clone()
        other.view(-1)[place] = (other.view(-1)[place] + 1) % LOW_K
        changed = (model(tokens, model.condition(text, other)) - before).abs().amax(-1)
        assert (changed > 1e-4).all(), f"low token {place} does not reach every place"


@torch.no_grad()
def test_low_tokens_know_where_they_lie():
    model, text = superres(), embedding(1)
    tokens, _ = drawn(1)
    low = torch.tensor([[[1, 2, 2], [2, 2, 2]]])
    moved = low.flip(2)
    assert (model(tokens, model.condition(text, low)) - model(tokens, model.condition(text, moved))).abs().max() > 1e-3


@torch.no_grad()
def test_a_masked_low_token_is_not_looked_at():
    model, text = superres(), embedding(2)
    tokens, low = drawn()
    unknown = torch.full_like(low, MASK)
    deaf = superres()
    deaf.norm_low.weight.zero_()  # whatever the encoder says, it says the same
    deaf.norm_low.bias.fill_(5.0)
    expected = model(tokens, model.condition(text, unknown))
    torch.testing.assert_close(deaf(tokens, deaf.condition(text, unknown)), expected)
    assert (deaf(tokens, deaf.condition(text, low)) - expected).abs().max() > 1e-3
    half = torch.where(torch.tensor([True, False])[:, None, None], low, MASK)
    both = model(tokens, model.condition(text, half))
    torch.testing.assert_close(both[1], expected[1])
    torch.testing.assert_close(both[0], model(tokens, model.condition(text, low))[0])


@torch.no_grad()
def test_without_a_prompt_the_low_tokens_still_count_and_without_both_nothing_does():
    model, silent = superres(), superres()
    for block in silent.blocks:
        block.cross_attention.out.weight.zero_()
    text = embedding(2).null()
    tokens, low = drawn()
    unknown = torch.full_like(low, MASK)
    assert (
        model(tokens, model.condition(text, low)) - model(tokens, model.condition(text, unknown))
    ).abs().max() > 1e-3
    nothing = model(tokens, model.condition(text, unknown))
    assert torch.equal(nothing, silent(tokens, silent.condition(text, low)))


def test_the_low_grid_is_read_once_a_picture_not_once_a_step():
    model = superres()
    calls = []
    model.low_blocks[0].register_forward_pre_hook(lambda *given: calls.append(1))
    tokens, low = drawn()
    conditioning = model.condition(embedding(2), low)
    for _ in range(5):
        model(tokens, conditioning)
    assert len(calls) == 1


def test_its_trunk_looks_along_both_axes():
    model = superres()
    assert all(type(block.self_attention) is MultiAxisAttention for block in model.blocks)
    assert [(block.self_attention.grid, block.self_attention.block) for block in model.blocks] == [((4, 6), 2)] * 2


def test_checkpointing_changes_no_gradient_and_computes_each_block_again():
    results = []
    for checkpointing in (False, True):
        model, calls = superres(checkpointing=checkpointing).train(), []
        for block in (model.low_blocks[0], model.blocks[0]):
            block.register_forward_pre_hook(lambda *given, calls=calls: calls.append(1))
        tokens, low = drawn()
        loss = model(tokens, model.condition(embedding(2), low)).square().mean()
        loss.backward()
        assert len(calls) == (4 if checkpointing else 2)
        results.append([loss, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(plain, again) for plain, again in zip(*results, strict=True))


def test_autocast_agrees_with_float32():
    model, (tokens, low) = superres(), drawn()
    expected = model(tokens, model.condition(embedding(2), low))
    with torch.autocast("cpu", torch.bfloat16):
        got = model(tokens, model.condition(embedding(2), low))
    torch.testing.assert_close(got.float(), expected, atol=0.2, rtol=0.1)


def test_waves_by_hand():
    plane = waves(2, 4, 9)
    assert plane.shape == (2, 4, 9)
    # Centres lie at 1/4 and 3/4 of the height, at 1/8, 3/8, 5/8 and 7/8 of the width; frequencies are pi and 128 pi.
    for row, column in ((0, 0), (1, 2)):
        y, x = (row + 0.5) / 2 * math.pi, (column + 0.5) / 4 * math.pi
        by_hand = [f(angle * times) for angle in (y, x) for f in (math.sin, math.cos) for times in (1, 128)]
        torch.testing.assert_close(plane[row, column], torch.tensor([*by_hand, 0.0]), atol=1e-4, rtol=0)


def test_both_grids_start_alike_where_they_lie_over_each_other():
    torch.manual_seed(0)
    model = SuperResolution(K, [8, 8], LOW_K, [4, 4], text_width=8, width=64, layers=1, low_layers=1, heads=2, block=2)
    high, low = model.positions.detach().flatten(0, 1), model.low_positions.detach().flatten(0, 1)
    nearest = torch.cdist(high, low).argmin(1).view(8, 8)
    rows, columns = torch.arange(8) // 2, torch.arange(8) // 2
    assert torch.equal(nearest, rows[:, None] * 4 + columns[None])


def test_what_it_refuses():
    model, (tokens, low) = superres(), drawn()
    with pytest.raises(ValueError, match="needs the finished tokens of a stage before it; put it behind a base stage"):
        model.condition(embedding(2))
    with pytest.raises(ValueError, match=r"gives a grid of \(3, 3\) tokens, the transformer 'superres' has low_grid"):
        model.condition(embedding(2), torch.zeros(2, 3, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"a grid of \(6, 4\) tokens was given, the transformer has grid \(4, 6\)"):
        model(tokens.transpose(1, 2), model.condition(embedding(2), low))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"block": 3}, "block is 3, which does not divide the grid of 4x6 tokens; these do: 1, 2"),
        ({"heads": 3}, "heads is 3; it must be even: half of them look within blocks, half across"),
        ({"heads": 10}, "heads is 10, which width 24 does not divide into"),
        ({"low_layers": 0}, "low_layers, mlp, block must be 1 or more"),
        ({"low_grid": [2]}, r"low_grid is \[2\]; give its two sides in tokens"),
    ],
)
def test_settings_that_can_not_be(wrong, said):
    with pytest.raises(ValueError, match=said):
        SuperResolution(
            **{"codebook_size": K, "grid": GRID, "text_width": 8, "width": 24, "heads": 2, "block": 2} | wrong
        )
