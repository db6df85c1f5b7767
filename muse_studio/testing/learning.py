"""What objectives promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from muse_studio.contracts import Batch, Lots, Objective, TextEmbedding
from muse_studio.testing.contract import Contract
from muse_studio.testing.fakes import FakeSchedule, FakeTransformer, embedding
from muse_studio.testing.promise import SEED_DECIDES, SHAPES, UNCHANGED, promise
from muse_studio.testing.watching import unchanged

COUNT, GRID = 8, (3, 4)


class _Model:
    """A model that learns, as an objective asks it; its layer of 8 numbers a place is a table too."""

    def __init__(self, network: FakeTransformer, batch: Batch, other: FakeTransformer | None) -> None:
        self._network, self._batch = network, batch
        self.other = None if other is None else _Model(other, batch, None)
        self._layer = torch.nn.Embedding(network.codebook_size + 1, 8)

    def __call__(self, tokens: Tensor) -> Tensor:
        self.states = self._layer(tokens % (self._network.codebook_size + 1))
        logits = self._network(tokens, self._network.condition(self._batch.text, self._batch.low))
        return logits[..., :1] if self.other is not None else logits  # a critic, where another network draws


class ObjectiveContract(Contract):
    """Promises of a `contracts.Objective`."""

    def make(self) -> Objective:
        """The objective; what it asks learns 64 codes, of text of width 8."""
        return super().make()

    def lots(self, seed: int = 0) -> Lots:
        """What it draws for a step, by generators that the seed and a name decide."""
        return self.make().draw(COUNT, GRID, FakeSchedule(), _chance(seed))

    def batch(self, lots: Lots, rows: slice = slice(None)) -> Batch:
        """Some of a step's pictures."""
        generator = torch.Generator().manual_seed(1)
        tokens = torch.randint(0, 64, (COUNT, *GRID), generator=generator)[rows]
        weight = COUNT if lots.weight is None else lots.weight.sum()
        scale = torch.as_tensor(COUNT / len(tokens) / weight)
        whole = embedding(COUNT)
        text = TextEmbedding(whole.states[rows], whole.mask[rows])
        pixels = torch.rand(COUNT, 3, 16, 16, generator=generator)[rows]
        noise = {name: each[rows] for name, each in lots.noise.items()}
        return Batch(tokens, text, None, lots.hidden[rows], noise, scale, COUNT, pixels)

    def ask(self, batch: Batch, network: FakeTransformer | None = None) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss and the figures of a batch, where a small table learns."""
        torch.manual_seed(0)
        made = self.make()
        network = FakeTransformer() if network is None else network
        other = FakeTransformer() if getattr(made, "learns", "transformer") == "critic" else None
        return made(batch, _Model(network, batch, other))

    @promise(SHAPES)
    def test_lots_are_for_every_picture(self) -> None:
        lots = self.lots()
        assert isinstance(lots, Lots), f"draw gives {type(lots).__name__}; give contracts.Lots"
        found = f"{lots.hidden.dtype}{list(lots.hidden.shape)}"
        assert lots.hidden.dtype == torch.bool, f"hidden is {found}; give bool{[COUNT, *GRID]}"
        assert tuple(lots.hidden.shape) == (COUNT, *GRID), f"hidden is {found}; give bool{[COUNT, *GRID]}"
        assert lots.weight is None or tuple(lots.weight.shape) == (COUNT,), "weight is one number a picture"
        for name, each in lots.noise.items():
            assert len(each) == COUNT, f"noise {name!r} is of {len(each)} pictures, and {COUNT} are asked for"

    @promise(SEED_DECIDES)
    def test_the_generators_decide_what_is_left_to_chance(self) -> None:
        torch.manual_seed(1)
        first = self.lots()
        torch.manual_seed(2)
        again, other = self.lots(), self.lots(seed=7)
        assert torch.equal(first.hidden, again.hidden), "the same generators hide other tokens: draw by `chance` alone"
        assert not torch.equal(first.hidden, other.hidden), "other generators hide the very same tokens"

    @promise("the loss is a number that weights can follow")
    def test_the_loss_is_a_number_that_weights_can_follow(self) -> None:
        network = FakeTransformer()
        loss, figures = self.ask(self.batch(self.lots()), network)
        assert tuple(loss.shape) == (), f"the loss is float{list(loss.shape)}; give a scalar"
        assert bool(loss.isfinite()), f"the loss is {loss.item()}"
        assert loss.requires_grad, "the loss has no gradient: what is asked of the model is cut off from it"
        loss.backward()
        assert any(each.grad is not None and each.grad.any() for each in network.parameters()), "no weight learns"
        for name, each in figures.items():
            assert isinstance(each, Tensor) and each.shape == (), f"the figure {name!r} is no scalar tensor"
            assert not each.requires_grad, f"the figure {name!r} has a gradient, which keeps its graph; detach it"

    @promise("a step in two halves is the whole step")
    def test_a_step_in_two_halves_is_the_whole_step(self) -> None:
        lots = self.lots()
        whole, _ = self.ask(self.batch(lots))
        halves = [self.ask(self.batch(lots, rows))[0] for rows in (slice(0, COUNT // 2), slice(COUNT // 2, COUNT))]
        mean = (halves[0] + halves[1]) / 2
        assert torch.allclose(whole, mean, rtol=1e-4), (
            f"the loss is {whole.item():.6g}, and {mean.item():.6g} where the step is worked through in halves; "
            "multiply sums by batch.scale"
        )

    @promise(UNCHANGED)
    def test_inputs_are_not_changed(self) -> None:
        batch = self.batch(self.lots())
        given: dict[str, Any] = {"tokens": batch.tokens, "hidden": batch.hidden, "text": batch.text.states}
        with unchanged(given | dict(batch.noise)):
            self.ask(batch)


def _chance(seed: int) -> Callable[[str], torch.Generator]:
    def generator(name: str) -> torch.Generator:
        return torch.Generator().manual_seed(seed * 1000 + sum(name.encode()))

    return generator
