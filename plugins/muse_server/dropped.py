"""What a dropped picture says, as values alone: its recipe is never run, nor anything opened that it names."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from muse_server import settings
from muse_server.canvases.fields import LONGEST, MOST
from muse_server.parts import OF_STAGE
from muse_server.played import client_actions
from muse_server.refusals import Refusal
from muse_studio.errors import RecipeError
from muse_studio.images.naming import is_unicode
from muse_studio.images.reading import on_white, upright
from muse_studio.recipe.sources import LARGEST, PICTURE_KEY, WEIGHTS_KEY, user_comment
from muse_studio.recipe.tree import LARGEST_DRAWN, Node, parse
from muse_studio.runtime import weights
from muse_studio.sampling.arguments import LARGEST_SEED
from muse_studio.sampling.cascade import Cascade

FORMATS = ("PNG", "JPEG", "WEBP")
"""What a client may send, by what the file holds; its name and what it calls itself say nothing."""
PIXELS = 2**24
"""Of the largest picture: 4096 x 4096."""
PIECES = 20_000
"""Of a PNG's file, each of which pillow reads by itself: 32 MiB have room for a million, which take it many seconds."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PARAMETERS = "parameters"
"""The PNG text of A1111 and those that follow it."""
_WEIGHTS = re.compile(r"(?P<path>\S+) .+?(?: sha256:|#sha256=)(?P<sum>[0-9a-f]{64})")
_SEED = re.compile(r"(?:^|, )Seed: (\d{1,19})(?=,|$)", re.MULTILINE)
_STEPS = re.compile(r"^Steps: \d", re.MULTILINE)


def unpacked(content: bytes) -> Image.Image:
    """A client's PNG, JPEG or WebP in mode RGBA, turned upright; Refusal where it is none, damaged, or too large.

    Its size is known before a pixel is made. It takes its time: on a worker thread.
    """
    with _opened(content) as picture:
        try:
            return upright(picture)
        except Exception as error:  # pillow's readers raise whatever a damaged file leads them to
            raise Refusal("the picture can't be read to its end; send another copy of it", "picture") from error


def opened(content: bytes) -> Image.Image:
    """As `unpacked`, in mode RGB; what is transparent lies on white."""
    return on_white(unpacked(content))


def said(content: bytes, model: Cascade) -> dict[str, Any] | None:
    """What a picture says of how it was drawn, as far as this model can use it; None where it says nothing.

    prompt, negative, seed, count; settings of stages, an editor and actions that pass the same checks as a client's;
    same_model: whether its weights are the served ones, None where that is not known; notices: what was left aside.
    What is absent is not among them. Refusal as `unpacked`; what the texts hold never is one.
    """
    recipe, told, parameters = _texts(content)
    if recipe is None:
        return None if parameters is None else _of_parameters(parameters)
    try:
        table = _table(recipe)
    except ValueError as error:
        return {"notices": [f"its recipe can't be read: {error}"]}
    notices: list[str] = []
    found = _words(table, notices)
    found |= _parts(table, model, notices)
    if "actions" in table:
        found |= client_actions(table["actions"], next(iter(model.stages)), notices)
    same = _same_weights(told, model)
    if same is False:
        notices.append("drawn by another model: its words and its seed are taken, and the picture will be another")
    return found | {"same_model": same, "notices": notices}


def _opened(content: bytes) -> Image.Image:
    if content.startswith(_PNG) and _is_chopped(content):
        raise Refusal(f"the picture's file has more than {PIECES:,} pieces; save it anew", "picture")
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except Exception as error:  # as above
        raise Refusal("this is no picture; send a PNG, JPEG or WebP", "picture") from error
    if picture.width * picture.height > PIXELS:
        raise _too_large()
    return picture


def _is_chopped(content: bytes) -> bool:
    """Whether a PNG's file has too many pieces, each with its length in front of it."""
    at = len(_PNG)
    for _ in range(PIECES):
        if at >= len(content):
            return False
        at += 12 + int.from_bytes(content[at : at + 4])
    return at < len(content)


def _too_large() -> Refusal:
    return Refusal(f"the picture has more than {PIXELS:,} pixels; send one that is scaled down", "picture")


def _texts(content: bytes) -> tuple[str | None, str, str | None]:
    """A picture's recipe, its lines of weights, and A1111's text; what is larger than a recipe can be is left aside."""
    with _opened(content) as picture:
        try:
            picture.load()  # a PNG may have its texts at its end
            if isinstance(picture, PngImageFile):
                texts = picture.text
                found = [texts.get(key) for key in (PICTURE_KEY, WEIGHTS_KEY, _PARAMETERS)]
            else:
                found = [user_comment(picture) if picture.format == "WEBP" else None, None, None]
        except Exception as error:  # as above
            raise Refusal("the picture can't be read to its end; send another copy of it", "picture") from error
    recipe, told, parameters = (None if each is None or len(each) > LARGEST else str(each) for each in found)
    return recipe, told or "", parameters


