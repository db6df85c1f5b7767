"""Editing a picture's tokens through all stages: the first one by an editor, the later ones to match (Muse, 3.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from muse_studio.contracts import MASK, Editor, TextEmbedding
from muse_studio.images.pixels import to_bytes
from muse_studio.registry.guards import short
from muse_studio.sampling.abilities import iterations
from muse_studio.sampling.cascade import Watch, decode
from muse_studio.sampling.editing.region import feathered, grow, to_cells, touched
from muse_studio.sampling.editing.windows import Layout, sample_windows
from muse_studio.sampling.stage import Stage

Redraw = Literal["touched", "changed"]
"""What later stages draw anew, within the region: all that the first stage drew anew, or only what it changed."""


@dataclass(frozen=True)
class Draft:
    """The first stage's grid after a step of an editor: `EditSession.finish` gives it the later stages.

    tokens: int64[B, h, w]. touched: bool[B, h, w], the tokens drawn anew so far, changed or not.
    """

    tokens: Tensor
    touched: Tensor


def draw_masked(
    layout: Layout,
    name: str,
    stage: Stage,
    masked: Tensor,
    text: TextEmbedding,
    generator: torch.Generator,
    *,
    negative: TextEmbedding | None = None,
    low: Tensor | None = None,
    watch: Watch,
) -> Iterator[Tensor]:
    """A stage's grid after each step of each window, which `watch` hears of; as it is where nothing is MASK."""
    steps = len(layout.corners(stage, (masked == MASK).any(0))) * stage.sampler.steps
    if steps == 0:
        yield masked
        return
    windows = sample_windows(layout, stage, masked, text, generator, negative=negative, low=low)
    for step, tokens in enumerate(windows, 1):
        watch(name, step, steps, tokens)
        yield tokens


class TokenEditing:
    """Tokens on a plane, of which some may change: what is done to the first stage's, and to the later ones' to match.

    tokens: each stage's grid as it is, int64[B, h, w]. regions: each stage's tokens that may change, bool[B, h, w].
    dilate: rings of tokens around what the first stage changed, where later stages draw only that anew. redraw: see
    `Redraw`.
    """

    stages: dict[str, Stage]
    layout: Layout
    tokens: dict[str, Tensor]
    regions: dict[str, Tensor]
    dilate: int
    redraw: Redraw

    def count(self, editor: Editor) -> int:
        """At most so many steps are watched in one edit."""
        total = 0
        for place, (name, stage) in enumerate(self.stages.items()):
            times = 1 if place else iterations(editor) or 1
            total += len(self.layout.corners(stage, self.regions[name].any(0).cpu())) * stage.sampler.steps * times
        return total

    @torch.no_grad()
    def edit(
        self,
        editor: Editor,
        text: TextEmbedding,
        generator: torch.Generator,
        *,
        negative: TextEmbedding | None = None,
        watch: Watch,
    ) -> Iterator[Draft]:
        """The first stage's grid after each of the editor's steps; `finish` draws the later stages of one."""
        name = next(iter(self.stages))
        again = torch.zeros_like(self.regions[name])

        def resample(masked: Tensor) -> Iterator[Tensor]:
            due = self.tokens[name]
            if not isinstance(masked, Tensor) or (masked.shape, masked.dtype) != (due.shape, due.dtype):
                raise ValueError(f"resample is asked for {short(masked)}; give the whole grid, {short(due)}")
            again.logical_or_(masked == MASK)
            return draw_masked(
                self.layout, name, self.stages[name], masked, text, generator, negative=negative, watch=watch
            )

        for tokens in editor(self.tokens[name], self.regions[name], resample, generator):
            yield Draft(tokens, again.clone())

    @torch.no_grad()
    def finish(
        self,
        draft: Draft,
        text: TextEmbedding,
        generator: torch.Generator,
        *,
        negative: TextEmbedding | None = None,
        watch: Watch,
    ) -> dict[str, Tensor]:
        """Every stage's tokens, given those of the first one: the later ones drawn anew where it was (see `redraw`)."""
        (name, _), *later = self.stages.items()
        low = draft.tokens
        finished = {name: low}
        again = draft.touched if self.redraw == "touched" else low != self.tokens[name]
        for name, stage in later:
            anew = touched(again, self.layout.grid(stage))
            if self.redraw == "changed":
                anew = grow(anew, self.dilate)
            again = anew & self.regions[name]
            masked = torch.where(again, MASK, self.tokens[name])
            *_, low = draw_masked(
                self.layout, name, stage, masked, text, generator, negative=negative, low=low, watch=watch
            )
            finished[name] = low
        return finished


@dataclass
class GridEdit(TokenEditing):
    """Tokens that are known already, such as a canvas's; see `TokenEditing`."""

    stages: dict[str, Stage]
    layout: Layout
    tokens: dict[str, Tensor]
    regions: dict[str, Tensor]
    dilate: int = 1
    redraw: Redraw = "changed"


@dataclass
class EditSession(TokenEditing):
    """One picture on its plane, ready to be edited again and again.

    pixels: uint8[3, H, W]. region: bool[H, W], where it may change.
    dilate: rings of tokens around those that the region touches, which are drawn anew with them (see `to_cells`).
    redraw: see `Redraw`; around what the first stage changed, `dilate` rings of tokens are drawn anew.
    feather: pixels of the picture over which old and new blend, outside of the region.
    """

    stages: dict[str, Stage]
    layout: Layout
    pixels: Tensor
    region: Tensor
    device: torch.device
    dilate: int = 1
    redraw: Redraw = "touched"
    feather: int = 0
    tokens: dict[str, Tensor] = field(init=False)
    """Each stage's grid of the picture as it is, int64[1, h, w]."""
    regions: dict[str, Tensor] = field(init=False)
    """Each stage's tokens that may change, bool[1, h, w]."""

    def __post_init__(self) -> None:
        self.tokens, self.regions = {}, {}
        for name, stage in self.stages.items():
            images = self.layout.to_stage(self.pixels, stage).float().to(self.device) / 255
            with torch.inference_mode():
                self.tokens[name] = stage.tokenizer.encode(images).clone()
            cells = to_cells(self.layout.region_to_stage(self.region, stage), self.layout.grid(stage), self.dilate)
            self.regions[name] = cells[None].to(self.device)

    @classmethod
    def joined(cls, each: Sequence[EditSession]) -> EditSession:
        """Several pictures on equal planes, edited as one batch: grids of their `edit` and `finish` are int64[B, h, w].

        Settings are those of the first; each picture's own `paste` takes its row.
        """
        whole = copy(each[0])
        for grids in ("tokens", "regions"):
            setattr(
                whole, grids, {name: torch.cat([getattr(one, grids)[name] for one in each]) for name in whole.stages}
            )
        return whole

    def paste(self, finished: dict[str, Tensor]) -> Tensor:
        """The edited picture uint8[3, H, W]: new pixels in the region, a feather around it, the old ones elsewhere.

        With redraw "changed", the region is what the last stage's changed tokens cover.
        """
        name, stage = list(self.stages.items())[-1]
        drawn = self.layout.to_picture(to_bytes(decode(stage, finished[name])).cpu(), stage)
        region = self.region
        if self.redraw == "changed":
            cells = (finished[name] != self.tokens[name])[0].cpu()
            region = region & self.layout.region_to_picture(touched(cells, self.layout.size(stage)), stage)
        weight = feathered(region, self.feather)
        return torch.lerp(self.pixels.float(), drawn.float(), weight).round().byte()
