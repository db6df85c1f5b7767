"""What a server offers, and how it is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from muse_server.parts import OF_STAGE, values_of
from muse_studio.recipe.running import FILTERS
from muse_studio.sampling.cascade import Cascade


@dataclass(frozen=True)
class Served:
    """How a server is reached, and what it offers.

    name: the model's recipe, as the page shows it. host, port: where it listens. hosts: further names that a Host
    header may have. origins: pages of others that may ask. token: what a client must know, None where it need not.
    a1111: whether the dialect of A1111 is spoken. strict_model: whether a program must name the served model.
    """

    name: str
    host: str
    port: int
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    token: str | None = None
    a1111: bool = False
    strict_model: bool = False


def stages(model: Cascade) -> dict[str, Any]:
    """Each stage's grid [h, w], size [width, height], steps and codes, and the parts that the recipe gives it."""
    recipe = (model.recipe or {}).get("stages", {})
    return {
        name: {
            "grid": list(stage.grid),
            "size": [stage.width, stage.height],
            "steps": stage.sampler.steps,
            "codes": stage.tokenizer.codebook_size,
        }
        | {kind: values_of(recipe.get(name, {}).get(kind)) for kind in OF_STAGE}
        for name, stage in model.stages.items()
    }


def filters(hook: Any) -> list[str]:
    """The names of the plugins and observers that may refuse a prompt or a picture."""
    asked = (filled for name in FILTERS for filled in getattr(hook, name).get_hookimpls())
    return sorted({filled.plugin_name for filled in asked})
