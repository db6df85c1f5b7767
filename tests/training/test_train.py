"""Training a masked transformer: it learns, resumes bit for bit with and without a cache, and tells what can't be."""

import pytest
import torch
from muse_sampling.schedules import Cosine
from muse_training.data.pictures import UnusablePicture
from muse_training.data.prepare import PrepareTokens
from muse_training.data.tokens import Tokens
from muse_training.objectives.critic import TokenCritic
from muse_training.objectives.masked import Masked
from muse_training.optimizers import AdamW, Muon
from muse_training.train import Train
from muse_transformer.muse import MuseTransformer
from muse_transformer.options import Options
from muse_transformer.superres import SuperResolution
from runs import check_same_files, rows
from torch import nn

from muse_studio import testing
from muse_studio.contracts import RunContext
from muse_studio.errors import UserError
from muse_studio.runtime.memory import refusal
from muse_studio.stage import Stage
from muse_studio.training.loop import Fit

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


def stage(size=8, **more):
    torch.manual_seed(0)
    settings = {"codebook_size": 64, "grid": [2, 2], "text_width": testing.FakeTextEncoder.width} | more
    model = MuseTransformer(**{"width": 16, "layers": 1, "heads": 2} | settings)
    return Stage(testing.FakeTokenizer(), model, Cosine(), testing.FakeSampler(), testing.FakeGuidance(), size)


def refusing():
    class Picky(testing.FakeTransformer):
        def condition(self, text, low=None):
            raise ValueError("give longer prompts")

    made = stage()
    made.transformer = Picky()
    return made


def cascade(transformer=None, width=16):
    """A base of 2x2 tokens and a stage of 4x4 that refines them."""
    large = stage(16, grid=[4, 4])
    torch.manual_seed(1)
    large.transformer = transformer or SuperResolution(
        64, [4, 4], 64, [2, 2], text_width=8, width=width, layers=1, low_layers=1, heads=2, block=2
    )
    return {"base": stage(), "large": large}


def task(folder, dataset=None, stages=None, **more):
    fit = {"out": str(folder), "steps": 9, "batch": 8, "log_every": 1, "checkpoint_every": 3, "device": "cpu"}
    fit |= more.pop("fit", {})
    dataset = Colours() if dataset is None else dataset
    settings = {"optimizer": AdamW(3e-3)} | more
    return Train(stages or {"base": stage()}, testing.FakeTextEncoder(), dataset, Fit(**fit), **settings)


