"""The entropy-bounded sampler: which places a step fixes, by brute force; how often it asks; what is refused."""

import itertools
import math

import pytest
import torch
from asked import Model
from hypothesis import given, settings
from hypothesis import strategies as st
from muse_sampling.confidence import Confidence
from muse_sampling.entropy_bounded import EntropyBounded, entropy, surest
from muse_sampling.schedules import Cosine

from muse_studio.contracts import MASK
from muse_studio.sampling.noise import Rows


def seeded(seed):
    return torch.Generator().manual_seed(seed)


EIGHTHS = st.integers(0, 48).map(lambda count: count / 8)  # whose sums are exact, in any order


@given(st.lists(st.tuples(EIGHTHS, st.booleans(), EIGHTHS), min_size=1, max_size=8), EIGHTHS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_step_fixes_the_largest_prefix_within_the_bound(places, bound, shuffled):
    values, masked, keys = (list(each) for each in zip(*places, strict=True))
    entropies, open_ = torch.tensor(values).view(1, 1, -1), torch.tensor(masked).view(1, 1, -1)
    keys = keys if shuffled else values
    order = sorted((i for i in range(len(values)) if masked[i]), key=lambda i: (keys[i], i))
    wanted: list[int] = []
    for count in range(1, len(order) + 1):
        prefix = [float(entropies.flatten()[i]) for i in order[:count]]
        if count == 1 or sum(prefix) - max(prefix) <= bound:
            wanted = order[:count]
    by = torch.tensor(keys).view(1, 1, -1) if shuffled else None
    got = surest(entropies, open_, bound, by).flatten().nonzero().flatten().tolist()
    assert got == sorted(wanted)


def test_the_entropy_by_hand():
    logits = torch.tensor([[[0.0, 0.0], [math.log(3.0), 0.0]]])
    assert entropy(logits).tolist()[0] == pytest.approx([math.log(2), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))])


class Counted(Model):
    asked = 0

    def __call__(self, tokens, progress):
        self.asked += 1
        return super().__call__(tokens, progress)


def test_a_bound_of_0_fixes_one_a_step_and_a_large_one_all():
    tokens = torch.full((1, 3, 4), MASK)
    slow, fast = Counted(0, 12, 5), Counted(0, 12, 5)
    one = list(EntropyBounded(40, bound=0.0)(slow, tokens, Cosine(), seeded(1)))
    assert [int((grid == MASK).sum()) for grid in one[:12]] == list(range(11, -1, -1))
    assert len(one) == 40 and slow.asked == 12 and all(torch.equal(grid, one[11]) for grid in one[11:])
    first, *_ = EntropyBounded(40, bound=1e6)(fast, tokens, Cosine(), seeded(1))
    assert first.min() >= 0 and fast.asked == 1


def test_the_last_step_fixes_all_that_is_left():
    *_, last = EntropyBounded(3, bound=0.0)(Model(0, 20, 5), torch.full((2, 4, 5), MASK), Cosine(), seeded(1))
    assert last.min() >= 0


def test_more_is_fixed_a_step_the_larger_the_bound():
    asked = []
    for bound in (0.5, 2.0, 8.0, 32.0):
        model = Counted(0, 64, 5)
        list(EntropyBounded(64, bound=bound)(model, torch.full((1, 8, 8), MASK), Cosine(), seeded(1)))
        asked.append(model.asked)
    assert all(more > less for more, less in itertools.pairwise(asked)) and asked[0] > 4 * asked[-1]


def test_a_picture_of_a_batch_is_the_one_drawn_alone():
    tokens = torch.full((2, 4, 5), MASK)
    tokens[0, 1:] = 3
    *_, both = EntropyBounded(9, bound=3.0)(Model(0, 20, 5), tokens, Cosine(), Rows.seeded([4, 5]))
    for row in (0, 1):
        *_, own = EntropyBounded(9, bound=3.0)(Model(0, 20, 5), tokens[row : row + 1], Cosine(), Rows.seeded([4 + row]))
        assert torch.equal(own[0], both[row])


CODES, PLACES, PICTURES = 4, 64, 300
MOVE = torch.tensor(
    [[0.9, 0.08, 0.01, 0.01], [0.02, 0.1, 0.78, 0.1], [0.25, 0.25, 0.25, 0.25], [0.47, 0.03, 0.03, 0.47]],
    dtype=torch.float64,
)
"""A chain over 8x8 places in reading order, some of whose moves are nearly certain and others all alike."""
START = torch.linalg.matrix_power(MOVE, 500)[0]


class Chain:
    """A model that is exact: each place's chances given all known tokens, by forward and backward sums over the chain.

    asked: how often, a mean over the pictures.
    """

    asked = 0.0

    def __call__(self, tokens, progress):
        flat = tokens.flatten(1)
        self.asked += (flat == MASK).any(1).double().mean().item()
        said = torch.where(
            (flat == MASK)[..., None], 1.0, torch.nn.functional.one_hot(flat.clamp(min=0), CODES).double()
        )
        before, behind = [START.expand(len(flat), CODES)], [torch.ones(len(flat), CODES, dtype=torch.float64)]
        for place in range(PLACES - 1):
            ahead = (before[-1] * said[:, place]) @ MOVE
            before.append(ahead / ahead.sum(1, keepdim=True))
            back = (said[:, PLACES - 1 - place] * behind[-1]) @ MOVE.T
            behind.append(back / back.sum(1, keepdim=True))
        chances = torch.stack(before, 1) * torch.stack(behind[::-1], 1)
        return chances.log().float().view(*tokens.shape, CODES)


def apart(sampler):
    """Total variation of runs of four places from the chain's, and how often the model was asked for a picture."""
    model = Chain()
    *_, last = sampler(model, torch.full((PICTURES, 8, 8), MASK), Cosine(), seeded(0))
    runs = last.flatten(1).unfold(1, 4, 1).reshape(-1, 4) @ torch.tensor([64, 16, 4, 1])
    found = torch.bincount(runs, minlength=256) / len(runs)
    first, second, third = MOVE[:, :, None, None], MOVE[None, :, :, None], MOVE[None, None]
    exact = (START[:, None, None, None] * first * second * third).flatten()
    return (found - exact).abs().sum().item() / 2, model.asked


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "bound"), [(4, 12.5), (8, 5.4), (16, 2.2), (32, 0.9)])
def test_it_is_nearer_to_a_known_joint_than_confidence_is_at_as_many_forwards(steps, bound):
    ours, asked = apart(EntropyBounded(PLACES, bound=bound))
    assert 0.8 * steps < asked <= steps
    for temperature in (0.0, 4.5):
        theirs, forwards = apart(Confidence(steps, temperature))
        assert ours < theirs and forwards == steps


@pytest.mark.slow
def test_one_a_step_is_as_exact_as_the_sample_is_large():
    ours, asked = apart(EntropyBounded(PLACES, bound=0.0))
    assert ours < 0.04 and asked > PLACES - 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bound": -1.0}, r"bound is -1\.0; give 0 nats \(one token a step\) or more"),
        ({"bound": math.inf}, "bound is inf"),
        ({"spread": -0.1}, r"spread is -0\.1; give 0 nats"),
        ({"steps": 0}, "steps is 0; give 1 or more"),
        (
            {"sampling_temperature": 0.0},
            r"sampling_temperature is 0\.0; where nothing is left to chance, no entropy is",
        ),
        ({"sampling_temperature": [1.0, 0.0]}, "no entropy is"),
    ],
)
def test_settings_that_can_not_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        EntropyBounded(**wrong)
