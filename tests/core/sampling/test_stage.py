"""A stage checks that its parts fit, computes each text's conditioning once, and asks the transformer in one batch."""

import pytest
import torch

from muse_studio.contracts import MASK, TextEmbedding
from muse_studio.sampling.stage import check_fit
from muse_studio.testing import (
    FakeSampler,
    FakeTextEncoder,
    FakeTransformer,
    embedding,
    tiny_stage,
)


class Halves(FakeTransformer):
    """Notes in what it computes."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.dtypes = set()

    def _note(self):
        weights = torch.eye(2)
        self.dtypes.add((weights @ weights).dtype)

    def condition(self, text, low=None):
        self._note()
        return super().condition(text, low)

    def forward(self, tokens, conditioning):
        self._note()
        return super().forward(tokens, conditioning).bfloat16()


class Watched(FakeTransformer):
    """Notes what it is asked."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.conditioned, self.batches = [], []

    def condition(self, text, low=None):
        self.conditioned.append((text, low))
        return super().condition(text, low)

    def forward(self, tokens, conditioning):
        self.batches.append(len(tokens))
        return super().forward(tokens, conditioning)


def stage(size=16, **parts):
    torch.manual_seed(0)
    return tiny_stage(size, **{"transformer": Watched(), "sampler": FakeSampler(steps=4)} | parts)


def sampled(stage, text, **given):
    *_, last = stage.sample(text, torch.Generator().manual_seed(5), **given)
    return last


@pytest.mark.parametrize(("size", "grid"), [(16, (4, 4)), ([8, 24], (2, 6))])
def test_the_size_decides_the_grid(size, grid):
    made = stage(size)
    assert made.grid == grid and (made.height, made.width) == (grid[0] * 4, grid[1] * 4)
    assert made.blank(3).shape == (3, *grid) and (made.blank(3) == MASK).all()
    assert sampled(made, embedding(3)).shape == (3, *grid)


def test_a_transformer_of_one_grid_takes_no_other():
    transformer = Watched()
    transformer.grid = (4, 4)
    assert stage(16, transformer=transformer).grid == (4, 4)
    with pytest.raises(ValueError, match="16x32 pixels is 4x8 tokens, the transformer's grid is 4x4; set size or grid"):
        stage([16, 32], transformer=transformer)


@pytest.mark.parametrize("size", [0, -16, [16], [16, 16, 16], [16, 0]])
def test_sizes_that_can_not_be(size):
    with pytest.raises(ValueError, match="give one number of pixels, or"):
        stage(size)


def test_a_size_that_the_tokenizer_refuses():
    with pytest.raises(ValueError, match="make each side a multiple of 4"):
        stage(18)


def test_codebooks_that_differ():
    with pytest.raises(ValueError, match="the tokenizer has 64 codes, the transformer has 32; set"):
        stage(transformer=FakeTransformer(codebook_size=32))


def test_each_text_is_conditioned_once_and_both_are_asked_in_one_batch():
    made, text = stage(), embedding(2)
    sampled(made, text)
    (prompted, _), (unprompted, _) = made.transformer.conditioned
    assert prompted is text and not unprompted.mask.any() and not unprompted.states.any()
    assert made.transformer.batches == [4] * 4


def test_a_guidance_that_asks_for_the_prompt_alone_pays_for_it_alone():
    made = stage(guidance=lambda ask, text, negative, progress: ask(text)[0])
    sampled(made, embedding(2))
    assert len(made.transformer.conditioned) == 1 and made.transformer.batches == [2] * 4


def test_guidance_gets_each_text_its_own_logits():
    made, text, negative = stage(), embedding(2), embedding(2, seed=1)
    seen = []

    def guidance(ask, text, negative, progress):
        seen.append(ask(text, negative))
        return seen[-1][0]

    made.guidance = guidance
    next(made.sample(text, torch.Generator(), negative=negative))
    with torch.no_grad():
        for logits, each in zip(seen[0], (text, negative), strict=True):
            expected = made.transformer(made.blank(2), made.transformer.condition(each))
            torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize(("negative", "rows"), [(None, 4), (embedding(2, seed=1), 6)])