@pytest.mark.parametrize(
    "more",
    [
        {"fit": {"ema": 0.9, "warmup": 2}},
        {"optimizer": Muon(1e-3), "objective": Masked(0.1)},
        {"dropout": 0.2},
        {"cache": True},
        {"stage": "large", "corruption": 0.5, "dataset": Colours(16), "cache": True, "optimizer": Muon(1e-3)},
    ],
    ids=["average", "muon", "dropout", "cache", "superres"],
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, more):
    def again(folder, hook):
        given = more | ({"stages": cascade()} if "stage" in more else {})
        if "dropout" in more:
            given["stages"] = {"base": stage(options=Options(dropout=given.pop("dropout")))}
        given |= {"cache": str(folder / "cache")} if "cache" in more else {}
        return task(folder, **given)(hook)

    through = again(tmp_path / "a", testing.RecordingObserver())
    for step in (2, 5, 8):
        with pytest.raises(RuntimeError, match="power"):
            again(tmp_path / "b", testing.RecordingObserver(dies_at=step))
    resumed = again(tmp_path / "b", testing.RecordingObserver())
    assert rows(through) == rows(resumed)
    check_same_files(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_it_learns_what_the_prompt_says(tmp_path):
    parts = {"base": stage()}
    history = task(tmp_path, stages=parts, fit={"steps": 120}, optimizer=AdamW(1e-2))(testing.RecordingObserver())
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
    made(testing.RecordingObserver())
    assert encoder.weight.grad is None and encoder.weight.item() == 1
    assert "transformer.safetensors" in {path.name for path in tmp_path.rglob("*.safetensors")}


def test_without_text_dropout_every_caption_is_seen_and_with_all_of_it_none_is(tmp_path):
    seen = {}
    for share in (0.0, 1.0):
        parts = {"base": stage()}
        masks = seen[share] = []
        condition = parts["base"].transformer.condition
        parts["base"].transformer.condition = lambda text, low, keep=masks, ask=condition: (
            keep.append(text.mask) or ask(text, low)
        )
        task(tmp_path / str(share), stages=parts, text_dropout=share, fit={"steps": 3})(testing.RecordingObserver())
    assert all(mask.any(1).all() for mask in seen[0.0][1:]), "the first one tries the parts out"
    assert not any(mask.any() for mask in seen[1.0][1:])


def test_a_stage_is_chosen_by_name(tmp_path):
    with pytest.raises(ValueError, match="stage is None; say which one to train: base, large"):
        task(tmp_path, stages=cascade())
    made = task(tmp_path, Colours(16), cascade(), stage="large", fit={"steps": 1})
    assert made(testing.RecordingObserver()).weights.name == "large.safetensors"
    made = task(tmp_path / "base", stages=cascade(), stage="base", fit={"steps": 1})
    assert made(testing.RecordingObserver()).weights.name == "base.safetensors"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"dataset": Colours(16)}, "the data set's pictures have 16x16 pixels, the stage 'base' has 8x8; set both to"),
        ({"dataset": Colours(count=0)}, "no record to train on"),
        ({"stages": {"base": refusing()}}, "the stage 'base' can't be trained: give longer prompts"),
        ({"fit": {"device": "abacus"}}, "device 'abacus' is not there"),
    ],
)
def test_what_can_not_be_trained_is_told_before(tmp_path, more, message):
    with pytest.raises(UserError, match=message):
        task(tmp_path, **more)(testing.RecordingObserver())
    assert not (tmp_path / "checkpoints").exists()


