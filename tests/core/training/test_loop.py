"""The training loop: rates, resuming bit for bit, interrupts, numbers that are none, folders that can't be written."""

import math
import multiprocessing
import os
import signal
import threading
import time
from itertools import product

import pytest
import torch
from runs import check_same_files, rows
from safetensors.torch import load_file
from torch import nn

from muse_studio.errors import Terminated, UserError
from muse_studio.runtime import memory
from muse_studio.training import loop
from muse_studio.training.distributed import SINGLE, World
from muse_studio.training.ema import RunningAverage
from muse_studio.training.fit import Fit
from muse_studio.training.order import Order
from muse_studio.training.parallel import optimizer_step
from muse_studio.training.state import State
from muse_studio.training.stopping import stopping


class Records:
    def __init__(self, count=7):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.tensor([float(index), 1.0])


class Learner(loop.Learner):
    """A regression whose steps depend on the record, on the step's own noise and on torch's global generator."""

    world = SINGLE

    def __init__(self, fit, broken_at=None):
        torch.manual_seed(1)
        self.fit, self.broken_at = fit, broken_at
        self.model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.modules = {"net": self.model}
        self.optimizers = {"net": torch.optim.AdamW(self.model.parameters(), 0.05)}
        self.seen = []

    def step(self, batch, step):
        self.seen.append((step, sorted(batch[:, 0].int().tolist())))
        noise = torch.randn(batch.shape, generator=self.fit.generator(step, "noise"))
        loss, norm = optimizer_step(
            self.optimizers["net"], [batch + noise], lambda part: self.model(part).square().mean(), self.model, 1.0
        )
        return {"loss": loss * (math.nan if step == self.broken_at else 1), "norm": norm}


class Hook:
    """Calls `act` at the observers' step `at`."""

    def __init__(self, at=None, act=None):
        self.at, self.act, self.steps = at, act, []

    def muse_step(self, **told):
        self.steps.append(told)
        if told["step"] == self.at:
            self.act()


class Dead(Exception):
    pass


def die():
    raise Dead


def settings(folder, **more):
    return Fit(
        **{"out": str(folder), "steps": 12, "batch": 3, "ema": 0.9, "log_every": 1, "checkpoint_every": 3} | more
    )


def run(fit, hook=None, learner=None, records=None):
    learner = learner or Learner(fit)
    data, output = Records() if records is None else records, loop.Output("net", {"use": "toy"})
    return loop.Run(fit, learner, data, hook or Hook(), output).train(), learner


@pytest.mark.parametrize("killed_at", [(1,), (3,), (5, 10), (4, 4, 11)])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, killed_at):
    through, _ = run(settings(tmp_path / "a"))
    for step in killed_at:
        with pytest.raises(Dead):
            run(settings(tmp_path / "b"), Hook(step, die))
    resumed, learner = run(settings(tmp_path / "b"))
    assert learner.seen[0][0] == (killed_at[-1] - 1) // 3 * 3
    check_same_files(tmp_path / "a", tmp_path / "b")
    assert rows(through) == rows(resumed)
    assert [row["step"] for row in resumed.rows] == list(range(1, 13))


@pytest.mark.parametrize("at", [1, 4, 10])
def test_an_interrupted_run_keeps_its_last_step(tmp_path, at, capsys):
    through, _ = run(settings(tmp_path / "a", keep=1))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path / "b", keep=1), Hook(at, lambda: signal.raise_signal(signal.SIGINT)))
    assert signal.getsignal(signal.SIGINT) is before
    assert "net: stopped at step" in capsys.readouterr().err
    resumed, learner = run(settings(tmp_path / "b", keep=1))
    assert learner.seen[0][0] == at
    check_same_files(tmp_path / "a", tmp_path / "b")
    assert rows(through) == rows(resumed)


def test_a_machine_that_is_taken_away_keeps_the_last_step(tmp_path, capsys):
    with pytest.raises(Terminated):
        run(settings(tmp_path), Hook(5, lambda: signal.raise_signal(signal.SIGTERM)))
    assert "net: stopped at step 5; the same command goes on from there" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    _, learner = run(settings(tmp_path))
    assert learner.seen[0][0] == 5