def test_none_asks_for_no_prompt_which_is_computed_once_where_nothing_is_negative(negative, rows):
    made, text, seen = stage(), embedding(2), []

    def guidance(ask, text, negative, progress):
        seen.append(ask(text, negative, None))
        return seen[-1][0]

    made.guidance = guidance
    sampled(made, text, negative=negative)
    assert made.transformer.batches == [rows] * 4 and len(made.transformer.conditioned) == rows // 2
    with torch.no_grad():
        for logits, each in zip(seen[0], (text, negative or text.null(), text.null()), strict=True):
            expected = made.transformer(made.blank(2), made.transformer.condition(each))
            torch.testing.assert_close(logits, expected)


def test_a_negative_prompt_and_low_tokens_reach_the_transformer():
    made, text, negative = stage(), embedding(2), embedding(2, seed=1)
    low = torch.zeros(2, 2, 2, dtype=torch.int64)
    sampled(made, text, negative=negative, low=low)
    assert [(each is text, each is negative, tokens is low) for each, tokens in made.transformer.conditioned] == [
        (True, False, True),
        (False, True, True),
    ]
    assert not torch.equal(sampled(made, text), sampled(made, text, negative=negative))


def test_given_tokens_stay():
    made = stage()
    tokens = made.blank(2)
    tokens[:, :2] = 7
    last = sampled(made, embedding(2), tokens=tokens)
    assert (last[:, :2] == 7).all() and last.min() >= 0 and (tokens[:, 2:] == MASK).all()


@pytest.mark.parametrize("name", ["negative", "low", "tokens"])
def test_numbers_of_pictures_that_differ(name):
    made = stage()
    wrong = {"negative": embedding(1), "low": torch.zeros(1, 2, 2, dtype=torch.int64), "tokens": made.blank(1)}[name]
    with pytest.raises(ValueError, match=f"text is for 2 pictures, {name} for 1"):
        made.sample(embedding(2), torch.Generator(), **{name: wrong})


def test_logits_may_be_changed_in_place_by_who_asked_for_them():
    def ruling_out_code_0(predict, tokens, schedule, generator):
        logits = predict(tokens, 0.0)
        logits[..., 0] = -torch.inf
        yield logits.argmax(-1)

    text = embedding(2)
    assert sampled(stage(sampler=ruling_out_code_0), text).min() > 0


def test_no_gradient_is_kept():
    kept = []

    def sampler(predict, tokens, schedule, generator):
        kept.append(predict(tokens, 0.0))
        yield tokens

    sampled(stage(sampler=sampler), embedding(1))
    assert not kept[0].requires_grad


@pytest.mark.parametrize(
    ("precision", "fast", "dtype"),
    [
        ("float32", True, torch.float32),
        ("bfloat16", False, torch.bfloat16),
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
    ],
)
def test_the_precision_is_the_transformer_s_alone(monkeypatch, precision, fast, dtype):
    monkeypatch.setattr("muse_studio.runtime.device.has_fast_bfloat16", lambda device: fast)
    seen = []

    def sampler(predict, tokens, schedule, generator):
        seen.append(predict(tokens, 0.5).dtype)
        seen.append((torch.eye(2) @ torch.eye(2)).dtype)
        yield tokens

    made = stage(transformer=Halves(), sampler=sampler, precision=precision)
    sampled(made, embedding(1))
    assert made.transformer.dtypes == {dtype} and set(seen) == {torch.float32}


def test_it_works_on_the_texts_device():
    text = TextEmbedding(*(part.to("meta") for part in embedding(2)[:3]))
    made = stage(transformer=FakeTransformer().to("meta"), sampler=lambda predict, tokens, *_: iter([tokens]))
    assert sampled(made, text).device.type == "meta"


def test_a_picture_of_the_right_size_stays_bit_for_bit():
    picture = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    assert stage(16).resize(picture) is picture
    flat = torch.full((2, 5, 3, 40, 20), 77, dtype=torch.uint8)
    assert torch.equal(stage([8, 16]).resize(flat), torch.full((2, 5, 3, 8, 16), 77, dtype=torch.uint8))
    assert torch.equal(stage(16).resize(flat[0, 0]), torch.full((3, 16, 16), 77, dtype=torch.uint8))


