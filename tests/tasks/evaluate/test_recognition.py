"""`evaluate` with a recogniser: what is shown to it, which place each thing takes, and what is drawn for it alone."""

from __future__ import annotations

import json

import pytest
import torch
from muse_tasks.evaluate.shown.recognition import UNKNOWN, ranks
from muse_tasks.evaluate.task import Evaluate

from muse_studio.errors import UserError
from muse_studio.testing import FakeTokenizer

TOTAL, HELD_OUT = 20, 4
TOKENS = torch.randint(64, (TOTAL, 4, 4), generator=torch.Generator().manual_seed(0))
PICTURES = (FakeTokenizer().decode(TOKENS) * 255).round().byte()


class Told:
    """A judge whose scores are given."""

    things = ("a", "b", "c", "d")

    def __init__(self, *rows):
        self.rows = torch.tensor(rows)

    def scores(self, images):
        return self.rows


class Knowing:
    """Knows every numbered picture: the nearer to a real one, the likelier its number. A metric by name alone."""

    least, meanings = 1, {}
    things = tuple(f"thing {number}" for number in range(TOTAL))

    def scores(self, images):
        near = [torch.nn.functional.interpolate(images.float(), PICTURES.shape[2:], mode="area")[:, None]]
        return -(near[0] - PICTURES[None].float()).square().mean((2, 3, 4))

    def reset(self): ...

    def update(self, real, generated, prompts): ...

    def compute(self):
        return torch.empty(0)


class Things:
    """The numbered pictures, with canvases and phrases: two things side by side, of which nothing is placed."""

    def evaluation(self, split):
        numbers = range(HELD_OUT) if split == "held-out" else range(HELD_OUT, TOTAL)
        return [{"image": PICTURES[i], "caption": str(i), "group": "all", "thing": f"thing {i}"} for i in numbers]

    def compositions(self, n, seed):
        image = torch.full((3, 16, 16), 255, dtype=torch.uint8)
        image[:, 4:12, 1:7] = image[:, 4:12, 9:15] = 0
        case = {"kind": "count", "image": image, "caption": "5", "things": ["thing 5"], "count": 2, "colour": None}
        return [case | {"direction": None, "hues": {}, "count": 2 + index % 2} for index in range(n)]

    def phrases(self, seed):
        return [
            {"caption": str(i), "things": ["thing 0", f"thing {i}"], "image": PICTURES[i]} for i in (HELD_OUT, 9, 12)
        ]


class Plain(Things):
    """The same, which does not say what it shows."""

    def evaluation(self, split):
        return [{key: value for key, value in record.items() if key != "thing"} for record in super().evaluation(split)]


@pytest.fixture
def evaluate(make_stage, knows, numbers, tmp_path):
    """Makes the task, of a model that draws the seen pictures, and takes a held-out one for the next."""

    def takes(number):
        return torch.where(number < HELD_OUT, (number + 1) % HELD_OUT, number)

    def make(dataset=None, **settings):
        stages = {"base": make_stage(16, transformer=knows(TOKENS, takes))}
        settings = {"recogniser": Knowing(), "out": str(tmp_path), "batch": 7} | settings
        return Evaluate(stages, numbers, dataset or Things(), **settings)

    return make


def test_the_rank_is_how_many_wrong_things_are_as_likely():
    judge = Told([0.1, 0.9, 0.5, 0.4], [1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0], [0.0] * 4)
    right = [["c"], ["a"], ["a", "c"], ["c", "d"], ["nothing that it knows"]]
    assert ranks(judge, torch.zeros(5, 3, 1, 1), right).tolist() == [1, 2, 1, 0, UNKNOWN]


