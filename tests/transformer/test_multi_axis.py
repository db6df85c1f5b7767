"""Multi-axis attention against one written place by place, with the mask of who may look at whom spelt out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from muse_transformer.attention import MultiAxisAttention, SelfAttention


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention(heads, size, grid, block):
    torch.manual_seed(0)
    return MultiAxisAttention(heads * size, heads, grid, block)


def brute_force(layer, x):
    """float[B, N, width]: full attention under an explicit mask, one for each half of the heads."""
    (height, width), block = layer.grid, layer.block
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)

    def same(place):
        return place[:, None] == place[None]

    within = same(rows // block) & same(columns // block)
    across = same(rows % block) & same(columns % block)
    query, key, value = layer.project(x).chunk(3, -1)
    size, out = query.shape[-1] // layer.heads, []
    for head in range(layer.heads):
        cut = slice(head * size, (head + 1) * size)
        scores = layer.norm_query(query[..., cut]) @ layer.norm_key(key[..., cut]).transpose(1, 2) / size**0.5
        allowed = within if head < layer.heads // 2 else across
        out.append(scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ value[..., cut])
    return layer.out(torch.cat(out, -1))


@given(
    blocks=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    block=st.integers(1, 4),
    heads=st.sampled_from([2, 4, 6]),
    batch=st.integers(1, 3),
    learning=st.booleans(),
)
def test_it_is_full_attention_under_an_explicit_mask(blocks, block, heads, batch, learning):
    grid = (blocks[0] * block, blocks[1] * block)
    layer = attention(heads, 4, grid, block)
    x = draw(batch, grid[0] * grid[1], heads * 4, seed=1)
    with torch.set_grad_enabled(learning):
        torch.testing.assert_close(layer(x), brute_force(layer, x), atol=1e-5, rtol=1e-5)


def test_its_gradients_are_those_of_the_explicit_mask():
    grads = []
    for form in (MultiAxisAttention.forward, brute_force):
        layer, x = attention(4, 4, (4, 6), 2), draw(2, 24, 16).requires_grad_()
        form(layer, x).square().sum().backward()
        grads.append([x.grad, *(weight.grad for weight in layer.parameters())])
    for got, expected in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("block", "half"), [(4, slice(0, 2)), (1, slice(2, 4))], ids=["one block", "blocks of one"])
def test_where_an_axis_spans_the_grid_its_heads_are_plain_attention(block, half):
    layer, plain = attention(4, 4, (4, 4), block), SelfAttention(16, 4)
    plain.load_state_dict(layer.state_dict())
    with torch.no_grad():
        for one in (layer, plain):
            one.out.weight.copy_(torch.eye(16))
    x = draw(1, 16, 16)
    cut = slice(half.start * 4, half.stop * 4)
    torch.testing.assert_close(layer(x)[..., cut], plain(x)[..., cut])
    assert (layer(x) - plain(x)).abs().max() > 1e-3


def test_two_layers_reach_every_place():
    torch.manual_seed(0)
    one, two = (attention(2, 8, (6, 6), 3) for _ in range(2))
    x = draw(1, 36, 16).requires_grad_()
    two(one(x))[0, 0].sum().backward()
    assert (x.grad[0].abs().amax(-1) > 0).all()
