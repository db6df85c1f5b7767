"""What data sets, optimizers, metrics, tasks and observers promise."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from muse_studio import hookspecs
from muse_studio.contracts import MICRO, Dataset, Metric, Observer, Optimizer, Task
from muse_studio.errors import near
from muse_studio.registry.kinds import hook_points, kinds
from muse_studio.testing.contract import Contract
from muse_studio.testing.promise import REFUSED, SHAPES, UNCHANGED, promise, refuses
from muse_studio.testing.watching import unchanged


class DatasetContract(Contract):
    """Promises of a `contracts.Dataset`: what training by (seed, step) alone rests on."""

    def make(self) -> Dataset:
        """A small data set; it may read its files at the first use."""
        return super().make()

    @promise(SHAPES)
    def test_a_record_is_a_picture_and_its_caption(self) -> None:
        data = self.make()
        assert len(data) > 0, "the data set is empty"
        for index in (0, len(data) - 1):
            record = data[index]
            if "states" in record:  # tokens and text states in their place
                self._check_tokens(index, record)
                continue
            image, caption = record["image"], record["caption"]
            assert image.dtype == torch.uint8, f"record {index}: an image is uint8, got {image.dtype}"
            assert image.ndim == 3 and len(image) == 3, (
                f"record {index}: an image is [3, H, W], got {list(image.shape)}"
            )
            if "micro" in record:
                micro = record["micro"]
                assert (micro.dtype, micro.shape) == (torch.float32, (len(MICRO),)), (
                    f"record {index}: micro-conditions are float32[{len(MICRO)}], got {micro.dtype} {list(micro.shape)}"
                )
            assert isinstance(caption, str), f"record {index}: a caption is a str, got {type(caption).__name__}"

    def _check_tokens(self, index: int, record: dict[str, Any]) -> None:
        grids = {name: each for name, each in record.items() if name.startswith("tokens.")}
        assert grids, f"record {index}: text states without tokens.<stage>, but {', '.join(record)}"
        for name, grid in grids.items():
            assert grid.ndim == 2 and not grid.is_floating_point(), f"record {index}: {name} is a grid of codes"
        states, mask = record["states"], record["mask"]
        assert mask.dtype == torch.bool, f"record {index}: a mask is bool, got {mask.dtype}"
        assert states.shape[:-1] == mask.shape, (
            f"record {index}: states are [T, D] and the mask [T], got {list(states.shape)} and {list(mask.shape)}"
        )

    @promise("an index is one record, always")
    def test_the_same_index_gives_the_same_record(self) -> None:
        data, again = self.make(), self.make()
        for index in (0, len(data) // 2, len(data) - 1, 0):
            torch.manual_seed(index)
            first = data[index]
            torch.manual_seed(index + 1)
            second = again[index]
            for name, value in first.items():
                if isinstance(value, Tensor):
                    assert torch.equal(value, second[name]), f"record {index} has two different {name}s"
                else:
                    assert value == second[name], f"record {index} has two {name}s: {value!r}, {second[name]!r}"

    @promise("a batch is its records")
    def test_a_batch_at_once_is_its_records(self) -> None:
        data: Any = self.make()
        if hasattr(data, "__getitems__"):
            indices = [len(data) - 1, 0, len(data) // 2, 0]
            batch = data.__getitems__(indices)
            for name, value in batch.items():
                expected = [data[index][name] for index in indices]
                same = torch.equal(value, torch.stack(expected)) if isinstance(value, Tensor) else value == expected
                assert same, f"{name} of records {indices} is not that of each"

    @promise(REFUSED)
    def test_an_index_beyond_the_end_is_refused(self) -> None:
        data = self.make()
        with refuses(IndexError, f"record {len(data)} of a data set of {len(data)}"):
            data[len(data)]


class OptimizerContract(Contract):
    """Promises of a `contracts.Optimizer`. `steps` updates halve the loss of a small regression, `frozen` stays."""

    steps = 300

    def make(self) -> Optimizer:
        """The optimizer's maker, with settings under which a small regression is learned (a rate of 1e-2, say)."""
        return super().make()

    def model(self) -> nn.ModuleDict:
        """Two linear layers to be learned, and one, `frozen`, that asks for no gradient."""
        torch.manual_seed(0)
        model = nn.ModuleDict({"inner": nn.Linear(8, 16), "outer": nn.Linear(16, 4), "frozen": nn.Linear(4, 4)})
        model["frozen"].requires_grad_(False)
        return model

    @promise("every weight that can learn is in one group, and no other is")
    def test_every_weight_that_can_learn_is_in_one_group_and_no_other_is(self) -> None:
        model = self.model()
        given = [id(weight) for group in self.make()(model).param_groups for weight in group["params"]]
        assert len(given) == len(set(given)), "a weight stands in two groups"
        names = {id(weight): name for name, weight in model.named_parameters()}
        missing = [name for key, name in names.items() if key not in given and not name.startswith("frozen")]
        assert not missing, f"left out: {', '.join(missing)}"
        frozen = [names[key] for key in given if names[key].startswith("frozen")]
        assert not frozen, f"asks for no gradient, but is in a group: {', '.join(frozen)}"

    @promise("it learns")
    def test_it_learns(self) -> None:
        model = self.model()
        losses = self.train(model, self.make()(model), self.steps)
        assert losses[-1] < losses[0] / 2, (
            f"after {self.steps} steps the loss went from {losses[0]:.4f} to {losses[-1]:.4f}"
        )

    @promise("a restored state goes on as if never stopped")
    def test_a_restored_state_continues_as_if_never_stopped(self) -> None:
        through, stopped = self.model(), self.model()
        self.train(through, self.make()(through), 6)
        first = self.make()(stopped)
        self.train(stopped, first, 3)
        second = self.make()(stopped)
        second.load_state_dict(first.state_dict())
        self.train(stopped, second, 3)
        for (name, expected), got in zip(through.named_parameters(), stopped.parameters(), strict=True):
            assert torch.equal(got, expected), f"{name} differs after a restart: something is not in state_dict"

    def train(self, model: nn.ModuleDict, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
        """`steps` updates on one fixed batch; the loss before each."""
        assert isinstance(optimizer, torch.optim.Optimizer), f"not a torch optimizer: {type(optimizer).__name__}"
        generator = torch.Generator().manual_seed(1)
        inputs, wanted = torch.randn(64, 8, generator=generator), torch.randn(64, 4, generator=generator) / 4
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = (model["outer"](torch.tanh(model["inner"](inputs))) - wanted).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses


class MetricContract(Contract):
    """Promises of a `contracts.Metric`."""

    def make(self) -> Metric:
        """The metric, with nothing seen yet."""
        return super().make()

    def batches(self) -> list[tuple[Tensor, Tensor, list[str]]]:
        """The arguments of two updates at least: here real pictures, noisy ones, and captions."""
        generator = torch.Generator().manual_seed(0)
        found = []
        for _ in range(2):
            real = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8, generator=generator)
            noise = torch.randint(-30, 31, real.shape, generator=generator)
            found.append(
                (real, (real + noise).clamp(0, 255).byte(), ["a red apple", "two cats", "a blue car", "a car"])
            )
        return found

    def measured(self, *batches: tuple[Tensor, Tensor, list[str]]) -> Metric:
        """A new metric that has seen these batches, all of them where none is given."""
        metric = self.make()
        for batch in batches or self.batches():
            metric.update(*batch)
        return metric

    @promise(SHAPES)
    def test_it_computes_numbers(self) -> None:
        value = self.measured().compute()
        assert isinstance(value, Tensor) and value.isfinite().all(), f"compute gives finite numbers, got {value!r}"

    @promise("every number has a meaning")
    def test_every_number_has_a_meaning(self) -> None:
        metric = self.measured()
        value, meanings = metric.compute(), metric.meanings
        assert value.shape == (len(meanings),), (
            f"compute gives float[{len(meanings)}], a number for each of {', '.join(meanings)}; got {list(value.shape)}"
        )
        assert all(meanings.values()), "a number's meaning is empty"

    @promise("neither batches nor their order change a measure")
    def test_batches_and_their_order_change_nothing(self) -> None:
        batches = self.batches()
        expected = self.measured(*batches).compute()
        for other, what in (
            (batches[::-1], "batches in another order"),
            ([_rows(batch, [row]) for batch in batches for row in reversed(range(len(batch[2])))], "single pictures"),
        ):

            def message(detail: str, what: str = what) -> str:
                return f"{what} give another value\n{detail}"

            torch.testing.assert_close(
                self.measured(*other).compute(),
                expected,
                rtol=1e-3,
                atol=1e-4,  # a network's own rounding depends on the batch
                msg=message,
            )

    @promise("reset forgets all")
    def test_reset_forgets_all(self) -> None:
        first, second, *_ = self.batches()
        metric = self.measured(second)
        metric.reset()
        metric.update(*first)
        assert torch.equal(metric.compute(), self.measured(first).compute()), "after reset it knows what it saw before"

    @promise("computing changes nothing")
    def test_computing_changes_nothing(self) -> None:
        metric = self.measured()
        first = metric.compute().clone()
        assert torch.equal(metric.compute(), first), "compute gives another value the second time"

    @promise("a measure knows only what it saw itself")
    def test_it_remembers_only_what_it_saw_itself(self) -> None:
        first, *others = self.batches()
        alone = self.measured(first).compute()
        self.measured(*others)
        assert torch.equal(self.measured(first).compute(), alone), "a new metric knows what another one saw"

    @promise(UNCHANGED)
    def test_inputs_are_not_changed(self) -> None:
        real, generated, prompts = self.batches()[0]
        metric = self.make()
        with unchanged({"the real pictures": real, "the generated pictures": generated}):
            metric.update(real, generated, prompts)