def test_a_smaller_picture_is_the_mean_of_what_each_pixel_covers():
    fine = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    by_hand = fine.float().view(2, 3, 16, 2, 16, 3).mean((3, 5))
    assert (stage(16).resize(fine).float() - by_hand).abs().max() <= 0.5


def test_a_larger_picture_is_smooth():
    edge = torch.zeros(3, 16, 16, dtype=torch.uint8)
    edge[..., 8:] = 200
    assert len(stage(32).resize(edge)[0, 0].unique()) > 3


class Refines(Watched):
    low_grid, low_codebook_size = (4, 4), 64


class Base(Watched):
    low_grid = None


def test_stages_that_fit_each_other_pass():
    check_fit({"base": stage(16, transformer=Base()), "large": stage(32, transformer=Refines())}, FakeTextEncoder())
    check_fit({"any": stage(16), "other": stage(32)}, FakeTextEncoder())


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "stages is empty; name at least one"),
        ([(16, Refines)], "stages.0: its transformer refines a grid of 4x4 tokens, and no stage comes before it; put"),
        ([(16, Base), (32, Base)], "stages.1: its transformer is a base model, which can't refine .* put it first"),
        ([(24, Base), (32, Refines)], "stages.1: .* a grid of 4x4 tokens, the stage before it gives 6x6; set low_grid"),
    ],
)
def test_stages_that_do_not_fit_are_named(stages, message):
    made = {str(place): stage(size, transformer=kind()) for place, (size, kind) in enumerate(stages)}
    with pytest.raises(ValueError, match=message):
        check_fit(made, FakeTextEncoder())


def test_a_stage_that_refines_other_codes_is_named():
    other = Refines()
    other.low_codebook_size = 32
    with pytest.raises(ValueError, match=r"stages.large: .* 32 codes, .* has 64; set low_codebook_size to 64"):
        check_fit({"base": stage(16), "large": stage(32, transformer=other)}, FakeTextEncoder())


def test_a_text_encoder_of_another_width_is_named_with_the_stage():
    narrow = Watched(text_width=5)
    with pytest.raises(ValueError, match=r"stages\.base: its transformer wants text of width 5, the"):
        check_fit({"base": stage(16, transformer=narrow)}, FakeTextEncoder())


class Critic(FakeTransformer):
    outputs = 1


class Critical(FakeSampler):
    """A sampler with a critic that it never asks."""

    def __init__(self, critic):
        super().__init__(steps=2)
        self.critic = critic


def test_a_critic_in_the_place_of_the_transformer_is_refused():
    with pytest.raises(ValueError, match=r"the transformer is a critic, which scores .* give it to a sampler"):
        stage(transformer=Critic())


def test_a_stage_knows_its_sampler_s_critic():
    critic = Critic()
    made = stage(sampler=Critical(critic))
    assert made.critic is critic and made.models() == {"transformer": made.transformer, "critic": critic}
    assert stage().critic is None and list(stage().models()) == ["transformer"]


@pytest.mark.parametrize(
    ("settings", "attributes", "message"),
    [
        ({"codebook_size": 32}, {}, "the tokenizer has 64 codes, the critic has 32; set the critic's codebook_size"),
        ({}, {"grid": (2, 2)}, "16x16 pixels is 4x4 tokens, the critic's grid is 2x2; set size or grid so that"),
        ({"text_width": 5}, {}, "stages.base: its critic wants text of width 5, .* set the critic's text_width to 8"),
        ({}, {"low_grid": (4, 4)}, "stages.base: its critic refines a grid of 4x4 tokens, and no stage comes before"),
    ],
)
def test_a_critic_must_fit_the_stage(settings, attributes, message):
    critic = Critic(**settings)
    for name, value in attributes.items():
        setattr(critic, name, value)
    with pytest.raises(ValueError, match=message):
        check_fit({"base": stage(sampler=Critical(critic))}, FakeTextEncoder())


def test_a_base_model_s_critic_can_not_stand_behind_a_stage():
    critic = Critic()
    critic.low_grid = None
    with pytest.raises(ValueError, match=r"stages\.large: its critic is a base model, .* a super-resolution critic"):
        check_fit({"base": stage(), "large": stage(32, sampler=Critical(critic))}, FakeTextEncoder())
