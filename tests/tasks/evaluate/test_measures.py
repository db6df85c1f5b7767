import math

import pytest
import torch
from muse_tasks.evaluate.measures import count_codes, perplexity, predict_masked, usage
from muse_tasks.evaluate.retrieval import Gallery, features, recall

from muse_studio.contracts import MASK
from muse_studio.images.pixels import psnr


def test_psnr_is_of_each_picture():
    real = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    other = real.clone()
    other[0] += 255
    other[1, 0, 0, 0] = 51  # one value of 48, off by a fifth
    expected = [0.0, 10 * math.log10(48 * 25), 100.0]
    assert psnr(real.double(), other.double(), 255).tolist() == pytest.approx(expected)


def test_usage_and_perplexity_of_hand_counted_codes():
    counts = count_codes(torch.tensor([[[0, 0], [2, 2]]]), 4)
    assert counts.tolist() == [2, 0, 2, 0]
    assert usage(counts) == 0.5
    assert perplexity(counts) == pytest.approx(2.0)
    assert perplexity(torch.tensor([7, 0])) == 1.0
    assert perplexity(torch.full((8,), 3)) == pytest.approx(8.0)


@pytest.mark.parametrize(("ratio", "hidden"), [(0.01, 1), (0.25, 4), (0.5, 8), (1.0, 16)])
def test_masked_prediction_asks_for_the_hidden_places_only(make_stage, ratio, hidden):
    tokens = torch.randint(64, (3, 4, 4), generator=torch.Generator().manual_seed(0))
    noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(1))
    asked = []

    class Knows:
        """Sure of the right code, except in the first row, where it is sure of the next one."""

        codebook_size, text_width = 64, 8

        def __call__(self, grid, conditioning):
            asked.append(grid)
            believed = torch.cat([(tokens[:1] + 1) % 64, tokens[1:]])
            return 3.0 * torch.nn.functional.one_hot(believed, 64)

    right, loss = predict_masked(make_stage(transformer=Knows()), tokens, (), ratio, noise)
    (grid,) = asked
    assert (grid == MASK).flatten(1).sum(1).tolist() == [hidden] * 3
    assert torch.equal(grid[grid != MASK], tokens[grid != MASK])
    assert right.shape == loss.shape == (3, hidden)
    assert right.tolist() == [[False] * hidden, [True] * hidden, [True] * hidden]
    total = math.log(63 + math.exp(3))
    assert loss[0].tolist() == pytest.approx([total] * hidden)
    assert loss[1].tolist() == pytest.approx([total - 3] * hidden)


def test_a_higher_ratio_hides_the_same_places_and_more(make_stage):
    tokens = torch.randint(64, (2, 4, 4))
    noise = torch.rand(2, 16)
    grids = []

    class Spy:
        codebook_size, text_width = 64, 8

        def __call__(self, grid, conditioning):
            grids.append(grid == MASK)
            return torch.zeros(2, 4, 4, 64)

    for ratio in (0.25, 0.75):
        predict_masked(make_stage(transformer=Spy()), tokens, (), ratio, noise)
    assert (grids[1] | ~grids[0]).all()


def test_features_are_mean_colours():
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    image[0, 1, 0, 0] = 255
    image[0, 1, 0, 1] = 255
    found = features(image).view(3, 16, 16)
    assert found[1, 0, 0] == 0.5
    assert found.sum() == 0.5


def test_ranks_by_hand():
    gallery = Gallery(torch.tensor([[0.0], [10.0], [1.0], [11.0], [5.0]]), ["a", "b", "a", "b", "a"])
    assert gallery.sizes == {"a": 3, "b": 2}
    ranks = gallery.ranks(torch.tensor([[0.9], [10.4], [0.9], [9.0]]), [2, 3, 4, 1])
    assert ranks.tolist() == [0, 1, 2, 0]  # other groups' pictures are no rivals
    assert (recall(ranks, 1), recall(ranks, 2), recall(ranks, 5)) == (0.5, 0.75, 1.0)
    assert gallery.chance([0, 1], 1) == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert gallery.chance([1], 5) == 1.0


def test_ties_and_duplicates_count_against_the_query():
    gallery = Gallery(torch.tensor([[0.0], [2.0]]), ["a", "a"])
    assert gallery.ranks(torch.tensor([[1.0]]), [0]).tolist() == [1]
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 768, generator=generator)
    crowd = torch.rand(300, 768, generator=generator)
    crowd[[3, 77, 299]] = picture
    near = picture + 0.01 * torch.rand(1, 768, generator=generator)
    for target in (3, 77, 299):
        assert Gallery(crowd, ["a"] * 300).ranks(near, [target]).tolist() == [2]


def test_ranks_agree_with_brute_force():
    generator = torch.Generator().manual_seed(0)
    crowd = torch.randint(3, (60, 4), generator=generator).float()  # few values: many ties
    groups = [str(int(index)) for index in torch.randint(3, (60,), generator=generator)]
    queries = torch.randint(3, (40, 4), generator=generator).float()
    targets = torch.randint(60, (40,), generator=generator).tolist()
    expected = []
    for query, target in zip(queries, targets, strict=True):
        own = (query - crowd[target]).square().sum()
        rivals = [i for i in range(60) if groups[i] == groups[target] and i != target]
        expected.append(sum(bool((query - crowd[i]).square().sum() <= own) for i in rivals))
    assert Gallery(crowd, groups).ranks(queries, targets).tolist() == expected