def _table(text: str) -> dict[str, Any]:
    """A recipe's text as plain data; ValueError where it is none, is nested too deeply, or has aliases."""
    try:
        root = parse(text, "recipe", most=LARGEST_DRAWN)
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError("it repeats its tables by aliases")
    except RecipeError as error:
        raise ValueError(error.problems[0].message) from error
    if root is None or not isinstance(root.value, dict) or _depth(root) > settings.DEEPEST:
        raise ValueError(f"it is no table, or one that is nested more than {settings.DEEPEST} deep")
    plain: dict[str, Any] = root.plain()
    return plain


def _depth(node: Node) -> int:
    inner = node.value.values() if isinstance(node.value, dict) else node.value
    return 1 + max(map(_depth, inner), default=0) if isinstance(inner, list | type({}.values())) else 0


def _words(table: Mapping[str, Any], notices: list[str]) -> dict[str, Any]:
    """Prompt, negative, seed and count; of several prompts the first, of a canvas what was drawn last."""
    actions = table.get("actions")
    drawn = [each for each in actions if isinstance(each, Mapping)] if isinstance(actions, list) else []
    last: dict[str, Any] = {}
    for action in drawn:
        last |= {key: action[key] for key in ("prompt", "negative", "seed") if action.get(key) is not None}
    found: dict[str, Any] = {}
    for key in ("prompt", "negative"):
        value = table.get(key, last.get(key))
        if isinstance(value, list) and value:
            notices.append(f"it was drawn of {len(value)} prompts, of which the first is taken")
            value = value[0]
        if isinstance(value, str) and len(value) <= LONGEST and is_unicode(value):
            found[key] = value
        elif value is not None:
            notices.append(f"its {key} is no text of at most {LONGEST} letters, and is left aside")
    for key, least, most in (("seed", 0, LARGEST_SEED), ("count", 1, MOST)):
        value = last.get(key, table.get(key))
        if type(value) is int and least <= value <= most:
            found[key] = value
        elif value is not None:
            notices.append(f"its {key} is no whole number from {least} to {most}, and is left aside")
    return found


def _parts(table: Mapping[str, Any], model: Cascade, notices: list[str]) -> dict[str, Any]:
    """Settings of this model's stages, where they differ from its own, and the editor; all that passes the check."""
    stages = table.get("stages")
    own = (model.recipe or {}).get("stages", {})
    kept: dict[str, Any] = {}
    for name, stage in stages.items() if isinstance(stages, Mapping) else ():
        for key in OF_STAGE if isinstance(stage, Mapping) and name in model.stages else ():
            if key in stage and stage[key] != own.get(name, {}).get(key):
                if wrong := settings.problems(model, {name: {key: stage[key]}}):
                    notices.append(f"{wrong[0]['path']}: {wrong[0]['message']}; it is left aside")
                else:
                    kept.setdefault(name, {})[key] = stage[key]
    found: dict[str, Any] = {"settings": kept} if kept else {}
    if "editor" in table:
        if wrong := settings.problems(model, editor=table["editor"]):
            notices.append(f"{wrong[0]['path']}: {wrong[0]['message']}; it is left aside")
        else:
            found["editor"] = table["editor"]
    return found


def _same_weights(told: str, model: Cascade) -> bool | None:
    """Whether what a picture was drawn with is what is served, by checksums; None where one of them is not known."""
    lines = [match for line in told.splitlines() if (match := _WEIGHTS.fullmatch(line))]
    drawn = {match["path"]: match["sum"] for match in lines if match["path"].startswith("stages.")}
    served = dict(_checksums((model.recipe or {}).get("stages", {}), "stages"))
    return drawn == served if drawn and None not in served.values() else None


def _checksums(value: Any, path: str) -> Iterator[tuple[str, str | None]]:
    """Of each table with `weights` within a recipe, their checksum, None where it is not cheaply known."""
    for key, each in value.items() if isinstance(value, Mapping) else ():
        if key == "weights" and isinstance(each, str):
            yield path, _checksum(each)
        else:
            yield from _checksums(each, f"{path}.{key}")


_checksum = cache(weights.checksum)
"""The served weights' own, which stay as they are while they are served."""


def _of_parameters(text: str) -> dict[str, Any]:
    """Prompt, negative and seed of the text that A1111 writes; all else in it is of another kind of model."""
    begin = _STEPS.search(text)
    words, settings_line = (text, "") if begin is None else (text[: begin.start()], text[begin.start() :])
    prompt, _, negative = words.partition("Negative prompt:")
    table: dict[str, Any] = {"prompt": prompt.strip(), "negative": negative.strip()}
    if found := _SEED.search(settings_line):
        table["seed"] = int(found[1])
    notices: list[str] = []
    return _words(table, notices) | {"same_model": False, "notices": ["drawn by another program", *notices]}
