"""Sheets drawn while a model is trained: the right pictures, and a training that does not notice."""

import random

import numpy as np
import pytest
import torch
from muse_sampling.schedules import Cosine
from muse_tasks.generate.task import Generate
from muse_training.data.encoder import Encoder
from muse_training.optimizers import AdamW
from muse_training.samples import Samples, Sheets
from muse_training.train import Train
from muse_transformer.muse import MuseTransformer
from muse_transformer.superres import SuperResolution
from PIL import Image
from runs import check_same_files
from safetensors.torch import load_file
from torch import nn

from muse_studio import testing
from muse_studio.errors import Refused
from muse_studio.runtime.files import MARK
from muse_studio.stage import Stage
from muse_studio.training.loop import Fit

PROMPTS = ["red", "a blue thing", ""]


class Noise:
    """Pictures whose pixels depend on torch's global generator too, as a careless data set's may."""

    def __init__(self, size=8, count=12):
        self.size, self.count = size, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        shade = torch.full((3, self.size, self.size), 20 * index, dtype=torch.uint8)
        return {"image": shade + torch.randint(9, (1, 1, 1), dtype=torch.uint8), "caption": f"shade {index}"}


class Careless(testing.FakeSampler):
    """A sampler that takes numbers from every global generator there is."""

    def __call__(self, predict, tokens, schedule, generator):
        torch.rand(3), np.random.rand(3), random.random()
        yield from super().__call__(predict, tokens, schedule, generator)


class Dropping(MuseTransformer):
    """With dropout, so that training and drawing differ."""

    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        self.drop = nn.Dropout(0.5)

    def forward(self, tokens, conditioning):
        return self.drop(super().forward(tokens, conditioning))


def stage(size=8, transformer=None):
    torch.manual_seed(0)
    model = transformer or Dropping(64, [2, 2], text_width=8, width=16, layers=1, heads=2)
    return Stage(testing.FakeTokenizer(), model, Cosine(), Careless(), testing.FakeGuidance(), size)


def cascade():
    torch.manual_seed(1)
    large = SuperResolution(64, [4, 4], 64, [2, 2], text_width=8, width=16, layers=1, low_layers=1, heads=2, block=2)
    return {"base": stage(), "large": stage(16, large)}


def train(folder, *, stages=None, dataset=None, observer=None, fit=None, **more):
    settings = {"out": str(folder), "steps": 7, "batch": 4, "checkpoint_every": 2, "log_every": 1, "device": "cpu"}
    task = Train(
        stages or {"base": stage()},
        testing.FakeTextEncoder(),
        dataset or Noise(),
        Fit(**settings | (fit or {})),
        AdamW(1e-2),
        **more,
    )
    torch.manual_seed(5)  # what the data set draws before the first step
    return task(observer or testing.RecordingObserver())


def test_a_training_with_sheets_is_the_training_without(tmp_path):
    train(tmp_path / "without", fit={"ema": 0.9})
    train(tmp_path / "with", samples=Samples(3, PROMPTS), fit={"ema": 0.9})
    names = sorted(path.name for path in (tmp_path / "with" / "samples").iterdir())
    assert names == ["step-0000003.png", "step-0000006.png", "step-0000007.png"]
    check_same_files(tmp_path / "without", tmp_path / "with")


def test_a_training_that_died_draws_the_same_sheets(tmp_path):
    class Steady(Noise):
        def __getitem__(self, index):
            return super().__getitem__(index) | {"image": torch.full((3, 8, 8), 20 * index, dtype=torch.uint8)}

    train(tmp_path / "a", dataset=Steady(), samples=Samples(2, PROMPTS))
    with pytest.raises(RuntimeError, match="power"):
        train(
            tmp_path / "b", dataset=Steady(), samples=Samples(2, PROMPTS), observer=testing.RecordingObserver(dies_at=4)
        )
    assert not (tmp_path / "b" / "samples" / "step-0000004.png").exists()
    train(tmp_path / "b", dataset=Steady(), samples=Samples(2, PROMPTS))
    check_same_files(tmp_path / "a", tmp_path / "b")
    for sheet in (tmp_path / "a" / "samples").iterdir():
        assert sheet.read_bytes() == (tmp_path / "b" / "samples" / sheet.name).read_bytes()


def tiles(path, side=128, gap=10, title=28):
    """The pictures of a sheet of one row, by where the layout puts them."""
    with Image.open(path) as sheet:
        width = (sheet.width - gap) // (side + gap)
        left = [gap + place * (side + gap) for place in range(width)]
        return [np.asarray(sheet.crop((x, gap + title, x + side, gap + title + side))) for x in left]


@pytest.mark.parametrize("ema", [None, 0.5])
def test_the_last_sheet_shows_what_the_shipped_weights_draw(tmp_path, ema):
    train(tmp_path, samples=Samples(100, PROMPTS, seed=9), fit={"ema": ema})
    trained = stage()
    trained.transformer.load_state_dict(load_file(tmp_path / "base.safetensors"))
    drawn = Generate({"base": trained}, testing.FakeTextEncoder(), PROMPTS, seed=9, out=str(tmp_path / "drawn"))()
    enlarged = [np.asarray(image.resize((128, 128), Image.Resampling.NEAREST)) for image in drawn.images]
    shown = tiles(tmp_path / "samples" / "step-0000007.png")
    assert len(shown) == len(enlarged) == 3
    assert all(map(np.array_equal, shown, enlarged))
    assert all(len(np.unique(picture)) > 1 for picture in shown)


