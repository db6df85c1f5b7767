"""Previews: few, small, and of what is known alone."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from muse_server.canvases.pictures import MOST, SIDE, Pictures, scaled
from muse_server.canvases.previews import A_SECOND, SHARE, Throttle, bits, data_url, known, preview
from muse_server.refusals import NotFound
from PIL import Image

from muse_studio.contracts import MASK
from muse_studio.sampling.editing.canvas import Canvas


def made(costs):
    """How many previews are made in two seconds of steps of 2 ms, each of which takes so many seconds."""
    now = [0.0]
    throttle = Throttle(lambda: now[0])
    count = 0
    while now[0] < 2:
        now[0] += 0.002
        if throttle.due():
            with throttle.making():
                now[0] += costs
                count += 1
    assert throttle.due(always=True)
    return count


def test_there_are_so_many_a_second_and_fewer_where_each_takes_long():
    assert 2 * A_SECOND - 3 <= made(0.001) <= 2 * A_SECOND
    assert SHARE * 0.6 <= made(0.05) * 0.05 / 2 <= SHARE + 0.05


def test_what_is_masked_is_grey_and_its_former_code_is_decoded(model):
    canvas = Canvas.of(model).generate("a cat", seed=1)
    whole, stage = canvas.tokens["large"], model.stages["large"]
    tokens = whole.clone()
    tokens[:, :4] = MASK
    shown, finished = np.asarray(preview(stage, tokens, whole)), np.asarray(canvas.image)
    assert (shown[16:] == finished[16:]).all() and set(shown[:16].ravel()) == {188, 206}
    assert known(tokens) == bits(tokens != MASK) != known(whole)
    blank = torch.full_like(tokens, MASK)
    assert set(np.asarray(preview(stage, blank, blank)).ravel()) == {188, 206}


@pytest.mark.parametrize(("side", "kind"), [(256, "png"), (257, "webp")])
def test_small_pictures_are_png_and_larger_ones_webp(side, kind):
    head, _, content = data_url(Image.new("RGB", (side, 8), "red")).partition(";base64,")
    assert head == f"data:image/{kind}"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert picture.format == kind.upper() and picture.size == (side, 8)


def test_dropped_pictures_are_kept_until_newer_ones_come():
    pictures = Pictures()
    ids = [pictures.add(Image.new("RGB", (1, 1))) for _ in range(MOST + 1)]
    assert len(pictures.kept) == MOST and pictures.find(ids[-1])
    with pytest.raises(NotFound):
        pictures.find(ids[0])
    assert scaled(Image.new("RGBA", (2 * SIDE, 10))).size == (SIDE, 5)
