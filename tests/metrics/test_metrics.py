"""The measures against closed forms, brute force and other libraries' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from muse_metrics.frechet import Frechet, Moments, frechet_distance
from muse_metrics.inception_score import InceptionScore
from muse_metrics.kernel import Kernel
from muse_metrics.pairs import PSNR, SSIM
from muse_metrics.precision_recall import PrecisionRecall
from muse_metrics.sample import FeatureSample, picture_keys

from muse_studio.errors import UserError


class Pixels:
    """Features that are the first pixels themselves, as numbers: what a hand can compute with."""

    title, official = "pixels", False

    def __init__(self, width=6):
        self.width = width

    def load(self):
        return self

    def __call__(self, images):
        return images.flatten(1)[:, : self.width].double() / 255

    def classes(self, images):
        return self(images).softmax(1)


def pictures(count, seed, low=0, high=256):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (count, 3, 4, 4), dtype=torch.uint8, generator=generator)


def measure(metric, real, drawn, batch=None):
    batch = batch or max(len(real), len(drawn))
    for start in range(0, max(len(real), len(drawn)), batch):
        part = slice(start, start + batch)
        metric.update(real[part], drawn[part], [""] * len(drawn[part]))
    return metric.compute().tolist()


def moments(rows):
    found = Moments()
    found.add(rows)
    return found


def gaussian(mean, deviations):
    """Points with exactly this mean and these standard deviations, uncorrelated: the corners of a box."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * len(mean))
    scale = ((len(corners) - 1) / len(corners)) ** 0.5
    return corners * scale * torch.tensor(deviations) + torch.tensor(mean)


def test_frechet_of_gaussians_is_the_closed_form():
    one = moments(gaussian([0.0, 0.0, 1.0], [1.0, 2.0, 0.5]))
    other = moments(gaussian([3.0, 4.0, 1.0], [2.0, 2.0, 1.5]))
    # |m|^2 = 9 + 16; of commuting covariances the rest is the sum of (s1 - s2)^2 = 1 + 0 + 1
    assert frechet_distance(one, other).item() == pytest.approx(27, abs=1e-10)


@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 8), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_frechet_is_scipy_s_root(real, drawn, width, seed):
    import scipy.linalg

    generator = np.random.default_rng(seed)
    one, two = generator.normal(size=(real, width)), generator.normal(1, 2, size=(drawn, width))
    covariances = [np.atleast_2d(np.cov(rows, rowvar=False)) + 0 for rows in (one, two)]
    root = scipy.linalg.sqrtm((covariances[0] + 1e-13 * np.eye(width)) @ covariances[1])
    expected = ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root.real)
    found = frechet_distance(moments(torch.from_numpy(one)), moments(torch.from_numpy(two))).item()
    assert found == pytest.approx(expected, abs=2e-5)  # sqrtm itself is that inexact where there are few rows
    assert frechet_distance(moments(torch.from_numpy(one)), moments(torch.from_numpy(one))).item() == pytest.approx(
        0, abs=1e-9
    )


