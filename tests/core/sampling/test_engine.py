"""Sampling saves time and changes no number: each saving against the plain way of computing the same."""

import pytest
import torch
from muse_amused.sampler import Amused
from muse_halton.sampler import Halton
from muse_sampling.confidence import Confidence
from muse_sampling.guidance import CFG, NoGuidance
from muse_sampling.gumbel import Gumbel
from muse_sampling.predictor_corrector import PredictorCorrector
from muse_sampling.remdm import ReMDM
from muse_sampling.schedules import Cosine
from muse_sampling.shuffled import Random
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from muse_studio.contracts import MASK
from muse_studio.nn.casting import MULTIPLIERS, in_float32
from muse_studio.sampling.cascade import decode
from muse_studio.sampling.filling import ask, widths
from muse_studio.sampling.noise import Rows, uniform
from muse_studio.sampling.stage import Predictor

SAMPLERS = {
    "confidence": Confidence(5),
    "gumbel": Gumbel(5),
    "amused": Amused(5),
    "halton": Halton(5, roll=True),
    "random": Random(5),
    "remdm": ReMDM(5, strategy="cap", eta=0.5),
    "remdm-conf": ReMDM(5, strategy="conf", eta=1.0),
    "predictor-corrector": PredictorCorrector(5, eta=2.0),
}
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


class Everywhere(CFG):
    """Guidance that must see the whole grid, so that nothing is saved."""

    placewise = False


class Plain(torch.nn.Module):
    """A transformer that has no ability but its contract's."""

    def __init__(self, model):
        super().__init__()
        self.model, self.codebook_size, self.text_width = model, model.codebook_size, model.text_width

    def condition(self, text, low=None):
        return self.model.condition(text, low)

    def forward(self, tokens, conditioning):
        return self.model(tokens, conditioning)


@torch.no_grad()
def test_logits_of_some_places_are_those_of_all(case):
    conditioning = case.model.condition(case.text, case.low)
    places = torch.tensor([[0, 5, 15], [9, 2, 3], [14, 0, 1]])
    every = case.model(case.tokens, conditioning).flatten(1, 2)
    some = case.model(case.tokens, conditioning, places)
    assert some.shape == (3, 3, 64)
    for row in range(3):
        torch.testing.assert_close(some[row], every[row, places[row]], atol=1e-5, rtol=1e-5)
    assert every.std() > 0.01


@torch.no_grad()
def test_a_text_without_positions_is_no_prompt(case):
    expected = case.model(case.tokens, case.model.condition(case.text.null(), case.low))
    got = case.model(case.tokens, case.model.condition(case.text.null(positions=0), case.low))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("negative", [False, True])
@every_sampler
def test_what_is_saved_changes_no_token(case, sampler, negative):
    given = {"negative": case.text.null()._replace(mask=case.text.mask.flip(0))} if negative else {}
    plain = case.stage(sampler=sampler, guidance=Everywhere(3.0, "constant", negative_weight=0.5))
    plain.transformer = Plain(case.model)
    quick = case.stage(sampler=sampler, guidance=CFG(3.0, "constant", negative_weight=0.5))
    tokens = case.tokens.clone()
    tokens[1] = MASK  # rows of which different numbers are masked
    sampled = (case.sample(stage, tokens=tokens, **given) for stage in (plain, quick))
    for one, other in zip(*sampled, strict=True):
        assert torch.equal(one, other)


def test_rows_that_are_known_take_part(case):
    stage, tokens = case.stage(), case.tokens.clone()
    tokens[0] = 7
    *_, last = case.sample(stage, tokens=tokens)
    assert (last[0] == 7).all() and (last >= 0).all()
    *_, last = case.sample(stage, tokens=torch.full_like(tokens, 7))
    assert (last == 7).all()


def flops(case, stage, **given):
    with FlopCounterMode(display=False) as counter:
        case.sample(stage, **given)
    return counter.get_total_flops()


def test_logits_are_computed_where_tokens_are_masked(case):
    stage = case.stage()
    tokens = torch.full_like(case.tokens, MASK)
    before = [int((grid == MASK).sum((1, 2)).max()) for grid in [tokens, *case.sample(stage)[:-1]]]
    head = case.model.head[-1].weight.numel()
    saved = flops(case, case.stage(guidance=Everywhere(3.0, "constant"))) - flops(case, stage)
    assert saved >= 2 * head * 2 * case.batch * sum(16 - count for count in before) > 0


def test_the_unprompted_half_looks_at_no_text(muse):
    case, width, layers, places = muse, 32, 2, 16
    null = case.model.condition(case.text.null(positions=0))
    prompted = case.model.condition(case.text)
    joined = case.model.join([prompted, null])
    grids = case.tokens.repeat(2, 1, 1)
    with torch.no_grad(), FlopCounterMode(display=False) as short:
        case.model(grids, joined)
    with torch.no_grad(), FlopCounterMode(display=False) as padded:
        padding = case.model.condition(case.text.null())
        case.model(grids, tuple(torch.cat(pair) for pair in zip(prompted, padding, strict=True)))
    assert padded.get_total_flops() - short.get_total_flops() >= layers * 2 * (2 * 2 * places * width**2)


@pytest.mark.parametrize("guidance", [NoGuidance(), CFG(0.0), CFG(3.0, begin=0.99)], ids=["none", "zero", "late"])
def test_a_step_without_guidance_pays_for_one_half(case, guidance):
    both, one = case.stage(sampler=Random(5)), case.stage(sampler=Random(5), guidance=guidance)
    assert flops(case, one) < 0.8 * flops(case, both)


