"""`evaluate` with metrics: each fed with the right pictures, split by split, and told in every report."""

from __future__ import annotations

import json

import pytest
import torch
from muse_tasks.evaluate.task import Evaluate

from muse_studio.errors import UserError
from muse_studio.testing import FakeTokenizer

TOTAL, HELD_OUT = 12, 5
TOKENS = torch.randint(64, (TOTAL, 4, 4), generator=torch.Generator().manual_seed(0))
PICTURES = (FakeTokenizer().decode(TOKENS) * 255).round().byte()


class Data:
    def evaluation(self, split):
        numbers = range(HELD_OUT) if split == "held-out" else range(HELD_OUT, TOTAL)
        return [{"image": PICTURES[i], "caption": f"number {i}", "group": "all"} for i in numbers]


class Counting:
    """How many pictures, and how far they are from the real ones; it notes what it saw."""

    least = 3
    meanings = {"pictures": "how many", "difference": "mean absolute difference"}  # noqa: RUF012

    def __init__(self):
        self.seen, self.device = [], None
        self.reset()

    def to(self, device):
        self.device = device

    def reset(self):
        self.count, self.total = 0, 0.0

    def update(self, real, generated, prompts):
        assert real.dtype == generated.dtype == torch.uint8
        self.seen.append((real, generated, prompts))
        self.count += len(prompts)
        self.total += (real.float() - generated.float()).abs().mean((1, 2, 3)).sum().item()

    def compute(self):
        return torch.tensor([self.count, self.total / self.count])


@pytest.fixture
def evaluate(stages, encoder, tmp_path):
    def make(**settings):
        settings = {"batch": 3, "out": str(tmp_path), "mask_ratios": [1.0], "device": "cpu"} | settings
        return Evaluate(stages, encoder, Data(), **settings)

    return make


def test_metrics_see_the_last_stage_s_pictures_and_are_reported(evaluate, tmp_path):
    drawn, again = Counting(), Counting()
    result = evaluate(metrics={"mine": drawn}, reconstruction_metrics={"mine": again})()
    told = json.loads((tmp_path / "metrics.json").read_text())
    for metric, which in ((drawn, "drawn_metrics"), (again, "reconstruction_metrics")):
        captions = [caption for *_, prompts in metric.seen for caption in prompts]
        assert sorted(captions) == sorted(f"number {i}" for i in range(TOTAL))
        for real, generated, prompts in metric.seen:
            assert real.shape == generated.shape == (len(prompts), 3, 32, 24)  # the last stage's size
        assert metric.device == torch.device("cpu")
        assert {split: found["pictures"] for split, found in told[which]["mine"].items()} == {"seen": 7, "held-out": 5}
        assert told["definitions"]["difference"] == "mean absolute difference"
        assert which in told["definitions"]
        seen = [(real.float() - made.float()).abs().mean((1, 2, 3)) for real, made, _ in metric.seen]
        assert told[which]["mine"]["seen"]["difference"] == pytest.approx(torch.cat(seen[:3]).mean().item(), rel=1e-5)
    # What the tokenizer gives back is nearer than what an untrained model draws.
    assert (
        told["reconstruction_metrics"]["mine"]["seen"]["difference"]
        < told["drawn_metrics"]["mine"]["seen"]["difference"]
    )
    table = " ".join(result.summary().replace("│", " ").split())
    assert "drawn, mine: pictures 7 5 -" in table and "reconstruction, mine: pictures 7 5 -" in table
    scores = result.scores()
    assert scores["mine: pictures, seen"] == 7 and scores["mine: pictures, held-out"] == 5


def test_metrics_change_no_other_number_and_none_change_nothing(evaluate, tmp_path):
    plain = evaluate()
    plain().to_json()
    before = (tmp_path / "metrics.json").read_text()
    evaluate(metrics={"mine": Counting()}, reconstruction_metrics={"mine": Counting()})()
    told = json.loads((tmp_path / "metrics.json").read_text())
    for key in ("drawn_metrics", "reconstruction_metrics"):
        del told[key], told["definitions"][key]
    del told["definitions"]["pictures"], told["definitions"]["difference"]
    assert told == json.loads(before)


def test_an_evaluation_measures_anew_each_time(evaluate):
    task = evaluate(metrics={"mine": Counting()})
    assert task().to_json() == task().to_json()


def test_drawn_metrics_do_without_the_real_pictures_measures(evaluate):
    drawn = Counting()
    result = evaluate(metrics={"mine": drawn}, real=False)()
    assert result.metrics["drawn_metrics"]["mine"]["seen"]["pictures"] == 7
    with pytest.raises(ValueError, match="reconstruction_metrics measure real pictures"):
        evaluate(reconstruction_metrics={"mine": Counting()}, real=False)


def test_too_few_pictures_are_told_before_any_is_drawn(evaluate, notes):
    with pytest.raises(UserError, match=r"metrics\.mine needs 3 pictures at least, and 2 are seen; raise n"):
        evaluate(metrics={"mine": Counting()}, n=2)(notes)
    assert notes.steps == []


def test_a_missing_network_is_told_before_any_picture_is_drawn(evaluate, notes, tmp_path):
    from muse_metrics.features import Features
    from muse_metrics.frechet import Frechet

    metric = Frechet(Features(weights=str(tmp_path / "none.pth")))
    with pytest.raises(UserError, match=r"the weights of features\.network 'efficientnet-lite0' are not here"):
        evaluate(metrics={"distance": metric})(notes)
    assert notes.steps == []
