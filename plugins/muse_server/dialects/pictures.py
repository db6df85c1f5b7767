"""Pictures of a client in, and drawn ones out; every function here is slow, and is called on a worker thread."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from muse_server.dialects.forms import Invalid
from muse_server.dropped import opened, unpacked
from muse_studio.errors import UserError
from muse_studio.images.provenance import Provenance

Kind = Literal["png", "webp", "jpeg"]
KINDS: tuple[Kind, ...] = ("png", "webp", "jpeg")
_SEGMENT = 65_000
"""Bytes that a JPEG's segment surely holds (ITU-T T.81, B.1.1.4: 65,533 with its marker's name)."""


def picture(content: bytes, param: str) -> Image.Image:
    """A client's picture in mode RGB, transparency lying on white; Refusal, naming the field, where it is none."""
    try:
        return opened(content)
    except UserError as error:
        raise Invalid(str(error), param) from error


def holes(content: bytes, size: tuple[int, int], param: str = "mask") -> NDArray[np.bool_]:
    """bool[H, W], where a mask of OpenAI's API is wholly transparent: there is drawn. size: the picture's.

    Refusal where the mask has no such place, or another size.
    """
    try:
        mask = unpacked(content)
    except UserError as error:
        raise Invalid(str(error), param) from error
    if mask.size != size:
        shown = "{}x{} pixels".format
        raise Invalid(f"{param} has {shown(*mask.size)} and the picture {shown(*size)}; give both one size", param)
    region = np.asarray(mask.getchannel("A")) == 0
    if not region.any():
        raise Invalid(f"{param} is nowhere transparent; its wholly transparent pixels are where to draw", param)
    return region


def lights(content: bytes, size: tuple[int, int], invert: bool, param: str = "mask") -> NDArray[np.bool_]:
    """bool[H, W], where a mask of A1111's API is white, or where it is not; it is scaled to the picture's size."""
    mask = picture(content, param).convert("L").resize(size, Image.Resampling.NEAREST)
    region = (np.asarray(mask) >= 128) != invert
    if not region.any():
        raise Invalid(f"{param} chooses nothing; white is where to draw", param)
    return region


def from_base64(text: Any, param: str) -> bytes:
    """The bytes of a picture as A1111's API has them: base64, or a data URL. An address is refused, never fetched."""
    if not isinstance(text, str):
        raise Invalid(f"{param}: expected a picture in base64", param)
    head, comma, _ = text[:100].partition(",")
    data = text[len(head) + 1 :] if comma and head.startswith("data:image/") else text
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid(f"{param} is no base64; send the picture itself, as no address is fetched", param) from error


def base64_of(
    image: Image.Image, provenance: Provenance | None = None, kind: Kind = "png", quality: int = 100, words: str = ""
) -> str:
    """A picture's file in base64, with what it says of itself where it is finished.

    quality: of WebP and JPEG, 0 to 100. words: what a PNG says in A1111's own way too, its text `parameters`.
    """
    file = io.BytesIO()
    if kind == "png":
        text = provenance.png() if provenance else None
        if text and words:
            text.add_itxt("parameters", words)
        image.save(file, "PNG", pnginfo=text, compress_level=6 if provenance else 1)
    elif kind == "webp":
        image.save(file, "WEBP", quality=quality, **(provenance.webp() if provenance else {}))
    else:
        packet = provenance.xmp().encode() if provenance else b""
        image.save(file, "JPEG", quality=quality, **({"xmp": packet} if 0 < len(packet) < _SEGMENT else {}))
    return base64.b64encode(file.getvalue()).decode("ascii")
