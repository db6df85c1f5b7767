import csv
import errno
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from muse_tasks.evaluate.task import Evaluate
from muse_tasks.sweep import task as sweeping
from muse_tasks.sweep.combinations import combine, read_axes, value_label
from muse_tasks.sweep.runs import identity
from PIL import Image

import muse_studio
from muse_studio.cli import main
from muse_studio.errors import RecipeError, UserError
from muse_studio.recipe import merging
from muse_studio.runtime.files import MARK

PARTS = '''
import os
from pathlib import Path

import torch

from muse_studio.errors import UserError
from muse_studio.hookspecs import hookimpl
from muse_studio.testing import fakes


class Plain(fakes.FakeSampler):
    def __init__(self, steps: int = 3, slow: bool = False):
        super().__init__(steps=steps)


class Picky:
    """Refuses three steps when it is made, and nine when it is called; each call is noted in a file."""

    def __init__(self, steps: int = 3, mood: str = "calm"):
        if steps == 3:
            raise ValueError("steps is 3; that is an odd number")
        self.steps = steps

    def __call__(self, predict, tokens, schedule, generator):
        if self.steps == 9:
            raise UserError("nine is too much | for me")
        calls = Path(os.environ["CALLS"])
        said = calls.read_text().splitlines()
        if len(said) + 1 == int(os.environ.get("DIES_AT", 0)):
            raise KeyboardInterrupt
        calls.write_text("\\n".join([*said, str(self.steps)]))
        return fakes.FakeSampler(steps=self.steps)(predict, tokens, schedule, generator)


class Coloured:
    """Twelve pictures of one colour each."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.evaluation("seen")[index]

    def evaluation(self, split):
        numbers = range(4) if split == "held-out" else range(4, 12)
        with (Path(os.environ["CALLS"]).parent / "read").open("a") as file:
            file.write(f"{split}\\n")
        return [
            {"image": torch.full((3, 16, 16), 20 * i, dtype=torch.uint8), "caption": f"number {i}", "group": "all"}
            for i in numbers
        ]


def transformer(seed: int = 0) -> fakes.FakeTransformer:
    torch.manual_seed(seed)
    return fakes.FakeTransformer()


@hookimpl
def muse_tokenizers():
    return {"t": fakes.FakeTokenizer}


@hookimpl
def muse_text_encoders():
    return {"e": fakes.FakeTextEncoder}


@hookimpl
def muse_transformers():
    return {"m": transformer}


@hookimpl
def muse_schedules():
    return {"falling": fakes.FakeSchedule}


@hookimpl
def muse_guidances():
    return {"double": fakes.FakeGuidance}


@hookimpl
def muse_samplers():
    return {"plain": Plain, "picky": Picky}


@hookimpl
def muse_datasets():
    return {"coloured": Coloured}
'''

STAGE = {
    "tokenizer": "t",
    "transformer": {"use": "m"},
    "schedule": "falling",
    "sampler": {"use": "plain", "steps": 3},
    "guidance": "double",
    "size": 16,
}
MODEL = {"stages": {"base": STAGE}, "text_encoder": "e"}
GENERATE = {"use": "generate", **MODEL, "prompt": ["a fox", "a tram"], "seed": 5}
EVALUATE = {"use": "evaluate", **MODEL, "dataset": "coloured", "n": 4, "batch": 2, "real": False}
BOTH = {"sampler": ["plain", "picky"], "steps": [2, 4]}


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """The plugin file; what its samplers and data set note down stands beside it."""
    calls = tmp_path / "calls"
    calls.write_text("")
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.delenv("DIES_AT", raising=False)
    (tmp_path / "parts.py").write_text(PARTS)
    return tmp_path / "parts.py"


@pytest.fixture
def sweep(parts, tmp_path):
    def run(source=GENERATE, settings=BOTH, out="out", **more):
        table = {"use": "sweep", "recipe": source, "settings": settings, "out": str(tmp_path / out)} | more
        return muse_studio.run(table, plugins=[parts])

    return run