def test_all_that_is_shown_is_recognised_as_what_it_is(evaluate, tmp_path):
    result = evaluate()()
    found = result.metrics["recognition"]["base"]
    perfect, wrong = {"top-1": 1.0, "top-5": 1.0}, 0.0
    assert found["seen"] == {"real": perfect, "tokenizer": perfect, "drawn": perfect}
    assert found["held-out"]["real"] == found["held-out"]["tokenizer"] == perfect
    assert found["held-out"]["drawn"]["top-1"] == wrong
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["recognition"] == result.metrics["recognition"]
    assert {"recognition", "top-1", "top-5"} <= set(written["definitions"])
    assert not {"composition", "free_words"} & set(written["definitions"])
    (line,) = (line for line in result.summary().splitlines() if "base: drawn from the caption" in line)
    assert "1.000 / 1.000" in line and "0.000 / " in line
    assert result.scores()["top-1, seen"] == 1.0 and result.scores()["top-1, held-out"] == 0.0


def test_a_refining_stage_is_shown_from_the_real_tokens_too(make_stage, encoder, tmp_path):
    stages = {"base": make_stage(8), "large": make_stage(16, seed=2)}
    found = Evaluate(stages, encoder, Things(), out=str(tmp_path), recogniser=Knowing())().metrics["recognition"]
    assert set(found["base"]["seen"]) == {"real", "tokenizer", "drawn"}
    assert set(found["large"]["seen"]) == {"real", "tokenizer", "refined", "drawn"}


def test_without_real_pictures_drawn_ones_alone_are_recognised(evaluate):
    assert set(evaluate(real=False)().metrics["recognition"]["base"]["seen"]) == {"drawn"}


def test_canvases_and_phrases_are_drawn_beside_real_ones(evaluate, notes):
    task = evaluate(compositions=4, phrases=True, batch=2)
    result = task(notes)
    composition, words = result.metrics["composition"], result.metrics["free_words"]
    assert composition == {"n": 4, "real": {"count": 0.5}, "drawn": composition["drawn"]}
    perfect = {"top-1": 1.0, "top-5": 1.0}
    assert words == {"n": 3, "real": perfect, "drawn": perfect}
    assert {"composition", "free_words"} <= set(json.loads(result.to_json())["definitions"])
    table = " ".join(result.summary().replace("│", " ").split())
    assert "composition, 4 canvases of each kind" in table and "free words, 3 phrases" in table
    assert len(notes.steps) == 4 * (8 + 2 + 2 + 2), "four steps a batch: of both splits, canvases and phrases"
    assert result.sheet.size[1] > evaluate()().sheet.size[1], "two parts more"
    assert evaluate(compositions=4, phrases=True, batch=2)().to_json() == result.to_json()


def test_what_is_drawn_beside_changes_no_other_number(evaluate):
    plain = evaluate(recogniser=None)().metrics
    more = evaluate(compositions=2, phrases=True)().metrics
    assert {key: more[key] for key in plain} == plain


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recogniser": None, "phrases": True}, "compositions and phrases take a recogniser"),
        ({"recogniser": None, "compositions": 3}, "compositions and phrases take a recogniser"),
        ({"compositions": -1}, "compositions is -1; give 0 or more"),
        ({"recogniser": object()}, "recogniser is a object, which names nothing; give recognition"),
    ],
)
def test_settings_that_do_not_fit_are_refused(evaluate, settings, message):
    with pytest.raises(ValueError, match=message):
        evaluate(**settings)


class Bare:
    def evaluation(self, split):
        return Things().evaluation(split)


@pytest.mark.parametrize(
    ("dataset", "settings", "message"),
    [
        (Plain(), {}, "does not say what its pictures show"),
        (Bare(), {"compositions": 1}, "no canvases of which everything is known"),
        (Bare(), {"phrases": True}, "no phrases that no caption is"),
    ],
)
def test_a_data_set_that_lacks_it_is_told_before_anything_is_drawn(evaluate, notes, dataset, settings, message):
    with pytest.raises(UserError, match=message):
        evaluate(dataset, **settings)(notes)
    assert notes.steps == []
