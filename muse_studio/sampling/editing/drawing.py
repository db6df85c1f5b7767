"""How an action of a canvas draws: through all stages, heard at each step, and nothing done until it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

import torch
from torch import Tensor

from muse_studio.contracts import MASK, TextEmbedding
from muse_studio.errors import UserError
from muse_studio.images.naming import check_prompt
from muse_studio.recipe.running import ask_prompts
from muse_studio.registry.events import ProgressBar
from muse_studio.sampling.arguments import check_seed
from muse_studio.sampling.cascade import Cascade, Watch, report_step
from muse_studio.sampling.editing import deeds
from muse_studio.sampling.editing.board import Grids
from muse_studio.sampling.editing.history import Kept, Moment
from muse_studio.sampling.editing.session import GridEdit, draw_masked
from muse_studio.sampling.editing.windows import Layout
from muse_studio.sampling.stage import Stage
from muse_studio.sampling.variants import changed, editor_of


class How(TypedDict, total=False):
    """How an action draws, for this one time.

    negative: what to move away from. seed: by default the canvas's and the number of actions make one. settings: other
    settings of stages, by name, as `Model.using` takes them. watch: called after each step.
    """

    negative: str
    seed: int | None
    settings: Mapping[str, Any] | None
    watch: Watch | None


@dataclass(frozen=True)
class Asked:
    """What an action that draws is asked for; `Canvas` has what each is. do: its name."""

    do: str
    prompt: str
    seed: int
    keep: bool
    negative: str = ""
    settings: Mapping[str, Any] | None = None
    watch: Watch | None = None


@dataclass
class Drawing:
    """What an action draws with; kept: its steps, where they are kept."""

    stages: dict[str, Stage]
    text: TextEmbedding
    negative: TextEmbedding | None
    generator: torch.Generator
    watch: Watch
    kept: list[Kept] = field(default_factory=list)


def draw(model: Cascade, hook: Any, plane: Layout, wanted: Moment, asked: Asked) -> Moment:
    """The moment after all that is erased was drawn; `did` lacks the region."""
    codes: Grids = {}

    def count(stages: dict[str, Stage]) -> int:
        hidden = ((stage, wanted.erased[name][0]) for name, stage in stages.items())
        return sum(len(plane.corners(stage, grid.cpu())) * stage.sampler.steps for stage, grid in hidden)

    with _drawing(model, hook, asked, count) as drawing:
        low = None
        for name, stage in drawing.stages.items():
            masked = torch.where(wanted.erased[name], MASK, wanted.codes[name])
            more: dict[str, Any] = {"negative": drawing.negative, "low": low, "watch": drawing.watch}
            for low in draw_masked(plane, name, stage, masked, drawing.text, drawing.generator, **more):
                codes[name] = low
    nothing = {name: torch.zeros_like(grid) for name, grid in wanted.erased.items()}
    drawn = list(wanted.erased.values())[-1]
    return Moment(codes, nothing, wanted.frozen, _told(asked), None if drawn.all() else drawn, tuple(drawing.kept))


def edit(
    model: Cascade, hook: Any, plane: Layout, now: Moment, cells: Grids, editor: Any, dilate: int, asked: Asked
) -> Moment:
    """The moment after an editor has changed some cells of a picture, bool[1, h, w]; `did` lacks the region."""
    if erased := int(sum(grid.sum() for grid in now.erased.values())):
        raise UserError(f"edit: {erased} tokens are erased; fill them first")
    change = editor_of(model, editor)
    regions = {name: grid & ~now.frozen[name] for name, grid in cells.items()}

    def editing(stages: dict[str, Stage]) -> GridEdit:
        return GridEdit(stages, plane, now.codes, regions, dilate)

    with _drawing(model, hook, asked, lambda stages: editing(stages).count(change)) as drawing:
        more: dict[str, Any] = {"negative": drawing.negative, "watch": drawing.watch}
        session = editing(drawing.stages)
        *_, draft = session.edit(change, drawing.text, drawing.generator, **more)
        codes = session.finish(draft, drawing.text, drawing.generator, **more)
    did = _told(asked) | deeds.told_value("editor", editor)
    drawn = list(regions.values())[-1]
    return replace(now, codes=codes, did=did, drawn=None if drawn.all() else drawn, steps=tuple(drawing.kept))


@contextmanager
def _drawing(model: Cascade, hook: Any, asked: Asked, count: Callable[[dict[str, Stage]], int]) -> Iterator[Drawing]:
    """What draws, by this one time's settings; filters are asked first, and each step is told to all that listen."""
    check_prompt(asked.prompt)
    check_prompt(asked.negative)
    check_seed(asked.seed)
    ask_prompts(hook, [asked.prompt])
    stages = changed(model, asked.settings, "settings").stages if asked.settings else model.stages
    with model.naming_faults(), ProgressBar(count(stages), hook) as bar, torch.no_grad():
        with torch.inference_mode():
            text = model.text_encoder([asked.prompt]).to(model.device)
            away = model.text_encoder([asked.negative]).to(model.device) if asked.negative else None

        def watch(stage: str, step: int, steps: int, tokens: Tensor) -> None:
            report_step(hook, stage, step, steps, tokens)
            bar.advance(f"{asked.do}, {stage}")
            if asked.keep:
                drawing.kept.append((stage, step, steps, tokens.to("cpu", torch.int32)))
            if asked.watch is not None:
                asked.watch(stage, step, steps, tokens)

        drawing = Drawing(stages, text, away, torch.Generator().manual_seed(asked.seed), watch)
        yield drawing


def _told(asked: Asked) -> dict[str, Any]:
    """What an action says of what it was asked for."""
    negative = {"negative": asked.negative} if asked.negative else {}
    settings = deeds.told_value("settings", asked.settings) if asked.settings else {}
    return {"do": asked.do, "prompt": asked.prompt, **negative, **settings, "seed": asked.seed}
