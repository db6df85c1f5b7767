"""A request of A1111's API as a Drawing, and what its answer says of how the pictures were drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from muse_server.dialects import pictures
from muse_server.dialects.asking import LEAST_SIDE, MOST_SIDE
from muse_server.dialects.forms import Fields, Invalid, Missing
from muse_server.drawings import Drawing, Finished
from muse_studio.sampling.arguments import LARGEST_SEED
from muse_studio.sampling.cascade import Cascade

LONGEST_PROMPT = 32_000
MOST_PICTURES, MOST_STEPS, MOST_SCALE = 16, 150, 30.0
PARTIALS = 4
"""Pictures on the way, of each that is drawn, for those that ask how far it is."""
CODE = ("script_name", "alwayson_scripts")
"""Fields that have A1111 run a script."""
PICTURES = ("init_images", "mask")
"""Fields that hold pictures, which an answer does not send back."""
STRENGTH = 0.75
"""How much is drawn anew where nothing is said; A1111's."""


def drawing(fields: Fields, model: Cascade, samplers: Sequence[str]) -> Drawing:
    """What is asked for. What other samplers, steps and scales mean is A1111's: they are of the model's first stage."""
    for name in CODE:
        if fields.values.get(name):
            raise Invalid(f"{name}: no scripts are run here", name)
    seed = fields.whole("seed", -1, LARGEST_SEED, -1)
    count = fields.whole("batch_size", 1, MOST_PICTURES, 1) * fields.whole("n_iter", 1, MOST_PICTURES, 1)
    if count > MOST_PICTURES:
        raise Invalid(f"batch_size times n_iter are {count} pictures; ask for at most {MOST_PICTURES}", "n_iter")
    return Drawing(
        prompt=fields.text("prompt", LONGEST_PROMPT),
        negative=fields.text("negative_prompt", LONGEST_PROMPT),
        seed=None if seed < 0 else seed,
        count=count,
        settings=_settings(fields, model, samplers),
        size=_size(fields),
        partials=PARTIALS,
        steps=True,
    )


def given(fields: Fields) -> tuple[Image.Image, NDArray[np.bool_] | None, dict[str, Any]]:
    """The picture in mode RGB, where it is drawn anew, bool[H, W], and the editor. Slow: for a worker thread."""
    images = fields.values.get("init_images")
    if not isinstance(images, list) or not images:
        raise Missing("init_images is missing; send a list of one picture in base64", "init_images")
    image = pictures.picture(pictures.from_base64(images[0], "init_images"), "init_images")
    strength = fields.number("denoising_strength", 0, 1)
    editor = {"use": "variations", "strength": STRENGTH if strength is None else strength}
    if fields.values.get("mask") is None:
        return image, None, editor
    content = pictures.from_base64(fields.values["mask"], "mask")
    invert = bool(fields.whole("inpainting_mask_invert", 0, 1, 0))
    return image, pictures.lights(content, image.size, invert), editor


def _settings(fields: Fields, model: Cascade, samplers: Sequence[str]) -> dict[str, Any] | None:
    """Steps, scale and sampler for the first stage, as far as its parts know them; None where nothing is said."""
    name, stage = next(iter(model.stages.items()))
    steps = fields.whole("steps", 1, MOST_STEPS, 0)
    scale = fields.number("cfg_scale", 0, MOST_SCALE)
    asked = fields.text("sampler_name") or fields.text("sampler_index")
    sampler: dict[str, Any] = {"use": asked} if asked in samplers else {}
    if steps and (sampler or hasattr(stage.sampler, "steps")):
        sampler["steps"] = steps
    guidance = {"scale": scale} if scale is not None and hasattr(stage.guidance, "scale") else {}
    changes = {"sampler": sampler, "guidance": guidance}
    made = {key: each for key, each in changes.items() if each}
    return {name: made} if made else None


def _size(fields: Fields) -> tuple[int, int] | None:
    """Width and height in pixels, None for the model's own; of one alone, a square."""
    width = fields.whole("width", LEAST_SIDE, MOST_SIDE, 0)
    height = fields.whole("height", LEAST_SIDE, MOST_SIDE, 0)
    return (width or height, height or width) if width or height else None


def infotext(fields: Fields, drawn: Finished, name: str) -> str:
    """How a picture was drawn, in A1111's lines."""
    lines = [fields.text("prompt", LONGEST_PROMPT)]
    if away := fields.text("negative_prompt", LONGEST_PROMPT):
        lines.append(f"Negative prompt: {away}")
    said = {
        "Steps": fields.values.get("steps"),
        "CFG scale": fields.values.get("cfg_scale"),
        "Seed": drawn.seed,
        "Size": f"{drawn.image.width}x{drawn.image.height}",
        "Model": name,
    }
    return "\n".join([*lines, ", ".join(f"{key}: {each}" for key, each in said.items() if each is not None)])


def info(fields: Fields, drawn: Sequence[Finished], infotexts: Sequence[str], began: str) -> dict[str, Any]:
    """What A1111 tells of all pictures of a request."""
    prompt, negative = fields.text("prompt", LONGEST_PROMPT), fields.text("negative_prompt", LONGEST_PROMPT)
    seeds = [each.seed for each in drawn]
    return {
        "prompt": prompt,
        "all_prompts": [prompt] * len(drawn),
        "negative_prompt": negative,
        "all_negative_prompts": [negative] * len(drawn),
        "seed": seeds[0] if seeds else -1,
        "all_seeds": seeds,
        "width": drawn[0].image.width if drawn else 0,
        "height": drawn[0].image.height if drawn else 0,
        "batch_size": len(drawn),
        "infotexts": list(infotexts),
        "job_timestamp": began,
    }


def echoed(fields: Fields) -> dict[str, Any]:
    """The request, but for its pictures."""
    return {key: each for key, each in fields.values.items() if key not in PICTURES}


def words_of(said: Mapping[str, Any]) -> str:
    """What a picture of ours says of itself, in A1111's lines; empty where it says nothing."""
    lines = [str(said["prompt"])] if said.get("prompt") else []
    if said.get("negative"):
        lines.append(f"Negative prompt: {said['negative']}")
    if said.get("seed") is not None:
        lines.append(f"Seed: {said['seed']}")
    return "\n".join(lines)
