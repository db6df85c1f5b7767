"""The entropy-bounded sampler: which places a step fixes, by brute force; how often it asks; what is refused."""

import itertools
import math

import pytest
import torch
from asked import Model
from hypothesis import given, settings
from hypothesis import strategies as st
from muse_sampling.entropy_bounded import EntropyBounded, entropy, surest
from muse_sampling.schedules import Cosine

from muse_studio.contracts import MASK
from muse_studio.sampling.noise import Rows


def seeded(seed):
    return torch.Generator().manual_seed(seed)


EIGHTHS = st.integers(0, 48).map(lambda count: count / 8)  # whose sums are exact, in any order


@given(st.lists(st.tuples(EIGHTHS, st.booleans()), min_size=1, max_size=8), EIGHTHS)
@settings(max_examples=200, deadline=None)
def test_a_step_fixes_the_largest_prefix_within_the_bound(places, bound):
    values, masked = (list(each) for each in zip(*places, strict=True))
    entropies, open_ = torch.tensor(values).view(1, 1, -1), torch.tensor(masked).view(1, 1, -1)
    order = sorted((i for i in range(len(values)) if masked[i]), key=lambda i: (entropies.flatten()[i].item(), i))
    wanted: list[int] = []
    for count in range(1, len(order) + 1):
        prefix = [float(entropies.flatten()[i]) for i in order[:count]]
        if count == 1 or sum(prefix) - max(prefix) <= bound:
            wanted = order[:count]
    got = surest(entropies, open_, bound).flatten().nonzero().flatten().tolist()
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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bound": -1.0}, r"bound is -1\.0; give 0 nats \(one token a step\) or more"),
        ({"bound": math.inf}, "bound is inf"),
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