def test_of_fewer_pictures_than_features_too_equal_sets_are_at_distance_0():
    rows = torch.randn(10, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 100
    assert abs(frechet_distance(moments(rows), moments(rows.flip(0))).item()) < 1e-6


def test_moments_hold_for_features_far_from_0():
    rows = torch.randn(1000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1000
    found = Moments()
    for part in rows.split(7):
        found.add(part)
    assert found.covariance.numpy() == pytest.approx(np.cov(rows.numpy(), rowvar=False), abs=1e-8)


def by_hand(real, drawn):
    """The unbiased estimator, term by term."""
    kernel = lambda x, y: (float(x @ y) / len(x) + 1) ** 3  # noqa: E731
    within = lambda rows: np.mean(  # noqa: E731
        [kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]
    )
    return within(real) + within(drawn) - 2 * np.mean([kernel(x, y) for x in real for y in drawn])


def test_the_kernel_distance_is_the_unbiased_estimator():
    real, drawn = pictures(9, 0), pictures(9, 1, high=200)
    found = measure(Kernel(Pixels()), real, drawn, batch=4)
    assert found == pytest.approx([by_hand(Pixels()(real).numpy(), Pixels()(drawn).numpy()), 0])


def test_of_many_pictures_the_kernel_distance_is_the_mean_over_subsets():
    real, drawn = pictures(60, 0), pictures(60, 1, high=200)
    whole = by_hand(Pixels()(real).numpy(), Pixels()(drawn).numpy())
    mean, deviation = measure(Kernel(Pixels(), subsets=200, subset=10), real, drawn)
    assert deviation > 0
    assert mean == pytest.approx(whole, abs=4 * deviation / 200**0.5)
    alike, spread = measure(Kernel(Pixels(), subsets=200, subset=10), real, real)
    same = by_hand(*[Pixels()(real).numpy()] * 2)  # below 0: a set has pictures in common with itself
    assert alike == pytest.approx(same, abs=4 * spread / 200**0.5)
    assert -0.05 < same < 0 < mean


def test_precision_and_recall_of_points_on_a_line():
    def line(*places):
        images = torch.zeros(len(places), 3, 4, 4, dtype=torch.uint8)
        images[:, 0, 0, 0] = torch.tensor(places)
        return images

    # With one neighbour a real place reaches 10 to both sides, from 0 to 30; a drawn one at 25 and 33 reaches 8, at
    # 100 and 110 it reaches 10.
    real, drawn = line(10, 20), line(25, 33, 100, 110)
    precision, recall = measure(PrecisionRecall(Pixels(1), neighbours=1), real, drawn)
    assert (precision, recall) == (1 / 4, 1 / 2)
    assert measure(PrecisionRecall(Pixels(1), neighbours=1), real, real) == [1, 1]


@pytest.mark.parametrize(("seed", "neighbours"), [(0, 1), (1, 3), (2, 5)])
def test_precision_and_recall_by_brute_force(seed, neighbours):
    real, drawn = pictures(60, seed, 0, 200), pictures(40, seed + 9, 60, 256)

    def share(points, manifold):
        distances = [sorted(np.linalg.norm(row - other) for other in manifold) for row in manifold]
        radii = [row[neighbours] for row in distances]
        inside = [any(np.linalg.norm(p - m) <= r for m, r in zip(manifold, radii, strict=True)) for p in points]
        return np.mean(inside)

    one, two = Pixels(3)(real).numpy(), Pixels(3)(drawn).numpy()
    metric = PrecisionRecall(Pixels(3), neighbours)
    assert measure(metric, real, drawn, batch=7) == pytest.approx([share(two, one), share(one, two)])


def test_the_inception_score_by_hand():
    drawn = pictures(50, 0)
    share = Pixels().classes(drawn).numpy()
    divergence = (share * np.log(share / share.mean(0))).sum(1)
    assert measure(InceptionScore(Pixels(), splits=1), drawn, drawn) == pytest.approx([np.exp(divergence.mean()), 0])
    parts = (picture_keys(drawn) % 4).numpy()
    scores = []
    for part in range(4):
        mine = share[parts == part]
        scores.append(np.exp((mine * np.log(mine / mine.mean(0))).sum(1).mean()))
    found = measure(InceptionScore(Pixels(), splits=4), drawn, drawn, batch=3)
    assert found == pytest.approx([np.mean(scores), np.std(scores)])


def test_one_class_scores_1_and_as_many_as_there_are_score_their_number():
    class Sure(Pixels):
        def classes(self, images):
            return torch.nn.functional.one_hot(images[:, 0, 0, 0].long() % 4, 4).double()

    same, each = torch.zeros(8, 3, 4, 4, dtype=torch.uint8), torch.zeros(8, 3, 4, 4, dtype=torch.uint8)
    each[:, 0, 0, 0] = torch.arange(8)
    assert measure(InceptionScore(Sure(), splits=1), same, same)[0] == pytest.approx(1)
    assert measure(InceptionScore(Sure(), splits=1), each, each)[0] == pytest.approx(4)


METRICS = [
    lambda: Frechet(Pixels()),
    lambda: Kernel(Pixels(), subset=5, kept=20),
    lambda: PrecisionRecall(Pixels(), kept=20),
    lambda: InceptionScore(Pixels(), splits=3),
    lambda: PSNR(),
]


@pytest.mark.parametrize("make", METRICS)
@given(st.permutations(range(40)), st.integers(1, 40))
@settings(max_examples=8, deadline=None)
def test_neither_shuffles_nor_batches_change_a_number(make, order, batch):
    real, drawn = pictures(40, 0), pictures(40, 1, high=200)
    expected = measure(make(), real, drawn)
    assert measure(make(), real[order], drawn[order], batch) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_sample_is_a_uniform_draw_that_keeps_no_more_than_it_may():
    kept = torch.zeros(50)
    for seed in range(300):
        images = pictures(50, seed)
        sample = FeatureSample(10)
        for part in range(0, 50, 8):
            sample.add(images[part : part + 8], torch.arange(50.0)[part : part + 8, None])
            assert len(sample) <= 10
        kept[sample.rows[:, 0].long()] += 1
    assert kept.sum() == 3000
    # Each is kept 60 times of 300 on average, with a deviation of 6.9
    assert kept.min() > 30 and kept.max() < 95


def test_psnr_by_hand():
    real = pictures(3, 0, high=250)
    other = real.clone()
    other[1] += 5
    other[2, 0] += 3
    expected = [100, 10 * np.log10(255**2 / 25), 10 * np.log10(255**2 / 3)]
    assert measure(PSNR(), real, other, batch=2) == pytest.approx([np.mean(expected)])


def similarity(one, two):
    """Wang et al. 2004, equation 13, of one channel, which goes on mirrored beyond its edges."""
    import scipy.ndimage

    one, two = one.astype(float), two.astype(float)
    blur = lambda values: scipy.ndimage.gaussian_filter(values, 1.5, truncate=3.5, mode="mirror")  # noqa: E731
    mean, other = blur(one), blur(two)
    spread, other_spread = blur(one * one) - mean**2, blur(two * two) - other**2
    shared, c1, c2 = blur(one * two) - mean * other, (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean * other + c1) * (2 * shared + c2)
    return (above / ((mean**2 + other**2 + c1) * (spread + other_spread + c2))).mean()


def test_ssim_is_its_paper_s():
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(256, (3, 3, 32, 24), dtype=torch.uint8, generator=generator)
    other = (real.float() + 20 * torch.randn(real.shape, generator=generator)).clamp(0, 255).byte()
    other[0] = real[0]
    expected = [
        np.mean([similarity(*channels) for channels in zip(one, two, strict=True)])
        for one, two in zip(real.numpy(), other.numpy(), strict=True)
    ]
    assert expected[0] == pytest.approx(1)
    assert measure(SSIM(), real, other, batch=2)[0] == pytest.approx(np.mean(expected), abs=1e-6)


@pytest.mark.parametrize("make", METRICS)
def test_too_few_pictures_are_refused(make):
    metric = make()
    with pytest.raises(UserError, match=r"and none came|at least, and 0 came"):
        metric.compute()
    one = pictures(1, 0)
    metric.update(one, one, [""])
    if metric.least > 1:
        with pytest.raises(UserError, match=f"{metric.least} pictures at least, and 1 came"):
            metric.compute()
    else:
        assert metric.compute().isfinite().all()


@pytest.mark.parametrize("make", [Frechet, Kernel, PrecisionRecall])
def test_features_of_another_width_are_refused(make):
    metric = make(Pixels(6))
    metric.update(pictures(4, 0), pictures(4, 1), [""] * 4)
    metric.features = Pixels(5)
    with pytest.raises(ValueError, match="features of 5 numbers came after some of 6"):
        metric.update(pictures(4, 0), pictures(4, 1), [""] * 4)


@pytest.mark.parametrize("make", [PSNR, SSIM])
def test_pairs_of_other_sizes_are_refused(make):
    with pytest.raises(ValueError, match="make them of one size"):
        make().update(pictures(2, 0), pictures(2, 0)[:, :, :3], ["", ""])


def test_a_picture_smaller_than_ssim_s_window_is_refused():
    with pytest.raises(UserError, match="windows of 11 x 11 pixels, and pictures are 4 x 4"):
        SSIM().update(pictures(2, 0), pictures(2, 0), ["", ""])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Kernel(subsets=0), "subsets is 0"),
        (lambda: Kernel(subset=1), "subset is 1"),
        (lambda: Kernel(kept=10), "fewer than a subset's 1000"),
        (lambda: PrecisionRecall(neighbours=0), "neighbours is 0"),
        (lambda: PrecisionRecall(kept=3), "kept is 3"),
        (lambda: InceptionScore(splits=0), "splits is 0"),
        (lambda: SSIM(sigma=0), "sigma is 0"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
