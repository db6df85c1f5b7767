"""The distance layer by layer: by hand on layers that a hand can make, and on the network whose layers it takes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from muse_metrics.efficientnet import EfficientNetLite0
from muse_metrics.feature_distance import FeatureDistance
from muse_metrics.features import Features
from muse_metrics.inception import Inception
from safetensors.torch import save_file

from muse_studio.errors import UserError


class Layers:
    """Two layers that are the pixels themselves: all three channels of every place, and of the first place twice."""

    title = "pixels"

    def load(self):
        return self

    def layers(self, images):
        pixels = images.float()
        return [pixels, pixels[:, :, :1, :1].repeat(1, 2, 1, 1)]


def picture(*places):
    """uint8[1, 3, 1, N] of N places."""
    return torch.tensor(places, dtype=torch.uint8).T[None, :, None]


def distance(real, drawn, **given):
    metric = FeatureDistance(Layers(), **given)
    metric.update(real, drawn, [""] * len(real))
    return metric.compute().item()


ONE = picture([3, 4, 0], [0, 0, 0], [9, 0, 0])
OTHER = picture([0, 6, 8], [0, 7, 0], [1, 0, 0])
# First layer: (0.6, 0.8, 0) and (0, 0.6, 0.8) are 0.36 + 0.04 + 0.64 = 1.04 apart, nothing and a unit 1, equal ones 0.
# Second layer: its one place has those channels twice, so each of them is shorter by the root of 2: 1.04 again.
FIRST, SECOND = (1.04 + 1 + 0) / 3, 1.04


def test_by_hand():
    assert distance(ONE, OTHER) == pytest.approx((FIRST + SECOND) / 2, abs=1e-6)


def test_with_weights_it_is_lpips_s_sum(tmp_path):
    weights = {"lin0.model.1.weight": [1.0, 0.0, 2.0], "lin1.model.1.weight": [0.0, 0.0, 1.0, 0.0, 3.0, 0.0]}
    save_file(
        {name: torch.tensor(row).view(1, -1, 1, 1) for name, row in weights.items()}, tmp_path / "lin.safetensors"
    )
    given = {"linear": str(tmp_path / "lin.safetensors")}
    # First layer: (0.36 + 2 * 0.64) / 3; second: one half of the squared 0.8 - 0, and three of 0.8 - 0.6
    assert distance(ONE, OTHER, **given) == pytest.approx((0.36 + 2 * 0.64) / 3 + 0.64 / 2 + 3 * 0.04 / 2, abs=1e-6)
    (name,) = FeatureDistance(Layers(), **given).meanings
    assert name == "LPIPS, pixels"


@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_it_is_symmetric_zero_of_the_same_and_bounded(seed, count, side):
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randint(256, (2, count, 3, side, side), dtype=torch.uint8, generator=generator)
    assert distance(one, one) == 0
    assert distance(one, other) == distance(other, one)
    assert 0 <= distance(one, other) <= 2 + 1e-6, "two vectors of length 1 without negative numbers"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"lin0.model.1.weight": torch.ones(1, 3, 1, 1)}, r"layers of \[3\] channels, and the network has \[3, 6\]"),
        ({"lin0.model.1.weight": -torch.ones(1, 3, 1, 1)}, "weights below 0"),
        ({"conv.weight": torch.ones(1, 3, 1, 1)}, "but conv.weight"),
        ({"lin1.model.1.weight": torch.ones(1, 3, 1, 1)}, "but lin1.model.1.weight"),
    ],
)
def test_other_weights_are_refused(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "lin.safetensors")
    with pytest.raises(UserError, match=message):
        distance(ONE, OTHER, linear=str(tmp_path / "lin.safetensors"))


def test_it_is_named_after_its_network_and_never_lpips_by_itself():
    (name,) = FeatureDistance(Features()).meanings
    assert name == "feature distance, EfficientNet-Lite0"


def test_more_noise_is_further_away_by_the_default_network():
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(256, (2, 3, 8, 8), generator=generator).float()
    real = torch.nn.functional.interpolate(real, (64, 64), mode="bicubic").clamp(0, 255)
    noise = torch.randn(real.shape, generator=generator)
    found = []
    for much in (0, 8, 32):
        metric = FeatureDistance(Features(side=64))
        metric.update(real.byte(), (real + much * noise).clamp(0, 255).byte(), ["", ""])
        found.append(metric.compute().item())
    assert found[0] == 0 and 0 < found[1] < found[2] < 2


@torch.no_grad()
def test_layers_are_what_the_network_computes():
    lite, inception = EfficientNetLite0().eval(), Inception().eval()
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    *_, last = lite.layers(pixels)
    head = torch.nn.functional.relu6(lite._bn1(lite._conv_head(last))).mean((2, 3))
    torch.testing.assert_close(head, lite(pixels)[0])
    assert [list(each.shape[1:]) for each in lite.layers(pixels)] == [
        [16, 32, 32],
        [24, 16, 16],
        [40, 8, 8],
        [112, 4, 4],
        [320, 2, 2],
    ]
    shapes = [tuple(each.shape[1:]) for each in inception.layers(torch.rand(1, 3, 299, 299))]
    assert shapes == [(64, 147, 147), (192, 71, 71), (288, 35, 35), (768, 17, 17), (2048, 8, 8)]
