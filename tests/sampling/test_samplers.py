"""What holds for every sampler: known tokens stay, nothing waits for the device, and greedy limits meet."""

import pytest
import torch
from asked import Model
from hypothesis import given, settings
from hypothesis import strategies as st
from muse_amused.sampler import Amused
from muse_halton.sampler import Halton
from muse_sampling.confidence import Confidence
from muse_sampling.gumbel import Gumbel
from muse_sampling.predictor_corrector import PredictorCorrector
from muse_sampling.remdm import ReMDM
from muse_sampling.schedules import Cosine, Linear
from muse_sampling.shuffled import Random

from muse_studio.contracts import MASK, Sampler
from muse_studio.errors import RecipeError
from muse_studio.recipe.build import build
from muse_studio.recipe.merging import load
from muse_studio.registry.plugins import Registry
from muse_studio.sampling.noise import Rows
from muse_studio.sampling.settings import masked_counts
from muse_studio.stage import Stage
from muse_studio.testing import FakeGuidance, FakeTextEncoder, FakeTokenizer, FakeTransformer

KINDS = {
    "confidence": [Confidence, {}, {"temperature": [1.0, 9.0]}, {"top_p": 0.5}],
    "gumbel": [Gumbel, {}, {"sampling_temperature": [1.0, 0.5]}, {"top_k": 3}],
    "random": [Random, {}, {"sampling_temperature": 0.0}],
    "halton": [Halton, {}, {"roll": True}],
    "remdm": [
        ReMDM,
        {"eta": 0.0},
        {"strategy": "cap", "eta": 0.5},
        {"strategy": "rescale", "eta": 0.9},
        {"strategy": "conf", "eta": 1.0},
        {"strategy": "loop", "eta": 0.7, "loop_known": 0.5},
    ],
    "amused": [Amused, {}, {"temperature": [3.0, 0.5]}],
    "predictor-corrector": [PredictorCorrector, {}, {"eta": 0.0}, {"eta": 3.0, "temperature": 4.5}],
}
VARIANTS = [(kind, given) for kind, *variants in KINDS.values() for given in variants]
every_variant = pytest.mark.parametrize(("kind", "given_"), VARIANTS, ids=str)
every_kind = pytest.mark.parametrize("kind", [kind for kind, *_ in KINDS.values()])


def fixed(logits):
    """A model that says the same of every grid."""
    return lambda tokens, progress: logits.expand(*tokens.shape, -1)


def partly(seed, pictures, height, width, codes=7):
    """A grid int64[pictures, height, width] in which each picture has its own share of known tokens."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, codes, (pictures, height, width), generator=generator)
    known = torch.rand(tokens.shape, generator=generator) < torch.rand(pictures, 1, 1, generator=generator)
    return tokens.masked_fill(~known, MASK)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_sampler_is_here():
    offered = {part.name for part in Registry().parts("sampler")}
    by_entropy = {"entropy-bounded"}  # which asks no schedule: test_entropy_bounded.py
    assert {name for name in offered if made(name) is not None} == set(KINDS) | by_entropy


def made(name):
    """The sampler of that name with default settings, None where it has none for all it takes."""
    part = Registry().find("sampler", name)
    return None if any(setting.required for setting in part.settings.values()) else part.load()()


@pytest.mark.parametrize("name", [part.name for part in Registry().parts("sampler")])
def test_a_stage_that_fills_a_region_keeps_the_rest_at_every_step(name):
    sampler = made(name)
    if sampler is None:
        required = [key for key, each in Registry().find("sampler", name).settings.items() if each.required]
        pytest.skip(f"sampler {name} needs {', '.join(required)}")
    torch.manual_seed(0)
    stage = Stage(FakeTokenizer(), FakeTransformer(), Cosine(), sampler, FakeGuidance(), size=[24, 32])
    whole = torch.randint(0, 64, (2, *stage.grid), generator=seeded(1))
    region = torch.zeros_like(whole, dtype=torch.bool)
    region[0, 1:4, 2:7], region[1, :2] = True, True
    tokens = whole.masked_fill(region, MASK)
    text = FakeTextEncoder()(["a hat", "a cat"])
    grids = list(stage.sample(text, seeded(3), tokens=tokens))
    assert len(grids) == sampler.steps
    assert all(torch.equal(grid[~region], whole[~region]) for grid in grids)
    assert grids[-1].min() >= 0 and not torch.equal(grids[-1], whole)


shapes = st.tuples(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(1, 9))


@every_variant
@given(shapes)
@settings(max_examples=25)
def test_known_tokens_stay_and_each_yield_has_the_scheduled_masks(kind, given_, shape):
    seed, pictures, height, width, steps = shape
    tokens = partly(seed, pictures, height, width)
    before, known = tokens.clone(), tokens != MASK
    sampler = kind(steps=steps, **given_)
    grids = list(sampler(Model(seed, height * width, 7), tokens, Cosine(), seeded(seed)))
    assert torch.equal(tokens, before) and len(grids) == steps
    at_first = (~known).flatten(1).sum(1)
    counts = masked_counts(Cosine(), steps, height * width)[:, at_first]
    for grid, count in zip(grids, counts, strict=True):
        assert torch.equal(grid[known], before[known])
        assert grid.min() >= MASK and grid.max() < 7
        if given_.get("strategy") != "loop" and kind is not Amused:  # whose counts are tested on their own
            assert torch.equal((grid == MASK).flatten(1).sum(1), count)
    assert grids[-1].min() >= 0


class Counted(Model):
    """Counts how often it is asked, and gives the logits of some places alone, as a stage's predictor does."""

    placewise = True
    asked = 0

    def __call__(self, tokens, progress, places=None):
        self.asked += 1
        logits = super().__call__(tokens, progress)
        return logits if places is None else logits.flatten(1, 2).gather(1, places[..., None].expand(-1, -1, 7))


