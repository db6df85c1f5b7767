"""What a client wants done, from JSON to a call of a Canvas: the one place where its values become arguments."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muse_server.canvases.fields import FIELDS, SIDES, Surface
from muse_server.canvases.placing import placed
from muse_server.canvases.regions import Area
from muse_server.refusals import Refusal
from muse_studio.errors import near
from muse_studio.sampling.arguments import LARGEST_SEED
from muse_studio.sampling.cascade import Watch
from muse_studio.sampling.editing.canvas import Canvas

_DRAWS = ("prompt", "negative", "seed", "count", "settings", "staged")
ACTIONS: dict[str, tuple[str, ...]] = {
    "generate": _DRAWS,
    "reroll": ("region", *_DRAWS),
    "fill": ("region", *_DRAWS),
    "edit": ("region", "editor", *_DRAWS),
    "erase": ("region",),
    "freeze": ("region",),
    "thaw": ("region",),
    "extend": SIDES,
    "place": ("picture", "at", "scale"),
    "undo": (),
    "redo": (),
    "go": ("to",),
    "discard": (),
}
"""What each action may say beside `do`."""
NEEDED = {"generate": "prompt", "place": "picture", "go": "to"}
"""What it must."""


@dataclass(frozen=True)
class Action:
    """Something to do. given: as a Canvas's method of that name takes it, but for `region`. seeds: one a picture."""

    do: str
    given: dict[str, Any]
    region: Area | None = None
    seeds: tuple[int, ...] = ()
    staged: bool = False

    @property
    def draws(self) -> bool:
        """Whether it takes its time."""
        return bool(self.seeds)

    def on(self, canvas: Canvas, seed: int | None = None, watch: Watch | None = None) -> None:
        """Do it, in the model's thread; with one of its seeds where it draws, and a watch that hears each step."""
        given = dict(self.given)
        if "region" in ACTIONS[self.do] and self.do != "fill":
            given["region"] = None if self.region is None else self.region.of(canvas.size)
        if self.draws:
            given |= {"seed": seed, "watch": watch}
        if self.do == "go":
            _go(canvas, given["to"])
        elif self.do == "place":
            placed(canvas, **given)
        else:
            getattr(canvas, self.do)(**given)


def read(action: object, on: Surface) -> Action:
    """What a client's JSON says is to be done; Refusal, its `param` the field, where it is no action, in any way."""
    if not isinstance(action, Mapping):
        raise Refusal('an action is an object of JSON, such as {"do": "undo"}', "do")
    do = action.get("do")
    if not isinstance(do, str) or do not in ACTIONS:
        raise Refusal(f"do: expected one of {', '.join(ACTIONS)};{near(str(do)[:40], ACTIONS)}".rstrip(";"), "do")
    taken = ACTIONS[do]
    for key in action:
        if key != "do" and key not in taken:
            shown = str(key)[:40]
            raise Refusal(f"{do} takes {', '.join(taken) or 'nothing'}, and no {shown!r}", shown)
    if (needed := NEEDED.get(do)) and action.get(needed) is None:
        raise Refusal(f"{needed}: {do} needs it, and it is not given", needed)
    said = {key: each for key, each in action.items() if key != "do" and each is not None}
    if do == "fill" and "region" in said:
        raise Refusal("region: fill draws all that is erased; leave it out, or erase it first", "region")
    given = {key: FIELDS[key](each, on) for key, each in said.items()}
    region, seed, count = given.pop("region", None), given.pop("seed", None), given.pop("count", 1)
    staged = given.pop("staged", False)
    if "prompt" not in taken:
        return Action(do, given, region)
    return Action(do, given, region, _seeds(seed, count), staged or count > 1)


def _seeds(seed: int | None, count: int) -> tuple[int, ...]:
    """A seed a picture, one after the other; the first by lot where none is given."""
    first = secrets.randbelow(2**32) if seed is None else seed
    if first + count - 1 > LARGEST_SEED:
        raise Refusal(f"seed: the last one, seed + count - 1, must be at most {LARGEST_SEED}", "seed")
    return tuple(range(first, first + count))


def _go(canvas: Canvas, to: int) -> None:
    while len(canvas.history) > to:
        canvas.undo()
    while len(canvas.history) < to:
        canvas.redo()
