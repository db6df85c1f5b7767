"""Attention: the written-out form is the fused one, and nothing to look at means nothing seen."""

import pytest
import torch
import torch.nn.functional as F
from muse_transformer.attention import CrossAttention, HeadNorm, attend

from muse_studio.nn.layers import merge_heads, split_heads


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("masked", [False, True])
def test_written_out_attention_is_the_fused_kernel_s(masked):
    mask = (
        torch.tensor([[1, 1, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]], dtype=torch.bool)[:, None, None]
        if masked
        else None
    )
    results = []
    for form in (attend, lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m)):
        tensors = [draw(2, 3, length, 8, seed=seed).requires_grad_() for seed, length in enumerate((5, 7, 7))]
        out = form(*tensors, mask)
        out.backward(draw(*out.shape, seed=9))
        results.append([out.detach(), *(tensor.grad for tensor in tensors)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_drawing_takes_the_fused_kernel(monkeypatch):
    asked = []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *given, **more: asked.append(more) or given[0])
    tensors = [draw(1, 1, 4, 8) for _ in range(3)]
    attend(*tensors)
    assert asked == []
    with torch.no_grad():
        attend(*tensors)
    assert len(asked) == 1


def test_heads_are_split_and_merged_back():
    x = draw(2, 5, 12)
    assert split_heads(x, 3).shape == (2, 3, 5, 4)
    assert torch.equal(split_heads(x, 3)[1, 2, 4], x[1, 4, 8:12])
    assert torch.equal(merge_heads(split_heads(x, 3)), x)


def test_a_head_norm_by_hand():
    norm = HeadNorm(4)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 1.0, 1.0]))
    x = torch.tensor([3.0, 4.0, 0.0, 0.0])
    torch.testing.assert_close(norm(x), x / 2.5 * norm.weight)  # the root of the mean square of 3, 4, 0, 0 is 2.5
    assert norm(x.bfloat16()).dtype == torch.bfloat16


def test_a_row_with_nothing_to_look_at_gets_exact_zeros_and_finite_gradients():
    torch.manual_seed(0)
    cross = CrossAttention(12, 3)
    x, memory = draw(2, 4, 12).requires_grad_(), draw(2, 6, 12, seed=1).requires_grad_()
    mask = torch.tensor([[True, True, False, False, False, False], [False] * 6])
    seen = cross(x, *cross.remember(memory), mask)
    assert (seen[1] == 0).all() and (seen[0] != 0).any()
    seen.square().sum().backward()
    assert (x.grad[1] == 0).all() and (memory.grad[1] == 0).all()
    assert (memory.grad[0, 2:] == 0).all(), "a padding position was looked at"
    assert all(parameter.grad.isfinite().all() for parameter in cross.parameters())
