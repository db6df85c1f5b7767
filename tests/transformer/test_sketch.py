"""A sketch: by hand from its tables, added to the logits where it belongs, forgotten in training alone."""

from __future__ import annotations

import math

import pytest
import torch
from muse_transformer.critic import Critic
from muse_transformer.muse import MuseTransformer
from muse_transformer.options import Options, Sketching, fold_cells
from muse_transformer.sketch import FIRM, LOOSE, UNKNOWN, Sketch, pool
from muse_transformer.superres import SuperResolution

from muse_studio.contracts import MASK
from muse_studio.testing import embedding

K, GRID, SIZES = 11, [4, 6], Sketching(things=3, manners=2, rank=5, code_width=4)


def filled(sketch: Sketch, seed: int = 0) -> Sketch:
    """Tables as if solved: random, thing 2 never seen in manner 1."""
    generator = torch.Generator().manual_seed(seed)
    for table in sketch.buffers():
        table.copy_(torch.randn(table.shape, generator=generator))
    sketch.known.zero_()
    sketch.known[2, 1] = UNKNOWN
    return sketch


def muse(**options):
    torch.manual_seed(0)
    options = Options(**{"sketch": SIZES, "fold": 2} | options)
    model = MuseTransformer(K, GRID, text_width=8, width=32, layers=2, heads=4, mlp=40, options=options)
    if model.sketch is not None:
        filled(model.sketch)
    return model.eval()


def grids(batch=2):
    tokens = torch.randint(0, K, (batch, *GRID), generator=torch.Generator().manual_seed(0))
    return tokens.masked_fill(torch.rand(tokens.shape, generator=torch.Generator().manual_seed(1)) < 0.5, MASK)


