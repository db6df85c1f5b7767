"""What a run is made of stands in its checkpoints: going on says so, and anything else is refused, or recorded."""

import json

import pytest
import torch
from torch import nn

from muse_studio.errors import UserError
from muse_studio.runtime import weights
from muse_studio.training import loop
from muse_studio.training.distributed import SINGLE
from muse_studio.training.fit import Fit
from muse_studio.training.parallel import optimizer_step
from muse_studio.training.state import STATE

RECIPE = {"use": "toy", "dataset": {"use": "folder", "path": "pictures"}, "cache": "here", "samples": {"every": 2}}


class Captioned:
    def __init__(self, count=7, first="a cat"):
        self.captions = [first, *(f"picture {index}" for index in range(1, count))]

    def __len__(self):
        return len(self.captions)

    def __getitem__(self, index):
        return {"image": torch.full((3, 2, 2), index, dtype=torch.uint8), "caption": self.captions[index]}


class ByLot(Captioned):
    """Each record has another caption each time."""

    def __getitem__(self, index):
        self.captions[index] += "!"
        return super().__getitem__(index)


class Learner(loop.Learner):
    world = SINGLE

    def __init__(self):
        self.model = nn.Linear(1, 1)
        self.modules = {"net": self.model}
        self.optimizers = {"net": torch.optim.SGD(self.model.parameters(), 0.01)}
        self.steps = []

    def step(self, batch, step):
        self.steps.append(step)
        rows = batch["image"].float().mean((1, 2, 3))[:, None] / 255
        loss, norm = optimizer_step(
            self.optimizers["net"], [rows], lambda part: self.model(part).square().mean(), self.model, 1.0
        )
        return {"loss": loss, "norm": norm}


def run(folder, recipe=RECIPE, data=None, **more):
    fit = Fit(**{"out": str(folder), "steps": 4, "batch": 2, "log_every": 1, "checkpoint_every": 2} | more)
    learner = Learner()
    made = loop.Run(fit, learner, data or Captioned(), None, loop.Output("net", recipe)).train()
    return made, learner


OTHER = {
    "seed": ({"seed": 3}, "fit.seed was 0 and is 3"),
    "batch": ({"batch": 3}, "fit.batch was 2 and is 3"),
    "rate": ({"warmup": 1}, "fit.warmup was 0 and is 1"),
    "precision": ({"precision": "bfloat16"}, 'fit.precision was "float32" and is "bfloat16"'),
    "overfit": ({"overfit": True}, "fit.overfit was false and is true"),
    "path": (
        {"recipe": RECIPE | {"dataset": {"use": "folder", "path": "more"}}},
        'dataset.path was "pictures" and is "more"',
    ),
    "a setting more": ({"recipe": RECIPE | {"smoothing": 0.1}}, 'smoothing was "not given" and is 0.1'),
    "records": ({"data": Captioned(9)}, "the number of records in the data set was 7 and is 9"),
    "first record": ({"data": Captioned(first="a dog")}, "the first record of the data set was "),
    "from Python": ({"recipe": {}, "seed": 3}, "fit.seed was 0 and is 3"),
}


@pytest.mark.parametrize(("more", "difference"), OTHER.values(), ids=OTHER)
def test_a_run_that_was_made_otherwise_is_refused(tmp_path, more, difference):
    before, _ = run(tmp_path)
    kept = before.weights.read_bytes()
    with pytest.raises(UserError) as caught:
        run(tmp_path, **{"steps": 6} | more)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'checkpoints' / 'step-0000004'} is of a run that was made otherwise: ")
    assert difference in message
    cures = (
        "another folder as fit.out",
        "fit.resume=changed to go on with what is new",
        "fit.resume=never to begin anew",
    )
    assert all(cure in message for cure in cures)
    assert before.weights.read_bytes() == kept


def test_every_difference_is_named(tmp_path):
    run(tmp_path)
    with pytest.raises(
        UserError, match=r"fit\.batch was 2 and is 3; fit\.seed was 0 and is 1; .*in the data set was 7 and is 8"
    ):
        run(tmp_path, seed=1, batch=3, data=Captioned(8))


UNTOUCHED = {
    "settings of how": {"steps": 6, "accumulate": 2, "log_every": 5, "checkpoint_every": 3, "keep": 5, "patience": 9.0},
    "settings of where": {"steps": 6, "device": "cpu", "dtype": "float16", "diverged": None},
    "samples and cache": {"steps": 6, "recipe": {"use": "toy", "dataset": RECIPE["dataset"]}},
    "Python without recipe": {"steps": 6, "recipe": {}},
}


@pytest.mark.parametrize("more", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_does_not_matter_may_change(tmp_path, capsys, more):
    run(tmp_path)
    assert capsys.readouterr().err == ""
    _, learner = run(tmp_path, **more)
    assert learner.steps == [4, 5]
    assert capsys.readouterr().err == "net: goes on from step 4\n"


def test_a_caption_by_lot_is_no_difference(tmp_path):
    run(tmp_path, data=ByLot())
    assert run(tmp_path, data=ByLot(), steps=6)[1].steps == [4, 5]


def test_with_no_step_left_that_is_said(tmp_path, capsys):
    run(tmp_path)
    run(tmp_path)
    said = "net: goes on from step 4; no step is left to train; raise fit.steps for more\n"
    assert capsys.readouterr().err == said


def test_a_change_that_is_taken_is_recorded(tmp_path, capsys):
    run(tmp_path)
    made, learner = run(tmp_path, steps=6, seed=3, resume="changed")
    assert learner.steps == [4, 5]
    assert capsys.readouterr().err == "net: goes on from step 4; changed: fit.seed was 0 and is 3\n"
    changes = [{"step": 4, "settings": {"fit.seed": [0, 3]}}]
    assert json.loads(weights.header(made.weights)[1]["muse_changes"]) == changes
    state = json.loads((tmp_path / "checkpoints" / "step-0000006" / STATE).read_text())
    assert state["identity"]["changes"] == changes
    # What was taken is what the run is now, and the record stays with it.
    made, learner = run(tmp_path, steps=8, seed=3)
    assert learner.steps == [6, 7] and capsys.readouterr().err == "net: goes on from step 6\n"
    assert json.loads(weights.header(made.weights)[1]["muse_changes"]) == changes
    with pytest.raises(UserError, match=r"fit\.seed was 3 and is 0"):
        run(tmp_path, steps=8)


def test_never_begins_anew(tmp_path, capsys):
    run(tmp_path)
    made, learner = run(tmp_path, seed=3, resume="never")
    assert learner.steps == [0, 1, 2, 3] and capsys.readouterr().err == ""
    assert "muse_changes" not in weights.header(made.weights)[1]


def test_a_checkpoint_of_an_earlier_version_goes_on_and_says_that_it_can_not_be_compared(tmp_path, capsys):
    run(tmp_path)
    path = tmp_path / "checkpoints" / "step-0000004" / STATE
    said = json.loads(path.read_text())
    path.write_text(json.dumps({key: said[key] for key in ("step", "files", "optimizers")}))
    _, learner = run(tmp_path, steps=6, seed=3)
    assert learner.steps == [4, 5]
    said = "the checkpoint does not say what its run was made of, so that can't be compared"
    assert capsys.readouterr().err == f"net: goes on from step 4; {said}\n"
