import json

import pytest
import torch
from muse_tasks.edit.batch import BatchEditor
from muse_tasks.edit.task import Edit
from muse_tasks.evaluate.edits import EvaluateEdits
from muse_tasks.generate.task import Generate

from muse_studio.contracts import MASK
from muse_studio.errors import UserError
from muse_studio.sampling.editing.session import EditSession
from muse_studio.sampling.editing.windows import Layout
from muse_studio.testing.fakes import FakeEditor, FakeTextEncoder, FakeTokenizer

CPU = torch.device("cpu")
TOTAL = 12
TOKENS = torch.randint(64, (TOTAL, 4, 4), generator=torch.Generator().manual_seed(0))
PICTURES = (FakeTokenizer().decode(TOKENS) * 255).round().byte()


class Numbered:
    """Twelve pictures that the fake tokenizer keeps without loss; a caption is its picture's number."""

    def evaluation(self, split):
        return [{"image": PICTURES[i], "caption": str(i), "group": "all"} for i in range(TOTAL)] * (split != "seen")

    def edits(self, n, seed):
        """The upper half of one picture becomes another's, the lower stays."""
        cases = []
        for place in range(n):
            shown = PICTURES[[(place + step) % TOTAL for step in range(4)]].clone()
            shown[1:, :, 8:] = shown[:1, :, 8:]
            cases.append(
                {
                    "kind": ("colour", "object")[place % 2],
                    "before": shown[0],
                    "after": shown[1],
                    "others": shown[2:],
                    "prompt_before": str(place % TOTAL),
                    "prompt_after": str((place + 1) % TOTAL),
                }
            )
        return cases


class Prompted:
    """No guidance."""

    def __call__(self, ask, text, negative, progress):
        return ask(text)[0]


class Still:
    """An editor that changes nothing."""

    def __call__(self, tokens, region, resample, generator):
        yield tokens


class Upper:
    """An editor that knows which half is to change."""

    def __call__(self, tokens, region, resample, generator):
        region = region.clone()
        region[:, 2:] = False
        yield from resample(torch.where(region, MASK, tokens))


@pytest.fixture
def knowing(make_stage, knows, numbers):
    stage = make_stage(16, transformer=knows(TOKENS))
    stage.guidance = Prompted()

    def make(editor, **settings):
        return Edit({"base": stage}, numbers, editor, "none.png", **settings)

    return make


@pytest.fixture
def stages(make_stage):
    return {"base": make_stage(16, seed=1), "large": make_stage(32, seed=2)}


def test_a_model_that_knows_the_pictures_refills_them_by_their_own_captions(knowing, tmp_path):
    task = EvaluateEdits(Numbered(), inpaint=knowing(FakeEditor()), n=10, batch=4, out=str(tmp_path))
    found = task().metrics["refilled"]
    assert (found["split"], found["n"]) == ("held-out", 10)
    assert list(found["errors"]) == ["pixels", "colours"]
    for error in found["errors"].values():
        assert (error["own"], error["ratio"], error["own_nearer"], error["tokenizer"]) == (0.0, 0.0, 1.0, 0.0)
    # two colours of 0, 1/3, 2/3, 1 a channel, each as likely, are 10/36 apart in square
    assert 0.2 < found["errors"]["pixels"]["other"] < 0.36


def test_an_editor_that_does_nothing_keeps_the_hole_and_moves_no_attribute(knowing, tmp_path):
    result = EvaluateEdits(Numbered(), knowing(Still()), knowing(Still()), n=3, cases=4, out=str(tmp_path))()
    assert result.metrics["refilled"]["errors"]["pixels"]["other"] == 0.0
    assert result.metrics["edited"]["cases"]["all"] == {
        "n": 4, "moved": 0.0, "found": 0.0, "changed": 0.0, "kept": 1.0, "both": 0.0
    }  # fmt: skip


def test_edits_by_words_are_judged_by_attribute_and_over_all(knowing, tmp_path):
    right = EvaluateEdits(Numbered(), mask_free=knowing(Upper(), dilate=0), cases=7, batch=3, out=str(tmp_path))()
    cases = right.metrics["edited"]["cases"]
    assert {kind: shares.pop("n") for kind, shares in cases.items()} == {"colour": 4, "object": 3, "all": 7}
    assert [set(shares.values()) for shares in cases.values()] == [{1.0}] * 3
    everywhere = EvaluateEdits(Numbered(), mask_free=knowing(FakeEditor()), cases=7, out=str(tmp_path))()
    shares = everywhere.metrics["edited"]["cases"]["all"]
    assert shares["changed"] == 1.0 and shares["kept"] == shares["both"] == 0.0, "the lower half is another's now"


def test_an_edit_is_led_away_from_the_caption_before_where_that_is_asked_for(knowing, tmp_path):
    told = []

    class Listens(Prompted):
        def __call__(self, ask, text, negative, progress):
            told.append(
                (text.states[:, 0, 0].tolist(), negative.mask.any().item() and negative.states[:, 0, 0].tolist())
            )
            return super().__call__(ask, text, negative, progress)

    task = knowing(Upper())
    task.stages["base"].guidance = Listens()
    for away in (True, False):
        EvaluateEdits(Numbered(), mask_free=task, cases=3, away=away, out=str(tmp_path))()
    assert told[0] == ([1.0, 2.0, 3.0], [0.0, 1.0, 2.0])
    assert told[-1] == ([1.0, 2.0, 3.0], False)


