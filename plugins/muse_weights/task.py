"""The task `import-weights`: a published model becomes a folder of ours, with a recipe that draws with it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muse_studio import parts
from muse_studio.contracts import NO_RUN, Dialect, RunContext
from muse_studio.errors import UserError
from muse_studio.registry.events import progress
from muse_studio.runtime import memory, weights
from muse_studio.runtime.dialects import Copied, Found, Imported, Piece, Tables
from muse_studio.runtime.files import path_of, replacing_folder, within
from muse_studio.runtime.matching import Match, Tensors, differences, made, match, shapes_of, wanted
from muse_studio.runtime.wrappers import as_the_table_has_them
from muse_weights.export import KEPT
from muse_weights.folder import check_free
from muse_weights.formats import NotDone, done, refusal
from muse_weights.former import Former
from muse_weights.recipes import write
from muse_weights.report import Fit, Report
from muse_weights.source import Source, opened


@dataclass
class ImportWeights:
    """Read published weights by their dialect's table, strictly, and write them as ours with a recipe beside them.

    No name may be left over, none of ours missing, every shape equal and every number finite; else nothing is written
    and what does not fit is named. No code of the source is ever run: of pickled files tensors alone are made, and
    whatever else they hold is stood in for.

    source: a local folder or file, hf://owner/name, or any address that fsspec knows; what is remote is fetched into
        the cache folder (MUSE_CACHE), once.
    format: the dialect, such as amused; those that are known but not done are refused with the reason.
        Such as muse-0.1 rename files of an earlier version: weights, an adapter, or a whole run with its checkpoints.
    out: the folder to write, which must not be there yet; it appears when all of it is written.
    dry_run: say what fits and what doesn't, and write nothing.
    variant: of the published files, such as fp16; those without by default. Numbers are kept in the type they have.
    sha256: of files of the source, by their names in it; each is checked.
    others: where that lies which is published apart from the source, by its name, such as {tokenizer: vq.pt}; by
        default where the dialect knows it to be.
    key: under which keys of a trainer's file the model lies, such as ema or generator.ema; by default where most names
        are that the dialect knows, and of models that are equal in this its moving averages. A note tells of others.
    """

    source: str
    format: Dialect | NotDone
    out: str = "imported"
    dry_run: bool = False
    variant: str | None = None
    sha256: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    key: str | None = None

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise ValueError("source is empty; give a folder, a file, or an address such as hf://owner/name")
        check_others(self.format, self.others)

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> Report:
        """Read, compare, write. UserError, with nothing written, where the source does not fit or `out` is taken."""
        chosen = done(self.format)
        source = Source(self.source, self.variant, self.sha256)
        out = path_of(self.out).resolve()
        if not self.dry_run:
            check_free(out)
        if chosen.former is not None:
            return self._rename(chosen, source, out)
        try:
            configs = _configs(chosen, source)
            opens = [self._open(piece, source, configs, context.plugin_files) for piece in chosen.pieces]
            copies = {each.name: _copies(each, source) for each in chosen.copied}
            source.check_sums()
        except UserError as error:
            raise refusal(chosen, error) from error
        report = Report(str(source), [each.fit for each in opens])
        if self.dry_run:
            return report
        if not report.whole:
            raise UserError(f"{source} does not fit format {chosen.name!r}:\n{report.summary()}")
        memory.check(
            max(each.bytes for each in opens),
            "its largest part takes",
            "take a variant of smaller numbers, such as fp16",
        )
        place = f"format {chosen.name}"
        with replacing_folder(out) as aside:
            for name, table in configs.items():
                path = within(aside / KEPT, name, place)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(table, indent=2), encoding="utf-8")
            for name, files in copies.items():
                within(aside, name, place).mkdir()
                for new, file in files.items():
                    shutil.copyfile(file, within(aside / name, new, place))
            settings = {each.piece.name: each.settings for each in opens} | {
                name: {**given, "model": self.others.get(name, given["model"])} for name, given in chosen.given.items()
            }
            for each in opens:
                further = chosen.further.get(each.piece.name, _nothing)(aside, settings)
                where = self.others.get(each.piece.name, each.piece.home) if each.piece.home else self.source
                each.save(within(aside, each.piece.written, place), further, where)
            names = write(aside, chosen.recipes(Imported(out, settings)), self.source, chosen.name)
        report.recipes = [out / name for name in names]
        return report

    def _rename(self, chosen: Dialect, source: Source, out: Path) -> Report:
        """Files of an earlier version, renamed into `out`; the folder holds all that the source does."""
        former = Former.of(source, chosen.former)
        source.check_sums()
        report = Report(str(source), former.fits(str(source)))
        if self.dry_run:
            return report
        if not report.whole:
            raise UserError(f"{source} does not fit format {chosen.name!r}:\n{report.summary()}")
        with replacing_folder(out) as aside:
            former.write(aside)
            names = write(aside, chosen.recipes(Imported(out, former.settings())), self.source, chosen.name)
        report.recipes, report.folder = [out / name for name in names], out
        return report

    def _open(
        self, piece: Piece, source: Source, configs: dict[str, dict[str, Any]], plugins: tuple[str | Path, ...]
    ) -> _Opened:
        """A piece where it lies; the part that it is for may be one of the run's plugin files."""
        part = parts(piece.kind, piece.part, plugins)[0].load()
        if not piece.home:
            return _Opened.of(piece, part, source, configs, self.key)
        try:
            return _Opened.of(piece, part, Source(self.others.get(piece.name, piece.home), None, {}), configs)
        except UserError as error:
            raise UserError(f"{error}; what others.{piece.name} says is taken for it") from error