def _rows(batch: tuple[Tensor, Tensor, list[str]], rows: list[int]) -> tuple[Tensor, Tensor, list[str]]:
    real, generated, prompts = batch
    return real[rows], generated[rows], [prompts[row] for row in rows]


class TaskContract(Contract):
    """Promises of a `contracts.Task`: its constructor keeps settings, and the rest happens when it is called."""

    def make(self) -> Task:
        """The task, not yet run."""
        return super().make()

    @promise("a task is called with the observers alone")
    def test_it_is_called_with_the_observers_alone(self) -> None:
        task: Any = self.make()
        assert callable(task), f"{type(task).__name__} has no __call__(self, hook)"
        try:
            inspect.signature(task).bind(object())
        except TypeError as problem:
            raise AssertionError(
                f"{type(task).__name__} is called with one argument, the observers: {problem}"
            ) from problem


HEARD = tuple(name for name in hook_points() if name not in {kind.hook for kind in kinds().values()})
"""The hook points that an observer's methods may be."""


class ObserverContract(Contract):
    """Promises of a `contracts.Observer`: its hooks are there, and are called as they are meant to be."""

    def make(self) -> Observer:
        """The observer, which has heard nothing yet."""
        return super().make()

    @promise("it hears of something")
    def test_it_has_a_hook(self) -> None:
        observer = self.make()
        hooks = _hooks(observer)
        assert hooks, f"{type(observer).__name__} has no method marked by @hookimpl, such as {HEARD[0]}"
        for name in hooks:
            assert name in HEARD, f"{name} is nothing that an observer hears;{near(name, HEARD)} {', '.join(HEARD)}"

    @promise("what looks like a hook is one")
    def test_a_method_with_a_hook_s_name_is_marked(self) -> None:
        observer = self.make()
        for name in HEARD:
            assert not callable(getattr(observer, name, None)) or name in _hooks(observer), (
                f"{name} has no @hookimpl above it, so it is never called; add it"
            )


def _hooks(observer: object) -> list[str]:
    marker = f"{hookspecs.PROJECT}_impl"
    return [name for name in dir(type(observer)) if hasattr(getattr(type(observer), name), marker)]
