"""The task `generate-published`: published weights are fetched and imported once, then pictures are drawn with them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muse_studio import run
from muse_studio.contracts import NO_RUN, Dialect, RunContext
from muse_studio.runtime.fetching import cache_folder
from muse_weights.formats import NotDone, done
from muse_weights.task import ImportWeights, check_others

LAYOUT = 2
"""Counted up where tensors get other names: what is kept under the names before is left, and imported anew."""


@dataclass
class GeneratePublished:
    """Draw with a published model, whose weights are imported into the cache folder (MUSE_CACHE) at the first run.

    source, format, variant, others: what to import, as `import-weights` takes them.
    prompt, negative, count, seed, out, batch, device, animate, previews: as `generate` takes them.
    changes: a table that is merged over the imported model's recipe, such as {stages: {base: {sampler: {steps: 8}}}}.
    """

    source: str
    format: Dialect | NotDone
    prompt: str | list[str]
    negative: str = ""
    count: int = 1
    seed: int = 0
    out: str = "out"
    batch: int = 1
    device: str = "auto"
    animate: bool = False
    previews: bool = False
    variant: str | None = None
    changes: dict = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_others(self.format, self.others)

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> Any:
        """What `generate` returns. UserError where the weights can't be had or don't fit."""
        asked = ("prompt", "negative", "count", "seed", "out", "batch", "device", "animate", "previews")
        request = {name: getattr(self, name) for name in asked}
        recipe = {**self.changes, "extends": str(self.model(context) / "generate.yaml"), **request}
        return run(recipe, plugins=context.plugin_files)  # which may hold a filter or a part

    def model(self, context: RunContext = NO_RUN) -> Path:
        """The folder of the imported model, made where it is missing."""
        format = done(self.format)
        others = (f"{name}={address}" for name, address in sorted(self.others.items()))
        key = " ".join(map(str, (LAYOUT, self.source, format.name, self.variant, *others)))
        folder = cache_folder() / "imported" / hashlib.sha256(key.encode()).hexdigest()[:16]
        if not folder.is_dir():
            task = ImportWeights(self.source, format, str(folder), variant=self.variant, others=self.others)
            task(context=context)
        return folder
