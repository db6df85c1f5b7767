"""What an edit keeps: tokens and pixels outside the region, bit for bit, by every sampler that is offered."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from muse_editing.editors import Inpaint, MaskFree, Variations

from muse_studio.contracts import MASK
from muse_studio.registry.parts import REQUIRED
from muse_studio.registry.parts import settings as settings_of
from muse_studio.registry.plugins import Registry
from muse_studio.sampling.editing.session import EditSession
from muse_studio.sampling.editing.windows import Layout
from muse_studio.testing import fakes, tiny_stage

SAMPLERS = [part for part in Registry().parts() if part.kind == "sampler"]
"""As a recipe finds them: one that is new is tested here from its first day."""
CPU = torch.device("cpu")
REDRAWS = st.sampled_from(["touched", "changed"])


class Scorer(fakes.FakeTransformer):
    """A transformer that scores tokens, for a sampler that asks a critic."""

    outputs = 1

    def forward(self, tokens, conditioning):
        return super().forward(tokens, conditioning)[..., :1]


def sampler_of(part):
    """With two steps, and of its other settings those alone that it can't do without: critics."""
    torch.manual_seed(3)
    taken = settings_of(part.load(), part.name).values()
    needed = {each.name: Scorer() for each in taken if each.default is REQUIRED}
    return part.load()(**needed | {"steps": 2})


def stages_of(sampler, sizes=(16, 32)):
    names = ("base", "large", "largest")[: len(sizes)]
    return {
        name: tiny_stage(size, seed, sampler=sampler)
        for seed, (name, size) in enumerate(zip(names, sizes, strict=True))
    }