def test_the_run_of_another_model_is_told(tmp_path):
    task(tmp_path, fit={"steps": 1})(testing.RecordingObserver())
    with pytest.raises(UserError, match=r"does not fit here: .* another folder as fit\.out"):
        task(tmp_path, stages={"base": stage(width=32)}, fit={"steps": 1})(testing.RecordingObserver())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"text_dropout": 1.5}, r"text_dropout is 1\.5; it is a share, from 0 to 1"),
        ({"corruption": -0.1}, r"corruption is -0\.1; it is a share, from 0 to 1"),
        ({"corruption": 0.1}, r"corruption is 0\.1, but 'base' is the first stage and refines no tokens"),
        ({"smoothing": 1.0}, r"smoothing is 1\.0; it lies in 0\.\.1 without 1"),
        ({"stages": {"base": stage(), "large": stage()}, "stage": "large"}, "stages.large: .* is a base model"),
        ({"stage": "middle"}, "stage is 'middle'; say which one to train: base"),
        (
            {"stages": {"base": stage(text_width=5)}},
            "text of width 5, the text encoder gives 8; set the transformer's text_width to 8, or choose",
        ),
    ],
)
def test_settings_that_can_not_be(tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        task(tmp_path, **more)


class Bare:
    """A transformer, or a critic, with nothing to learn."""

    codebook_size, text_width, outputs = 64, testing.FakeTextEncoder.width, None

    def condition(self, text, low=None):
        return ()

    def __call__(self, tokens, conditioning):
        return torch.zeros(*tokens.shape, self.outputs or self.codebook_size)


def test_a_transformer_that_is_no_module_is_not_trained(tmp_path):
    made = stage()
    made.transformer = Bare()
    with pytest.raises(ValueError, match=r"Bare can't be trained, as it is no torch\.nn\.Module"):
        task(tmp_path, stages={"base": made})


def test_a_critic_that_is_no_module_is_not_trained(tmp_path):
    critic = Bare()
    critic.outputs = 1
    made = stage()
    made.sampler.critic = critic
    with pytest.raises(ValueError, match=r"Bare can't be trained"):
        task(tmp_path, stages={"base": made}, objective=TokenCritic())
    assert task(tmp_path, stages={"base": made}, fit={"steps": 1})(testing.RecordingObserver()).steps == 1


def test_a_cache_is_made_once_and_anew_for_other_data(tmp_path):
    class Inverted(testing.FakeTokenizer):
        def encode(self, images):
            return super().encode(1 - images)

    cache = tmp_path / "cache"

    def folders(tokenizer=None, count=100, settings=None):
        """How many folders of tokens there are once a run has ended, and how many records were read for it."""
        parts, data = {"base": stage()}, Colours(count=count)
        parts["base"].tokenizer = tokenizer or testing.FakeTokenizer()
        made = task(tmp_path / str(len(list(tmp_path.iterdir()))), data, parts, cache=str(cache), fit={"steps": 1})
        made(testing.RecordingObserver(), RunContext({"dataset": settings}))
        return len(list(cache.iterdir())), len(data.read)

    probes = 32
    assert folders() == (1, probes + 100)
    assert folders() == (1, probes)
    assert folders(settings={"use": "colours", "share": 0.2}) == (2, probes + 100), "its settings alone tell it"
    assert folders(tokenizer=Inverted()) == (3, probes + 100)
    assert folders(count=101) == (4, probes + 101)


def test_a_cache_is_what_prepare_tokens_makes(tmp_path):
    data = Colours()
    task(tmp_path / "run", data, cache=str(tmp_path / "cache"), fit={"steps": 1})(testing.RecordingObserver())
    PrepareTokens({"base": stage()}, testing.FakeTextEncoder(), data, str(tmp_path / "made"), device="cpu")(None)
    (cached,) = (tmp_path / "cache").iterdir()
    one, other = ({file.name: file.read_bytes() for file in each.iterdir()} for each in (cached, tmp_path / "made"))
    assert one == other and set(one) == {"index.json", "000000000.safetensors"}


def test_pictures_that_a_cache_leaves_out_are_told(tmp_path):
    class Torn(Colours):
        def candidates(self):
            return self.count

        def attempt(self, index):
            if index == 7:
                raise UnusablePicture("seven.png", "it is torn")
            return self[index]

    made = task(tmp_path / "run", Torn(), cache="memory://left-out", fit={"steps": 1})
    with pytest.warns(
        UserWarning, match=r"1 pictures left out, listed in memory://left-out/\w+:\n  seven.png: it is torn"
    ):
        made(testing.RecordingObserver())


@pytest.mark.parametrize("cache", [None, "ignored"])
def test_tokens_take_the_place_of_pictures(tmp_path, cache):
    """The same numbers as with a cache of the same pictures, and neither tokenizer nor text encoder is asked."""
    out = str(tmp_path / "tokens")
    PrepareTokens(cascade(), testing.FakeTextEncoder(), Quarters(16), out, shard=7, device="cpu")(None)
    settings = {"stage": "large", "corruption": 0.5}

    class Silent(testing.FakeTextEncoder):
        def __call__(self, prompts):
            raise AssertionError("the text encoder was asked")

    Silent.__qualname__ = testing.FakeTextEncoder.__qualname__
    made = task(tmp_path / "a", Tokens(out), cascade(), **settings, cache=cache and str(tmp_path / cache))
    made.text_encoder = Silent()
    told = made(testing.RecordingObserver())
    wanted = task(tmp_path / "b", Quarters(16), cascade(), **settings, cache=str(tmp_path / "cache"))
    assert rows(told) == rows(wanted(testing.RecordingObserver()))
    assert not (tmp_path / "ignored").exists()


class Quarters(Colours):
    """Pictures whose four quarters have each a colour, drawn by lot; the caption does not say which."""

    def __getitem__(self, index):
        four = torch.randint(4, (4,), generator=torch.Generator().manual_seed(index))
        colours = torch.tensor(list(COLOURS.values()), dtype=torch.uint8)[four].T.view(3, 2, 2)
        half = self.size // 2
        return {"image": colours.repeat_interleave(half, 1).repeat_interleave(half, 2), "caption": "a picture"}


@pytest.mark.parametrize("cached", [False, True])
def test_a_second_stage_is_trained_on_the_tokens_of_the_same_picture_made_smaller(tmp_path, cached):
    given = []

    class Noted(testing.FakeTransformer):
        def condition(self, text, low=None):
            given.append(low)
            return super().condition(text, low)

        def forward(self, tokens, conditioning):
            given.append(tokens)
            return super().forward(tokens, conditioning)

    data = Quarters(16)
    made = task(tmp_path, data, cascade(Noted()), stage="large", cache=str(tmp_path / "cache") if cached else None)
    made(testing.RecordingObserver())
    encode = testing.FakeTokenizer().encode
    every = torch.stack([data[index]["image"] for index in range(20)]).float() / 255
    small, large = encode(every[:, :, ::2, ::2]), encode(every)  # within a quarter all pixels are alike
    assert len(given) == 2 + 2 * 9
    for low, tokens in zip(given[2::2], given[3::2], strict=True):
        for one, shown in zip(low, tokens, strict=True):
            fits = (small == one).flatten(1).all(1) & ((large == shown) | (shown == -1)).flatten(1).all(1)
            assert fits.any(), "the low tokens are of no picture that fits the larger ones"


@pytest.mark.slow
def test_super_resolution_learns_to_look_at_the_low_tokens(tmp_path):
    parts = cascade(width=48)
    data = Quarters(16, count=256)
    fit = {"steps": 150, "batch": 32, "log_every": 50, "checkpoint_every": 150, "warmup": 10}
    history = task(tmp_path, data, parts, stage="large", fit=fit, optimizer=Muon(1e-2))(testing.RecordingObserver())
    large, tokenizer = parts["large"], testing.FakeTokenizer()
    unseen = torch.stack([data[1000 + index]["image"] for index in range(32)]).float() / 255
    low, wanted = tokenizer.encode(unseen[:, :, ::2, ::2]), tokenizer.encode(unseen)
    text = testing.FakeTextEncoder()(["a picture"] * 32)

    def loss(low):
        with torch.no_grad():
            logits = large.transformer(large.blank(32), large.transformer.condition(text, low))
        return torch.nn.functional.cross_entropy(logits.flatten(0, 2), wanted.flatten()).item()

    right, wrong, none = loss(low), loss(low.roll(1, 0)), loss(torch.full_like(low, -1))
    assert history.rows[-1]["loss"] < 0.3
    assert right < 0.2 and wrong > 1.3 * right and none > 1


@pytest.mark.slow  # the compiler takes half a minute to start
def test_compiled_steps_are_the_same_steps(tmp_path):
    plain = task(tmp_path / "plain", fit={"steps": 3})(testing.RecordingObserver())
    compiled = task(tmp_path / "compiled", fit={"steps": 3, "compile": True})(testing.RecordingObserver())
    for row, other in zip(rows(plain), rows(compiled), strict=True):
        assert row == pytest.approx(other, rel=1e-4)


@pytest.mark.slow
def test_a_machine_without_a_compiler_is_told_as_such(tmp_path, monkeypatch):
    torch.compiler.reset()  # what another test has had compiled would do
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    # Not by monkeypatch, which would leave the setting missing for the tests behind.
    without = torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")})
    with without, pytest.raises(RuntimeError) as caught:
        task(tmp_path / "run", fit={"steps": 1, "compile": True})(testing.RecordingObserver())
    assert "compiling finds no compiler that works" in refusal(caught.value)
