"""What a run shows, writes and stops for, with a learner whose losses are written down beforehand."""

import re
import signal

import pytest
import torch
from torch import nn

from muse_studio.errors import UserError
from muse_studio.runtime.files import MARK
from muse_studio.testing import RecordingObserver
from muse_studio.training import checkpoint, loop
from muse_studio.training.distributed import SINGLE
from muse_studio.training.fit import Fit

FALLING = [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.5, 2.2, 2.0, 2.0, 2.0, 2.0]
"""Twelve steps of a run that goes well."""

AWAY = [3.0, 5.0, 9.0, 12.0, 20.0, 20.0, 20.0, 20.0]
"""And how it may go on: the third of these that is above 6 is at step 17."""


class Records:
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.tensor([float(index)])


class Scripted(loop.Learner):
    """Tells the loss of each step from a list; its weight counts the steps."""

    world = SINGLE
    tokens_per_record = 64

    def __init__(self, losses, number="loss"):
        self.losses, self.number = losses, number
        self.model = nn.Linear(1, 1)
        nn.init.zeros_(self.model.weight)
        self.modules = {"net": self.model}
        self.optimizers = {"net": torch.optim.SGD(self.model.parameters(), 1.0)}
        self.seen = []

    def step(self, batch, step):
        self.seen.append(batch.flatten().tolist())
        with torch.no_grad():
            self.model.weight += 1
        return {self.number: torch.tensor(self.losses[step]), "norm": torch.tensor(1.0)}


def settings(folder, losses, **more):
    fit = {"out": str(folder), "steps": len(losses), "batch": 2, "log_every": 1, "checkpoint_every": 1, "keep": 1}
    return Fit(**fit | more)


def run(folder, losses, *, hook=None, after=None, learner=None, **more):
    learner = learner or Scripted(losses)
    fit = settings(folder, losses, **more)
    return loop.Run(fit, learner, Records(), hook or RecordingObserver(), loop.Output("net", {}), after).train()


def kept(folder):
    return [int(path.name.removeprefix("step-")) for path in checkpoint.steps(folder / "checkpoints")]


def test_a_run_that_goes_well_is_left_alone(tmp_path):
    assert run(tmp_path, FALLING).steps == 12
    assert kept(tmp_path) == [12]


def test_a_loss_that_runs_away_stops_the_run_and_its_last_good_weights_stay(tmp_path):
    with pytest.raises(UserError) as caught:
        run(tmp_path, FALLING + AWAY)
    message = str(caught.value)
    assert message.startswith(
        "net: loss runs away: at step 17 the median of the last 5 logged is 9, 4.5 times the lowest, 2 at step 11; "
    )
    assert re.search(r"checkpoints.step-0000013 holds the last good weights\. Move later ones away, and try a", message)
    assert "lower rate" in message and message.endswith("or raise fit.diverged")
    assert kept(tmp_path) == [13, 16], "one for keep, and the good one"
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + 17


@pytest.mark.parametrize("stopped_at", [3, 9, 11, 14, 15])
def test_a_resumed_run_decides_alike(tmp_path, stopped_at):
    with pytest.raises(UserError) as through:
        run(tmp_path / "a", FALLING + AWAY)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", FALLING + AWAY, hook=Interrupting(stopped_at))
    with pytest.raises(UserError) as resumed:
        run(tmp_path / "b", FALLING + AWAY)
    assert str(resumed.value).replace(str(tmp_path / "b"), str(tmp_path / "a")) == str(through.value)
    assert kept(tmp_path / "a") == kept(tmp_path / "b")


def test_after_the_later_checkpoints_are_moved_away_it_goes_on_from_the_good_one(tmp_path):
    with pytest.raises(UserError):
        run(tmp_path, FALLING + AWAY)
    (tmp_path / "checkpoints" / "step-0000016").rename(tmp_path / "bad")
    history = run(tmp_path, FALLING + [2.0] * 8)
    assert [row["loss"] for row in history.rows] == pytest.approx([*FALLING, 3.0, *[2.0] * 7])


def test_checkpoints_between_two_logged_rows_push_nothing_good_out(tmp_path):
    losses = [loss for loss in FALLING + AWAY for _ in range(4)]
    with pytest.raises(UserError, match=r"runs away: at step 68 .*step-0000052 holds the last good weights"):
        run(tmp_path, losses, log_every=4, keep=2)
    assert kept(tmp_path) == [52, 66, 67]