@every_variant
@pytest.mark.parametrize("open_", [0, 1, 2, 4, 19])
def test_an_edit_asks_no_more_often_than_it_has_places(kind, given_, open_):
    if kind is Amused:
        given_ = {**given_, "early": True}  # else it is the scheduler's, which keeps one to the end
    tokens = torch.randint(0, 7, (1, 4, 5), generator=seeded(1))
    tokens.view(-1)[torch.randperm(20, generator=seeded(2))[:open_]] = MASK
    model = Counted(3, 20, 7)
    grids = list(kind(steps=16, **given_)(model, tokens, Cosine(), seeded(4)))
    assert len(grids) == 16 and grids[-1].min() >= 0
    if given_.get("strategy", "cap") == "cap" and not given_.get("eta"):
        assert model.asked <= min(open_, 16)
    late = Counted(3, 20, 7)
    list(kind(steps=16, **given_ | {"early": False})(late, tokens, Cosine(), seeded(4)))
    assert late.asked == (16 if open_ else 0)


@every_variant
def test_a_whole_picture_keeps_a_place_to_the_last_step(kind, given_):
    tokens = torch.full((1, 1, 3), MASK)
    for early, asked in ((None, 8), (False, 8), (True, 3)):
        model = Counted(3, 3, 7)
        *_, last = kind(steps=8, **given_ | {"early": early})(model, tokens, Cosine(), seeded(4))
        assert last.min() >= 0 and (model.asked == asked or (early and given_.get("eta")))


@every_variant
def test_an_edit_that_ends_early_draws_the_same_beside_a_larger_one(kind, given_):
    """One picture's steps are spared and another's are not; neither's tokens, nor what is drawn after, may differ."""
    tokens = torch.randint(0, 7, (2, 4, 5), generator=seeded(1))
    tokens[0, 0, 0] = MASK
    tokens[1, 1:] = MASK
    both = Rows.seeded([4, 5])
    *_, last = kind(steps=8, **given_)(Counted(3, 20, 7), tokens, Cosine(), both)
    for row in (0, 1):
        alone = Rows.seeded([4 + row])
        *_, own = kind(steps=8, **given_)(Counted(3, 20, 7), tokens[row : row + 1], Cosine(), alone)
        assert torch.equal(own[0], last[row])


@every_variant
def test_nothing_waits_for_the_device(kind, given_):
    """A tensor on "meta" has no values: reading one on the host raises."""
    tokens = torch.full((2, 4, 5), MASK, device="meta")

    def predict(tokens, progress):
        return torch.empty(*tokens.shape, 9, device="meta")

    got = list(kind(steps=4, **given_)(predict, tokens, Cosine(), torch.Generator()))
    assert [(grid.shape, grid.dtype, grid.device.type) for grid in got] == [((2, 4, 5), torch.int64, "meta")] * 4


