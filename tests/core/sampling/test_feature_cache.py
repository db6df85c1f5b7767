"""Feature caches: exact where nothing is reused, near where little is, and told of what can't be cached."""

from __future__ import annotations

import pytest
import torch
from muse_amused.transformer import Amused
from muse_sampling.confidence import Confidence
from muse_sampling.guidance import CFG
from muse_sampling.remdm import ReMDM
from muse_sampling.schedules import Cosine
from muse_transformer.muse import MuseTransformer
from muse_transformer.options import Options
from muse_transformer.superres import SuperResolution

from muse_studio.contracts import MASK
from muse_studio.nn.packed import PackedLinear, can_pack
from muse_studio.sampling.feature_cache import Cache, Visit
from muse_studio.sampling.stage import Predictor, Stage
from muse_studio.testing import FakeTokenizer, FakeTransformer, embedding

CODES = 64
KINDS = ["muse", "muse, turned", "superres", "amused", "amused, halved"]


def transformer(kind):
    torch.manual_seed(0)
    if kind.startswith("muse"):
        turned = Options(rope=True, swiglu=True) if kind.endswith("turned") else None
        made = MuseTransformer(CODES, [4, 4], 8, 32, 3, 4, options=turned)
    elif kind == "superres":
        made = SuperResolution(CODES, [4, 4], CODES, [2, 2], 8, 32, 3, 1, 4, block=2)
    else:
        sizes = {
            "text_width": 8,
            "text_positions": 5,
            "pooled_width": 8,
            "token_width": 32,
            "channels": 32,
            "width": 32,
        }
        sizes |= {"conv_blocks": 1, "conv_heads": 4, "layers": 3, "heads": 4, "mlp": 48, "frequencies": 8}
        made = Amused(CODES, CODES + 4, [4, 4], **sizes, halved=kind.endswith("halved"))
    with torch.no_grad():
        for weight in made.parameters():  # what starts at zero would hide what it does
            weight.add_(0.1 * torch.randn_like(weight))
    return made.eval()


def stage(kind, sampler=None, guidance=None, **given):
    parts = (FakeTokenizer(), transformer(kind), Cosine(), sampler or Confidence(steps=8))
    return Stage(*parts, guidance or CFG(3.0), size=16, **given)


def low(kind, count=2):
    return torch.arange(4 * count).view(count, 2, 2) % CODES if kind == "superres" else None


def draw(stage, kind, text=None, **given):
    text = embedding(2) if text is None else text
    grids = stage.sample(text, torch.Generator().manual_seed(3), low=low(kind, len(text.mask)), **given)
    return torch.stack(list(grids))


def visited(kind, cache, **given):
    """The places that each evaluation computes, None where it computes all; and the tokens drawn."""
    made, seen = stage(kind, cache=cache, **given), []
    inner = made.transformer.revisit

    def revisit(tokens, conditioning, visit):
        choose, rows = visit.choose, []
        visit.choose = lambda change: rows.append(choose(change)) or rows[0]
        answer = inner(tokens, conditioning, visit)
        seen.append((tokens, rows[0] if rows else None))
        return answer

    made.transformer.revisit = revisit
    return seen, draw(made, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["context", "changed", "max-logit"])