class Waits(TorchDispatchMode):
    """Refuses whatever would wait for a device: reading a number, or shapes that depend on data."""

    refused = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique", "equal")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.overloadpacket.__name__ not in self.refused, f"{function} waits for the device"
        return function(*args, **(kwargs or {}))


@every_sampler
def test_nothing_in_the_loop_waits_for_the_device(case, sampler):
    steps = iter(case.stage(sampler=sampler).sample(case.text, torch.Generator(), low=case.low))
    next(steps)
    with Waits():
        rest = list(steps)
    assert len(rest) == 4
    with pytest.raises(AssertionError, match="waits for the device"), Waits():
        rest[0].sum().item()


@every_sampler
def test_each_row_draws_what_it_draws_alone(case, sampler):
    stage = case.stage(sampler=sampler)
    together = case.sample(stage, Rows.seeded([4, 5, 6]))
    for row in range(3):
        alone = case.sample(stage, torch.Generator().manual_seed(4 + row), slice(row, row + 1))
        for step, grid in enumerate(alone):
            assert torch.equal(together[step][row], grid[0])
    assert not torch.equal(together[0][0], together[0][1])


def test_rows_of_noise():
    got = uniform(Rows.seeded([1, 2]), 2, 2, 3, rows=1, to=torch.device("cpu"))
    for row, seed in enumerate((1, 2)):
        generator = torch.Generator().manual_seed(seed)
        assert torch.equal(got[:, row], torch.rand(2, 3, generator=generator))


@torch.no_grad()
def test_settled_weights_give_the_same_bits(case):
    stage = case.stage(precision="bfloat16")
    before = case.sample(stage)
    logits = stage.logits(case.tokens, stage.condition(case.text, case.low))
    stage.settle(torch.device("cpu"))
    exact = in_float32(case.model)
    kinds = {
        (module in exact, module.weight.dtype) for module in case.model.modules() if isinstance(module, MULTIPLIERS)
    }
    assert kinds == {(False, torch.bfloat16), (True, torch.float32)}
    assert torch.equal(stage.logits(case.tokens, stage.condition(case.text, case.low)), logits)
    assert all(torch.equal(one, other) for one, other in zip(before, case.sample(stage), strict=True))


def test_float32_stays_as_it_is(case):
    case.stage().settle(torch.device("cpu"))
    assert {weight.dtype for weight in case.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "settings", [{"backend": "eager"}, pytest.param({}, marks=pytest.mark.slow)], ids=["traced", "compiled"]
)
def test_compiled_it_draws_the_same(case, monkeypatch, settings):
    monkeypatch.setattr("muse_studio.sampling.stage.compile_settings", lambda device: settings)
    torch._dynamo.reset()
    plain, whole = case.sample(case.stage()), case.sample(case.stage(compile=True))
    assert all(torch.equal(one, other) for one, other in zip(plain, whole, strict=True))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1


def test_each_text_is_conditioned_once(case, monkeypatch):
    asked, condition = [], case.model.condition
    monkeypatch.setattr(case.model, "condition", lambda *given: asked.append(given) or condition(*given))
    case.sample(case.stage())
    assert len(asked) == 2


def test_widths_are_the_most_that_a_row_has_masked(case):
    predict = Predictor(case.stage(), case.text, None, case.low)
    tokens = torch.full((3, 4, 4), 1)
    tokens[0, 0] = tokens[1, :2] = MASK
    counts = Confidence(3).counts(Cosine(), tokens)
    assert widths(predict, tokens, counts) == [8, *counts.amax(1).tolist()[:-1]]
    assert widths(lambda tokens, progress: None, tokens, counts) == [16] * 3
    logits, places = ask(predict, tokens, 1.0, 5)
    assert logits.shape == (3, 5, 64)
    assert places[:, :4].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert places[0, 4] == 4


def test_a_stage_decodes_large_grids_in_tiles(muse):
    stage, sizes = muse.stage(tile=8), []
    table = stage.tokenizer.decode
    stage.tokenizer.decode = lambda tokens: sizes.append(tuple(tokens.shape[1:])) or table(tokens)
    tokens = torch.randint(64, (2, 8, 19))
    torch.testing.assert_close(decode(stage, tokens), table(tokens).clamp(0, 1))
    assert sizes == [(8, 8)] * 3
    with pytest.raises(ValueError, match="tile is 7; give 8 tokens or more, or null"):
        muse.stage(tile=7)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_decoder_computes_in_the_stage_s_precision(muse, precision, dtype):
    stage, seen = muse.stage(precision=precision), []
    table = stage.tokenizer.decode
    stage.tokenizer.decode = lambda tokens: seen.append((torch.eye(2) @ torch.eye(2)).dtype) or table(tokens)
    assert decode(stage, torch.zeros(1, 4, 4, dtype=torch.int64)).dtype == torch.float32
    assert seen == [dtype]


@pytest.mark.parametrize(("pixels", "parts"), [(2 * 16 * 16, [2, 2, 1]), (10 * 16 * 16, [5]), (1, [1] * 5)])
def test_a_cpu_decodes_a_few_pictures_at_a_time(muse, monkeypatch, pixels, parts):
    monkeypatch.setattr("muse_studio.sampling.stage.PIXELS", pixels)
    stage, counts = muse.stage(), []
    table = stage.tokenizer.decode
    stage.tokenizer.decode = lambda tokens: counts.append(len(tokens)) or table(tokens)
    tokens = torch.randint(64, (5, 4, 4))
    assert torch.equal(decode(stage, tokens), table(tokens).clamp(0, 1))
    assert counts == parts
    counts.clear()
    decode(stage, torch.randint(64, (5, 8, 4)))  # of pictures twice as large, half as many
    assert counts[0] == max(1, min(5, pixels // (2 * 16 * 16)))