def test_a_number_that_is_none_in_a_rise_names_the_checkpoint_before_the_rise(tmp_path):
    with pytest.raises(UserError, match=r"loss is nan at step 16; .*step-0000013 holds the last good weights"):
        run(tmp_path, [*FALLING, 3.0, 5.0, 9.0, float("nan")])


def test_it_can_be_told_to_go_on(tmp_path):
    assert run(tmp_path, FALLING + AWAY, diverged=None).steps == 20
    assert kept(tmp_path) == [20]
    assert run(tmp_path / "higher", FALLING + AWAY, diverged=11.0).steps == 20
    assert run(tmp_path / "warming", FALLING + AWAY, warmup=20).steps == 20


def test_a_learner_may_name_what_must_not_run_away(tmp_path):
    losses = FALLING + AWAY
    steady = Scripted(losses)
    steady.watched = "norm"
    assert run(tmp_path / "a", losses, learner=steady).steps == 20
    pixels = Scripted(losses, "pixels")
    pixels.watched = "pixels"
    with pytest.raises(UserError, match="net: pixels runs away: at step 17"):
        run(tmp_path / "b", losses, learner=pixels)


class Interrupting(RecordingObserver):
    """Ctrl-C once `at` steps are done: the next one is finished."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def muse_step(self, **told):
        if told["step"] == self.at:
            signal.raise_signal(signal.SIGINT)


def test_speed_is_told_and_the_log_keeps_seconds_alone(tmp_path):
    told = RecordingObserver()
    history = run(tmp_path, FALLING, hook=told)
    rows = [step["numbers"] for step in told.steps]
    assert [step["step"] for step in told.steps] == list(range(1, 13))
    assert all(list(row) == ["loss", "norm", "seconds", "pictures/s", "tokens/s"] for row in rows)
    assert list(history.rows[0]) == ["step", "loss", "norm", "seconds"]
    pictures, tokens = rows[3]["pictures/s"], rows[3]["tokens/s"]
    assert (pictures * rows[3]["seconds"], tokens / pictures) == (pytest.approx(2), pytest.approx(64))


def test_nothing_else_is_written(tmp_path):
    run(tmp_path, FALLING)
    assert sorted(path.name for path in tmp_path.iterdir()) == [MARK, "checkpoints", "log.csv", "net.safetensors"]


def test_overfitting_repeats_the_first_batch_and_says_how_it_went(tmp_path):
    learner = Scripted([0.05, 0.01, *[0.05] * 20])
    history = run(tmp_path / "a", learner.losses, learner=learner, overfit=True, log_every=2)
    assert len(learner.seen) == 22 and learner.seen == [learner.seen[0]] * 22
    assert history.summary().splitlines()[-1].startswith("overfit: the loss came to 0.05, near zero")
    plain = Scripted(FALLING)
    assert run(tmp_path / "b", FALLING, learner=plain).summary().splitlines()[-1].startswith("12 steps: loss 2")
    assert plain.seen[0] == learner.seen[0] and plain.seen[1] != plain.seen[0]


def test_a_resumed_overfitting_has_the_same_batch(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [4.0] * 12, hook=Interrupting(5), overfit=True)
    learner = Scripted([4.0] * 12)
    history = run(tmp_path, learner.losses, learner=learner, overfit=True)
    through = Scripted([4.0] * 12)
    run(tmp_path / "through", through.losses, learner=through, overfit=True)
    assert learner.seen == through.seen[5:]
    assert history.summary().splitlines()[-1].startswith("overfit: the loss stays at 4")


def test_what_comes_after_a_step_is_given_what_would_be_shipped_and_costs_no_time(tmp_path, monkeypatch):
    hands = {"now": 0.0}
    monkeypatch.setattr("muse_studio.training.speed.time.perf_counter", lambda: hands["now"])
    told = []

    def after(done):
        hands["now"] += 1000
        told.append((done, learner.model.weight.item()))

    class Ticking(Scripted):
        def step(self, batch, step):
            hands["now"] += 2
            return super().step(batch, step)

    learner = Ticking(FALLING)
    history = run(tmp_path / "a", FALLING, after=after, learner=learner)
    assert told == [(step, float(step)) for step in range(1, 13)]
    assert [row["seconds"] for row in history.rows] == [2.0] * 12
    told.clear()
    learner = Ticking(FALLING)
    run(tmp_path / "b", FALLING, after=after, learner=learner, ema=0.5)
    assert [weight for _, weight in told[:3]] == pytest.approx(
        [0.9, 0.9 * 2 / 11 + 2 * 9 / 11, 1.8 * 3 / 12 + 3 * 9 / 12]  # decays of 1/10, 2/11, 3/12 at first
    )
