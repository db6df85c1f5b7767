"""The decode loop, held against one written in another manner, and its promises."""

import itertools
import math

import numpy as np
import pytest
import torch
from asked import Model
from hypothesis import given, settings
from hypothesis import strategies as st
from muse_sampling.confidence import Confidence
from muse_sampling.schedules import Cosine, Cubic, Linear, Sqrt

from muse_studio.contracts import MASK
from muse_studio.sampling.filling import gumbel, least
from muse_studio.sampling.settings import masked_counts


def plain_decode(model, tokens, fraction, steps, temperature, sampling_temperature, top_k, generator):
    """The loop of MaskGIT's appendix, one picture and one place at a time, in Python floats.

    One place of a whole picture stays open to the last step; of a part of one it need not.
    """
    grids = tokens.numpy().copy()
    pictures, height, width = grids.shape
    at_first = [sum(code == MASK for code in grid.flatten()) for grid in grids]
    for step in range(1, steps + 1):
        logits = model(torch.from_numpy(grids), step / steps).double().numpy()
        first = torch.rand(2, pictures, height, width, generator=generator).double().numpy()
        for b in range(pictures):
            guesses = []
            for y in range(height):
                for x in range(width):
                    if grids[b, y, x] != MASK:
                        continue
                    scores = logits[b, y, x]
                    likelihood = scores - scores.max() - math.log(np.exp(scores - scores.max()).sum())
                    if sampling_temperature == 0:
                        code = max(range(len(scores)), key=lambda k: scores[k])
                    else:
                        pool = sorted(range(len(scores)), key=lambda k: -scores[k])[: top_k or len(scores)]
                        weights = {k: math.exp((scores[k] - scores.max()) / sampling_temperature) for k in sorted(pool)}
                        left = first[0, b, y, x] * sum(weights.values())
                        sums = dict(zip(weights, itertools.accumulate(weights.values()), strict=True))
                        code = next(k for k, reached in sums.items() if reached > left)
                    noise = -math.log(-math.log(max(first[1, b, y, x], 1e-20)))
                    guesses.append((likelihood[code] + temperature * (1 - step / steps) * noise, y, x, code))
            if not guesses:
                continue
            stay = max(
                at_first[b] == grids[b].size,
                min(len(guesses) - 1, math.floor(at_first[b] * fraction(step / steps) + 1e-6)),
            )
            stay = 0 if step == steps else stay
            guesses.sort(key=lambda guess: -guess[0])
            for _, y, x, code in guesses[: len(guesses) - stay]:
                grids[b, y, x] = code
        yield torch.from_numpy(grids.copy())


FRACTIONS = [
    (Cosine(), lambda r: math.cos(math.pi * r / 2)),
    (Linear(), lambda r: 1 - r),
    (Cubic(), lambda r: 1 - r**3),
    (Sqrt(), lambda r: 1 - math.sqrt(r)),
]


@pytest.mark.parametrize("seed", range(120))
def test_equals_a_brute_force_decoding(seed):
    pick = np.random.default_rng(seed)
    shape = tuple(int(n) for n in pick.integers(1, 6, 3))
    codes, steps = int(pick.integers(2, 12)), int(pick.integers(1, 14))
    tokens = torch.from_numpy(pick.integers(0, codes, shape))
    # each picture has its own share of unknown tokens, none and all included
    tokens[torch.from_numpy(pick.random(shape) < pick.choice([0.0, 0.3, 0.7, 1.0], (shape[0], 1, 1)))] = MASK
    temperature = float(pick.choice([0.0, 1.0, 4.5]))
    sampling_temperature = float(pick.choice([0.0, 0.7, 1.0]))
    top_k = None if pick.random() < 0.5 else int(pick.integers(1, codes + 1))
    schedule, fraction = FRACTIONS[int(pick.integers(len(FRACTIONS)))]
    model = Model(seed, shape[1] * shape[2], codes)
    sampler = Confidence(steps, temperature, sampling_temperature, top_k)
    got = list(sampler(model, tokens, schedule, torch.Generator().manual_seed(seed)))
    expected = plain_decode(
        model, tokens, fraction, steps, temperature, sampling_temperature, top_k, torch.Generator().manual_seed(seed)
    )
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_equals_diffusers_where_nothing_is_drawn(name, monkeypatch):
    """Its multinomial is made to take the likeliest code and its noise is switched off: every step is the same."""
    from diffusers import AmusedScheduler

    monkeypatch.setattr(torch, "multinomial", lambda p, n, generator=None: p.argmax(-1, keepdim=True))
    steps, codes = 11, 16  # at a multiple of 3 its float32 loses a token of cosine's to rounding
    model = Model(3, 64, codes)
    reference = AmusedScheduler(mask_token_id=MASK, masking_schedule=name)
    reference.set_timesteps(steps, temperature=(0, 0))
    sample = torch.full((3, 8, 8), MASK)
    schedule = {"cosine": Cosine(), "linear": Linear()}[name]
    sampler = Confidence(steps, temperature=0, sampling_temperature=0)
    ours = sampler(model, sample, schedule, torch.Generator().manual_seed(0))
    for step, timestep in enumerate(reference.timesteps):
        logits = model(sample, (step + 1) / steps).permute(0, 3, 1, 2)
        sample = reference.step(logits, timestep, sample).prev_sample
        assert torch.equal(next(ours), sample)


grids = st.tuples(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 15))