def test_a_refresh_every_step_is_exact_to_the_bit(kind, by):
    made, plain = stage(kind, cache=Cache(by, every=1)), stage(kind)
    tokens = plain.blank(2)
    tokens[:, 1:3] = 5
    text, far = embedding(2), embedding(2, seed=4)
    asked = {"cached": Predictor(made, text, far, low(kind)), "plain": Predictor(plain, text, far, low(kind))}
    for places in (None, torch.tensor([[0, 3, 12], [1, 2, 15]])):
        one, other = (predict(tokens, 0.5, *([] if places is None else [places])) for predict in asked.values())
        assert torch.equal(one, other)
    assert torch.equal(draw(made, kind), draw(plain, kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("everywhere", [0, 1])
def test_with_all_places_chosen_it_is_what_a_plain_call_computes(kind, everywhere):
    model, text = transformer(kind), embedding(2)
    with torch.no_grad():
        conditioning = model.condition(text, low(kind))
        tokens, kept = torch.full((2, 4, 4), MASK), None
        for value in range(4):
            tokens = tokens.clone()
            tokens[:, value] = value
            visit = Visit(kept, lambda change: torch.arange(change[0].numel()).repeat(len(change), 1), everywhere)
            logits, kept = model.revisit(tokens, conditioning, visit)
            torch.testing.assert_close(logits, model(tokens, conditioning), atol=1e-5, rtol=1e-5)
        told = []
        visit.kept, visit.choose = kept, lambda change: told.append(change) or torch.zeros(2, 1, dtype=torch.int64)
        model.revisit(tokens, conditioning, visit)
    assert told[0].abs().max() < 1e-5, "what was just computed is told to have changed"


@pytest.mark.parametrize("kind", KINDS)
def test_places_that_are_not_chosen_keep_their_logits_and_are_looked_at_as_they_were(kind):
    model, text = transformer(kind), embedding(2)
    first, then = torch.full((2, 4, 4), MASK), torch.full((2, 4, 4), MASK)
    then[:, 0, 0] = 3
    side = 2 if kind.endswith("halved") else 4
    places = torch.tensor([[0, side * side - 1]] * 2)
    with torch.no_grad():
        conditioning = model.condition(text, low(kind))
        before, kept = model.revisit(first, conditioning, Visit(None, None))
        before, exact = before.clone(), model(then, conditioning)
        logits, _ = model.revisit(then, conditioning, Visit(kept, lambda change: places))
    near, stale = (logits - exact).abs(), (before - exact).abs()
    assert near[:, 0, 0].max() < 0.5 * stale[:, 0, 0].max(), "the place of the new token is hardly nearer than before"
    if not kind.startswith("amused"):  # whose convolutions up mix what lies side by side
        rest = torch.ones(4, 4, dtype=torch.bool)
        rest[0, 0] = rest[3, 3] = False
        assert torch.equal(logits[:, rest], before[:, rest])
        assert not torch.equal(logits[:, 3, 3], before[:, 3, 3]), "a chosen place did not learn of the new token"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["context", "changed", "max-logit"])
def test_steps_between_compute_new_tokens_first_and_no_more_than_their_share(kind, by):
    seen, drawn = visited(kind, Cache(by, every=3, share=0.5, guidance=False))
    assert [places is None for _, places in seen] == [True, False, False] * 2 + [True, False]
    assert (drawn[-1] != MASK).all()
    known = None
    for tokens, places in seen:
        assert len(tokens) == 4, "both halves are asked"
        if places is None:
            known = tokens.clone()
            continue
        side = 2 if kind.endswith("halved") else 4
        assert places.shape == (4, side * side // 2) and torch.equal(places[:2], places[2:])
        assert all(len(set(row)) == len(row) for row in places.tolist())
        chosen = torch.zeros(4, side, side, dtype=torch.bool).flatten(1).scatter(1, places, True).view(4, side, side)
        chosen = chosen.repeat_interleave(4 // side, 1).repeat_interleave(4 // side, 2)
        new = tokens != known
        if new.view(4, side, 4 // side, side, 4 // side).any(4).any(2).sum((1, 2)).max() <= side * side // 2:
            assert (chosen | ~new).all(), "a new token was not computed though there was room"
        known = torch.where(chosen, tokens, known)


def test_the_prompted_half_alone_is_asked_between_and_the_difference_stays():
    seen, _ = visited("muse", Cache(every=2, share=1.0))
    assert [len(tokens) for tokens, _ in seen] == [4, 2] * 4
    made = stage("muse", cache=Cache(every=2, share=1.0), guidance=CFG(3.0, "constant"))
    plain = stage("muse", guidance=CFG(3.0, "constant"))
    text, tokens = embedding(2), made.blank(2)
    predict, exact = Predictor(made, text, None, None), Predictor(plain, text, None, None)
    apart = exact(tokens, 1.0)
    torch.testing.assert_close(predict(tokens, 1.0), apart)
    prompted = {}
    for name, grid in (("before", tokens), ("after", tokens.clone().fill_(2))):
        prompted[name] = plain.logits(grid, plain.condition(text))
    # l + t (l - u), whose difference l - u is the full step's: the prompted logits' change is added once
    expected = apart + prompted["after"] - prompted["before"]
    torch.testing.assert_close(predict(tokens.clone().fill_(2), 1.0), expected, atol=1e-4, rtol=1e-4)


def test_so_many_evaluations_at_the_start_are_full_and_a_change_of_texts_is_one():
    seen, _ = visited("muse", Cache(every=4, full=3, guidance=False))
    assert [places is None for _, places in seen] == [True] * 3 + [False] * 3 + [True, False]
    seen, _ = visited("muse", Cache(every=8, guidance=False), guidance=CFG(3.0, "constant", begin=0.5))
    assert [(len(tokens), places is None) for tokens, places in seen] == [
        *[(2, True), (2, False), (2, False)],
        *[(4, True), (4, False), (4, False), (4, False), (4, False)],
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampler", [None, ReMDM(steps=6)], ids=["confidence", "remdm"])
def test_what_is_known_stays_and_rows_know_nothing_of_each_other(kind, sampler):
    made = stage(kind, cache=Cache("changed", every=3), sampler=sampler)
    text, tokens = embedding(3), made.blank(3)
    tokens[:, :2] = torch.arange(8).view(2, 4)
    drawn = draw(made, kind, text, tokens=tokens)
    assert torch.equal(drawn[-1][:, :2], tokens[:, :2]) and (drawn[-1] != MASK).all()
    predict = [Predictor(made, each, None, low(kind, 3)) for each in (text, embedding(3))]
    changed = tokens.clone()
    changed[1, 3] = 1
    for _ in range(2):
        one, other = predict[0](tokens, 0.5), predict[1](changed, 0.5)
        torch.testing.assert_close(one[[0, 2]], other[[0, 2]], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_that_is_asked_for_later_alone_has_its_logits(kind):
    first, later = torch.tensor([[0, 1]] * 2), torch.tensor([[9, 14]] * 2)
    made = stage(kind, cache=Cache("context", every=2, share=0.01))
    predict, exact = (Predictor(made, embedding(2), None, low(kind)) for _ in range(2))
    tokens = made.blank(2)
    predict(tokens, 0.5, first)
    torch.testing.assert_close(predict(tokens, 0.5, later), exact(tokens, 0.5, later), atol=1e-4, rtol=1e-4)


def test_half_precision_is_cached_too():
    made, plain = stage("muse", cache=Cache(every=1), precision="bfloat16"), stage("muse", precision="bfloat16")
    assert torch.equal(draw(made, "muse"), draw(plain, "muse"))
    assert (draw(stage("amused", cache=Cache(every=3), precision="bfloat16"), "amused")[-1] != MASK).all()


@pytest.mark.skipif(not can_pack(torch.device("cpu")), reason="this CPU is not fast at bfloat16")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cache", [Cache(every=2), None])
def test_what_is_cached_is_packed_when_it_settles_and_computes_the_same(kind, cache):
    made = stage(kind, cache=cache, precision="bfloat16")
    conditioned = made.condition(embedding(2), low(kind))
    before = made.logits(made.blank(2), conditioned)
    made.settle(torch.device("cpu"))
    assert any(isinstance(module, PackedLinear) for module in made.transformer.modules()) == (cache is not None)
    after = made.logits(made.blank(2), conditioned)
    slack = 0.05 if cache else 0
    torch.testing.assert_close(after, before, rtol=slack, atol=slack)
    assert (draw(made, kind)[-1] != MASK).all()


def test_a_transformer_without_the_method_is_refused():
    parts = (FakeTokenizer(), FakeTransformer(), Cosine(), Confidence(steps=2), CFG())
    with pytest.raises(ValueError, match="cache: the transformer FakeTransformer can't be computed at some places"):
        Stage(*parts, size=16, cache=Cache())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"by": "luck"}, "by is 'luck'; give one of 'context', 'changed', 'max-logit'"),
        ({"every": 0}, "every is 0; give 1 or more"),
        ({"share": 0.0}, "share is 0.0; give more than 0"),
        ({"share": 1.5}, "share is 1.5"),
        ({"layers": -1}, "layers is -1; give 0 or more"),
        ({"full": -1}, "full is -1; give 0 or more"),
    ],
)
def test_settings_that_can_not_be(given, message):
    with pytest.raises(ValueError, match=message):
        Cache(**given)