class Slow(Records):
    """Never gives one record, as a network disk that is gone."""

    def __init__(self, stuck):
        super().__init__(40)
        self.stuck = stuck

    def __getitem__(self, index):
        if index == self.stuck:
            time.sleep(600)
        return super().__getitem__(index)


WAITING = [*product((0, 2), (signal.SIGTERM, signal.SIGINT), (0, 4))]
"""Processes that read, a signal, and the step at which the data stops coming."""


@pytest.mark.parametrize(
    ("workers", "number", "steps"),
    [WAITING[-1], *(pytest.param(*each, marks=pytest.mark.slow) for each in WAITING[:-1])],
)
def test_a_run_that_waits_for_data_ends_at_once(tmp_path, interruptible, capsys, workers, number, steps):
    fit = settings(tmp_path / "run", keep=1, workers=workers)
    stuck = next(iter(Order(40, 3, 0, steps, steps + 1)))[-1]
    waiting, before = Learner(fit), signal.getsignal(number)

    def stop():
        while signal.getsignal(number) is before or len(waiting.seen) < steps:
            time.sleep(0.01)
        time.sleep(0.2)  # for the loop to ask for the batch that never comes
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)

    sent: list[float] = []
    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(KeyboardInterrupt) as caught:
        run(fit, learner=waiting, records=Slow(stuck))
    assert time.monotonic() - sent[0] < 3
    assert isinstance(caught.value, Terminated) == (number == signal.SIGTERM)
    assert f"net: stopped at step {steps}; the same command goes on from there" in capsys.readouterr().err
    assert multiprocessing.active_children() == []
    resumed, learner = run(fit, records=Records(40))
    assert learner.seen[0][0] == steps
    through, _ = run(settings(tmp_path / "through", keep=1), records=Records(40))
    check_same_files(tmp_path / "through", tmp_path / "run")
    assert rows(through) == rows(resumed)


def test_in_a_team_every_process_stops_where_one_is_signalled():
    class Others(World):
        def any(self, here):
            asked.append(here)
            return len(asked) == 4  # the fourth answer: another process heard SIGTERM

    asked = []
    with stopping(Others(torch.device("cpu"), 1, 2)) as signals:
        assert signals.ask() is None
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # torchrun passes on what the terminal sent already
        stop = signals.ask()
    assert asked == [False, False, True, False]
    assert stop.terminated and not stop.speaks


def test_beginning_anew(tmp_path):
    run(settings(tmp_path))
    history, learner = run(settings(tmp_path, resume="never", steps=4))
    assert learner.seen[0][0] == 0 and [row["step"] for row in history.rows] == [1, 2, 3, 4]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-0000003", "step-0000004"]


