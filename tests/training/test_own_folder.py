"""A run writes to a folder of its own: a user's files by the names of a run's are never replaced nor deleted."""

import shutil
import subprocess
import sys

import pytest
from muse_observers.curves import FILE

import muse_studio
from muse_studio.cli import main
from muse_studio.errors import UserError
from muse_studio.runtime.files import MARK
from muse_studio.training.fit import OWN
from muse_studio.training.log import LOG


@pytest.fixture
def train(recipe, monkeypatch):
    """Trains so many steps."""
    monkeypatch.chdir(recipe)

    def train(steps=2, out="run", **more):
        fit = {
            f"fit.{key}": value for key, value in {"steps": steps, "out": out, "checkpoint_every": 1, **more}.items()
        }
        return muse_studio.run("train.yaml", fit)

    return train


def contents(folder):
    """The user's own; of a checkpoint that is none too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_s_names_are_all_of_them():
    assert {LOG, FILE} < set(OWN)


@pytest.mark.parametrize(
    "name", ["log.csv", "loss.png", "tokenizer.safetensors", "checkpoints/mine.txt", "samples/step-0000001.png"]
)
@pytest.mark.parametrize("resume", ["auto", "never"])
def test_what_a_user_has_by_a_run_s_names_is_neither_replaced_nor_deleted(train, recipe, name, resume):
    (recipe / name).parent.mkdir(exist_ok=True)
    (recipe / name).write_text("step,loss\n9,0.5\n")
    before = contents(recipe)
    with pytest.raises(
        UserError, match=rf"^\. holds {name.partition('/')[0]}, which no training .* as fit\.out, or move"
    ):
        train(out=".", resume=resume)
    assert contents(recipe) == before


def test_the_command_ends_by_2_and_in_one_line(train, recipe, capsys):
    (recipe / "log.csv").write_text("mine")
    assert main(["run", "train.yaml", "fit.out=.", "fit.steps=1"]) == 2
    assert capsys.readouterr().err.startswith("error: . holds log.csv, which no training wrote that is known here")


def test_a_folder_with_other_files_is_taken_and_keeps_them(train, recipe):
    before = contents(recipe)
    train(out=".")
    assert before.items() <= contents(recipe).items()
    assert {"log.csv", "tokenizer.safetensors", "checkpoints", MARK} <= {path.name for path in recipe.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("former", [False, True], ids=["marked", "of an earlier version"])
def test_a_run_s_own_folder_is_gone_on_with(train, recipe, former):
    train()
    if former:
        (recipe / "run" / MARK).unlink()
    assert train(4).steps == 4
    assert len((recipe / "run" / "log.csv").read_text().splitlines()) == 5
    train(1, resume="never")
    assert len((recipe / "run" / "log.csv").read_text().splitlines()) == 2
    (recipe / "run" / MARK).write_text("torn")
    assert train(3).steps == 3


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(train, recipe):
    train()
    shutil.rmtree(recipe / "run" / "checkpoints")
    assert train().steps == 2


def test_what_a_killed_run_left_half_written_is_cleaned_away(train, recipe):
    train()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (recipe / "run" / "samples").mkdir()
    places = ["run", "run/samples"]
    left = [recipe / place / f".{name}.{ended.pid}" for place in places for name in ("loss.png", "step-0000001.png")]
    kept = [recipe / "run" / f".loss.png.{1}", recipe / "run" / ".notes.2024", recipe / f".loss.png.{ended.pid}"]
    for path in (*left, *kept):
        path.write_bytes(b"half")
    train(3)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_equal_weights_are_equal_files_wherever_they_were_made(train, recipe):
    text = (recipe / "train.yaml").read_text().replace("path: pictures", f"path: {recipe / 'pictures'}")
    (recipe / "train.yaml").write_text(text)
    made = [train(out=str(recipe / name)).weights.read_bytes() for name in ("one", "two")]
    assert made[0] == made[1]
    assert str(recipe).encode() not in made[0]
    assert b'"path\\": \\"pictures' in made[0]