def test_by_hand():
    """Place by place, thing by thing and manner by manner, in loops."""
    sketch = filled(Sketch(SIZES, K, 8, (2, 3), 2, 32)).eval()
    sketch.start()
    states, mask = torch.randn(2, 3, 8), torch.tensor([[True, True, False], [False, False, False]])
    made = sketch(states, mask)
    assert made.entered.shape == (2, 6, 32) and made.vectors.shape == (2, 24, 4) and made.firm.shape == (2, 1)
    assert not made.vectors[1].any() and not made.entered[1].any() and made.firm[1] == 0
    total = states[0, 0] + states[0, 1]
    text = total / total.norm()
    things = (sketch.thing @ text + sketch.thing_bias).softmax(0)
    odds = sketch.manner @ text + sketch.manner_bias
    share = odds.softmax(0)
    known = [(thing, manner) for thing in range(3) for manner in range(2) if (thing, manner) != (2, 1)]
    firm = sum(things[thing] ** 2 * share[manner] ** 2 for thing, manner in known)
    assert made.firm[0].item() == pytest.approx(firm.item(), rel=1e-5)
    hands = (odds + torch.tensor([0, UNKNOWN * things[2]])).softmax(0)
    cells = torch.zeros(6, 16)
    for position in range(6):
        for manner in range(2):
            drawn = sum(things[t] * sketch.looks[t].view(6, 5)[position] for t in range(3)) @ sketch.hands[manner]
            cells[position] += hands[manner] * (drawn + sketch.usual[manner, position])
    vectors = torch.zeros(4, 6, 4)
    for position in range(6):
        row, column = divmod(position, 3)
        for token in range(4):
            vectors[2 * row + token // 2, 2 * column + token % 2] = cells[position, 4 * token : 4 * token + 4]
    torch.testing.assert_close(made.vectors[0], vectors.flatten(0, 1), atol=1e-5, rtol=1e-4)
    entered = cells @ sketch.enter.weight.T + firm * sketch.sure
    torch.testing.assert_close(made.entered[0], entered, atol=1e-5, rtol=1e-4)


def test_codes_are_favoured_by_their_likeness_and_by_how_firm_the_sketch_is():
    sketch = filled(Sketch(SIZES, K, 8, (2, 3), 2, 32)).eval()
    sketch.start()
    x, vectors, firm = torch.randn(3, 7, 32), torch.randn(2, 7, 4), torch.tensor([[1.0], [0.0]])
    with torch.no_grad():
        added = sketch.favour(x, vectors, firm)
        torch.testing.assert_close(added[0], FIRM * vectors[0] @ sketch.codes.T, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(added[1], LOOSE * vectors[1] @ sketch.codes.T, rtol=1e-4, atol=1e-4)
        assert not added[2].any(), "a row without a text is told nothing"
        sketch.belief.weight.normal_()
        believed = sketch.favour(x, vectors, firm)[0] / added[0]
    torch.testing.assert_close(
        believed, (x[0] @ sketch.belief.weight.T).exp().expand_as(believed), rtol=1e-3, atol=1e-5
    )


@torch.no_grad()
@pytest.mark.parametrize("fold", [1, 2])
def test_the_logits_are_the_head_s_and_the_sketch_s(fold):
    model, tokens = muse(fold=fold), grids()
    told = model.condition(embedding(2))
    whole = model(tokens, told)
    silent = (*told[:-2], torch.zeros_like(told[-2]), told[-1])
    heads = model(tokens, silent)
    added = (model.sketch.loudness[0] + model.sketch.loudness[1] * told[-1]).exp().unsqueeze(-1)
    expected = heads.flatten(1, 2) + added * told[-2] @ model.sketch.codes.T
    torch.testing.assert_close(whole.flatten(1, 2), expected, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_rows_with_a_text_and_without_are_one_batch():
    model, tokens = muse(), grids()
    none = embedding(2)._replace(mask=torch.zeros(2, 5, dtype=torch.bool))
    told, untold = model.condition(embedding(2)), model.condition(none)
    nothing = tuple(each[:, :0] if each.ndim == 2 else each[:, :, :0] for each in untold[:-3])
    apart = torch.cat([model(tokens, each) for each in (told, untold)])
    for second in (untold, (*nothing, *untold[-3:])):
        together = model(tokens.repeat(2, 1, 1), model.join([told, second]))
        torch.testing.assert_close(together, apart, atol=1e-4, rtol=1e-4)
    places = torch.tensor([[3, 0, 23], [7, 8, 9]]).repeat(2, 1)
    some = model(tokens.repeat(2, 1, 1), model.join([told, untold]), places)
    expected = apart.flatten(1, 2).gather(1, places[..., None].expand(-1, -1, K))
    torch.testing.assert_close(some, expected, atol=1e-4, rtol=1e-4)


def test_what_is_forgotten_is_drawn_by_other_manners_in_training_alone():
    sizes = Sketching(things=2, manners=3, rank=2, code_width=4, forgotten=0.5)
    sketch = Sketch(sizes, K, 8, (1, 1), 1, 4)
    sketch.manner.copy_(torch.eye(3, 8) * 20)
    text = torch.eye(3, 8).repeat(400, 1)
    meant = torch.arange(3).repeat(400)
    torch.manual_seed(0)
    _, hands, firm = sketch.train().understand(text)
    lost = firm[:, 0] == 0
    assert lost.float().mean().item() == pytest.approx(0.5, abs=0.06)
    own = hands.gather(1, meant[:, None])[:, 0]
    assert (own[~lost] > 0.99).all()
    alone = (hands[lost].max(-1).values > 0.99).float().mean().item()
    assert (own[lost] < 0.34).all() and 0.2 < alone < 0.8, "one other manner or several, and never the own one"
    _, hands, firm = sketch.eval().understand(text)
    assert (hands.argmax(-1) == meant).all() and (firm > 0).all()


@torch.no_grad()
def test_the_second_stage_has_one_too():
    torch.manual_seed(0)
    sizes = {"text_width": 8, "width": 32, "layers": 2, "low_layers": 1, "heads": 4, "block": 2}
    model = SuperResolution(K, [8, 4], K, [4, 2], options=Options(fold=2, sketch=SIZES), **sizes).eval()
    tokens, low = torch.full((2, 8, 4), MASK), torch.zeros(2, 4, 2, dtype=torch.int64)
    before = model(tokens, model.condition(embedding(2), low))
    filled(model.sketch)
    assert (model(tokens, model.condition(embedding(2), low)) - before).abs().max() > 1


def test_unsolved_it_says_nothing():
    torch.manual_seed(0)
    model = MuseTransformer(K, GRID, text_width=8, width=32, layers=1, heads=4, options=Options(sketch=SIZES))
    _, *_, vectors, firm = model.condition(embedding(2))
    assert not vectors.any() and math.isfinite(firm.sum().item())


def test_its_tables_are_no_parameters_and_are_kept():
    model = muse()
    tables = {f"sketch.{name}" for name, _ in model.sketch.named_buffers()}
    assert tables <= model.state_dict().keys() and not tables & {name for name, _ in model.named_parameters()}
    assert len(tables) == 9


def test_a_text_as_a_whole_is_the_mean_of_its_words():
    states = torch.randn(2, 4, 8)
    pooled = pool(states, torch.tensor([[True, True, False, False], [False] * 4]))
    mean = states[0, :2].mean(0)
    torch.testing.assert_close(pooled[0], mean / mean.norm())
    assert not pooled[1].any()


def test_cells_are_those_of_folded_tokens():
    sketch = Sketch(SIZES, K, 8, (2, 3), 2, 32)
    vectors = torch.randn(2, 4, 6, 4)
    torch.testing.assert_close(sketch.spread(fold_cells(vectors, 2).flatten(1, 2)), vectors.flatten(1, 2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"things": 0}, r"options\.sketch\.things is 0; give 1 or more"),
        ({"manners": -1}, r"options\.sketch\.manners is -1"),
        ({"rank": 0}, r"options\.sketch\.rank is 0"),
        ({"forgotten": 1.0}, r"options\.sketch\.forgotten is 1\.0; give a share from 0, below 1"),
    ],
)
def test_sizes_that_can_not_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        Sketching(**{"things": 3, "manners": 2} | wrong)


def test_a_critic_draws_no_codes():
    with pytest.raises(ValueError, match=r"options\.sketch guesses codes, of which a critic draws none; leave it out"):
        Critic(K, GRID, text_width=8, width=32, layers=1, heads=4, options=Options(sketch=SIZES))
