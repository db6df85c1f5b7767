"""What guidance can do beyond Muse: growth, scales a step, an interval, the negative's own weight, rescaling."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from muse_sampling.confidence import Confidence
from muse_sampling.guidance import CFG
from muse_sampling.schedules import Cosine

from muse_studio.contracts import TextEmbedding
from muse_studio.stage import Stage
from muse_studio.testing import FakeTokenizer, FakeTransformer, embedding

NAMES = ("prompt", "nothing", "negative")


class Ask:
    """Answers with logits float[1, 1, 1, K] by the text's name, and keeps what was asked together."""

    def __init__(self, **logits):
        self.logits = {name: torch.tensor(values).view(1, 1, 1, -1) for name, values in logits.items()}
        self.asked = []

    def __call__(self, *texts):
        names = tuple("nothing" if text is None else text.pooled for text in texts)
        self.asked.append(names)
        return tuple(self.logits[name] for name in names)


BY_HAND = {"prompt": [1.0, 2.0, -1.0], "nothing": [0.5, 2.0, 1.0], "negative": [1.0, -2.0, 0.0]}


def guided(guidance, progress=1.0, **logits):
    ask = Ask(**logits or BY_HAND)
    text, negative = TextEmbedding(None, None, "prompt"), TextEmbedding(None, None, "negative")
    return guidance(ask, text, negative, progress).flatten(), ask.asked


@pytest.mark.parametrize(
    ("guidance", "progress", "expected"),
    [
        (CFG(4.0, "cosine"), 0.5, 2.0),
        (CFG(4.0, "cosine"), 1 / 3, 1.0),  # cos(pi / 3) is 1 / 2
        (CFG(4.0, "cosine"), 1.0, 4.0),
        (CFG(4.0, "power-cosine", power=2.0), math.sqrt(0.5), 2.0),
        (CFG(4.0, "power-cosine", power=3.0), (1 / 3) ** (1 / 3), 1.0),
        (CFG(4.0, "power-cosine", power=3.0), 1.0, 4.0),
        (CFG(4.0, "power-cosine", power=0.5), 1 / 9, 1.0),
        (CFG(scales=[0.0, 2.0, 1.0, 3.0]), 0.25, 0.0),
        (CFG(scales=[0.0, 2.0, 1.0, 3.0]), 0.375, 1.0),
        (CFG(scales=[0.0, 2.0, 1.0, 3.0]), 0.75, 1.0),
        (CFG(scales=[0.0, 2.0, 1.0, 3.0]), 1.0, 3.0),
        (CFG(scales=[1.5]), 0.1, 1.5),
        (CFG(2.0, "constant", begin=0.25, end=0.5), 0.24, 0.0),
        (CFG(2.0, "constant", begin=0.25, end=0.5), 0.25, 2.0),
        (CFG(2.0, "constant", begin=0.25, end=0.5), 0.5, 2.0),
        (CFG(2.0, "constant", begin=0.25, end=0.5), 0.51, 0.0),
        (CFG(2.0, "linear", begin=0.25, end=0.5), 0.5, 1.0),
        (CFG(scales=[1.0, 2.0], end=0.5), 1.0, 0.0),
    ],
)
def test_t_by_hand(guidance, progress, expected):
    assert guidance.strength(progress) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200))
@settings(max_examples=100, deadline=None)
def test_a_sampler_of_as_many_steps_meets_each_scale(scales):
    steps = len(scales)
    assert [CFG(scales=scales).strength((step + 1) / steps) for step in range(steps)] == scales


def test_power_1_is_cosine_and_a_greater_power_waits_longer():
    for progress in (0.1, 0.5, 0.9):
        plain = CFG(schedule="cosine").strength(progress)
        assert CFG(schedule="power-cosine", power=1.0).strength(progress) == plain
        assert CFG(schedule="power-cosine", power=3.0).strength(progress) < plain


@pytest.mark.parametrize(
    ("weight", "expected", "asked"),
    [
        (0.0, [2.0, 2.0, -5.0], ("prompt", "nothing")),  # 3 * (1, 2, -1) - 2 * (0.5, 2, 1)
        (0.5, [1.5, 6.0, -4.0], ("prompt", "negative", "nothing")),  # less 1 * (0.5, -4, -1)
        (1.0, [1.0, 10.0, -3.0], ("prompt", "negative")),
        (2.0, [0.0, 18.0, -1.0], ("prompt", "negative", "nothing")),
    ],
)
def test_the_negatives_weight_by_hand(weight, expected, asked):
    logits, all_asked = guided(CFG(2.0, "constant", negative_weight=weight))
    assert logits.tolist() == expected
    assert all_asked == [asked]


numbers = st.lists(st.floats(-20, 20, width=16), min_size=4, max_size=4)


@given(numbers, numbers, numbers, st.floats(0, 8), st.floats(0, 4))
@settings(max_examples=200, deadline=None)
def test_weight_is_liu_and_others_negation_with_w_of_n_times_t(prompt, nothing, negative, t, weight):
    got, _ = guided(CFG(t, "constant", negative_weight=weight), prompt=prompt, nothing=nothing, negative=negative)
    for code, logit in enumerate(got.tolist()):
        toward, away = prompt[code] - nothing[code], negative[code] - nothing[code]
        assert logit == pytest.approx(nothing[code] + (1 + t) * toward - weight * t * away, rel=1e-4, abs=1e-2)


