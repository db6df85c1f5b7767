"""Finished runs, kept by the recipe that they ran, so that none is run twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from muse_studio.recipe import running
from muse_studio.recipe.tree import to_yaml
from muse_studio.runtime.device import choose_device
from muse_studio.runtime.files import file_name
from muse_tasks.evaluate.task import Evaluate
from muse_tasks.generate.drawing import machine

RESULT, RECIPE = "result.json", "recipe.yaml"
"""Files that a run's folder has beside what the task writes."""


@dataclass
class Outcome:
    """What a sweep wants to know of a run.

    folder: its name. scores: as the task's result has them, where it has. seconds: a picture, the median of what was
    measured; of a task that draws nothing, the whole run's. at_once: pictures drawn together, 0 where none were.
    machine: what it ran on. pictures: file, prompt and seed of each. forwards: passes of the networks for a batch, None
    where the task doesn't count them.
    """

    folder: str
    seconds: float
    at_once: int
    machine: str
    scores: dict[str, float] = field(default_factory=dict)
    pictures: list[tuple[str, str, int]] = field(default_factory=list)
    forwards: float | None = None


class Runs:
    """A folder of finished runs. files: plugin files, as `api.run` takes them.

    A run's folder takes its name when all is in it; what one that failed leaves is thrown away, by the next one where
    it was killed.
    Where the pictures are the same data set's, they are read once for all evaluations.
    """

    def __init__(self, folder: Path, files: running.Files = ()) -> None:
        self.folder, self.files = folder, files
        self._collections: dict[str, Any] = {}

    def find(self, recipe: dict[str, Any]) -> Outcome | None:
        """What a run of this recipe found, where it is finished."""
        try:
            kept = json.loads((self.folder / identity(recipe) / RESULT).read_text(encoding="utf-8"))
            return Outcome(**kept | {"pictures": [tuple(each) for each in kept["pictures"]]})
        except (OSError, ValueError, KeyError, TypeError):  # not there, or not written by this version
            return None

    def run(self, recipe: dict[str, Any]) -> Outcome:
        """Run a recipe in a folder of its own. Raises what `api.run` does, and OSError where its notes find no room."""
        name = identity(recipe)
        folder, aside = self.folder / name, self.folder / f".{name}"
        for each in (folder, aside):
            shutil.rmtree(each, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            outcome = self._run(recipe, name, aside)
            (aside / RECIPE).write_text(to_yaml(recipe), encoding="utf-8")
            (aside / RESULT).write_text(json.dumps(asdict(outcome), indent=2) + "\n", encoding="utf-8")
            os.replace(aside, folder)
        except OSError as error:
            if error.filename is None:  # as of a disk that fills up amid a file
                error.filename = str(aside)
            raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return outcome

    def _run(self, recipe: dict[str, Any], name: str, aside: Path) -> Outcome:
        """What a run finds that writes to the folder `aside`."""
        prepared = running.prepare(self._within(recipe, aside), plugins=self.files)
        task, data = prepared.task, json.dumps(recipe.get("dataset"))
        if isinstance(task, Evaluate):
            task.collection = self._collections.get(data)
        began = time.perf_counter()
        result = prepared()
        whole = time.perf_counter() - began
        if isinstance(task, Evaluate):
            self._collections = {data: task.collection}
        drawn = getattr(result, "seconds", [])
        return Outcome(
            folder=name,
            seconds=median(drawn) if drawn else whole,
            at_once=getattr(task, "batch", 1) if drawn else 0,
            machine=machine(choose_device(getattr(task, "device", "auto"))),
            forwards=getattr(result, "forwards", None),
            scores=result.scores() if hasattr(result, "scores") else {},
            pictures=[
                (path.name, prompt, seed)
                for path, prompt, seed in zip(
                    *(getattr(result, key, []) for key in ("paths", "prompts", "seeds")), strict=False
                )
            ],
        )

    def _within(self, recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
        """The recipe writing into the folder: by its task's `out`, a file keeping its name, and by `fit.out`."""
        changed = dict(recipe)
        (part,) = running.parts("task", recipe["use"], self.files)
        if "out" in part.settings:
            written = Path(str(recipe.get("out", "")))
            changed["out"] = str(folder / file_name(written.name, "out") if written.suffix else folder)
        if isinstance(fit := recipe.get("fit"), dict):
            changed["fit"] = {**fit, "out": str(folder / "fit")}
        return changed


def identity(recipe: dict[str, Any]) -> str:
    """A short name for a resolved recipe; where it writes to does not count."""
    counted = {key: value for key, value in recipe.items() if key != "out"}
    return hashlib.sha256(json.dumps(counted).encode()).hexdigest()[:12]