def check_others(format: Dialect | NotDone, others: dict[str, str]) -> None:
    """ValueError where the dialect is not done, or where `others` names what is not published separately from it."""
    chosen = done(format)
    separate = [*(piece.name for piece in chosen.pieces if piece.home), *chosen.given]
    for name in others:
        if name not in separate:
            has = f"these are: {', '.join(separate)}" if separate else "nothing is"
            raise ValueError(f"others has {name!r}, which of format {chosen.name!r} is not published apart; {has}")


def _nothing(folder: Path, settings: Tables) -> dict[str, Tensor]:
    return {}


def _configs(chosen: Dialect, source: Source) -> dict[str, dict[str, Any]]:
    """The JSON files that the dialect speaks of; UserError where one says that this is another model."""
    configs = {}
    for name, expected in chosen.declares.items():
        config = configs[name] = source.table(name)
        for key, value in expected.items():
            if config.get(key) != value:
                raise UserError(f"{source} is another model's: {name} has {key} {config.get(key)!r}, not {value!r}")
    return configs


def _copies(copied: Copied, source: Source) -> dict[str, Path]:
    wanted = {new: name for new, name in copied.files.items() if new not in copied.optional or source.has(name)}
    return {new: source.file(name) for new, name in wanted.items()}


@dataclass
class _Opened:
    """One piece with its files open: how it fits, and how our part is set."""

    piece: Piece
    part: Callable[..., Any]
    settings: dict[str, Any]
    tensors: Tensors
    found: Match
    fit: Fit
    bytes: int
    """The size of its files, which is what its tensors take."""

    @classmethod
    def of(
        cls,
        piece: Piece,
        part: Callable[..., Any],
        source: Source,
        configs: dict[str, dict[str, Any]],
        under: str | None = None,
    ) -> _Opened:
        """Open a piece's files, and hold every name, shape and number against the table."""
        folder = f"{piece.folder}/" if piece.folder else ""
        config = {**piece.defaults, **source.table(f"{folder}config.json")} if piece.expected else {}
        if config:
            configs[f"{folder}config.json"] = config
        for key, value in piece.expected.items():
            if config.get(key) != value:
                got = repr(config[key]) if key in config else "not said"
                raise UserError(
                    f"{source} is another model's: {folder}config.json has {key} {got}, the part {piece.part!r} "
                    f"knows {value!r} alone"
                )
        files = source.weights(f"{folder}{piece.weights}" if piece.weights else "")
        tensors = as_the_table_has_them(opened(files, piece, under), piece)
        for name, strange in tensors.strange.items():
            if any(re.fullmatch(rule.pattern, name) for rule in piece.rules):
                raise UserError(
                    f"{source}: {name!r} is to be a tensor, and is made by {strange}, which is not run here; write its "
                    "numbers as a tensor where you trust the file, or find it as safetensors"
                )
        try:
            settings = piece.settings(Found(config, tensors.shapes, configs))
        except (LookupError, TypeError, ValueError) as error:
            held = "".join(f"; {note}" for note in tensors.notes)
            raise UserError(f"{source} is another model's: its {piece.name} lacks {error}{held}") from error
        found = match(tensors.shapes, piece, settings)
        try:
            shapes = wanted(piece, part, settings, config)
        except (ValueError, TypeError) as error:
            raise UserError(f"{piece.name}: no {piece.part!r} can be of these sizes: {error}") from error
        misfits = differences(found, tensors.shapes, shapes)
        fit = Fit(piece.name, f"{source}/{folder}".rstrip("/"), dropped=found.dropped, misfits=misfits)
        fit.notes = tensors.notes
        fit.matched, fit.made = sum(map(len, found.origins.values())), len(found.origins)
        names = progress([o.name for origins in found.origins.values() for o in origins], f"reading {piece.name}")
        misfits["not finite"] = [name for name in names if not tensors.read(name).isfinite().all()]
        misfits["no copies"] = [
            f"{name} differs from {other}"
            for name, other in piece.copies.items()
            if {name, other} <= tensors.shapes.keys() and not torch.equal(tensors.read(name), tensors.read(other))
        ]
        return cls(piece, part, settings, tensors, found, fit, sum(path.stat().st_size for path in files.paths))

    def save(self, path: Path, further: dict[str, Tensor], source: str) -> None:
        """Write the piece as our part has it, its settings in the metadata."""
        own = {name: made(origins, self.tensors.read) for name, origins in self.found.origins.items()}
        if self.piece.starts:
            shapes = shapes_of(self.part, self.settings)
            own |= {
                name: torch.full(shapes[name], value) for name, value in self.piece.starts.items() if name in shapes
            }
        weights.save(
            own | further, path, {"use": self.piece.part, **self.settings}, muse_imported_from=weights.portable(source)
        )