def lines(out):
    with (out / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_combination_draws_what_generate_draws(sweep, parts, tmp_path):
    sweep()
    rows = lines(tmp_path / "out")
    assert [(row["sampler"], row["steps"]) for row in rows] == [
        ("plain", "2"),
        ("plain", "4"),
        ("picky", "2"),
        ("picky", "4"),
    ]
    for row in rows:
        changes = {"stages.base.sampler": row["sampler"], "stages.base.sampler.steps": int(row["steps"])}
        alone = tmp_path / "-".join([row["sampler"], row["steps"]])
        muse_studio.run(GENERATE, [changes, {"out": str(alone)}], plugins=[parts])
        for name in ("a-fox.png", "a-tram.png"):
            kept, drawn = (Image.open(folder / name) for folder in (tmp_path / "out/runs" / row["run"], alone))
            assert kept.tobytes() == drawn.tobytes()
        assert float(row["seconds a picture (median, 1 at once)"]) > 0
        assert "torch" in row["machine"] and row["error"] == ""
        assert "forwards" not in row, "generate counts none"
    assert not (tmp_path / "out/plot.png").exists(), "no quality was measured"


def test_forward_passes_stand_beside_the_seconds(sweep, tmp_path):
    table = sweep(EVALUATE, settings={"sampler": ["plain", "picky"], "steps": [2, 3]}).table
    rows = lines(tmp_path / "out")
    assert [row["forwards"] for row in rows] == ["2.0", "3.0", "2.0", ""]
    head, _, *body = (tmp_path / "out/sweep.md").read_text().splitlines()[:6]
    assert head.split(" | ")[-2] == "forwards"
    assert [line.split(" | ")[-2] for line in body[:3]] == ["2", "3", "2"]
    assert "Forwards: passes of the networks for a batch" in table.notes()


@pytest.mark.slow
def test_evaluated_models_are_drawn_too_and_the_same_as_generate_does(sweep, parts, tmp_path):
    sweep(EVALUATE, prompt=["a fox", "a tram"], seed=5)
    sweep(GENERATE, out="drawn")
    for one, other in zip(lines(tmp_path / "out"), lines(tmp_path / "drawn"), strict=True):
        assert one["run"] != other["run"]
    sheets = [np.asarray(Image.open(tmp_path / folder / "sheet.png")) for folder in ("out", "drawn")]
    assert (sheets[0] == sheets[1]).all()
    assert Image.open(tmp_path / "out/plot.png").size[0] > 500


@pytest.mark.slow
def test_scores_are_those_of_evaluate_alone_and_the_data_set_is_read_once(sweep, parts, tmp_path):
    sweep(EVALUATE)
    assert (tmp_path / "read").read_text().splitlines() == ["seen", "held-out"]
    for row in lines(tmp_path / "out"):
        changes = [{"stages.base.sampler": row["sampler"]}, {"stages.base.sampler.steps": int(row["steps"])}]
        result = muse_studio.run(EVALUATE, [*changes, {"real": True, "out": str(tmp_path / "all")}], plugins=[parts])
        for split, found in result.metrics["retrieval"]["base"].items():
            for k in ("R@1", "R@5"):
                assert float(row[f"{k}, {split}"]) == found["generated"][k]


def test_real_pictures_are_left_out_where_asked(stages, encoder, tmp_path):
    class Two:
        def evaluation(self, split):
            return [{"image": torch.zeros(3, 32, 32, dtype=torch.uint8), "caption": "x", "group": "all"}] * 2

    for stage in stages.values():
        stage.tokenizer.encode = None  # would fail where a real picture went through it
    result = Evaluate(stages, encoder, Two(), n=2, out=str(tmp_path), real=False)()
    assert result.metrics["tokenizer"] == result.metrics["masked_tokens"] == result.metrics["refinement"] == {}
    assert set(result.metrics["retrieval"]["large"]["seen"]) == {"generated", "chance"}
    assert "large: retrieval R@1, generated" in result.summary() and "PSNR" not in result.summary()
    assert len(result.seconds) == 2 and min(result.seconds) > 0


def test_an_interrupted_sweep_goes_on_and_gives_what_a_straight_one_does(sweep, tmp_path, monkeypatch):
    settings = {"sampler": ["picky"], "steps": [2, 4, 5, 6]}
    calls = Path(tmp_path / "calls")
    monkeypatch.setenv("DIES_AT", "6")  # the second picture of the third combination
    with pytest.raises(KeyboardInterrupt):
        sweep(settings=settings)
    assert not (tmp_path / "out/sweep.csv").exists(), "nothing is merged before the end"
    assert len([each for each in (tmp_path / "out/runs").iterdir() if not each.name.startswith(".")]) == 2
    monkeypatch.delenv("DIES_AT")
    calls.write_text("")
    message = sweep(settings=settings).summary()
    assert calls.read_text().split() == ["5", "5", "6", "6"], "what was finished is not run again"
    assert "2 run now, 2 before, 0 refused" in message
    assert not [each for each in (tmp_path / "out/runs").iterdir() if each.name.startswith(".")]
    sweep(settings=settings, out="straight")
    one, other = (np.asarray(Image.open(tmp_path / folder / "sheet.png")) for folder in ("out", "straight"))
    assert (one == other).all()
    assert [row["run"] for row in lines(tmp_path / "out")] == [row["run"] for row in lines(tmp_path / "straight")]


def test_a_full_disk_ends_a_sweep_and_leaves_no_half_run(sweep, tmp_path, monkeypatch):
    def save(image, path, *args, **more):
        tries.append(path)
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    tries = []
    with monkeypatch.context() as full:
        full.setattr(Image.Image, "save", save)
        with pytest.raises(UserError, match="can't be written: No space left on device; make room, or give another"):
            sweep()
    assert len(tries) == 1, "all others would find no room too"
    assert list((tmp_path / "out/runs").iterdir()) == []
    assert "4 run now, 0 before, 0 refused" in sweep().summary()


def test_a_changed_recipe_is_run_anew_and_what_stays_is_not(sweep, tmp_path):
    settings = {"sampler": "picky", "steps": [2, 4]}
    sweep(settings=settings)
    calls = Path(tmp_path / "calls")
    calls.write_text("")
    assert "0 run now, 2 before" in sweep(settings=settings).summary()
    assert calls.read_text() == ""
    assert "1 run now, 2 before" in sweep(settings=settings | {"steps": [2, 4, 6]}).summary()
    assert calls.read_text().split() == ["6", "6"]
    assert "2 run now, 0 before" in sweep(GENERATE | {"seed": 6}, settings=settings).summary()


def test_a_run_that_was_not_written_whole_is_run_again(sweep, tmp_path):
    settings = {"sampler": "picky", "steps": [2, 4]}
    sweep(settings=settings)
    results = sorted((tmp_path / "out/runs").glob("*/result.json"))
    results[0].write_text(results[0].read_text()[:40])
    results[1].unlink()
    assert "2 run now, 0 before" in sweep(settings=settings).summary()


def test_a_refused_combination_stands_in_the_table_and_the_others_go_on(sweep, tmp_path):
    message = sweep(settings={"sampler": ["plain", "picky"], "steps": [2, 3, 9]}).summary()
    errors = {(row["sampler"], row["steps"]): row["error"] for row in lines(tmp_path / "out")}
    assert errors.pop(("picky", "3")) == "steps is 3; that is an odd number"
    assert errors.pop(("picky", "9")) == "nine is too much | for me"
    assert set(errors.values()) == {""}
    assert "| picky | 9 | refused: nine is too much \\| for me |" in message
    assert "4 run now, 0 before, 2 refused" in message
    assert (tmp_path / "out/sweep.md").read_text() in message


def test_a_setting_that_another_part_lacks_is_refused_there_alone(sweep, tmp_path):
    sweep(settings={"sampler": ["plain", "picky"], "sampler.steps": 2, "sampler.mood": ["calm"]})
    errors = {row["sampler"]: row["error"] for row in lines(tmp_path / "out")}
    assert errors["picky"] == "" and "sampler 'plain' has no 'mood'" in errors["plain"]


def test_nothing_but_refusals_is_an_error(sweep):
    with pytest.raises(UserError, match="no combination could be run; the first one, steps=9: nine is too much"):
        sweep(settings={"sampler": "picky", "steps": [9]})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stpes": [2, 4]}, "settings  stpes — no path of the recipe ends so; did you mean 'steps'?"),
        ({"sampler.stpes": [2]}, "stages.base.sampler.stpes — sampler 'plain' has no 'stpes'; did you mean 'steps'?"),
        ({"sampler": ["plain", "plian"]}, "no sampler is called 'plian'; did you mean 'plain'?"),
        ({"sampler": ["plain", {"use": "picky", "moud": "x"}]}, "sampler 'picky' has no 'moud'; did you mean 'mood'?"),
        ({"steps": [2, "four"]}, "settings  stages.base.sampler.steps — expected int, got text 'four'"),
        ({"steps": []}, "settings has no list of values to try"),
        ({"seed": [1], "steps": []}, "settings has an empty list; give each at least one value"),
        ({"steps": 4}, "settings has no list of values to try"),
        ({"steps": [2, 2]}, "settings: steps=2 and steps=2 (2) are the same recipe; give no value twice"),
        (
            {"steps": [2, 4], "sampler": [{"use": "picky", "steps": 5}]},
            "are the same recipe; give no value twice, and a part before",
        ),
        ({"steps": [2], "sampler": {"steps": [4]}}, "settings: stages.base.sampler.steps is there twice"),
    ],
)
def test_a_mistake_in_the_settings_is_one_error_before_anything_is_run(
    parts, tmp_path, capsys, monkeypatch, settings, message
):
    monkeypatch.chdir(tmp_path)
    table = {"use": "sweep", "recipe": GENERATE, "settings": settings, "out": "out"}
    Path("own.yaml").write_text(merging.to_yaml(table))
    assert main(["run", "own.yaml", "--plugin", str(parts)]) == 2
    text = capsys.readouterr().err
    assert message in text and "Traceback" not in text
    assert len(text.splitlines()) == 1
    assert not Path("out").exists() and Path("calls").read_text() == ""


