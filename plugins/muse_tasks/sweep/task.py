"""The task `sweep`: a recipe run with every combination of some settings, in one table, one sheet and one plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from muse_studio.contracts import NO_RUN, RunContext
from muse_studio.errors import SettingError, UserError
from muse_studio.images.naming import check_prompt
from muse_studio.images.provenance import Provenance, write_png
from muse_studio.images.sheets import Block, grid_sheet, side_of
from muse_studio.registry.events import ProgressBar
from muse_studio.runtime.files import claim_folder, is_full, path_of, replacing
from muse_tasks.sweep.combinations import combine, name_of
from muse_tasks.sweep.plot import Cost, draw_plot
from muse_tasks.sweep.runs import RESULT, Outcome, Runs
from muse_tasks.sweep.table import Row, Table

TABLE, MARKDOWN, SHEET, PLOT, RUNS = "sweep.csv", "sweep.md", "sheet.png", "plot.png", "runs"
"""What a sweep writes."""
FORMER = f"{RUNS}/*/{RESULT}"
"""What a sweep has written where no mark says that the folder is a sweep's."""


@dataclass
class Swept:
    """The rows, in the order of the combinations, how many were run this time, and the files."""

    table: Table
    run: int
    paths: list[Path]

    def summary(self) -> str:
        """The table, how much of it is new, and the files."""
        refused = sum(row.error is not None for row in self.table.rows)
        before = len(self.table.rows) - self.run - refused
        counted = f"{self.run} run now, {before} before, {refused} refused"
        return "\n".join([self.table.markdown(), counted, *map(str, self.paths)])


@dataclass
class Sweep:
    """Run a recipe with every combination of some settings, and hold the results against each other.

    Writes sweep.csv and sweep.md, the table; sheet.png, a row of pictures for each value of the first setting and a
    column for each combination of the others, drawn of the same prompts from the same seeds; plot.png, quality against
    what it costs, where the recipe measures quality, as `evaluate` does; and a folder a run, in runs/. A run that is
    finished is never run again: an interrupted sweep goes on, and one that was changed runs what is new in it. A
    combination that is refused stands in the table with its error.

    recipe: what is run each time: a recipe's name, a file, or a table, such as {extends: evaluate, n: 64}.
    settings: by path, a list of values each, the first one slowest; anything but a list is set in all. A path may be
        shortened to its end (steps) where one path in the recipe alone ends so. They are merged in their order, and a
        part replaces the one before it: name the part first, then its settings.
    prompt, seed: of the sheet's pictures, where the recipe draws none that are runs; each is what `generate` draws of
        that prompt and seed.
    shown: pictures of each run on the sheet, at most.
    against: what the plot holds quality against: seconds, or forwards, the passes of the networks for a batch.
    """

    recipe: str | dict
    settings: dict
    prompt: str | list[str] = field(default_factory=list)
    seed: int = 0
    shown: int = 4
    against: Cost = "seconds"
    out: str = "out/sweep"

    def __post_init__(self) -> None:
        # An override recipe=NAME comes as {use: NAME} where a table was before.
        given = self.recipe
        self._source = given["use"] if isinstance(given, dict) and list(given) == ["use"] else given
        if not any(_lists(self.settings)):
            raise SettingError("settings", "settings has no list of values to try, such as steps: [4, 8, 16]")
        if not all(_lists(self.settings)):
            raise SettingError("settings", "settings has an empty list; give each at least one value")
        for prompt in self._prompts:
            check_prompt(prompt)
        if self.shown < 1:
            raise SettingError("shown", f"shown is {self.shown}; give at least 1")
        if self.seed < 0:
            raise SettingError("seed", f"seed is {self.seed}; give 0 or more")

    @property
    def _prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> Swept:
        """Check all combinations, run those that were not run yet, and write the files anew.

        Raises RecipeError before anything is run where the settings have a mistake, UserError where `out` can't be
        written, the disk is full, or no combination could be run. Observers hear of each run as of any other.
        """
        combinations = combine(self._source, self.settings, context.plugin_files)
        out = claim_folder(path_of(self.out), "out", "sweep", (TABLE, MARKDOWN, SHEET, PLOT, RUNS), FORMER)
        runs = Runs(out / RUNS, context.plugin_files)
        rows, new = [], 0
        with ProgressBar(sum(each.recipe is not None for each in combinations)) as bar:
            for each in combinations:
                row = Row(each.labels, error="; ".join(problem.message for problem in each.problems) or None)
                rows.append(row)
                if each.recipe is None:
                    continue
                bar.advance(str(each), 0)
                try:
                    new += self._fill(row, each.recipe, runs)
                except UserError as error:
                    if is_full(error):  # which is no fault of the combination, and awaits all others too
                        raise
                    row.error = str(error)
                bar.advance(str(each))
        if all(row.error for row in rows):
            raise UserError(f"no combination could be run; the first one, {combinations[0]}: {rows[0].error}")
        table = Table(name_of(self._source), rows)
        return Swept(table, new, self._write(table, out))

    def _fill(self, row: Row, recipe: dict[str, Any], runs: Runs) -> bool:
        """Whether anything was left to be run."""
        found = runs.find(recipe)
        outcome = found or runs.run(recipe)
        drawn = outcome
        seen: Outcome | None = outcome
        if not outcome.pictures and self._prompts and {"stages", "text_encoder"} <= recipe.keys():
            shared: dict[str, Any] = {key: recipe[key] for key in ("stages", "text_encoder", "device") if key in recipe}
            drawing: dict[str, Any] = {"use": "generate", **shared, "prompt": self._prompts, "seed": self.seed}
            seen = runs.find(drawing)
            drawn = seen or runs.run(drawing)
        row.outcome = outcome
        row.pictures = [(runs.folder / drawn.folder / file, message, seed) for file, message, seed in drawn.pictures]
        return found is None or seen is None

    def _write(self, table: Table, out: Path) -> list[Path]:
        """All files, each whole or not at all; one of an earlier sweep that this one has not is removed."""
        for name, text in ((TABLE, table.csv()), (MARKDOWN, table.markdown())):
            with replacing(out / name) as aside:
                aside.write_text(text, encoding="utf-8", newline="")
        written = [out / TABLE, out / MARKDOWN]
        if found := blocks(table, self.shown):
            first = next(cell for row in found[0].cells for cell in row if isinstance(cell, Image.Image))
            write_png(grid_sheet(found, side=side_of(first)), out / SHEET, Provenance())
            written.append(out / SHEET)
        if table.scores:
            draw_plot(table, out / PLOT, self.against)
            written.append(out / PLOT)
        for name in (SHEET, PLOT):
            if out / name not in written:
                (out / name).unlink(missing_ok=True)
        return [*written, out / RUNS]


