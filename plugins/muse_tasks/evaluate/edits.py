"""The task `evaluate-edits`: how well pictures are edited, in two tables, one JSON file and one contact sheet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from muse_studio.contracts import NO_RUN, Dataset, RunContext, Task
from muse_studio.errors import SettingError, UserError
from muse_studio.images.provenance import Provenance
from muse_studio.images.sheets import contact_sheet
from muse_studio.runtime.device import choose_device
from muse_studio.sampling.cascade import make_ready
from muse_tasks.edit.batch import BatchEditor
from muse_tasks.edit.task import Edit
from muse_tasks.evaluate.edit_cases import Editable
from muse_tasks.evaluate.edit_report import EditEvaluation
from muse_tasks.evaluate.inpainting import measure_inpainting
from muse_tasks.evaluate.mask_free import measure_mask_free
from muse_tasks.evaluate.output import open_folder, write


@dataclass
class EvaluateEdits:
    """Measure two ways to edit: a hole filled again under its caption and another, and an attribute changed by words.

    Writes metrics.json, with each number's meaning in words, and sheet.png; both replace those of an evaluation before.
    The same seed, numbers and batch give the same numbers.

    dataset: one with `evaluation(split)` (`records.Evaluable`), of which held-out pictures are inpainted; of
    another, any picture is. For `mask_free`, one with `edits(n, seed)` (`edit_cases.Editable`).
    inpaint, mask_free: the tasks `edit` that are measured, with all their settings but picture, region, prompts, seed
    and count; null leaves that measure out.
    n: pictures to inpaint, drawn at random; all of them where there are fewer. cases: edits by words.
    away: lead those edits away from the caption of the picture before.
    batch: pictures edited at once, from one generator: another batch draws other pictures, as good as these.
    shown: pictures of each measure on the contact sheet.
    """

    dataset: Dataset
    inpaint: Task | None = None
    mask_free: Task | None = None
    n: int = 256
    cases: int = 64
    away: bool = False
    seed: int = 0
    out: str = "out/evaluate-edits"
    device: str = "auto"
    batch: int = 32
    shown: int = 24

    def __post_init__(self) -> None:
        for name in ("inpaint", "mask_free"):
            task = getattr(self, name)
            if task is not None and not isinstance(task, Edit):
                raise SettingError(
                    name, f"{name} is a {type(task).__name__}; give a task `edit`, such as {{extends: inpaint}}"
                )
        if self.inpaint is None and self.mask_free is None:
            raise ValueError("nothing to measure; give inpaint, such as {extends: inpaint}, or mask_free, or both")
        for name in ("n", "cases", "batch", "shown"):
            if getattr(self, name) < 1:
                raise SettingError(name, f"{name} is {getattr(self, name)}; give at least 1")
        if self.seed < 0:
            raise SettingError("seed", f"seed is {self.seed}; give 0 or more")

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> EditEvaluation:
        """Measure, and write both files; `hook` hears of each sampling step.

        Raises UserError where `out` can't be written, the device is missing, or the data set has no edits, before any
        picture is read.
        """
        out, device = open_folder(self.out, "evaluation of edits"), choose_device(self.device)
        if self.mask_free is not None and not isinstance(self.dataset, Editable):
            raise UserError(
                "dataset: it has no edits with known results; give one that has, such as dataset.use=emoji, "
                "or mask_free=null"
            )
        metrics: dict[str, Any] = {"seed": self.seed, "batch": self.batch}
        sections = []
        if (run := self._ready(self.inpaint, device, hook)) is not None:
            metrics["refilled"], section = measure_inpainting(run, self.dataset, self.n, self.shown)
            sections.append(section)
        if (run := self._ready(self.mask_free, device, hook)) is not None:
            assert isinstance(self.dataset, Editable)  # seen to above
            metrics["edited"], section = measure_mask_free(run, self.dataset, self.cases, self.away, self.shown)
            sections.append(section)
        result = EditEvaluation(metrics, contact_sheet(sections, side=96))
        result.paths = write(result, out, Provenance(context.recipe, context.plugins, edited=True))
        return result

    def _ready(self, task: Task | None, device: torch.device, hook: Any) -> BatchEditor | None:
        if not isinstance(task, Edit):  # then it is None, as the constructor refuses all else
            return None
        make_ready(task.stages, task.text_encoder, device)
        return BatchEditor(task, device, self.seed, self.batch, hook)
