"""A model as its recipe says it: stages and a text encoder, built and ready to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muse_studio.contracts import TextEncoder
from muse_studio.recipe import merging
from muse_studio.recipe.build import construct
from muse_studio.registry.faults import attributed
from muse_studio.registry.plugins import Registry
from muse_studio.runtime.device import choose_device
from muse_studio.sampling.cascade import make_ready
from muse_studio.sampling.stage import Stage, check_fit


@dataclass
class Model:
    """What pictures are drawn with: the two tables of a model's recipe.

    recipe: the resolved one, None where the model was not loaded from any.
    hook: pluggy's caller of the observers and filters that came with it.
    """

    stages: dict[str, Stage]
    text_encoder: TextEncoder
    recipe: dict[str, Any] | None = field(default=None, init=False, repr=False)
    hook: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_fit(self.stages, self.text_encoder)


def load(
    model: str | Path | dict[str, Any] = "models/emoji",
    overrides: Any = None,
    plugins: Sequence[str | Path] = (),
    device: str = "auto",
) -> Model:
    """A model's parts, on a device and ready to draw: `.stages` by name, the first one first, and `.text_encoder`.

        model = load("models/emoji")
        base, text = model.stages["base"], model.text_encoder(["a red apple, noto style"])
        *_, tokens = base.sample(text, torch.Generator().manual_seed(0))
        pixels = base.tokenizer.decode(tokens)

    model: a model's recipe, as `muse_studio.run` takes recipes; overrides and plugins likewise. Raises RecipeError with
    every problem of the recipe, UserError where the device is missing.
    """
    node = merging.load(model, merging.overrides(overrides))
    registry = Registry(plugins)
    with attributed(registry):
        built = construct(node, registry, Model)
    registry.observe(built.observers)
    made: Model = built.thing
    make_ready(made.stages, made.text_encoder, choose_device(device))
    made.recipe, made.hook = node.plain(), registry.hook
    return made