def blocks(table: Table, most: int) -> list[Block]:
    """The sheet's blocks, one a picture, at most so many; of a single setting one block, its columns the pictures."""
    pictures = [row.pictures[:most] for row in table.rows]
    count = max(map(len, pictures))
    titles = [_title([each[number] for each in pictures if len(each) > number], number) for number in range(count)]

    def cell(place: int, number: int) -> Image.Image | str:
        if number < len(pictures[place]):
            with Image.open(pictures[place][number][0]) as picture:
                return picture.convert("RGB")
        return "refused" if table.rows[place].error else ""

    places = {(row.first, row.others): place for place, row in enumerate(table.rows)}
    firsts, others = table.firsts, table.others
    setting = next(iter(table.rows[0].labels))
    names = [first if first[:1].isalpha() else f"{setting}={first}" for first in firsts]  # a number needs its name
    if others == [""]:
        cells = [[cell(places[first, ""], number) for number in range(count)] for first in firsts]
        return [Block("", names, titles, cells)] if count else []
    return [
        Block(title, names, others, [[cell(places[first, other], number) for other in others] for first in firsts])
        for number, title in enumerate(titles)
    ]


def _title(same: list[tuple[Path, str, int]], number: int) -> str:
    """What all these pictures were drawn of; only their number where that differs."""
    asked = {(prompt, seed) for _, prompt, seed in same}
    if len(asked) > 1:
        return f"picture {number + 1}"
    ((prompt, seed),) = asked
    return f"{prompt or '(no prompt)'}, seed {seed}"


def _lists(settings: dict[str, Any]) -> list[list[Any]]:
    """The lists of values in a table of settings and in the tables within it."""
    tables = [value for value in settings.values() if isinstance(value, dict)]
    return [value for value in settings.values() if isinstance(value, list)] + [
        each for table in tables for each in _lists(table)
    ]
