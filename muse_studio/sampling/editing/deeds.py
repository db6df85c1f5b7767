"""A canvas's actions as texts and numbers: how each is told, so that it can be done again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muse_studio.errors import Refused, UserError
from muse_studio.images.naming import is_unicode
from muse_studio.recipe.strangers import is_box
from muse_studio.sampling.arguments import LARGEST_SEED
from muse_studio.sampling.editing.region import Region

DRAWS = ("prompt", "negative", "seed", "settings")
"""What every action that draws is told with."""

ACTIONS: dict[str, tuple[str, ...]] = {
    "generate": DRAWS,
    "reroll": ("region", *DRAWS),
    "fill": DRAWS,
    "edit": ("region", "editor", *DRAWS),
    "erase": ("region",),
    "freeze": ("region",),
    "thaw": ("region",),
    "extend": ("left", "top", "right", "bottom"),
    "place": ("tokens",),
}
"""What each action may be told with, beside `do`, its name."""

NEEDED = {"generate": "prompt", "place": "tokens"}
"""The setting that an action can't do without."""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and is_unicode(value)


def _is_table_of_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(each, str) for way in value.items() for each in way)


def _is_table_of_tables(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(each, Mapping) for each in value.values())


def _is_region(value: Any) -> bool:
    several = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return value is None or isinstance(value, str) or several or _is_table_of_texts(value)


_SIDE = ("a whole number of pixels", _is_whole)
VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "prompt": ("a text", _is_text),
    "negative": ("a text", _is_text),
    "seed": (f"a whole number from 0 to {LARGEST_SEED}", lambda value: _is_whole(value) and 0 <= value <= LARGEST_SEED),
    "settings": ("a table of a table by stage", _is_table_of_tables),
    "region": ("a box such as 0,0,40,40, several, or cells by stage", _is_region),
    "editor": ("an editor's name or table", lambda value: isinstance(value, str | Mapping)),
    "tokens": ("tokens by stage", _is_table_of_texts),
    **dict.fromkeys(("left", "top", "right", "bottom"), _SIDE),
}
"""What each setting of an action is, in words, and whether a value is one."""

_GRID = re.compile(r"(\d{1,4})x(\d{1,4}):([0-9a-f]*)")
UNSAID = "unsaid"
"""A key of an action that can't be told in full, such as one whose settings hold objects of Python."""


def told_region(region: Region | Mapping[str, str] | None, cells: Mapping[str, Tensor]) -> Any:
    """A region as it is told: boxes as text, all else by the cells bool[1, h, w] of each stage that it came to."""
    if region is None:
        return None
    if isinstance(region, tuple):
        return ",".join(map(str, region))
    given = [region] if isinstance(region, str) else region
    if isinstance(given, Sequence) and all(isinstance(each, str) and is_box(each) for each in given):
        return region if isinstance(region, str) else list(given)
    return {name: pack(grid[0]) for name, grid in cells.items()}


def pack(grid: Tensor) -> str:
    """A grid bool[h, w], a bit a place, or int64[h, w] of codes, as text: "2x3:a8", rows x columns and hexadecimals."""
    rows, columns = grid.shape
    values = grid.cpu().numpy()
    content = np.packbits(values) if grid.dtype == torch.bool else values.astype(">u4")
    return f"{rows}x{columns}:{content.tobytes().hex()}"


def unpack(text: Any, codes: int | None = None) -> Tensor:
    """What `pack` made: bool[h, w], or int64[h, w] where so many codes are given; UserError where it is none."""
    found = _GRID.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise UserError(f"{text!r:.60} is no grid; give rows x columns, a colon, and hexadecimals")
    rows, columns = int(found[1]), int(found[2])
    due = -(-rows * columns // 8) if codes is None else 4 * rows * columns
    if len(found[3]) != 2 * due:
        raise UserError(f"a grid of {rows}x{columns} has {2 * due} hexadecimals, and this one {len(found[3])}")
    content = np.frombuffer(bytes.fromhex(found[3]), np.uint8 if codes is None else ">u4")
    if codes is None:
        return torch.from_numpy(np.unpackbits(content, count=rows * columns).reshape(rows, columns) > 0)
    grid = torch.from_numpy(content.astype(np.int64)).view(rows, columns)
    if rows * columns and int(grid.max()) >= codes:
        raise UserError(f"a grid holds the code {int(grid.max())}, and the tokenizer has {codes}")
    return grid


def shown(did: Mapping[str, Any]) -> dict[str, Any]:
    """An action for people to read: without grids."""
    short = {key: each for key, each in did.items() if key not in ("tokens", UNSAID)}
    if isinstance(did.get("region"), Mapping):
        short["region"] = "a mask"
    return short


def played(did: Mapping[str, Any]) -> dict[str, Any] | None:
    """An action for `Canvas.play`: without the name of a picture's file, as its tokens say it all. None for UNSAID."""
    return None if UNSAID in did else {key: each for key, each in did.items() if key in ("do", *ACTIONS[did["do"]])}


def told_value(key: str, value: Any) -> dict[str, Any]:
    """A value of an action: itself where it is of texts, numbers, lists and tables; else that it can't be said."""
    try:
        return {key: json.loads(json.dumps(value))}
    except (TypeError, ValueError):
        return {UNSAID: True}


def check_told(did: Any) -> None:
    """UserError where what was done is none of `ACTIONS`; what else a moment tells of it is passed over."""
    if not isinstance(did, Mapping):
        raise UserError(f"what was done is {type(did).__name__}, and a table is due")
    taken = ("do", *ACTIONS.get(str(did.get("do")), ()))
    check_actions([{key: each for key, each in did.items() if key in taken}])


def check_actions(actions: Any) -> None:
    """UserError, naming the place, where these are no list of actions as `ACTIONS` has them."""
    if not isinstance(actions, Sequence) or isinstance(actions, str):
        raise UserError(f"actions: expected a list of tables, got {type(actions).__name__}")
    for number, action in enumerate(actions):
        where = f"actions[{number}]"
        if not isinstance(action, Mapping) or str(action.get("do")) not in ACTIONS:
            raise UserError(f"{where}: expected a table whose `do` is one of {', '.join(ACTIONS)}, got {action!r:.80}")
        taken = ACTIONS[action["do"]]
        if strange := [str(key) for key in action if key not in ("do", *taken)]:
            raise UserError(f"{where}: {action['do']} takes {', '.join(taken)}, and no {', '.join(strange)}")
        if (needed := NEEDED.get(action["do"])) and needed not in action:
            raise UserError(f"{where}: {action['do']} needs {needed}, and none is given")
        for key in taken:
            what, is_one = VALUES[key]
            if key in action and not is_one(action[key]):
                raise UserError(f"{where}.{key}: expected {what}, got {action[key]!r:.60}")


@contextmanager
def at(number: int) -> Iterator[None]:
    """Around one of several actions: an error of its user says which one it was; a filter's stays itself."""
    try:
        yield
    except Refused:
        raise
    except UserError as error:
        raise UserError(f"actions[{number}]: {error}") from error
