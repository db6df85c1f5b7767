"""The task `solve-sketch` over a small data set: what its file remembers, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from muse_sampling.confidence import Confidence
from muse_sampling.guidance import CFG
from muse_sampling.schedules import Cosine
from muse_transformer.muse import MuseTransformer
from muse_transformer.options import Options, Sketching
from muse_transformer.solve_sketch import SolveSketch
from muse_vqgan.vqgan import VQGAN

from muse_studio.errors import SettingError, UserError
from muse_studio.sampling.stage import Stage
from muse_studio.testing import FakeDataset, FakeTextEncoder, FakeTokenizer

THINGS, MANNERS = ("cat", "dog", "fox", "owl", "pig"), ("flat", "round", "wild")
MISSING = ("owl", "wild")
SIZES = {"things": 5, "manners": 3, "rank": 24, "code_width": 8}


class Drawings(FakeDataset):
    """Five things in three manners, all different noise; one pair is not there."""

    def evaluation(self, split):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (len(THINGS), len(MANNERS), 3, 32, 32), generator=generator).byte()
        return [
            {"image": images[i, j], "caption": f"{thing} {manner}", "thing": thing, "group": manner}
            for i, thing in enumerate(THINGS)
            for j, manner in enumerate(MANNERS)
            if (thing, manner) != MISSING
        ]


class Named(Drawings):
    def wordings(self, count, seed):
        return [{"caption": f"the {thing}", "thing": thing, "group": "flat"} for thing in THINGS] * count


def stage(tokenizer=None, **options):
    torch.manual_seed(0)
    tokenizer = tokenizer or VQGAN(codebook_size=32, code_width=8, channels=32, multipliers=[1, 1], blocks=1, patch=2)
    sizes = {"text_width": 8, "width": 32, "layers": 1, "heads": 4}
    settings = Options(**{"fold": 2, "sketch": Sketching(**SIZES)} | options)
    transformer = MuseTransformer(tokenizer.codebook_size, [8, 8], options=settings, **sizes)
    return Stage(tokenizer, transformer, Cosine(), Confidence(steps=2), CFG(), 32)


def task(folder, made=None, dataset=None, **more):
    out = {
        "out": str(folder / "start.safetensors"),
        "device": "cpu",
        "dtype": "float32",
        "ridge": 1e-3,
        "sureness": 1.0,
    }
    made = made() if callable(made) else made
    return SolveSketch({"base": made or stage()}, FakeTextEncoder(), dataset or Drawings(), **out | more)


def test_the_file_holds_a_model_that_remembers_the_pictures(tmp_path):
    made = stage()
    solved = task(tmp_path, made)()
    assert solved.summary().splitlines()[0] == "5 things in 3 manners; of their own captions 100.0% are understood"
    assert solved.explained > 0.8 and solved.right > 0.9
    sizes = {"text_width": 8, "width": 32, "layers": 1, "heads": 4}
    options = Options(fold=2, sketch=Sketching(**SIZES))
    model = MuseTransformer(32, [8, 8], options=options, weights=str(solved.path), **sizes).eval()
    records = Drawings().evaluation("seen")
    images = torch.stack([record["image"] for record in records]) / 255
    tokens = made.tokenizer.encode(images)
    with torch.no_grad():
        told = model.condition(FakeTextEncoder()([record["caption"] for record in records]))
        logits = model(torch.full_like(tokens, -1), told)
    assert (logits.argmax(-1) == tokens).float().mean() > 0.9
    assert (told[-1] > 0.9).all()


def test_what_was_never_seen_is_drawn_by_its_other_manners(tmp_path):
    made = stage()
    task(tmp_path, made)()
    thing, manner = THINGS.index("owl"), MANNERS.index("wild")
    sketch = made.transformer.sketch
    assert (sketch.known == 0).sum() == 14 and sketch.known[thing, manner] < -1000
    text = FakeTextEncoder()(["owl wild"])
    with torch.no_grad():
        things, hands, firm = sketch.understand((text.states[0, :2].mean(0) / text.states[0, :2].mean(0).norm())[None])
    assert things[0, thing] > 0.9 and firm < 0.1
    assert hands[0, manner] < 0.01 and hands.sum() == pytest.approx(1)


def test_other_words_for_things_are_understood_where_the_data_set_has_them(tmp_path):
    made = stage()
    task(tmp_path, made, Named(), wordings=3)()
    text = FakeTextEncoder()([f"the {thing}" for thing in THINGS])
    pooled = torch.nn.functional.normalize((text.states * text.mask[..., None]).sum(1), dim=-1)
    with torch.no_grad():
        assert made.transformer.sketch.understand(pooled)[0].argmax(-1).tolist() == [0, 1, 2, 3, 4]


def test_halves_are_written_and_the_same_seed_gives_the_same_file(tmp_path):
    first = task(tmp_path, dtype="float16")().path.read_bytes()
    assert task(tmp_path, dtype="float16")().path.read_bytes() == first
    assert len(first) < 0.6 * task(tmp_path)().path.stat().st_size


def test_numbers_too_large_for_halves_are_not_written(tmp_path):
    with pytest.raises(UserError, match=r"sketch\.thing has numbers that are too large for float16; set dtype to fl"):
        task(tmp_path, sureness=1e6, dtype="float16")()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stage": "superres"}, r"stage is 'superres'; say which one has the sketch: base"),
        ({"wordings": -1}, r"wordings is -1; give a number of captions, or 0 for none"),
        ({"sureness": 0.0}, r"sureness is 0\.0 and ridge 0\.001; both must be above 0"),
        ({"out": "start.pt"}, r"out is 'start\.pt'; name a file that ends in \.safetensors"),
        ({"made": lambda: stage(sketch=None)}, r"the transformer of 'base' has no sketch; give it options\.sketch"),
    ],
)
def test_settings_that_can_not_be(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        task(tmp_path, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"dataset": FakeDataset()},
            "dataset: it doesn't say what its pictures show; give one that does, such as emoji",
        ),
        (
            {"made": lambda: stage(sketch=Sketching(**SIZES | {"things": 6}))},
            r"the data set shows 5 things in 3 groups, options\.sketch has 6 and 3; set options\.sketch\.things to 5",
        ),
        (
            {"made": lambda: stage(sketch=Sketching(**SIZES | {"code_width": 4}))},
            r"options\.sketch\.code_width is 4, the tokenizer's codes have 8 numbers; set it to that",
        ),
        ({"made": lambda: stage(FakeTokenizer())}, "the tokenizer FakeTokenizer has no vectors of its codes"),
    ],
)
def test_what_can_not_be_solved_is_told_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        task(tmp_path, **settings)()
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_name_their_place(tmp_path):
    with pytest.raises(SettingError) as caught:
        task(tmp_path, stage(sketch=None))
    assert caught.value.setting == "stages.base.transformer"