def picture(height, width, seed=0):
    return torch.randint(256, (3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def retouch_of(stages, pixels, region, anchor=None, **settings):
    layout = Layout.of(stages, tuple(pixels.shape[1:]), anchor)
    return EditSession(stages, layout, pixels, region, CPU, **settings)


def edited(session, editor=None, seed=0, text=None, watch=lambda *told: None):
    """All grids of the first stage, each stage's finished tokens, and the pixels."""
    generator = torch.Generator().manual_seed(seed)
    text = fakes.embedding(1) if text is None else text
    drafts = list(session.edit(editor or Inpaint(), text, generator, watch=watch))
    finished = session.finish(drafts[-1], text, generator, watch=watch)
    return [draft.tokens for draft in drafts], finished, session.paste(finished)


def test_a_draft_on_the_way_is_finished_where_it_was_drawn_anew_by_then():
    class TwoSteps:
        """Draws the left half anew, then the right one."""

        def __call__(self, tokens, region, resample, generator):
            for half in (slice(None, 2), slice(2, None)):
                masked = tokens.clone()
                masked[..., half] = MASK
                *_, tokens = resample(masked)
                yield tokens

    stages = {"base": tiny_stage(16), "large": tiny_stage(32, 1)}
    pixels = picture(32, 32)
    session = retouch_of(stages, pixels, torch.ones(32, 32, dtype=torch.bool), dilate=0)
    first, last = session.edit(TwoSteps(), fakes.embedding(1), torch.Generator(), watch=lambda *step: None)
    assert first.touched[..., :2].all() and not first.touched[..., 2:].any() and last.touched.all()
    asked = []
    finished = session.finish(
        first, fakes.embedding(1), torch.Generator(), watch=lambda stage, step, steps, tokens: asked.append(tokens)
    )
    assert torch.equal(finished["large"][..., 4:], session.tokens["large"][..., 4:])
    assert asked, "the larger stage drew nothing"


@pytest.mark.parametrize("part", SAMPLERS, ids=lambda part: part.name)
@settings(max_examples=12)
@given(data=st.data())
def test_nothing_outside_the_region_changes(part, data):
    """Inpainting of any region of a picture of any shape, with any ring and feather."""
    height, width = data.draw(st.integers(1, 70)), data.draw(st.integers(16, 70))
    seed, share = data.draw(st.integers(0, 2**32)), data.draw(st.sampled_from([0.003, 0.05, 0.9]))
    feather, dilate = data.draw(st.sampled_from([0, 1, 4, 7])), data.draw(st.integers(0, 2))
    region = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < share
    pixels = picture(height, width, seed)
    session = retouch_of(
        stages_of(sampler_of(part)), pixels, region, feather=feather, dilate=dilate, redraw=data.draw(REDRAWS)
    )
    grids, finished, result = edited(session, seed=seed)
    before, outside = session.tokens["base"], ~session.regions["base"]
    assert all(torch.equal(grid[outside], before[outside]) for grid in grids)
    for name, tokens in finished.items():
        outside = ~session.regions[name]
        assert torch.equal(tokens[outside], session.tokens[name][outside])
        assert (tokens != MASK).all()
    assert result.shape == pixels.shape and result.dtype == torch.uint8
    far = ~torch.nn.functional.max_pool2d(region[None].float(), 2 * feather + 1, 1, feather)[0].bool()
    assert torch.equal(result[:, far], pixels[:, far])


@pytest.mark.parametrize("part", SAMPLERS, ids=lambda part: part.name)
@settings(max_examples=6)
@given(data=st.data())
def test_an_extended_picture_keeps_its_pixels(part, data):
    """Outpainting at any sides by any amounts, beyond the model's 32 pixels: feather 0 is a hard edge."""
    height, width = data.draw(st.integers(20, 40)), data.draw(st.integers(20, 40))
    left, right, top, bottom = (data.draw(st.sampled_from([0, 1, 7, 50])) for _ in range(4))
    pixels = picture(height, width, data.draw(st.integers(0, 2**32)))
    pad = torch.nn.functional.pad
    larger = pad(pixels[None].float(), (left, right, top, bottom), mode="replicate")[0].byte()
    region = pad(torch.zeros(height, width, dtype=torch.bool), (left, right, top, bottom), value=True)
    session = retouch_of(stages_of(sampler_of(part)), larger, region, (height, width), feather=0)
    _, finished, result = edited(session)
    assert result.shape == (3, height + top + bottom, width + left + right)
    assert torch.equal(result[:, top : top + height, left : left + width], pixels)
    for name, tokens in finished.items():
        outside = ~session.regions[name]
        assert torch.equal(tokens[outside], session.tokens[name][outside])


def test_inside_the_region_are_the_drawn_pixels_alone():
    """FakeTokenizer's pixels are thirds of 255, which the picture has none of."""
    pixels = torch.full((3, 32, 32), 100, dtype=torch.uint8)
    region = torch.zeros(32, 32, dtype=torch.bool)
    region[5:20, 7:30] = True
    for feather in (0, 6):
        session = retouch_of(stages_of(fakes.FakeSampler()), pixels, region, feather=feather)
        _, finished, result = edited(session)
        drawn = (session.stages["large"].tokenizer.decode(finished["large"]) * 255).round().byte()[0]
        assert torch.equal(result[:, region], drawn[:, region])
        assert set(result[:, region].unique().tolist()) <= {0, 85, 170, 255}
    assert set(result[:, 4, 7:30].unique().tolist()) - {0, 85, 100, 170, 255}  # the feather's mixtures


def test_a_ring_of_tokens_is_drawn_with_the_region():
    region = torch.zeros(32, 32, dtype=torch.bool)
    region[16, 16] = True  # in row 2 of the first stage's 4, from 0: two rings cover them all
    for dilate, base, large in ((0, 1, 1), (1, 9, 9), (2, 16, 25)):
        session = retouch_of(stages_of(fakes.FakeSampler()), picture(32, 32), region, dilate=dilate)
        assert int(session.regions["base"].sum()) == base
        assert int(session.regions["large"].sum()) == large


@pytest.mark.parametrize("sizes", [(16, 32), (20, 40), (16, 24), ([16, 24], [32, 48]), (16, [32, 24]), (16, 32, 64)])
def test_stages_of_any_sizes(sizes):
    """Grids that are no multiples of each other, that are odd, that are no squares; three stages."""
    region = torch.zeros(50, 90, dtype=torch.bool)
    region[10:30, 40:80] = True
    pixels = picture(50, 90)
    for redraw in ("touched", "changed"):
        session = retouch_of(stages_of(fakes.FakeSampler(), sizes), pixels, region, redraw=redraw)
        _, finished, result = edited(session)
        assert torch.equal(result[:, ~region], pixels[:, ~region])
        for name, tokens in finished.items():
            outside = ~session.regions[name]
            assert torch.equal(tokens[outside], session.tokens[name][outside])
        assert not torch.equal(result[:, region], pixels[:, region])


def test_every_step_of_every_window_is_told_by_its_number():
    told = []
    session = retouch_of(stages_of(fakes.FakeSampler(steps=3)), picture(32, 96), torch.ones(32, 96, dtype=torch.bool))
    edited(session, watch=lambda stage, step, steps, tokens: told.append((stage, step, steps, tuple(tokens.shape))))
    # 12 columns of tokens, windows of 4 which overlap by 2: five of them
    assert told == [("base", step, 15, (1, 4, 12)) for step in range(1, 16)] + [
        ("large", step, 15, (1, 8, 24)) for step in range(1, 16)
    ]
    assert session.count(Inpaint()) == 30
    assert session.count(MaskFree(iterations=4)) == 4 * 15 + 15


def test_strength_0_is_the_picture_through_the_tokenizer():
    pixels = picture(32, 32)
    session = retouch_of(stages_of(fakes.FakeSampler()), pixels, torch.ones(32, 32, dtype=torch.bool))
    _, _, result = edited(session, Variations(0))
    tokenizer = fakes.FakeTokenizer()
    through = tokenizer.decode(tokenizer.encode(pixels[None].float() / 255))
    assert torch.equal(result, (through[0] * 255).round().byte())


@pytest.mark.parametrize("shape", [(32, 32), (40, 77)])
def test_strength_1_knows_nothing_of_the_picture(shape):
    whole = torch.ones(shape, dtype=torch.bool)
    stages = stages_of(fakes.FakeSampler())
    one, other = (edited(retouch_of(stages, picture(*shape, seed), whole), Variations(1)) for seed in (1, 2))
    assert all(torch.equal(one[1][name], other[1][name]) for name in stages)
    assert torch.equal(one[2], other[2])
    half = [edited(retouch_of(stages, picture(*shape, seed), whole), Variations(0.5))[1] for seed in (1, 2)]
    assert not torch.equal(half[0]["large"], half[1]["large"])


def test_the_seed_decides():
    session = retouch_of(stages_of(fakes.FakeSampler()), picture(32, 60), torch.ones(32, 60, dtype=torch.bool))
    for editor in (Inpaint(), MaskFree(iterations=3), Variations()):
        first, again, other = (edited(session, editor, seed)[2] for seed in (5, 5, 6))
        assert torch.equal(first, again) and not torch.equal(first, other)


class Same(fakes.FakeTransformer):
    """Is certain of one code alone."""

    code = 21  # grey: 85 of 255 in each channel

    def forward(self, tokens, conditioning):
        logits = torch.zeros(*tokens.shape, self.codebook_size)
        logits[..., self.code] = 1e4
        return logits


def test_redraw_changed_keeps_the_very_pixels_where_no_token_changed():
    """A picture near the code that is drawn, but for a corner: that alone comes out otherwise."""
    stages = stages_of(fakes.FakeSampler())
    for stage in stages.values():
        stage.transformer = Same()
    pixels = torch.full((3, 32, 32), 90, dtype=torch.uint8)  # which is encoded as 85
    pixels[:, :8, :8] = 255
    whole = torch.ones(32, 32, dtype=torch.bool)
    _, finished, result = edited(retouch_of(stages, pixels, whole, redraw="changed"))
    assert (finished["large"] == Same.code).all()
    assert (result[:, :8, :8] == 85).all()
    kept = torch.ones(32, 32, dtype=torch.bool)
    kept[:8, :8] = False
    assert torch.equal(result[:, kept], pixels[:, kept])
    _, _, result = edited(retouch_of(stages, pixels, whole, redraw="touched"))
    assert (result == 85).all()


def test_redraw_changed_leaves_what_the_first_stage_left():
    """The second stage's tokens around what changed in the first, `dilate` rings of them, are drawn anew; no others."""
    seen = []

    class Spy(fakes.FakeTransformer):
        def forward(self, tokens, conditioning):
            seen.append(tokens[:1].clone())
            return super().forward(tokens, conditioning)

    stages = stages_of(fakes.FakeSampler(steps=1))
    stages["base"].transformer = Same()
    stages["large"].transformer = Spy()
    pixels = torch.full((3, 32, 32), 90, dtype=torch.uint8)
    pixels[:, 8:16, 16:24] = 255  # one token of the first stage, row 1, column 2
    for dilate in (0, 1):
        seen.clear()
        edited(retouch_of(stages, pixels, torch.ones(32, 32, dtype=torch.bool), redraw="changed", dilate=dilate))
        expected = torch.zeros(1, 8, 8, dtype=torch.bool)
        expected[0, 2 - dilate : 4 + dilate, 4 - dilate : 6 + dilate] = True
        assert torch.equal(seen[0] == MASK, expected)


@pytest.mark.parametrize("redraw", ["touched", "changed"])
def test_pictures_of_a_batch_are_drawn_in_their_own_regions(redraw):
    stages = stages_of(fakes.FakeSampler(steps=2))
    for stage in stages.values():
        stage.transformer = Same()
    regions = torch.zeros(3, 32, 32, dtype=torch.bool)
    regions[0, :8, :8], regions[1, 16:24, 8:32], regions[2, 24:, 24:] = True, True, True
    each = [
        retouch_of(stages, picture(32, 32, seed), region, dilate=0, redraw=redraw)
        for seed, region in enumerate(regions)
    ]
    whole, text = EditSession.joined(each), fakes.embedding(3)
    watch, generator = (lambda *told: None), torch.Generator().manual_seed(0)
    *_, first = whole.edit(Inpaint(), text, generator, watch=watch)
    finished = whole.finish(first, text, generator, watch=watch)
    for name, grid in finished.items():
        wanted = torch.cat([torch.where(one.regions[name], Same.code, one.tokens[name]) for one in each])
        assert torch.equal(grid, wanted), name
