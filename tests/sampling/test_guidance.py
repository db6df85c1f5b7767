"""Guidance by hand: Muse's convention, its growth, what is asked, and where a negative prompt leads."""

import pytest
import torch
from muse_sampling.guidance import CFG, NoGuidance

from muse_studio.contracts import TextEmbedding

LOGITS = {
    "prompt": torch.tensor([1.0, 2.0, -1.0]).view(1, 1, 1, 3),
    "nothing": torch.tensor([0.5, 2.0, 1.0]).view(1, 1, 1, 3),
    "negative": torch.tensor([1.0, -2.0, 0.0]).view(1, 1, 1, 3),
}


class Ask:
    """Answers from the table and writes down what was asked together."""

    def __init__(self):
        self.asked = []

    def __call__(self, *texts):
        names = tuple(text.pooled for text in texts)
        self.asked.append(names)
        return tuple(LOGITS[name] for name in names)


def text(name):
    return TextEmbedding(None, None, name)


def guided(guidance, progress, negative="nothing"):
    ask = Ask()
    return guidance(ask, text("prompt"), text(negative), progress).flatten().tolist(), ask.asked


@pytest.mark.parametrize(
    ("guidance", "progress", "negative", "expected"),
    [
        (CFG(2.0, "constant"), 0.1, "nothing", [2.0, 2.0, -5.0]),  # 3 * (1, 2, -1) - 2 * (0.5, 2, 1)
        (CFG(2.0, "constant"), 1.0, "nothing", [2.0, 2.0, -5.0]),
        (CFG(2.0, "linear"), 1.0, "nothing", [2.0, 2.0, -5.0]),
        (CFG(2.0, "linear"), 0.5, "nothing", [1.5, 2.0, -3.0]),  # t = 1
        (CFG(4.0, "linear"), 0.25, "nothing", [1.5, 2.0, -3.0]),
        (CFG(2.0, "constant"), 0.5, "negative", [1.0, 10.0, -3.0]),  # 3 * (1, 2, -1) - 2 * (1, -2, 0)
        (CFG(2.0, "linear"), 0.5, "negative", [1.0, 6.0, -2.0]),
    ],
)
def test_by_hand(guidance, progress, negative, expected):
    got, asked = guided(guidance, progress, negative)
    assert got == expected
    assert asked == [("prompt", negative)]


@pytest.mark.parametrize(
    ("guidance", "progress"), [(CFG(0.0, "constant"), 1.0), (CFG(0.0), 1.0), (CFG(5.0), 0.0), (NoGuidance(), 1.0)]
)
def test_without_guidance_one_forward_is_paid(guidance, progress):
    got, asked = guided(guidance, progress, "negative")
    assert got == [1.0, 2.0, -1.0]
    assert asked == [("prompt",)]


def test_a_negative_prompt_lowers_what_it_favours_and_raises_what_it_does_not():
    favoured = LOGITS["negative"] > LOGITS["nothing"]
    without = torch.tensor(guided(CFG(3.0), 0.7)[0]).view_as(favoured)
    led_away = torch.tensor(guided(CFG(3.0), 0.7, "negative")[0]).view_as(favoured)
    assert ((led_away < without) == favoured).all() and (led_away != without).all()


def test_half_precision_is_guided_in_float32():
    ask = lambda *texts: tuple(torch.full((1, 1, 1, 2), 1.0, dtype=torch.bfloat16) for _ in texts)  # noqa: E731
    assert CFG(100.0)(ask, text("prompt"), text("nothing"), 1.0).dtype == torch.float32


@pytest.mark.parametrize("scale", [-0.1, float("nan"), float("inf")])
def test_scales_that_can_not_be(scale):
    with pytest.raises(ValueError, match=r"scale is .*; give 0 \(no guidance\) or more"):
        CFG(scale)


def test_schedules_that_can_not_be():
    known = "'constant', 'linear', 'cosine', 'power-cosine'"
    with pytest.raises(ValueError, match=f"schedule is 'sine'; give one of {known}"):
        CFG(schedule="sine")
