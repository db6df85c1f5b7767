"""Training a masked transformer: it learns, resumes bit for bit with and without a cache, and tells what can't be."""

import pytest
import torch
from muse_sampling.schedules import Cosine
from muse_training.optimizers import AdamW, Muon
from muse_training.records import Cached, Encoder, stack
from muse_training.store import Store
from muse_training.train import Train
from muse_transformer.muse import MuseTransformer
from safetensors.torch import load_file
from torch import nn

from muse_studio import testing
from muse_studio.errors import UserError
from muse_studio.loop import Fit
from muse_studio.stage import Stage

CPU = torch.device("cpu")
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


class Colours:
    """Plain pictures, captioned with their colour."""

    def __init__(self, size=8, count=20):
        self.size, self.count, self.read = size, count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.read.append(index)
        name = list(COLOURS)[index % 4]
        image = torch.tensor(COLOURS[name], dtype=torch.uint8).view(3, 1, 1).expand(3, self.size, self.size)
        return {"image": image.clone(), "caption": name}


class Silent:
    def muse_step(self, **told):
        return None


class Dies(Silent):
    def __init__(self, step):
        self.at = step

    def muse_step(self, **told):
        if told["step"] == self.at:
            raise RuntimeError("the power is gone")


def stage(size=8, **more):
    torch.manual_seed(0)
    settings = {"codebook_size": 64, "grid": [2, 2], "text_width": testing.FakeTextEncoder.width} | more
    model = MuseTransformer(**{"width": 16, "layers": 1, "heads": 2} | settings)
    return Stage(testing.FakeTokenizer(), model, Cosine(), testing.FakeSampler(), testing.FakeGuidance(), size)


def refusing():
    class Larger(testing.FakeTransformer):
        def condition(self, text, low=None):
            raise ValueError("give low-resolution tokens")

    made = stage()
    made.transformer = Larger()
    return made


def task(folder, dataset=None, stages=None, **more):
    fit = {"out": str(folder), "steps": 9, "batch": 8, "log_every": 1, "checkpoint_every": 3, "device": "cpu"}
    fit |= more.pop("fit", {})
    dataset = Colours() if dataset is None else dataset
    settings = {"optimizer": AdamW(3e-3)} | more
    return Train(stages or {"base": stage()}, testing.FakeTextEncoder(), dataset, Fit(**fit), **settings)


def rows(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history.rows]


@pytest.mark.parametrize(
    "more",
    [{"fit": {"ema": 0.9, "warmup": 2}}, {"optimizer": Muon(1e-3), "smoothing": 0.1}, {"cache": True}],
    ids=["average", "muon", "cache"],
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, more):
    def again(folder, hook):
        given = more | ({"cache": str(folder / "cache")} if "cache" in more else {})
        return task(folder, **given)(hook)

    through = again(tmp_path / "a", Silent())
    for step in (2, 5, 8):
        with pytest.raises(RuntimeError, match="power"):
            again(tmp_path / "b", Dies(step))
    resumed = again(tmp_path / "b", Silent())
    assert rows(through) == rows(resumed)
    for file in [through.weights, *(tmp_path / "a" / "checkpoints" / "step-0000009").glob("*.safetensors")]:
        one, other = load_file(file), load_file(tmp_path / "b" / file.relative_to(tmp_path / "a"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), file.name


def test_it_learns_what_the_prompt_says(tmp_path):
    parts = {"base": stage()}
    history = task(tmp_path, stages=parts, fit={"steps": 120}, optimizer=AdamW(1e-2))(Silent())
    assert history.rows[0]["loss"] > 4 and history.rows[-1]["loss"] < 0.5
    trained = parts["base"]
    text = testing.FakeTextEncoder()(list(COLOURS))
    with torch.no_grad():
        logits = trained.transformer(trained.blank(4), trained.transformer.condition(text))
    wanted = trained.tokenizer.encode(torch.stack([Colours()[index]["image"] for index in range(4)]).float() / 255)
    assert torch.equal(logits.argmax(-1), wanted)
    assert history.summary().splitlines()[0] == str(tmp_path / "base.safetensors")


def test_only_the_transformer_is_trained(tmp_path):
    class Encoder(testing.FakeTextEncoder, nn.Module):
        def __init__(self):
            nn.Module.__init__(self)
            self.weight = nn.Parameter(torch.ones(1))

        def __call__(self, prompts):
            text = super().__call__(prompts)
            return text._replace(states=text.states * self.weight)

    encoder = Encoder()
    made = task(tmp_path, fit={"steps": 2})
    made.text_encoder = encoder
    made(Silent())
    assert encoder.weight.grad is None and encoder.weight.item() == 1
    assert "transformer.safetensors" in {path.name for path in tmp_path.rglob("*.safetensors")}


def test_without_text_dropout_every_caption_is_seen_and_with_all_of_it_none_is(tmp_path):
    seen = {}
    for share in (0.0, 1.0):
        parts = {"base": stage()}
        masks = seen[share] = []
        condition = parts["base"].transformer.condition
        parts["base"].transformer.condition = lambda text, keep=masks, ask=condition: (
            keep.append(text.mask) or ask(text)
        )
        task(tmp_path / str(share), stages=parts, text_dropout=share, fit={"steps": 3})(Silent())
    assert all(mask.any(1).all() for mask in seen[0.0][1:]), "the first one tries the parts out"
    assert not any(mask.any() for mask in seen[1.0][1:])


def test_a_stage_is_chosen_by_name(tmp_path):
    two = {"base": stage(), "large": stage()}
    with pytest.raises(ValueError, match="stage is None; say which one to train: base, large"):
        task(tmp_path, stages=two)
    assert task(tmp_path, stages=two, stage="large", fit={"steps": 1})(Silent()).weights.name == "large.safetensors"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"dataset": Colours(16)}, "the data set's pictures have 16x16 pixels, the stage 'base' has 8x8; set both to"),
        ({"dataset": Colours(count=0)}, "no record to train on"),
        ({"stages": {"base": refusing()}}, "the stage 'base' can't be trained: give low-resolution tokens"),
        ({"fit": {"device": "abacus"}}, "device 'abacus' is not there"),
    ],
)
def test_what_can_not_be_trained_is_told_before(tmp_path, more, said):
    with pytest.raises(UserError, match=said):
        task(tmp_path, **more)(Silent())
    assert not (tmp_path / "checkpoints").exists()