@given(grids, st.sampled_from([0.0, 4.5]), st.sampled_from([None, 0.5]))
@settings(max_examples=150, deadline=None)
def test_known_tokens_stay_and_each_yield_has_the_scheduled_masks(grid, temperature, top_p):
    seed, pictures, height, width, steps = grid
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 7, (pictures, height, width), generator=generator)
    known = torch.rand(tokens.shape, generator=generator) < torch.rand(pictures, 1, 1, generator=generator)
    tokens = tokens.masked_fill(~known, MASK)
    before = tokens.clone()
    model = Model(seed, height * width, 7)
    counts = masked_counts(Cosine(), steps, height * width)
    previous = tokens
    for step, now in enumerate(Confidence(steps, temperature, top_p=top_p)(model, tokens, Cosine(), generator)):
        assert torch.equal(now[previous != MASK], previous[previous != MASK])
        assert now.min() >= MASK and now.max() < 7
        at_first = (before == MASK).flatten(1).sum(1)
        assert torch.equal((now == MASK).flatten(1).sum(1), counts[step, at_first])
        previous = now
    assert step == steps - 1 and previous.min() >= 0
    assert torch.equal(tokens, before)
    assert model.progress == [(i + 1) / steps for i in range(steps)]


def test_a_finished_grid_comes_back_as_it_was():
    tokens = torch.arange(12).view(1, 3, 4) % 5
    got = list(Confidence(3)(Model(0, 12, 5), tokens, Cosine(), torch.Generator()))
    assert len(got) == 3 and all(torch.equal(grid, tokens) for grid in got)


def test_of_equal_confidences_the_first_in_reading_order_are_kept():
    def indifferent(tokens, progress):
        return torch.zeros(*tokens.shape, 3)

    tokens = torch.full((1, 2, 3), MASK)
    sampler = Confidence(3, temperature=0, sampling_temperature=0)
    got = [grid.flatten().tolist() for grid in sampler(indifferent, tokens, Linear(), torch.Generator())]
    assert got == [[0, 0, -1, -1, -1, -1], [0, 0, 0, 0, -1, -1], [0, 0, 0, 0, 0, 0]]


def test_reading_order_holds_for_a_large_grid_too():
    """Short rows are sorted stably by any sort; 256 places are not."""
    counts = torch.tensor([0, 1, 100, 256])
    masked = least(torch.zeros(4, 16, 16), counts).flatten(1)
    assert torch.equal(masked, torch.arange(256) >= 256 - counts[:, None])


def test_without_noise_the_surest_come_first():
    logits = torch.tensor([[1.0, 0], [4, 0], [2, 0], [3, 0]]).view(1, 2, 2, 2)
    sampler = Confidence(4, temperature=0, sampling_temperature=0)
    tokens = torch.full((1, 2, 2), MASK)
    got = [grid.flatten().tolist() for grid in sampler(lambda t, p: logits, tokens, Linear(), torch.Generator())]
    assert got == [[-1, 0, -1, -1], [-1, 0, -1, 0], [-1, 0, 0, 0], [0, 0, 0, 0]]


def test_the_seed_decides_and_the_global_generator_does_not():
    def decode(seed):
        tokens = torch.full((2, 4, 4), MASK)
        *_, last = Confidence(6)(Model(1, 16, 9), tokens, Cosine(), torch.Generator().manual_seed(seed))
        return last

    torch.manual_seed(0)
    first = decode(5)
    torch.manual_seed(1)
    assert torch.equal(decode(5), first) and not torch.equal(decode(6), first)


def test_it_can_be_stopped_early_and_leaves_gradients_as_they_were():
    model = Model(0, 16, 5)
    model.place.requires_grad_()
    stream = Confidence(10)(model, torch.full((1, 4, 4), MASK), Cosine(), torch.Generator())
    next(stream)
    assert torch.is_grad_enabled()
    stream.close()
    assert len(model.progress) == 1 and torch.is_grad_enabled()


@pytest.mark.parametrize(
    "sampler", [Confidence(4), Confidence(4, 0.0, 0.0), Confidence(4, top_k=3, top_p=0.9)], ids=repr
)
def test_nothing_waits_for_the_device(sampler):
    """A tensor on "meta" has no values: reading one on the host raises."""
    tokens = torch.full((2, 4, 4), MASK, device="meta")

    def predict(tokens, progress):
        return torch.empty(*tokens.shape, 9, device="meta")

    got = list(sampler(predict, tokens, Cosine(), torch.Generator()))
    assert [(grid.shape, grid.dtype, grid.device.type) for grid in got] == [((2, 4, 4), torch.int64, "meta")] * 4


def test_noise_is_finite_at_both_ends():
    assert gumbel(torch.tensor([0.0, 0.5, 1 - 2**-24])).isfinite().all()


def test_least_counts_each_picture_on_its_own():
    confidence = torch.tensor([[[3.0, 1.0], [2.0, 1.0]], [[1.0, 2.0], [torch.inf, -torch.inf]]])
    assert least(confidence, torch.tensor([1, 2])).tolist() == [
        [[False, False], [False, True]],
        [[True, False], [False, True]],
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0; give 1 or more"),
        ({"temperature": -1.0}, "temperature is -1.0; give 0 or more"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"sampling_temperature": -0.1}, "sampling_temperature is -0.1; give 0 or more"),
        ({"top_k": 0}, "top_k is 0; give 1 or more, or null"),
        ({"top_p": 0.0}, "top_p is 0.0; give a share above 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_settings_that_can_not_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        Confidence(**wrong)