def test_rescaled_whole_has_the_prompts_deviation_and_the_guided_order():
    torch.manual_seed(0)
    logits = {name: torch.randn(16).tolist() for name in NAMES}
    plain, _ = guided(CFG(6.0, "constant"), **logits)
    whole, _ = guided(CFG(6.0, "constant", rescale=1.0), **logits)
    assert plain.std() > 2 * torch.tensor(logits["prompt"]).std()
    torch.testing.assert_close(whole.std(), torch.tensor(logits["prompt"]).std())
    assert torch.equal(whole.argsort(), plain.argsort())
    half, _ = guided(CFG(6.0, "constant", rescale=0.5), **logits)
    torch.testing.assert_close(half, (plain + whole) / 2)


def test_each_place_is_rescaled_by_itself_as_diffusers_rescales_each_picture():
    from diffusers.guiders.guider_utils import rescale_noise_cfg

    generator = torch.Generator().manual_seed(0)
    prompted, unprompted = torch.randn(2, 2, 3, 4, 16, generator=generator)
    text, negative = TextEmbedding(None, None, "prompt"), TextEmbedding(None, None, "negative")
    got = CFG(5.0, "constant", rescale=0.7)(lambda *texts: (prompted, unprompted), text, negative, 1.0)
    plain = CFG(5.0, "constant")(lambda *texts: (prompted, unprompted), text, negative, 1.0)
    expected = rescale_noise_cfg(plain.view(24, 16), prompted.view(24, 16), guidance_rescale=0.7)
    torch.testing.assert_close(got.view(24, 16), expected)


def test_logits_that_are_all_equal_can_be_rescaled():
    flat = {"prompt": [1.0, 2.0], "negative": [2.0, 4.0], "nothing": [0.0, 0.0]}  # 2 * (1, 2) - (2, 4) is 0 for both
    logits, _ = guided(CFG(1.0, "constant", rescale=1.0), **flat)
    assert logits.tolist() == [0.0, 0.0]


class Counting(FakeTransformer):
    """Counts the rows of each forward, and the texts that it was told of."""

    def __init__(self):
        super().__init__()
        self.rows, self.texts = [], 0

    def condition(self, text, low=None):
        self.texts += 1
        return super().condition(text, low)

    def forward(self, tokens, conditioning):
        self.rows.append(len(tokens))
        return super().forward(tokens, conditioning)


def draw(guidance, negative=None):
    """The tokens that a stage draws in 10 steps for 2 prompts, and the transformer that counted."""
    torch.manual_seed(0)
    stage = Stage(FakeTokenizer(), Counting(), Cosine(), Confidence(steps=10), guidance, 16)
    *_, tokens = stage.sample(embedding(2), torch.Generator().manual_seed(0), negative=negative)
    return tokens, stage.transformer


@pytest.mark.parametrize(
    ("guidance", "twice"),
    [
        (CFG(begin=0.7, end=0.9), {7, 8, 9}),
        (CFG(begin=0.3), {3, 4, 5, 6, 7, 8, 9, 10}),
        (CFG(end=0.1), {1}),
        (CFG(scales=[0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0]), {3, 6}),
        (CFG(negative_weight=2.0, begin=0.95), {10}),
    ],
)
def test_outside_the_interval_one_forward_is_paid(guidance, twice):
    _, transformer = draw(guidance)
    assert transformer.rows == [4 if step in twice else 2 for step in range(1, 11)]


def test_three_texts_are_one_forward_and_without_a_negative_prompt_two():
    guidance = CFG(2.0, "constant", negative_weight=0.5)
    _, with_negative = draw(guidance, embedding(2, seed=1))
    assert with_negative.rows == [6] * 10 and with_negative.texts == 3
    tokens, without = draw(guidance)
    assert without.rows == [4] * 10 and without.texts == 2
    assert torch.equal(tokens, draw(CFG(2.0, "constant"))[0])


def test_weight_0_draws_as_if_there_were_no_negative_prompt():
    negative = embedding(2, seed=1)
    without, _ = draw(CFG(4.0, "constant"))
    assert torch.equal(draw(CFG(4.0, "constant", negative_weight=0.0), negative)[0], without)
    assert not torch.equal(draw(CFG(4.0, "constant"), negative)[0], without)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedule": "power-cosine"}, "schedule is 'power-cosine', which needs a power; give one, such as power: 3"),
        ({"power": 3.0}, "power is 3.0, which schedule 'power-cosine' alone has; leave it out, or null"),
        ({"schedule": "power-cosine", "power": 0.0}, "power is 0.0; give more than 0"),
        ({"scales": []}, "scales is empty; give t for each step, or null for scale and schedule"),
        ({"scales": [1.0, -0.5]}, "scales: entry 2 of 2 is -0.5; give 0 (no guidance) or more"),
        ({"scales": [math.nan]}, "scales: entry 1 of 1 is nan; give 0 (no guidance) or more"),
        ({"begin": 0.6, "end": 0.5}, "begin is 0.6, end is 0.5; give 0 <= begin <= end <= 1"),
        ({"end": 1.1}, "begin is 0.0, end is 1.1; give 0 <= begin <= end <= 1"),
        ({"begin": math.nan}, "begin is nan, end is 1.0; give 0 <= begin <= end <= 1"),
        ({"negative_weight": -1.0}, "negative_weight is -1.0; give 0 (no negative prompt) or more"),
        ({"rescale": 1.5}, "rescale is 1.5; give a share from 0 to 1"),
    ],
)
def test_settings_that_can_not_be(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        CFG(**given)
