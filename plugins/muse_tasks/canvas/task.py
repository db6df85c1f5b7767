"""The task `canvas`: a picture is drawn by a canvas's actions, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from muse_studio.contracts import NO_RUN, RunContext, TextEncoder
from muse_studio.errors import SettingError, UserError
from muse_studio.images.naming import slug
from muse_studio.images.provenance import Provenance
from muse_studio.sampling.cascade import Cascade
from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.sampling.editing.deeds import check_actions
from muse_studio.sampling.stage import Stage, check_fit
from muse_tasks.generate.pictures import Pictures, check_request, names_a_file, open_out, save_new


@dataclass
class PlayCanvas:
    """Draw a picture by the actions of a canvas: what `Canvas.save_picture` writes asks for just this.

    actions: tables, each with what to `do` and its settings, as `Canvas.actions` tells them:
        `[{do: generate, prompt: a red apple}, {do: erase, region: "30,30,40,40"}, {do: fill, prompt: a worm}]`.
    seed: of all actions that have none. dilate: rings of tokens around a region that are erased with it.
    out, device: as in the task `generate`.
    """

    stages: dict[str, Stage]
    text_encoder: TextEncoder
    actions: list[dict]
    seed: int = 0
    dilate: int = 1
    out: str = "out"
    device: str = "auto"

    def __post_init__(self) -> None:
        check_fit(self.stages, self.text_encoder)
        check_request([], "", 1, self.seed, self.out)
        if self.dilate < 0:
            raise SettingError("dilate", f"dilate is {self.dilate}; give 0 or more")
        try:
            check_actions(self.actions)
        except UserError as error:
            raise SettingError("actions", str(error)) from error
        if not self.actions:
            raise SettingError("actions", "actions is empty; give at least one, such as {do: generate, prompt: a fox}")

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> Pictures:
        """Do all of them, and write the picture; `hook` hears of each step.

        Raises UserError where a filter refuses a prompt or the picture, an action does not fit the canvas, `out` can't
        be written or the device is missing.
        """
        out = open_out(self.out)
        model = Cascade.of_run(self.stages, self.text_encoder, self.device, hook, context)
        canvas = Canvas.of(model, self.seed, self.dilate)
        image = canvas.play(self.actions).finished()
        placed = any(did["do"] == "place" for did in canvas.history)
        inside = Provenance(context.recipe, context.plugins, edited=placed, prompt=canvas.prompt)
        path = out if names_a_file(self.out) else out / f"{slug(canvas.prompt)}.png"
        result = Pictures([], [], [], [])
        result.add(image, save_new(image, path, inside), canvas.prompt, self.seed)
        return result