def test_a_batch_of_one_is_what_the_task_edit_draws(stages, encoder):
    task = Edit(stages, encoder, FakeEditor(), "none.png")
    picture = torch.randint(256, (3, 32, 32), generator=torch.Generator().manual_seed(1)).byte()
    region = torch.zeros(32, 32, dtype=torch.bool)
    region[8:20, 4:12] = True
    run = BatchEditor(task, CPU, seed=0, batch=1)

    def quiet(*told):
        pass

    drawn = run.edit(picture[None], region[None], ["a hat"], torch.Generator().manual_seed(2), watch=quiet)
    alone, generator = (
        EditSession(stages, Layout.of(stages, (32, 32)), picture, region, CPU),
        torch.Generator().manual_seed(2),
    )
    *_, first = alone.edit(task.editor, encoder(["a hat"]), generator, watch=quiet)
    expected = alone.paste(alone.finish(first, encoder(["a hat"]), generator, watch=quiet))
    assert torch.equal(drawn[0], expected)
    assert torch.equal(drawn[0][:, ~region], picture[:, ~region])
    assert not torch.equal(drawn[0], picture)


def test_each_picture_of_a_batch_changes_in_its_own_region_alone(stages, encoder):
    pictures = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(1)).byte()
    regions = torch.zeros(2, 32, 32, dtype=torch.bool)
    regions[0, :12, :12] = regions[1, 24:, 24:] = True
    run = BatchEditor(Edit(stages, encoder, FakeEditor(), "none.png"), CPU, seed=0, batch=2)
    drawn = run.edit(pictures, regions, ["a", "b"], torch.Generator(), watch=lambda *told: None)
    for picture, result, region in zip(pictures, drawn, regions, strict=True):
        assert torch.equal(picture[:, ~region], result[:, ~region])
        assert not torch.equal(picture[:, region], result[:, region])


def test_the_same_seed_gives_the_same_numbers_and_files(stages, encoder, tmp_path):
    def run(seed):
        task = Edit(stages, FakeTextEncoder(), FakeEditor(), "none.png")
        result = EvaluateEdits(Numbered(), task, task, n=5, cases=3, seed=seed, batch=2, shown=2, out=str(tmp_path))()
        return result.to_json(), (tmp_path / "sheet.png").read_bytes()

    first = run(3)
    assert run(3) == first
    assert run(4)[0] != first[0]
    written = json.loads((tmp_path / "metrics.json").read_text())
    words = set(written.pop("definitions"))
    names = set(written) | set(written["refilled"]) | set(written["edited"]) | set(written["edited"]["cases"]["all"])
    names |= set(written["refilled"]["errors"]) | set(written["refilled"]["errors"]["pixels"])
    assert names - words == {"seed", "batch", "errors", "cases"}


def test_the_tables_show_the_numbers_and_the_files(knowing, tmp_path):
    result = EvaluateEdits(
        Numbered(), knowing(FakeEditor()), knowing(Upper(), dilate=0), n=4, cases=2, out=str(tmp_path)
    )()
    lines = [line.replace("│", " ").split() for line in result.summary().splitlines()]
    assert ["all", "2", "1.000", "1.000", "1.000", "1.000", "1.000"] in lines
    (pixels,) = (line for line in lines if line[:1] == ["pixels"])
    assert pixels[1] == "0.0000" and pixels[3:] == ["0.000", "1.000", "0.0000"]
    assert lines[-2:] == [[str(tmp_path / "metrics.json")], [str(tmp_path / "sheet.png")]]


def test_observers_hear_of_every_step(knowing, notes, tmp_path):
    EvaluateEdits(Numbered(), inpaint=knowing(FakeEditor()), n=8, batch=8, out=str(tmp_path))(notes)
    assert [(step["stage"], step["step"], len(step["tokens"])) for step in notes.steps] == [
        ("base", step, 8) for step in (1, 2, 3, 4)
    ] * 2


def test_a_data_set_without_edits_is_refused_unless_they_are_left_out(knowing, tmp_path):
    plain = [{"image": picture, "caption": str(number)} for number, picture in enumerate(PICTURES)]
    task = knowing(FakeEditor())
    with pytest.raises(UserError, match=r"no edits with known results; .* or mask_free=null"):
        EvaluateEdits(plain, task, task, out=str(tmp_path))()
    assert EvaluateEdits(plain, task, n=2, out=str(tmp_path))().metrics["refilled"]["split"] == "seen"


def test_captions_that_are_all_the_same_are_refused(knowing, tmp_path):
    class Same(Numbered):
        def evaluation(self, split):
            return [record | {"caption": "1"} for record in super().evaluation(split)]

    with pytest.raises(UserError, match="all captions are the same"):
        EvaluateEdits(Same(), knowing(FakeEditor()), out=str(tmp_path))()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "n is 0; give at least 1"),
        ({"cases": 0}, "cases is 0; give at least 1"),
        ({"batch": -1}, "batch is -1; give at least 1"),
        ({"shown": 0}, "shown is 0; give at least 1"),
        ({"seed": -1}, "seed is -1; give 0 or more"),
        ({"inpaint": None}, "nothing to measure; give inpaint"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_cure(knowing, settings, message):
    with pytest.raises(ValueError, match=message):
        EvaluateEdits(Numbered(), **{"inpaint": knowing(FakeEditor())} | settings)


def test_another_task_can_t_be_measured_so(stages, encoder):
    with pytest.raises(ValueError, match="mask_free is a Generate; give a task `edit`"):
        EvaluateEdits(Numbered(), mask_free=Generate(stages, encoder, prompt="a cat"))
