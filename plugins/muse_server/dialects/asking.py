"""A request of OpenAI's images API as a Drawing, field by field."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from muse_server.dialects import pictures
from muse_server.dialects.forms import Fields, Invalid, Missing
from muse_server.drawings import Drawing
from muse_server.settings import check_values
from muse_studio.sampling.arguments import LARGEST_SEED

LONGEST_PROMPT = 32_000
MOST_PICTURES, MOST_PARTIALS, MOST_GIVEN = 10, 3, 16
LEAST_SIDE, MOST_SIDE = 16, 4096
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


def drawing(fields: Fields, prompt: str) -> Drawing:
    """What all that draw have in common; without a seed, one is drawn by lot."""
    if fields.choice("response_format", ("b64_json", "url"), "b64_json") == "url":
        message = "response_format: pictures are sent, never addresses of them; ask for b64_json"
        raise Invalid(message, "response_format")
    seed = fields.whole("seed", 0, LARGEST_SEED, -1)
    partials = fields.whole("partial_images", 0, MOST_PARTIALS, 0)
    return Drawing(
        prompt=prompt,
        negative=fields.text("negative_prompt", LONGEST_PROMPT),
        seed=None if seed < 0 else seed,
        count=fields.whole("n", 1, MOST_PICTURES, 1),
        settings=part(fields, "settings"),
        size=_size(fields.text("size")),
        partials=partials if fields.flag("stream") else 0,
    )


def prompt(fields: Fields) -> str:
    """The prompt, which is not empty."""
    text = fields.text("prompt", LONGEST_PROMPT)
    if not text.strip():
        raise Missing("prompt is missing; say what to draw", "prompt")
    return text


def part(fields: Fields, name: str) -> dict[str, Any] | None:
    """A table of settings, such as `editor`; Refusal where it names a file or an address."""
    table = fields.table(name)
    check_values(table or {}, name)
    return table


def given(fields: Fields) -> tuple[Image.Image, NDArray[np.bool_] | None]:
    """The first picture of a form in mode RGB, and where its mask, bool[H, W], has it drawn anew.

    Further pictures are looked at alone, as one is edited. Slow: for a worker thread.
    """
    for name in ("image", "mask", "markup"):
        if fields.values.get(name):
            raise Invalid(f"{name}: expected a file, got a text", name)
    if fields.files.get("markup"):
        raise Invalid("markup can't be followed here; send a mask, transparent where to draw", "markup")
    images, masks = fields.files.get("image", []), fields.files.get("mask", [])
    if not images:
        raise Missing("image is missing; send a picture as a file", "image")
    if len(images) > MOST_GIVEN:
        raise Invalid(f"{len(images)} pictures are given; give at most {MOST_GIVEN}", "image")
    if len(masks) > 1:
        raise Invalid(f"{len(masks)} masks are given; give one", "mask")
    image = pictures.picture(images[0], "image")
    for each in images[1:]:
        pictures.picture(each, "image")
    return image, pictures.holes(masks[0], image.size) if masks else None


def kind(fields: Fields) -> pictures.Kind:
    """What files the answer has."""
    asked = fields.choice("output_format", (*pictures.KINDS, "jpg"), "png")
    return next((each for each in pictures.KINDS if each == asked), "jpeg")


def _size(asked: str) -> tuple[int, int] | None:
    """Width and height in pixels, None for the model's own."""
    if asked in ("", "auto"):
        return None
    found = _SIZE.fullmatch(asked)
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(LEAST_SIDE <= side <= MOST_SIDE for side in (width, height)):
        wanted = f"give auto, or WIDTHxHEIGHT of {LEAST_SIDE} to {MOST_SIDE} pixels each"
        raise Invalid(f"size is {asked[:40]!r}; {wanted}", "size")
    return width, height
