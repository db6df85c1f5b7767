"""preview.png shows what is being drawn, is whole at every moment, and changes nothing."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from muse_editing.editors import Inpaint
from muse_observers.preview import Preview
from muse_tasks.edit.task import Edit
from muse_tasks.generate.task import Generate
from PIL import Image
from warned import warned

from muse_studio.contracts import MASK, NO_RUN, RunContext
from muse_studio.errors import UserError
from muse_studio.hookspecs import hookimpl
from muse_studio.recipe.running import Prepared
from muse_studio.recipe.sources import recipe_text
from muse_studio.registry.plugins import Registry
from muse_studio.sampling.previews import GREYS


def pixels(picture):
    return np.asarray(picture).tolist()


class Looking:
    """Looks at preview.png after each step, at which it must be whole."""

    def __init__(self):
        self.seen = []

    @hookimpl
    def muse_step(self, stage, step, tokens):
        with Image.open("out/preview.png") as picture:
            self.seen.append((stage, step, picture.convert("RGB"), tokens.clone()))


def run(task, *observers, context=NO_RUN):
    """The task's result; the last observer hears first."""
    registry = Registry(entries=())
    registry.observe([("observer", each) for each in observers])
    return Prepared(task, registry, context)()


def test_each_step_is_shown_with_grey_where_nothing_is_drawn(stages, encoder):
    looking = Looking()
    task = Generate(stages, encoder, "a cat")
    run(task, looking, Preview(seconds=0), context=RunContext({"use": "generate", "prompt": "a cat"}))
    assert [each[:2] for each in looking.seen] == [("base", n) for n in (1, 2, 3, 4)] + [
        ("large", n) for n in (1, 2, 3)
    ]
    for stage, _, picture, tokens in looking.seen:
        height, width = stages[stage].height, stages[stage].width
        assert picture.size == (width, height)
        if stage == "base":  # a cell is 4 x 4 pixels
            grey = np.isin(np.asarray(picture)[::4, ::4], GREYS).all(-1)
            assert (grey >= (tokens[0] == MASK).numpy()).all()
            drawn = stages[stage].tokenizer.decode(tokens.clamp(min=0))[0]
            known = (tokens[0] != MASK).numpy().repeat(4, 0).repeat(4, 1)
            expected = (drawn * 255).round().byte().permute(1, 2, 0).numpy()
            assert (np.asarray(picture)[known] == expected[known]).all()
    assert recipe_text(Path("out/preview.png")) == "use: generate\nprompt: a cat\n"


def test_the_stage_before_shines_through(stages, encoder):
    looking = Looking()
    run(Generate(stages, encoder, "a cat"), looking, Preview(seconds=0))
    first = next(picture for stage, step, picture, _ in looking.seen if (stage, step) == ("large", 1))
    assert len(np.unique(np.asarray(first).reshape(-1, 3), axis=0)) > 2 + 16


def test_the_last_preview_is_the_picture_and_the_picture_is_the_same_as_without(stages, encoder):
    plain = Generate(stages, encoder, "a cat", out="plain")()
    result = run(Generate(stages, encoder, "a cat"), Preview(seconds=0))
    assert pixels(Image.open("out/preview.png")) == pixels(result.images[0]) == pixels(plain.images[0])


def test_short_runs_write_none_and_a_named_folder_is_heeded(stages, encoder, here):
    run(Generate(stages, encoder, "a cat", out="one/cat.png"), Preview(seconds=60))
    assert [path.name for path in (here / "one").iterdir()] == ["cat.png"]
    run(Generate(stages, encoder, "a cat", out="one/cat.png"), Preview(seconds=0), Preview("look", 0))
    assert sorted(path.name for path in (here / "one").iterdir()) == ["cat-2.png", "cat.png", "preview.png"]
    assert (here / "look" / "preview.png").read_bytes() == (here / "one" / "preview.png").read_bytes()


@pytest.mark.parametrize("content", ["picture", "text", "a link that leads nowhere"])
def test_a_preview_of_somebody_else_stays(stages, encoder, here, content):
    (here / "look").mkdir()
    path = here / "look" / "preview.png"
    if content == "picture":
        Image.new("RGB", (4, 4)).save(path)
    elif content == "text":
        path.write_text("mine")
    else:
        path.symlink_to(here / "nowhere")
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(UserError, match=r"preview.png is no picture that muse_studio drew.*; move it away, or give"):
        run(Generate(stages, encoder, "a cat"), Preview("look", 0))
    assert (path.read_bytes() if path.exists() else None) == before
    assert not list(here.rglob("*cat.png"))


def test_an_edited_picture_of_another_shape_is_shown(stages, encoder):
    Image.new("RGB", (64, 16), "red").save("photo.png")
    stages = {"base": stages["base"]}
    run(Edit(stages, encoder, Inpaint(), picture="photo.png", region="0,0,8,8"), Preview(seconds=0))
    assert Image.open("out/preview.png").size == (64, 16)


def test_a_batch_is_shown_side_by_side(stages):
    preview = Preview(seconds=0)
    preview.muse_started(type("Task", (), {"stages": stages})(), NO_RUN)
    preview.muse_step("base", 1, 4, torch.zeros(6, 4, 4, dtype=torch.int64), None)
    assert Image.open("out/preview.png").size == (4 * 16, 16)


def test_a_training_s_samples_are_shown():
    preview = Preview(seconds=60)
    preview.muse_started(type("Task", (), {"fit": type("Fit", (), {"out": "run"})})(), NO_RUN)
    preview.muse_step("base", 1, 4, None, torch.full((3, 5, 7), 9, dtype=torch.uint8))
    with Image.open("run/preview.png") as picture:
        assert picture.size == (7, 5) and pixels(picture)[0][0] == [9, 9, 9]


def test_a_disk_that_fills_up_ends_the_previews_and_not_the_run(stages, encoder, here, monkeypatch):
    save = Image.Image.save

    def refuse(image, path, *arguments, **settings):
        if "preview" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(image, path, *arguments, **settings)

    monkeypatch.setattr(Image.Image, "save", refuse)
    with warned("no more previews: out.preview.png can't be written: No space left"):
        result = run(Generate(stages, encoder, "a cat"), Preview(seconds=0))
    assert [path.name for path in (here / "out").iterdir()] == ["a-cat.png"] == [path.name for path in result.paths]


def test_a_time_below_0_is_refused():
    with pytest.raises(ValueError, match="seconds is -1; give 0 or more"):
        Preview(seconds=-1)