def test_a_recipe_that_is_wrong_itself_is_told_once(sweep):
    with pytest.raises(RecipeError) as raised:
        sweep(GENERATE | {"promt": "x"})
    assert len(raised.value.problems) == 1 and "did you mean 'prompt'?" in str(raised.value)


def test_a_recipe_goes_by_its_name_also_in_the_place_of_a_table(parts, tmp_path):
    (tmp_path / "own.yaml").write_text(merging.to_yaml(GENERATE))
    table = {"use": "sweep", "recipe": EVALUATE, "settings": {"steps": [2]}, "out": str(tmp_path / "out")}
    muse_studio.run(table, [f"recipe={tmp_path / 'own.yaml'}"], plugins=[parts])
    assert "Recipe `own`" in (tmp_path / "out/sweep.md").read_text()


def test_a_short_key_must_mean_one_path():
    known = ["seed", "stages.base.sampler", "stages.base.sampler.steps", "stages.base.guidance", "a.seed"]
    keys = ["steps", "sampler.top_k", "stages.base.sampler", "seed", "guidance.scale", "other"]
    axes = read_axes({key: [1] for key in keys}, known)
    assert [axis.path for axis in axes] == [
        "stages.base.sampler.steps",
        "stages.base.sampler.top_k",
        "stages.base.sampler",
        "seed",  # whole already, whatever else ends so
        "stages.base.guidance.scale",
        "other",
    ]
    with pytest.raises(UserError, match=r"'steps' is short for a\.steps, b\.steps; write out the one that is meant"):
        read_axes({"steps": [1]}, ["a.steps", "b.steps"])


