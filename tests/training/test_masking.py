"""What is hidden, how much, which text is dropped, and what the loss sees; against formulas and by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from muse_sampling.schedules import Cosine, Linear

from muse_studio.contracts import MASK, TextEmbedding
from muse_studio.sampling.masking import corrupt, corruption, drop_text, hide, keep_text, mask_tokens, masked_loss
from muse_studio.testing.fakes import embedding


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ratios(schedule, count, seed=0):
    """The ratios that `mask_tokens` draws: its first draw of the generator."""
    return schedule(torch.rand(count, generator=seeded(seed)))


@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 9), st.integers(0, 999))
def test_as_many_as_the_ratio_says_and_at_least_one(count, height, width, seed):
    hidden = mask_tokens(count, (height, width), Cosine(), seeded(seed))
    expected = [max(1, math.ceil(ratio * height * width)) for ratio in ratios(Cosine(), count, seed)]
    assert hidden.dtype == torch.bool
    assert hidden.sum((1, 2)).tolist() == expected


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (1e-6, 1), (0.5, 8), (0.51, 9), (1.0, 16)])
def test_counts_at_fixed_ratios(share, expected):
    hidden = mask_tokens(3, (4, 4), lambda u: torch.full_like(u, share), seeded())
    assert hidden.sum((1, 2)).tolist() == [expected] * 3


def test_places_are_uniform_and_rows_differ():
    hidden = mask_tokens(8000, (3, 4), lambda u: torch.full_like(u, 0.25), seeded())
    counts = hidden.sum(0).flatten().double()
    expected = 8000 * 3 / 12
    assert ((counts - expected) ** 2 / expected).sum() < 31.3  # the 0.1% point of 11 degrees of freedom
    pairs = hidden.flatten(1).double().T @ hidden.flatten(1).double()
    together = pairs[~torch.eye(12, dtype=torch.bool)] / 8000
    assert (together - 3 / 12 * 2 / 11).abs().max() < 0.01


def test_the_cosine_schedule_draws_muse_s_density():
    """p(r) = (2/pi) (1 - r^2)^(-1/2), whose distribution function is (2/pi) arcsin(r); section 2.6."""
    count = 10_000
    drawn = ratios(Cosine(), count).double().sort().values
    below = 2 / math.pi * torch.arcsin(drawn)
    steps = torch.arange(count + 1).double() / count
    distance = torch.maximum((steps[1:] - below).abs().max(), (below - steps[:-1]).abs().max())
    assert distance < 1.95 / math.sqrt(count)  # Kolmogorov and Smirnov, the 0.1% point
    assert drawn.mean().item() == pytest.approx(2 / math.pi, abs=0.01)
    assert drawn.median().item() == pytest.approx(math.sqrt(0.5), abs=0.01)
    assert (drawn > 0.5).double().mean().item() == pytest.approx(2 / 3, abs=0.015)
    linear = ratios(Linear(), count)
    assert linear.mean().item() == pytest.approx(0.5, abs=0.01), "the schedule does not reach the ratios"


def test_the_shares_hidden_follow_the_schedule():
    hidden = mask_tokens(4000, (16, 16), Cosine(), seeded(3))
    shares = hidden.float().mean((1, 2))
    assert shares.mean().item() == pytest.approx(2 / math.pi + 0.5 / 256, abs=0.015)
    assert shares.median().item() == pytest.approx(math.sqrt(0.5), abs=0.02)


def test_hiding():
    tokens = torch.arange(4).view(1, 2, 2)
    assert hide(tokens, tokens > 1).tolist() == [[[0, 1], [MASK, MASK]]]
    assert tokens.tolist() == [[[0, 1], [2, 3]]]


def kept(share, rows=2000):
    text = TextEmbedding(torch.ones(rows, 2, 3), torch.tensor([[True, False]]).expand(rows, 2), torch.ones(rows, 4))
    return text, drop_text(text, keep_text(rows, share, seeded()))


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 1, 1), (0.1, 0.88, 0.92), (0.7, 0.27, 0.33), (1.0, 0, 0)])
def test_the_share_dropped_is_the_share_given(share, low, high):
    text, dropped = kept(share)
    assert low <= dropped.mask.any(1).float().mean() <= high
    assert torch.equal(dropped.states, text.states)
    assert not dropped.mask[:, 1].any(), "padding was made to count"
    assert torch.equal(dropped.pooled[:, 0] == 1, dropped.mask[:, 0])


def test_dropped_rows_by_hand():
    drawn = torch.rand(4, generator=seeded(7))
    text = embedding(4)
    share = drawn.sort().values[1:3].mean().item()  # two of the four lie below
    dropped = drop_text(text, keep_text(4, share, seeded(7)))
    for row in range(4):
        expected = text.mask[row] if drawn[row] >= share else torch.zeros_like(text.mask[row])
        assert torch.equal(dropped.mask[row], expected)
    assert dropped.mask.any(1).sum() == 2
    assert drop_text(TextEmbedding(text.states, text.mask), torch.zeros(4, dtype=torch.bool)).pooled is None


def test_the_loss_by_hand():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 5.0], [0.0, 3.0, 0.0]]).view(1, 2, 2, 3)
    tokens = torch.tensor([[[0, 0], [2, 2]]])
    hidden = torch.tensor([[[True, True], [False, True]]])
    loss, right = masked_loss(logits, tokens, hidden)
    each = [
        math.log(math.exp(2) + 2) - 2,
        math.log(math.exp(1) + 2),
        math.log(math.exp(3) + 2),
    ]
    assert loss.item() == pytest.approx(sum(each))
    assert right.tolist() == [1]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_torch_s_over_the_hidden_alone(smoothing):
    generator = seeded()
    logits = torch.randn(3, 4, 5, 7, generator=generator).requires_grad_()
    tokens = torch.randint(0, 7, (3, 4, 5), generator=generator)
    hidden = mask_tokens(3, (4, 5), Cosine(), generator)
    loss, right = masked_loss(logits, tokens, hidden, smoothing)
    expected = torch.nn.functional.cross_entropy(
        logits[hidden], tokens[hidden], label_smoothing=smoothing, reduction="sum"
    )
    torch.testing.assert_close(loss, expected)
    for row in range(3):
        guessed = logits[row][hidden[row]].argmax(-1)
        assert right[row] == (guessed == tokens[row][hidden[row]]).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[~hidden] == 0).all() and (gradient[hidden] != 0).any(-1).all()
    with torch.no_grad():
        logits[~hidden] = 100 * torch.randn(int((~hidden).sum()), 7, generator=generator)
    assert masked_loss(logits, tokens, hidden, smoothing)[0].item() == pytest.approx(loss.item())


def test_halves_are_weighed_in_float32():
    logits = torch.randn(1, 2, 2, 5, generator=seeded()).bfloat16()
    loss, _ = masked_loss(logits, torch.ones(1, 2, 2, dtype=torch.int64), torch.ones(1, 2, 2, dtype=torch.bool))
    assert loss.dtype == torch.float32


def test_corruption_replaces_an_even_spread_of_shares():
    low = torch.full((4000, 4, 4), 7)
    mixed = corrupt(low, corruption(4000, (4, 4), 1000, 0.6, seeded()))
    shares = (mixed != low).float().mean((1, 2))
    assert shares.mean().item() == pytest.approx(0.3, abs=0.01)
    assert shares.std().item() == pytest.approx((0.6**2 / 12 + (0.3 - 0.12) / 16) ** 0.5, abs=0.01)
    assert mixed.min() >= 0 and mixed.max() < 1000
    assert mixed[mixed != low].float().mean().item() == pytest.approx(499.5, abs=10)
    assert torch.equal(corrupt(low, corruption(4000, (4, 4), 1000, 0.0, seeded())), low)
    assert (low == 7).all()