@every_kind
def test_no_setting_and_no_token_shifts_later_random_numbers(kind):
    variants = next(variants for each, *variants in KINDS.values() if each is kind)
    states = []
    for given_ in variants:
        for tokens in (torch.full((2, 3, 4), MASK), torch.zeros(2, 3, 4, dtype=torch.int64), partly(3, 2, 3, 4)):
            generator = seeded(4)
            assert len(list(kind(steps=5, **given_)(Model(0, 12, 7), tokens, Cosine(), generator))) == 5
            states.append(generator.get_state())
    assert len(states) > 3 and all(torch.equal(state, states[0]) for state in states)


@every_kind
def test_the_seed_decides_and_the_global_generator_does_not(kind):
    def decode(seed):
        *_, last = kind(steps=5)(Model(1, 16, 9), torch.full((2, 4, 4), MASK), Cosine(), seeded(seed))
        return last

    torch.manual_seed(0)
    first = decode(5)
    torch.manual_seed(1)
    assert torch.equal(decode(5), first) and not torch.equal(decode(6), first)


@every_variant
def test_one_greedy_step_takes_the_likeliest_code_everywhere(kind, given_):
    tokens = partly(2, 3, 4, 5)
    model = Model(5, 20, 7)
    (only,) = kind(**{**given_, "steps": 1, "sampling_temperature": 0.0})(model, tokens, Cosine(), seeded())
    assert torch.equal(only, torch.where(tokens == MASK, model(tokens, 1.0).argmax(-1), tokens))


@every_variant
def test_greedy_codes_of_a_model_that_sees_no_tokens_are_the_likeliest_in_any_order(kind, given_):
    logits = torch.randn(4, 5, 7, generator=seeded(8))
    *_, last = kind(**{**given_, "steps": 6, "sampling_temperature": 0.0})(
        fixed(logits), torch.full((2, 4, 5), MASK), Cosine(), seeded()
    )
    assert torch.equal(last, logits.argmax(-1).expand(2, 4, 5))


def test_in_one_step_the_order_is_nothing():
    """Those that draw the same random numbers give the very same grid; the model's own temperature holds for all."""
    tokens, model = partly(2, 3, 4, 5), Model(5, 20, 7)
    kinds = [Confidence, Random, PredictorCorrector, Gumbel, ReMDM]
    grids = [next(kind(steps=1, sampling_temperature=1.0)(model, tokens, Cosine(), seeded(2))) for kind in kinds]
    assert all(torch.equal(grid, grids[0]) for grid in grids)


@pytest.mark.parametrize("seed", range(20))
def test_greedy_confidence_gumbel_and_predictor_corrector_without_eta_are_one(seed):
    """Gumbel's raw logits are log-probabilities where the model's are normal; elsewhere its order is another."""
    model, tokens = Model(seed, 30, 7, normal=True), partly(seed, 3, 5, 6)
    greedy = {"steps": 8, "temperature": 0.0, "sampling_temperature": 0.0}
    runs = [
        list(sampler(model, tokens, Linear(), seeded()))
        for sampler in (Confidence(**greedy), Gumbel(**greedy), PredictorCorrector(**greedy, eta=0.0))
    ]
    for run in runs[1:]:
        assert all(map(torch.equal, run, runs[0]))


def test_gumbels_order_is_another_where_logits_are_not_normal():
    logits = torch.tensor([[9.0, 9.0], [1.0, -9.0]]).view(
        1, 1, 2, 2
    )  # the second place is sure, the first has the logit
    greedy = {"steps": 2, "temperature": 0.0, "sampling_temperature": 0.0}
    tokens = torch.full((1, 1, 2), MASK)
    first = [next(kind(**greedy)(fixed(logits), tokens, Linear(), seeded())) for kind in (Confidence, Gumbel)]
    assert [grid.flatten().tolist() for grid in first] == [[-1, 0], [0, -1]]


@pytest.mark.parametrize("seed", range(20))
def test_predictor_corrector_without_eta_is_confidence_at_any_temperature(seed):
    model, tokens = Model(seed, 30, 7), partly(seed, 3, 5, 6)
    both = {"steps": 8, "temperature": 4.5, "sampling_temperature": 0.8, "top_k": 4}
    runs = [
        list(sampler(model, tokens, Cosine(), seeded(seed)))
        for sampler in (Confidence(**both), PredictorCorrector(**both, eta=0.0))
    ]
    assert all(map(torch.equal, *runs))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("strategy", ["cap", "rescale", "conf"])