def test_labels_are_short_and_each_another():
    axes = read_axes({"a.steps": [1], "b.steps": [2], "b.width": [3]}, [])
    assert [axis.label for axis in axes] == ["a.steps", "b.steps", "width"]
    table = {"use": "remdm", "variant": "cap", "eta": 0.040}
    assert value_label(table) == "remdm variant=cap eta=0.04"
    assert [value_label(each) for each in (None, True, 3.0, [1, 2], "x")] == ["null", "true", "3", "[1, 2]", "x"]
    long = value_label("runs/" + "a" * 60 + "/last.safetensors")
    assert len(long) <= 32 and long.endswith(".safetensors") and long.startswith("runs/")
    (axis,) = read_axes({"weights": ["a" * 50, "a" * 51]}, [])
    assert axis.labels[0] != axis.labels[1]


def test_a_part_comes_before_its_settings_and_replaces_all_of_the_one_before(parts):
    changed = GENERATE | {"stages": {"base": STAGE | {"sampler": {"use": "plain", "steps": 3, "slow": True}}}}
    made = combine(changed, {"sampler": ["picky", {"use": "plain", "steps": 7}], "steps": [8]}, [parts])
    assert [each.recipe["stages"]["base"]["sampler"] for each in made] == [
        {"use": "picky", "steps": 8},
        {"use": "plain", "steps": 8, "slow": True},
    ]


