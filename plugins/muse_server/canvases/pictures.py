"""Pictures that were dropped, in memory until newer ones take their place."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping

from PIL import Image

from muse_server.refusals import NotFound

MOST = 32
"""Pictures that are kept."""
SIDE = 2048
"""Pixels of the longer side, beyond which a picture is made smaller: no model here draws as many."""


def scaled(picture: Image.Image) -> Image.Image:
    """The picture, in mode RGB and no larger than what is kept."""
    small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return small


class Pictures:
    """Dropped pictures by an id of ours, "p_..."."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Image.Image] = OrderedDict()

    def add(self, picture: Image.Image) -> str:
        """Keep a picture, and give its id."""
        id = f"p_{secrets.token_urlsafe(16)}"
        self._kept[id] = picture
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return id

    @property
    def kept(self) -> Mapping[str, Image.Image]:
        """All that there are."""
        return self._kept

    def find(self, id: object) -> Image.Image:
        """A picture by its id; NotFound where there is none any more."""
        if not isinstance(id, str) or id not in self._kept:
            raise NotFound("there is no such picture any more; drop it once again", "picture")
        return self._kept[id]