@pytest.fixture
def interruptible():
    """Ctrl-C as at a terminal: a test process among several is started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_interrupt_stops_at_once(tmp_path, interruptible):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    hook = Hook(5, twice)
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path), hook)
    assert hook.steps[-1]["step"] == 5
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-0000003"]


def test_beside_the_main_thread_it_trains_too(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(run(settings(tmp_path))[0].steps))
    thread.start()
    thread.join()
    assert found == [12]


def test_workers_change_nothing(tmp_path):
    run(settings(tmp_path / "a", steps=4))
    run(settings(tmp_path / "b", steps=4, workers=2))
    check_same_files(tmp_path / "a", tmp_path / "b")


def test_steps_already_done_are_not_done_again(tmp_path):
    run(settings(tmp_path))
    (tmp_path / "net.safetensors").unlink()
    history, learner = run(settings(tmp_path))
    assert (learner.seen, history.steps, len(history.rows)) == ([], 12, 12)
    assert history.weights.is_file()
    assert history.summary().startswith(f"{history.weights}\n12 steps: loss ")
    shorter, learner = run(settings(tmp_path, steps=5))
    assert (learner.seen, shorter.steps) == ([], 12)


def test_more_steps_go_on_from_the_end(tmp_path):
    run(settings(tmp_path))
    history, learner = run(settings(tmp_path, steps=14))
    assert [step for step, _ in learner.seen] == [12, 13]
    assert history.steps == 14


def test_the_average_is_what_is_shipped(tmp_path):
    fit = settings(tmp_path, steps=3, ema=0.75)
    weights = []

    class Watched(Learner):
        def step(self, batch, step):
            weights.append(self.model[0].weight.detach().clone())
            numbers = super().step(batch, step)
            weights.append(self.model[0].weight.detach().clone())
            return numbers

    run(fit, learner=Watched(fit))
    average, weights = weights[0], weights[1::2]
    for decay, each in zip((1 / 10, 2 / 11, 3 / 12), weights, strict=True):  # 0.75 is not reached yet
        average = decay * average + (1 - decay) * each
    torch.testing.assert_close(load_file(tmp_path / "net.safetensors")["0.weight"], average)
    run(settings(tmp_path / "last", steps=3, ema=None))
    assert torch.equal(load_file(tmp_path / "last" / "net.safetensors")["0.weight"], weights[-1])


def test_weights_may_be_shipped_as_halves(tmp_path):
    run(settings(tmp_path, steps=1, dtype="float16"))
    assert {tensor.dtype for tensor in load_file(tmp_path / "net.safetensors").values()} == {torch.float16}


@pytest.mark.parametrize(
    ("every", "kept"), [(3, "step-0000006 holds the last good"), (100, "there is no checkpoint yet")]
)
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, every, kept):
    fit = settings(tmp_path, checkpoint_every=every)
    with pytest.raises(UserError) as caught:
        run(fit, learner=Learner(fit, broken_at=7))
    assert str(caught.value).startswith("net: loss is nan at step 8; ")
    assert kept in str(caught.value)
    assert str(caught.value).endswith("a longer warm-up, or a smaller clip, with fit.resume=changed")


def test_what_is_no_number_never_becomes_a_checkpoint(tmp_path):
    fit = settings(tmp_path, log_every=100)
    with pytest.raises(UserError, match="loss is nan at step 9"):
        run(fit, learner=Learner(fit, broken_at=8))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-0000003", "step-0000006"]


def test_a_folder_that_can_not_be_written(tmp_path):
    (tmp_path / "file").touch()
    fit = settings(tmp_path / "file" / "run")
    learner = Learner(fit)
    with pytest.raises(UserError, match=r"run can't be written: Not a directory; give another folder as fit\.out"):
        run(fit, learner=learner)
    assert learner.seen == []


def test_no_record(tmp_path):
    with pytest.raises(UserError, match="no record to train on"):
        run(settings(tmp_path), records=Records(0))
    with pytest.raises(UserError, match="no record to train on"):
        loop.first(Records(0))


def test_the_run_of_another_model(tmp_path):
    run(settings(tmp_path))
    fit = settings(tmp_path)
    learner = Learner(fit)
    learner.model = learner.modules["net"] = nn.Linear(2, 1)
    with pytest.raises(
        UserError, match=r"checkpoints.step-0000012.net\.safetensors does not fit here.*another folder as f"
    ):
        run(fit, learner=learner)


def test_an_average_may_begin_later_and_end(tmp_path, capsys):
    run(settings(tmp_path, steps=6, ema=None))
    capsys.readouterr()
    _, learner = run(settings(tmp_path, ema=0.9, resume="changed"))
    assert [step for step, _ in learner.seen] == list(range(6, 12))
    assert "fit.ema begins its average here, from the weights as they are" in capsys.readouterr().err
    assert State.read(tmp_path / "checkpoints" / "step-0000012").averaged == 6
    _, learner = run(settings(tmp_path, ema=0.9, steps=14, resume="changed"))
    assert State.read(tmp_path / "checkpoints" / "step-0000014").averaged == 8
    assert "begins its average" not in capsys.readouterr().err
    history, learner = run(settings(tmp_path, ema=None, steps=15, resume="changed"))
    assert torch.equal(load_file(history.weights)["0.weight"], learner.model[0].weight)
    assert State.read(tmp_path / "checkpoints" / "step-0000015").averaged is None


def test_a_short_run_does_not_ship_its_first_weights_and_says_how_far_the_average_lags(tmp_path):
    history, learner = run(settings(tmp_path, ema=0.999))
    first = Learner(settings(tmp_path)).model[0].weight
    shipped, last = load_file(history.weights)["0.weight"], learner.model[0].weight
    assert (shipped - last).norm() < 0.5 * (shipped - first).norm()
    assert history.note == (
        "fit.ema is 0.999, which looks back over some 1,000 steps, and the average has seen 12: it looks back over the "
        "last 2 of them so far"
    )
    assert history.summary().endswith(history.note)


def test_the_average_s_decay_rises_to_the_one_given():
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(0)
        average = RunningAverage(model, 0.5)
        model.weight.fill_(1)
        for step in range(12):
            average.update()
            assert bool(average.lag) == (step < 7)  # (1 + n) / (10 + n) is 0.5 from n = 8 on
    kept = math.prod(min(0.5, (1 + n) / (10 + n)) for n in range(12))
    assert abs(average.tensors["weight"].item() - (1 - kept)) < 1e-12


def test_what_is_frozen_is_shipped_as_it_is(tmp_path):
    fit = settings(tmp_path, dtype="bfloat16")
    beside = {"frozen": torch.tensor([1 / 3]), "half": torch.tensor([1 / 3]).half()}
    history = loop.Run(fit, Learner(fit), Records(), Hook(), loop.Output("net", {}, beside)).train()
    shipped = load_file(history.weights)
    assert all(
        shipped[name].dtype == beside[name].dtype and torch.equal(shipped[name], beside[name]) for name in beside
    )
    assert shipped["0.weight"].dtype == torch.bfloat16
    assert "frozen" not in load_file(tmp_path / "checkpoints" / "step-0000012" / "net.safetensors")


def test_old_checkpoints_go(tmp_path):
    run(settings(tmp_path, checkpoint_every=1, keep=3))
    assert sorted(path.name[-2:] for path in (tmp_path / "checkpoints").iterdir()) == ["10", "11", "12"]


def test_observers_hear_of_each_logged_step(tmp_path):
    hook = Hook()
    history, _ = run(settings(tmp_path, log_every=5), hook)
    assert [told["step"] for told in hook.steps] == [5, 10, 12] == [row["step"] for row in history.rows]
    last = hook.steps[-1]
    row = history.rows[-1]
    told = {"stage": "net", "step": 12, "steps": 12, "tokens": None, "loss": row["loss"], "image": None}
    assert last == told | {"numbers": last["numbers"]}
    assert last["numbers"].items() >= {name: value for name, value in row.items() if name != "step"}.items()


@pytest.mark.parametrize("fast", [True, False])
def test_what_a_run_computes_in_is_the_device_s_where_it_is_left_to_it(fast, monkeypatch):
    monkeypatch.setattr("muse_studio.runtime.device.has_fast_bfloat16", lambda device: fast)
    product = torch.nn.Linear(2, 2)
    made = {}
    for precision in ("auto", "float32", "bfloat16"):
        with Fit(out="x", steps=1, batch=1, precision=precision).autocast(torch.device("cpu")):
            made[precision] = product(torch.ones(1, 2)).dtype
    halves = torch.bfloat16 if fast else torch.float32
    assert made == {"auto": halves, "float32": torch.float32, "bfloat16": torch.bfloat16}


def test_rates_by_hand():
    fit = Fit(out="x", steps=12, batch=1, warmup=4, floor=0.1)
    assert [fit.rate(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert fit.rate(4) == 1.0
    assert fit.rate(8) == pytest.approx(0.55)  # half way: the mean of 1 and 0.1
    assert fit.rate(10) == pytest.approx(0.1 + 0.9 * (1 - math.sqrt(0.5)) / 2)
    assert fit.rate(12) == pytest.approx(0.1)
    constant = Fit(out="x", steps=12, batch=1, warmup=2, decay="constant")
    assert [constant.rate(step) for step in (0, 1, 2, 11)] == [0.5, 1.0, 1.0, 1.0]
    assert Fit(out="x", steps=4, batch=1).rate(0) == 1.0
    root = Fit(out="x", steps=500, batch=1, warmup=4, decay="inverse-sqrt", floor=0.1)
    assert [root.rate(step) for step in (0, 3, 4, 16, 64, 100, 400, 499)] == [0.25, 1, 1, 0.5, 0.25, 0.2, 0.1, 0.1]
    cold = Fit(out="x", steps=12, batch=1, decay="inverse-sqrt")
    assert [cold.rate(step) for step in (0, 1, 4)] == [1.0, 1.0, 0.5]


def test_the_rate_reaches_the_optimizer(tmp_path):
    fit = settings(tmp_path, steps=4, warmup=2)
    learner = Learner(fit)
    rates = []
    learner.optimizers["net"].register_step_pre_hook(lambda made, *_: rates.append(made.param_groups[0]["lr"]))
    run(fit, learner=learner)
    assert rates == pytest.approx([0.025, 0.05, 0.05, 0.025])


def test_noise_is_a_function_of_seed_step_and_purpose():
    def drawn(seed, step, purpose):
        return torch.rand(1, generator=Fit(out="x", steps=1, batch=1, seed=seed).generator(step, purpose)).item()

    assert drawn(0, 1, "mask") == drawn(0, 1, "mask")
    assert len({drawn(*each) for each in [(0, 1, "mask"), (1, 1, "mask"), (0, 2, "mask"), (0, 1, "text")]}) == 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps, batch, accumulate, checkpoint_every, keep and log_every must be 1 or more"),
        ({"keep": 0}, "steps, batch, accumulate, checkpoint_every, keep and log_every must be 1 or more"),
        ({"warmup": -1}, "warmup, workers and seed must be 0 or more"),
        ({"ema": 1.0}, "ema is 1.0; a decay lies between 0 and 1, such as 0.999"),
        ({"clip": 0.0}, "clip is 0.0; give a gradient norm above 0, or null for none"),
        ({"floor": 1.5}, "floor is 1.5; it is a share of the peak rate, from 0 to 1"),
        ({"diverged": 1.0}, "diverged is 1.0; give a multiple above 1, such as 3, or null for never"),
    ],
)
def test_settings_that_can_not_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        Fit(**{"out": "x", "steps": 1, "batch": 1} | wrong)


def test_gradients_that_do_not_fit_the_memory_are_told_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device=None: 3)
    with pytest.raises(UserError, match="beside the weights, their gradients take"):
        run(settings(tmp_path))


def test_started_alone_by_torchrun_it_finishes_the_step_that_two_signals_interrupt(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")  # torchrun passes on what the terminal sent already

    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path), Hook(5, twice))
    assert (tmp_path / "checkpoints" / "step-0000005").is_dir()


def test_two_runs_into_one_folder_are_one_too_many(tmp_path):
    told = []

    def again():
        with pytest.raises(UserError) as caught:
            run(settings(tmp_path, resume="never", seed=9))
        told.append(str(caught.value))

    through, _ = run(settings(tmp_path / "alone"))
    history, _ = run(settings(tmp_path), Hook(5, again))
    assert told[0].startswith(f"{tmp_path} is being written by another run, process ")
    assert rows(history) == rows(through)
    run(settings(tmp_path))  # it has ended


@pytest.mark.parametrize("fails", ["before it begins", "on the way"])
def test_a_run_that_fails_leaves_its_folder_to_the_next(tmp_path, fails):
    if fails == "on the way":
        with pytest.raises(Dead) as caught:
            run(settings(tmp_path), Hook(5, die))
    else:
        (tmp_path / "log.csv").write_text("a,b\n1,2\n")
        with pytest.raises(UserError) as caught:
            run(settings(tmp_path))
        (tmp_path / "log.csv").unlink()
    run(settings(tmp_path))
    assert caught.value is not None  # and with it whatever it refers to