def test_a_run_is_known_by_its_recipe_but_for_where_it_writes():
    assert identity({"a": 1, "out": "x"}) == identity({"a": 1, "out": "y"}) == identity({"a": 1})
    assert len({identity(each) for each in ({"a": 1}, {"a": 2}, {"a": 1.0}, {"a": "1"}, {"b": 1})}) == 5


@pytest.mark.slow
def test_the_sheet_has_a_row_a_first_value_and_a_column_a_combination_of_the_others(sweep, tmp_path):
    table = sweep(settings={"sampler": ["plain", "picky"], "steps": [2, 3], "seed": [1, 2]}, shown=1).table
    (block,) = sweeping.blocks(table, 1)
    assert block.rows == ["plain", "picky"]
    assert block.columns == ["steps=2, seed=1", "steps=2, seed=2", "steps=3, seed=1", "steps=3, seed=2"]
    assert [cell if isinstance(cell, str) else cell.size for cell in block.cells[1]] == [(16, 16)] * 2 + ["refused"] * 2
    assert block.title == "picture 1", "their seeds differ"
    sheet = np.asarray(Image.open(tmp_path / "out/sheet.png"))
    for image in (cell for row in block.cells for cell in row if not isinstance(cell, str)):
        assert stands_in(sheet, np.asarray(image.resize((128, 128), Image.Resampling.NEAREST))), "a tile is missing"


def stands_in(sheet, tile):
    """Whether a picture stands anywhere in a larger one, by trying each place."""
    height, width = tile.shape[:2]
    corners = (sheet[: 1 - height, : 1 - width] == tile[0, 0]).all(-1) & (
        sheet[height - 1 :, width - 1 :] == tile[-1, -1]
    ).all(-1)
    return any((sheet[y : y + height, x : x + width] == tile).all() for y, x in zip(*corners.nonzero(), strict=True))


def test_of_one_setting_the_columns_are_the_prompts(sweep):
    table = sweep(settings={"steps": [2, 3, 4]}).table
    (block,) = sweeping.blocks(table, 4)
    assert block.rows == ["steps=2", "steps=3", "steps=4"] and block.columns == ["a fox, seed 5", "a tram, seed 5"]
    several = sweeping.blocks(sweep(settings={"sampler": ["plain", "picky"], "steps": [2]}, out="two").table, 4)
    assert [each.title for each in several] == ["a fox, seed 5", "a tram, seed 5"]


