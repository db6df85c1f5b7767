"""What samplers and editors promise: known tokens stay, the seed decides, every step is shown."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from muse_studio.contracts import MASK, Editor, Sampler
from muse_studio.testing.contract import Contract
from muse_studio.testing.fakes import FakePredict
from muse_studio.testing.promise import KNOWN_STAYS, SEED_DECIDES, UNCHANGED, promise
from muse_studio.testing.watching import nothing_drawn_globally, unchanged

CODES = 16
"""How many codes the grids of these tests have."""


class SamplerContract(Contract):
    """Promises of a `contracts.Sampler`. Its settings leave it fewer steps than the 48 tokens of the test's grid.

    `draws` is False for a sampler that takes the likeliest code always, so that no seed can matter to it.
    """

    draws = True

    def make(self) -> Sampler:
        """The sampler."""
        return super().make()

    def predict(self, batch: int = 2, sharpness: float = 0.3) -> FakePredict:
        """Random logits float[batch, 6, 8, 16], all but flat: much is left to the seed."""
        return FakePredict(sharpness * random_logits(batch))

    def sample(self, tokens: Tensor, seed: int = 0, predict: FakePredict | None = None) -> list[Tensor]:
        """All the grids that filling `tokens` yields, by a cosine schedule."""
        generator = torch.Generator().manual_seed(seed)
        predict = self.predict(len(tokens)) if predict is None else predict
        return list(self.make()(predict, tokens, lambda progress: torch.cos(progress * torch.pi / 2), generator))

    @promise("the last grid is full of codes")
    def test_the_last_grid_is_full_of_codes(self) -> None:
        for batch in (1, 3):
            last = self.sample(blank(batch))[-1]
            check_grid(last, (batch, 6, 8))

    @promise("every step is shown")
    def test_every_step_is_shown(self) -> None:
        sampler = self.make()
        assert isinstance(sampler.steps, int) and sampler.steps > 0, f"steps is a positive int, got {sampler.steps!r}"
        grids = self.sample(blank())
        assert len(grids) == sampler.steps, f"steps is {sampler.steps}, but {len(grids)} grids were yielded"

    @promise("what was shown stays as it was shown")
    def test_a_grid_that_was_shown_is_not_changed_afterwards(self) -> None:
        generator = torch.Generator().manual_seed(0)
        steps = self.make()(self.predict(), blank(), lambda progress: torch.cos(progress * torch.pi / 2), generator)
        shown = [(grid, grid.clone()) for grid in steps]
        for step, (grid, copy) in enumerate(shown, 1):
            assert torch.equal(grid, copy), f"the grid of step {step} changed after it was yielded; yield a new tensor"

    @promise(KNOWN_STAYS)
    def test_known_tokens_stay(self) -> None:
        tokens = partly_known()
        for step, grid in enumerate(self.sample(tokens), 1):
            kept = grid[tokens != MASK] == tokens[tokens != MASK]
            assert kept.all(), f"step {step} changed {int((~kept).sum())} tokens that were known at the start"

    @promise(KNOWN_STAYS)
    def test_a_grid_without_mask_stays_as_it_is(self) -> None:
        tokens = torch.randint(CODES, (2, 6, 8), generator=torch.Generator().manual_seed(3))
        grids = self.sample(tokens)
        assert grids, "nothing was yielded; yield the finished grid at least once"
        assert torch.equal(grids[-1], tokens), "a grid in which every token was known came back changed"

    @promise("the logits decide")
    def test_the_logits_decide(self) -> None:
        predict = self.predict()
        wanted = torch.randint(CODES, (2, 6, 8), generator=torch.Generator().manual_seed(4))
        predict.logits.zero_().scatter_(-1, wanted.unsqueeze(-1), 1e3)
        last = self.sample(blank(), predict=predict)[-1]
        assert torch.equal(last, wanted), "where one code is certain, another was drawn"

    @promise(SEED_DECIDES)
    def test_the_seed_decides_and_nothing_else(self) -> None:
        torch.manual_seed(1)
        with nothing_drawn_globally():
            first = self.sample(blank(), seed=7)
        torch.manual_seed(2)
        assert all(map(torch.equal, self.sample(blank(), seed=7), first)), "the same seed gave other tokens"
        if self.draws:
            assert not torch.equal(self.sample(blank(), seed=8)[-1], first[-1]), "another seed gave the same tokens"

    @promise("progress goes from 0 towards 1")
    def test_progress_goes_from_0_towards_1(self) -> None:
        predict = self.predict()
        self.sample(blank(), predict=predict)
        progress = [float(at) for _, at in predict.asked]
        assert progress, "the sampler never asked for logits"
        assert progress == sorted(progress) and progress[0] >= 0 and progress[-1] <= 1, (
            f"progress is the share of steps done, rising within 0..1; got {progress}"
        )

    @promise(UNCHANGED)
    def test_inputs_are_not_changed(self) -> None:
        tokens, predict = partly_known(), self.predict()
        with unchanged({"the grid that it was given": tokens}):
            self.sample(tokens, predict=predict)


class EditorContract(Contract):
    """Promises of a `contracts.Editor`."""

    def make(self) -> Editor:
        """The editor."""
        return super().make()

    def edit(self, tokens: Tensor, region: Tensor, seed: int = 0) -> list[Tensor]:
        """All the grids that an edit yields, where masked tokens are filled at random, in two steps."""
        generator = torch.Generator().manual_seed(seed)

        def resample(masked: Tensor) -> Iterator[Tensor]:
            beyond = (masked == MASK) & ~region
            assert not beyond.any(), f"{int(beyond.sum())} tokens outside the region were masked"
            drawn = torch.randint(CODES, masked.shape, generator=generator)
            half = (masked == MASK) & (torch.arange(masked.shape[-1]) % 2 == 0)
            yield torch.where(half, drawn, masked)
            yield torch.where(masked == MASK, drawn, masked)

        return list(self.make()(tokens, region, resample, generator))

    @promise(KNOWN_STAYS)
    def test_what_is_outside_the_region_stays(self) -> None:
        tokens, region = finished(), box()
        for step, grid in enumerate(self.edit(tokens, region), 1):
            assert torch.equal(grid[~region], tokens[~region]), f"step {step} changed a token outside the region"

    @promise("the last grid is full of codes")
    def test_the_last_grid_is_full_of_codes_and_the_region_has_changed(self) -> None:
        tokens, region = finished(), box()
        grids = self.edit(tokens, region)
        assert grids, "nothing was yielded"
        check_grid(grids[-1], tuple(tokens.shape))
        assert not torch.equal(grids[-1][region], tokens[region]), "nothing changed inside the region"

    @promise(KNOWN_STAYS)
    def test_an_empty_region_changes_nothing(self) -> None:
        tokens = finished()
        for grid in self.edit(tokens, torch.zeros_like(tokens, dtype=torch.bool)):
            assert torch.equal(grid, tokens), "the region was empty, and a token changed"

    @promise(SEED_DECIDES)
    def test_the_seed_decides_and_nothing_else(self) -> None:
        torch.manual_seed(1)
        with nothing_drawn_globally():
            first = self.edit(finished(), box(), seed=7)
        torch.manual_seed(2)
        assert all(map(torch.equal, self.edit(finished(), box(), seed=7), first)), "the same seed gave another edit"

    @promise(UNCHANGED)
    def test_inputs_are_not_changed(self) -> None:
        tokens, region = finished(), box()
        with unchanged({"the grid that it was given": tokens, "the region that it was given": region}):
            self.edit(tokens, region)


def random_logits(batch: int) -> Tensor:
    """float32[batch, 6, 8, 16] of a normal distribution, the same always."""
    return torch.randn(batch, 6, 8, CODES, generator=torch.Generator().manual_seed(0))


def blank(batch: int = 2) -> Tensor:
    """int64[batch, 6, 8], every token MASK: not square, so that exchanged sides are seen."""
    return torch.full((batch, 6, 8), MASK)


def finished() -> Tensor:
    """int64[2, 6, 8] of codes."""
    return torch.randint(CODES, (2, 6, 8), generator=torch.Generator().manual_seed(3))


def partly_known() -> Tensor:
    """A finished grid in which rows know different numbers of tokens: 12 of 48, and 30 of 48."""
    tokens = finished()
    tokens[0, :, 2:], tokens[1, :, 5:] = MASK, MASK
    return tokens


def box() -> Tensor:
    """bool[2, 6, 8]: a region of 4 x 5 tokens, another of 2 x 2."""
    region = torch.zeros(2, 6, 8, dtype=torch.bool)
    region[0, 1:5, 2:7] = True
    region[1, :2, :2] = True
    return region


def check_grid(grid: Tensor, shape: tuple[int, ...]) -> None:
    """AssertionError where `grid` is not int64 of this shape, holding codes alone."""
    assert grid.dtype == torch.int64, f"tokens are int64, got {grid.dtype}"
    assert tuple(grid.shape) == shape, f"expected a grid of {shape}, got {tuple(grid.shape)}"
    left = int((grid == MASK).sum())
    assert not left, f"{left} tokens are still MASK at the end"
    assert grid.min() >= 0 and grid.max() < CODES, f"codes are in 0..{CODES - 1}, got {grid.min()}..{grid.max()}"