def test_without_prompts_the_data_set_s_captions_are_drawn(tmp_path):
    encoder = Encoder({"base": stage()}, testing.FakeTextEncoder(), torch.device("cpu"))
    assert Sheets(Samples(), encoder, Noise(), tmp_path, 5).prompts == [f"shade {index}" for index in range(8)]
    assert Sheets(Samples(), encoder, Noise(count=3), tmp_path, 5).prompts == ["shade 0", "shade 1", "shade 2"]
    assert Sheets(Samples(prompts=PROMPTS), encoder, Noise(count=1), tmp_path, 5).prompts == PROMPTS


def test_every_module_is_left_in_the_mode_it_was_in(tmp_path):
    made = stage()
    model = made.transformer.train()
    model.norm.eval()
    before = {name: module.training for name, module in model.named_modules()}
    seen = []
    model.drop.register_forward_hook(lambda module, *_: seen.append(module.training))
    encoder = Encoder({"base": made}, testing.FakeTextEncoder(), torch.device("cpu"))
    Sheets(Samples(1, PROMPTS), encoder, Noise(), tmp_path, 5)(1)
    assert seen and not any(seen)
    assert {name: module.training for name, module in model.named_modules()} == before
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("prompts", [[], ["a", "b", "c"]])
def test_a_stage_behind_another_refines_the_first_records_tokens(tmp_path, prompts):
    stages = cascade()
    given = []
    condition = SuperResolution.condition
    stages["large"].transformer.condition = lambda text, low: (
        given.append((text, low)) or condition(stages["large"].transformer, text, low)
    )
    encoder = Encoder(stages, testing.FakeTextEncoder(), torch.device("cpu"))

    class Shades(Noise):
        def __getitem__(self, index):
            return super().__getitem__(index) | {"image": torch.full((3, 16, 16), 80 * index, dtype=torch.uint8)}

    sheets = Sheets(Samples(1, prompts), encoder, Shades(count=2), tmp_path, 5)
    sheets(1)
    count = len(prompts) or 2
    wanted = [
        stages["base"].tokenizer.encode(torch.full((1, 3, 8, 8), 80.0 * (place % 2)) / 255) for place in range(count)
    ]
    lows = [low for text, low in given if text.mask.any() or not prompts]
    assert len(sheets.prompts) == count
    for place in range(count):
        assert any(torch.equal(low, wanted[place]) for low in lows)
    with Image.open(tmp_path / "step-0000001.png") as sheet:
        first = sheet.crop((10, 54, 10 + 128, 54 + 128))
        assert first.getcolors() == [(128 * 128, (0, 0, 0))], "the given one, black, enlarged"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every is 0; give a number of steps, 1 or more"),
        ({"seed": -1}, "seed is -1; give one from 0 to"),
        ({"prompts": ["\ud800"]}, "is not valid Unicode"),
    ],
)
def test_settings_that_can_not_be(settings, message):
    with pytest.raises(ValueError, match=message):
        Samples(**settings)


def test_observers_are_shown_every_sheet_and_told_every_number(tmp_path):
    observer = testing.RecordingObserver()
    train(tmp_path, samples=Samples(4, PROMPTS), observer=observer)
    sheets = {each["step"]: each["image"] for each in observer.steps if each["image"] is not None}
    assert sorted(sheets) == [4, 7]
    for step, image in sheets.items():
        with Image.open(tmp_path / "samples" / f"step-{step:07d}.png") as picture:
            assert (image.permute(1, 2, 0).numpy() == np.asarray(picture)).all()
            assert b"digitalsourcetype/trainedAlgorithmicMedia<" in picture.info["xmp"]
    rows = [each for each in observer.steps if each["image"] is None]
    assert [each["step"] for each in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert all({"loss", "accuracy", "norm", "seconds", "pictures/s"} <= set(each["numbers"]) for each in rows)
    assert all(each["loss"] == each["numbers"]["loss"] for each in rows)


def test_filters_are_asked_before_a_training_and_of_each_picture(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSE_OBSERVERS", "word-filter")
    task = Train({"base": stage()}, testing.FakeTextEncoder(), Noise(), Fit(str(tmp_path / "a"), 1, 4), AdamW(1e-2))
    task.samples = Samples(1, ["a naked man"])
    with pytest.raises(Refused, match="'a naked man' is refused by the filter word-filter"):
        task()
    assert [path.name for path in (tmp_path / "a").iterdir()] == [MARK]

    class Ugly(testing.RecordingObserver):
        def muse_picture(self, image, prompt, seed=0):
            return "it is ugly" if prompt == "red" else None

    with pytest.warns(UserWarning, match=r"'red', seed 0, is refused by the filter Ugly: it is ugly; .* grey"):
        train(tmp_path / "b", samples=Samples(7, PROMPTS), observer=Ugly())
    shades = [len(np.unique(picture)) for picture in tiles(tmp_path / "b" / "samples" / "step-0000007.png")]
    assert shades[0] == 1 and min(shades[1:]) > 1