def test_plots_have_a_line_a_first_value_with_named_points_and_axes(sweep, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    seen = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (seen.append(figure), Path(path).touch()))
    sweep(EVALUATE, settings={"sampler": ["plain", "picky"], "steps": [2, 3, 4]})
    (figure,) = seen
    assert [panel.get_ylabel() for panel in figure.axes] == ["R@1, seen", "R@1, held-out", "R@5, seen", "R@5, held-out"]
    rows = lines(tmp_path / "out")
    for panel in figure.axes:
        assert panel.get_xlabel() == "seconds a picture (median, 2 at once)"
        assert [(line.get_label(), len(line.get_xdata())) for line in panel.lines] == [("plain", 3), ("picky", 2)]
        for line in panel.lines:
            wanted = sorted(
                (float(row[panel.get_xlabel()]), float(row[panel.get_ylabel()]))
                for row in rows
                if row["sampler"] == line.get_label() and not row["error"]
            )
            assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == wanted
        assert sorted(text.get_text() for text in panel.texts) == ["2", "2", "3", "4", "4"]


def test_a_plot_may_hold_quality_against_forward_passes(sweep, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    seen = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (seen.append(figure), Path(path).touch()))
    sweep(EVALUATE, settings={"sampler": ["plain", "picky"], "steps": [2, 4]}, against="forwards")
    for panel in seen[0].axes:
        assert panel.get_xlabel() == "forwards"
        assert [list(line.get_xdata()) for line in panel.lines] == [[2.0, 4.0]] * 2


def test_a_task_that_draws_nothing_is_timed_as_a_whole(sweep, parts, tmp_path):
    parts.write_text(
        PARTS
        + """

class Counts:
    def __init__(self, number: int, out: str):
        self.number, self.out = number, out

    def __call__(self, hook):
        Path(self.out, "number").write_text(str(self.number))


@hookimpl
def muse_tasks():
    return {"counts": Counts}
"""
    )
    sweep({"use": "counts", "number": 0, "out": "elsewhere"}, settings={"number": [7, 8]})
    rows = lines(tmp_path / "out")
    assert [(tmp_path / "out/runs" / row["run"] / "number").read_text() for row in rows] == ["7", "8"]
    assert all(float(row["seconds (whole run)"]) >= 0 for row in rows)
    assert not (tmp_path / "out/sheet.png").exists()
    assert json.loads((tmp_path / "out/runs" / rows[0]["run"] / "result.json").read_text())["scores"] == {}


@pytest.mark.slow
def test_the_shipped_sweeps_have_no_combination_that_is_refused():
    for name in ("sweep", "sweep-samplers", "sweep-caches"):
        table = merging.load(name).plain()
        made = combine(table["recipe"], table["settings"], ())
        tried = [len(values) for values in table["settings"].values() if isinstance(values, list)]
        assert [each.problems for each in made] == [[]] * math.prod(tried)


@pytest.mark.parametrize("name", ["plot.png", "sheet.png", "sweep.csv", "sweep.md", "runs/mine.txt"])
def test_what_a_user_has_by_a_sweep_s_names_is_neither_replaced_nor_deleted(sweep, tmp_path, name):
    (tmp_path / "mine" / name).parent.mkdir(parents=True)
    (tmp_path / "mine" / name).write_text("mine")
    with pytest.raises(
        UserError, match=rf"mine holds {name.partition('/')[0]}, which no sweep .* another folder as out"
    ):
        sweep(out="mine")
    assert [path.name for path in (tmp_path / "mine").rglob("*") if path.is_file()] == [Path(name).name]
    assert (tmp_path / "mine" / name).read_text() == "mine"


def test_a_sweep_of_an_earlier_version_goes_on(sweep, tmp_path):
    sweep()
    (tmp_path / "out" / MARK).unlink()
    assert sweep().run == 0
