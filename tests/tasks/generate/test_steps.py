import numpy as np
import pytest
import torch
from muse_tasks.generate.steps import SHOWN, Film, Frame, strip
from PIL import Image
from torch.nn import functional as F

from muse_studio.contracts import MASK
from muse_studio.sampling.previews import GREYS, VEIL, previews
from muse_studio.testing.fakes import FakeTokenizer

STRIDE = FakeTokenizer.stride


class Bleeding(FakeTokenizer):
    """Smears each token's colour into the cells around it, as convolutions do, and notes what it is asked for."""

    def __init__(self):
        self.asked = []

    def decode(self, tokens):
        self.asked.append(tokens.clone())
        return F.avg_pool2d(super().decode(tokens), 5, 1, 2, count_include_pad=False)


def filling(finished, steps, seed=0):
    """Grids int64[B, h, w] in which more and more places are known, up to the finished ones."""
    order = torch.rand(finished.shape, generator=torch.Generator().manual_seed(seed))
    return [torch.where(order < step / steps, finished, MASK) for step in range(1, steps)] + [finished]


def tokens_of(stage, count=1, seed=0):
    return torch.randint(64, (count, *stage.grid), generator=torch.Generator().manual_seed(seed))


def as_saved(pictures):
    return (pictures * 255).round().byte()


def cell(picture, row, column):
    return picture[:, row * STRIDE : (row + 1) * STRIDE, column * STRIDE : (column + 1) * STRIDE]


def test_a_known_cell_looks_as_in_the_finished_picture_and_a_masked_one_is_grey(make_stage):
    stage = make_stage([16, 24], tokenizer=Bleeding())
    grids = [stage.blank(2), *filling(tokens_of(stage, 2), 5)]
    finished = as_saved(stage.tokenizer.decode(grids[-1]))
    shown = list(previews(stage, grids))
    kinds = set()
    for tokens, pictures in zip(grids, shown, strict=True):
        assert (pictures.dtype, pictures.shape) == (torch.uint8, (2, 3, 16, 24))
        for index in np.ndindex(*tokens.shape):
            grey = GREYS[sum(index[1:]) % 2]
            masked = bool(tokens[index] == MASK)
            expected = torch.full((3, STRIDE, STRIDE), grey) if masked else cell(finished[index[0]], *index[1:])
            assert torch.equal(cell(pictures[index[0]], *index[1:]), expected.byte())
            kinds.add(masked)
    assert kinds == {True, False}
    assert torch.equal(shown[-1], finished)


def test_the_decoder_runs_once_and_is_never_given_a_mask(make_stage):
    stage = make_stage(tokenizer=Bleeding())
    grids = [stage.blank(1), *filling(tokens_of(stage), 6)]
    assert len(list(previews(stage, grids))) == 7
    assert [tokens.tolist() for tokens in stage.tokenizer.asked] == [grids[-1].tolist()]


def test_a_token_that_the_sampler_takes_back_is_shown_while_it_stands(make_stage):
    stage = make_stage(tokenizer=Bleeding())
    finished = torch.zeros(1, 4, 4, dtype=torch.int64)
    early = stage.blank(1)
    early[0, 1, 2] = 63  # white, where the finished picture is black
    first, masked, last = previews(stage, [early, stage.blank(1), finished])
    assert cell(first[0], 1, 2).float().mean() > 100
    assert (cell(masked[0], 1, 2) == GREYS[1]).all()
    assert (last == 0).all()


def test_the_stage_before_shines_through_masked_cells(make_stage):
    stage = make_stage([16, 8])
    before = torch.randint(256, (1, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    (shown, _) = previews(stage, [stage.blank(1), tokens_of(stage)], before)
    for y, x in np.ndindex(16, 8):
        grey = GREYS[(y // STRIDE + x // STRIDE) % 2]
        wanted = VEIL * grey + (1 - VEIL) * before[0, :, y // 2, x].double()
        assert (shown[0, :, y, x] - wanted).abs().max() <= 0.501


def film_of(stages):
    film = Film(stages)
    for name, stage in stages.items():
        for tokens in filling(tokens_of(stage), stage.sampler.steps):
            film.keep(name, tokens)
    return film


def test_a_film_goes_through_all_stages_in_the_size_of_the_last(stages):
    film = film_of(stages)
    picture = Image.new("RGB", (24, 32), "red")
    frames = list(film.frames(picture))
    assert [(frame.stage, frame.step, frame.steps) for frame in frames] == [
        *(("base", step, 4) for step in range(5)),
        *(("large", step, 2) for step in range(3)),
    ]
    assert film.count == len(frames)
    assert {frame.image.size for frame in frames} == {(24, 32)}
    assert set(np.unique(frames[0].image)) == set(GREYS)
    base = as_saved(stages["base"].tokenizer.decode(film.grids["base"][-1]))[0].permute(1, 2, 0).numpy()
    enlarged = base[np.arange(32) // 2][:, ((np.arange(24) + 0.5) * 16 / 24).astype(int)]
    assert (np.asarray(frames[4].image) == enlarged).all()
    veiled = VEIL * np.array(GREYS)[np.add.outer(np.arange(32) // 4, np.arange(24) // 4) % 2][..., None] + (
        1 - VEIL
    ) * enlarged.astype(float)
    assert np.abs(np.asarray(frames[5].image) - veiled).max() <= 0.501
    assert frames[-1].image is picture


def test_a_film_keeps_what_it_was_given(stages):
    film = Film(stages)
    tokens = torch.zeros(1, 4, 4, dtype=torch.int64)
    film.keep("base", tokens)
    tokens.fill_(9)  # a sampler may go on in the same tensor
    assert (film.grids["base"][0] == 0).all()


@pytest.mark.parametrize(
    ("steps", "chosen"),
    [(16, [3, 6, 8, 11, 14, 16]), (24, [4, 8, 12, 16, 20, 24]), (7, [2, 3, 4, 5, 6, 7]), (3, [1, 2, 3]), (1, [1])],
)
def test_a_strip_shows_evenly_chosen_steps_up_to_the_last(steps, chosen):
    frames = [Frame("base", step, steps, Image.new("RGB", (64, 48), (9 * step, 0, 255))) for step in range(steps + 1)]
    picture = np.asarray(strip(frames, "a cat"))
    places = {
        step: np.argwhere((picture == (9 * step, 0, 255)).all(-1))
        for step in range(steps + 1)
        if (picture == (9 * step, 0, 255)).all(-1).any()
    }
    assert list(places) == chosen
    assert all(len(place) == 128 * 96 for place in places.values())
    lefts = [place[:, 1].min() for place in places.values()]
    assert lefts == sorted(set(lefts))
    assert len({place[:, 0].min() for place in places.values()}) == 1  # one row
    below = max(place[:, 0].max() for place in places.values()) + 1
    for place in places.values():  # each has a label
        assert (picture[below:, place[:, 1].min() : place[:, 1].max()] < 100).any()


def test_a_strip_shows_every_stage_and_the_prompt_above():
    frames = [
        Frame(stage, step, 9, Image.new("RGB", (8, 8), (shade, 0, 20 * step)))
        for stage, shade in (("base", 255), ("large", 250))
        for step in range(10)
    ]
    titled, plain = (np.asarray(strip(frames, prompt)) for prompt in ("a 🍎", ""))
    for stage in (255, 250):
        shown = {step for step in range(10) if (titled == (stage, 0, 20 * step)).all(-1).any()}
        assert shown == {2, 3, 5, 6, 8, 9}
        assert len(shown) == SHOWN
    assert titled.shape[0] > plain.shape[0]
