"""Each part keeps the promises of its kind, and does what its paper says."""

from __future__ import annotations

import pytest
import torch
from muse_studio import testing
from muse_studio.contracts import Question

from muse_research.alignment import Aligned
from muse_research.spherical import Spherical
from muse_research.weaker import Weaker


class TestAligned(testing.ObjectiveContract):
    def make(self) -> Aligned:
        torch.manual_seed(0)
        return Aligned(width=8)


class TestSpherical(testing.QuantizerContract):
    def make(self) -> Spherical:
        return Spherical()


class TestWeaker(testing.GuidanceContract):
    def make(self) -> Weaker:
        return Weaker(testing.FakeTransformer(), scale=2.0)


def test_corners_lie_on_the_sphere() -> None:
    corners = Spherical()(16, 0)
    every = corners.lookup(torch.arange(16).view(1, 4, 4))
    torch.testing.assert_close(every.norm(dim=1), torch.ones(1, 4, 4))
    assert torch.equal(corners.tokens(every), torch.arange(16).view(1, 4, 4))


@pytest.mark.parametrize("size", [1, 12])
def test_codes_that_are_no_bits_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"codebook_size is {size}; spherical takes a power of two"):
        Spherical()(size, 4)


def test_the_weaker_model_is_led_away_from_within_the_interval() -> None:
    guidance = Weaker(testing.FakeTransformer(), scale=2.0, begin=0.5)
    strong, weak, asked = torch.randn(1, 2, 2, 5), torch.randn(1, 2, 2, 5), []

    def ask(*questions: object) -> tuple[torch.Tensor, ...]:
        asked.append(questions)
        return tuple(weak if isinstance(each, Question) else strong for each in questions)

    text = testing.embedding(1)
    torch.testing.assert_close(guidance(ask, text, text, 0.7), 3 * strong - 2 * weak)
    assert torch.equal(guidance(ask, text, text, 0.2), strong) and len(asked[1]) == 1