def test_the_run_of_another_model_is_told(tmp_path):
    task(tmp_path, fit={"steps": 1})(Silent())
    with pytest.raises(UserError, match=r"does not fit here: .* another folder as fit\.out"):
        task(tmp_path, stages={"base": stage(width=32)}, fit={"steps": 1})(Silent())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"text_dropout": 1.5}, r"text_dropout 1\.5 must be in 0\.\.1"),
        ({"smoothing": 1.0}, r"smoothing 1\.0 in 0\.\.1 without 1"),
        ({"stage": "middle"}, "stage is 'middle'; say which one to train: base"),
        (
            {"stages": {"base": stage(text_width=5)}},
            "text of width 5, the text encoder gives 8; set the transformer's text_width to 8, or choose",
        ),
    ],
)
def test_settings_that_can_not_be(tmp_path, more, said):
    with pytest.raises(ValueError, match=said):
        task(tmp_path, **more)


def encoder():
    return Encoder(testing.FakeTokenizer(), testing.FakeTextEncoder(), CPU)


def test_a_cache_holds_what_the_frozen_parts_say(tmp_path):
    data, plain = Colours(), encoder()
    cached = Cached(tmp_path, data, plain)
    assert len(cached) == 20
    order = [3, 0, 19, 7]
    tokens, text = plain(stack([cached[index] for index in order]))
    expected, wanted = plain(stack([data[index] for index in order]))
    assert tokens.dtype == torch.int64 and torch.equal(tokens, expected)
    assert torch.equal(text.mask, wanted.mask)
    assert torch.equal(text.states, wanted.states.bfloat16().float())
    torch.testing.assert_close(text.pooled, wanted.pooled)


def test_a_cache_is_made_once_and_anew_for_other_data(tmp_path):
    class Inverted(testing.FakeTokenizer):
        def encode(self, images):
            return super().encode(1 - images)

    def stores(settings=None, tokenizer=None, count=100):
        """How many stores there are once a cache is made, and how many records were read for it."""
        data = Colours(count=count)
        Cached(tmp_path, data, Encoder(tokenizer or testing.FakeTokenizer(), encoder().text_encoder, CPU), settings)
        return len(list(tmp_path.iterdir())), len(data.read)

    probes = 32
    assert stores() == (2, probes + 2 * 100)
    assert stores() == (2, probes)
    assert stores({"use": "colours", "share": 0.2}) == (4, probes + 2 * 100), "its settings alone tell it"
    assert stores(tokenizer=Inverted()) == (5, probes + 100), "other tokens, the same text"
    assert stores(count=101) == (7, probes + 2 * 101)


def test_a_store_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("muse_training.store.SHARD", 4)
    made = []

    def compute(start, stop):
        if start == 8 and len(made) == 2:
            raise RuntimeError("the power is gone")
        made.append((start, stop))
        return {"square": torch.arange(start, stop).square(), "wide": torch.ones(stop - start, 3) * start}

    with pytest.raises(RuntimeError, match="power"):
        Store(tmp_path, 10, compute).build("squaring")
    made.append("resumed")
    store = Store(tmp_path, 10, compute)
    store.build("squaring")
    assert made == [(0, 4), (4, 8), "resumed", (8, 10)]
    assert [store[index]["square"].item() for index in range(10)] == [index**2 for index in range(10)]
    assert store[9]["wide"].tolist() == [8, 8, 8]
