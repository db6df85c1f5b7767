"""The cache of drawings: made once, whole or not there."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from muse_emoji import render
from muse_emoji.dataset import Emoji
from muse_emoji.pairs import find_pairs


def test_it_is_drawn_once_and_mapped(packages, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path))
    found = find_pairs(packages)
    first = render.load_rendered(packages, found, 16)
    assert (first.shape, first.dtype) == ((len(found), 16, 16, 4), np.uint8)
    (file,) = (tmp_path / "emoji").iterdir()
    assert file.stat().st_size == 128 + first.size  # the header, then the pixels alone

    def never(*args):
        raise AssertionError("drawn again")

    monkeypatch.setattr(render, "_render", never)
    again = render.load_rendered(packages, found, 16)
    assert isinstance(again, np.memmap)
    assert np.array_equal(again, first)


def test_nothing_is_left_where_the_disk_is_full(packages, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path))
    drawn = []

    def draw(modules, sets, style, name, size):
        drawn.append(name)
        if len(drawn) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return np.zeros((size, size, 4), np.uint8)

    monkeypatch.setattr(render, "_render", draw)
    with pytest.raises(OSError, match="No space left on device") as caught:
        Emoji(16, str(packages))[0]
    assert caught.value.filename.startswith(str(tmp_path / "emoji" / "rendered-16-"))
    assert list((tmp_path / "emoji").iterdir()) == []