def test_remdm_without_eta_is_random(seed, strategy):
    model, tokens = Model(seed, 30, 7), partly(seed, 3, 5, 6)
    runs = [
        list(sampler(model, tokens, Cosine(), seeded(seed)))
        for sampler in (Random(8, top_k=4), ReMDM(8, top_k=4, strategy=strategy, eta=0.0))
    ]
    assert all(map(torch.equal, *runs))


def test_a_pair_of_temperatures_goes_from_the_one_to_the_other():
    sampler = Confidence(temperature=[4.0, 2.0], sampling_temperature=[1.0, 0.0])
    steps = [0.25, 0.5, 0.75, 1.0]
    assert [sampler.order_temperature(r) for r in steps] == [3.5, 3.0, 2.5, 2.0]
    assert [sampler.code_temperature(r) for r in steps] == [0.75, 0.5, 0.25, 0.0]
    single = Confidence(temperature=4.0, sampling_temperature=0.7)
    assert [single.order_temperature(r) for r in steps] == [3.0, 2.0, 1.0, 0.0]
    assert [single.code_temperature(r) for r in steps] == [0.7] * 4
    assert [Gumbel(temperature=4.0).code_temperature(r) for r in steps] == [3.0, 2.0, 1.0, 0.0]
    assert [Gumbel(sampling_temperature=[1.0, 0.0]).code_temperature(r) for r in steps] == [0.75, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("seed", range(10))
def test_a_number_is_a_pair_that_falls_to_0(seed):
    model, tokens = Model(seed, 30, 7), partly(seed, 3, 5, 6)
    runs = [
        list(Confidence(steps=7, temperature=each)(model, tokens, Cosine(), seeded(seed))) for each in (4.5, [4.5, 0.0])
    ]
    assert all(map(torch.equal, *runs))


@every_kind
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0; give 1 or more"),
        ({"sampling_temperature": -0.1}, "sampling_temperature is -0.1; give 0 or more, or [from, to] of such numbers"),
        ({"sampling_temperature": [1.0]}, "sampling_temperature is [1.0]; give 0 or more, or [from, to]"),
        ({"sampling_temperature": [1.0, float("inf")]}, "sampling_temperature is [1.0, inf]"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
    ids=str,
)
def test_settings_that_can_not_be(kind, wrong, message):
    with pytest.raises(ValueError) as error:
        kind(**wrong)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (Gumbel, {"temperature": [1.0, 2.0, 3.0]}, "temperature is [1.0, 2.0, 3.0]; give 0 or more, or [from, to]"),
        (Confidence, {"temperature": [-1.0, 0.0]}, "temperature is [-1.0, 0.0]"),
        (PredictorCorrector, {"eta": -1.0}, "eta is -1.0; give 0 (no token is taken back) or more"),
        (PredictorCorrector, {"eta": float("inf")}, "eta is inf"),
        (ReMDM, {"eta": 1.5}, "eta is 1.5; give 0 (no token is taken back) to 1"),
        (ReMDM, {"strategy": "switch"}, "strategy is 'switch'; give 'cap', 'rescale', 'conf' or 'loop'"),
        (ReMDM, {"loop_share": 1.0}, "loop_share is 1.0; give a share above 0 and below 1"),
        (ReMDM, {"loop_known": 0.0}, "loop_known is 0.0"),
    ],
    ids=str,
)
def test_settings_of_their_own_that_can_not_be(kind, wrong, message):
    with pytest.raises(ValueError) as error:
        kind(**wrong)
    assert str(error.value).startswith(message)


def test_a_recipe_gives_a_temperature_as_a_number_or_as_a_pair():
    registry = Registry()

    def built(**given_):
        return build(load({"use": "confidence", **given_}), registry, expect=Sampler)

    assert built(temperature=3).temperature == 3.0
    assert built(temperature=[3, 0.5], sampling_temperature=[1, 0]).temperature == [3.0, 0.5]
    with pytest.raises(RecipeError, match=r"temperature\[1\] — expected float, got text 'x'"):
        built(temperature=[3, "x"])
    with pytest.raises(RecipeError, match=r"temperature — temperature is \[3.0\]; give 0 or more, or \[from, to\]"):
        built(temperature=[3])
    with pytest.raises(RecipeError, match=r"expected float \| list\[float\], got nothing \(null\)"):
        built(sampling_temperature=None)
