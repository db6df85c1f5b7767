"""The task `import-weights`: a published model becomes a folder of ours, with a recipe that draws with it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muse_studio import parts
from muse_studio.errors import UserError
from muse_studio.registry.progress import progress
from muse_studio.runtime import memory, weights
from muse_studio.runtime.files import path_of
from muse_weights.dialect import Copied, Dialect, Imported, Tables
from muse_weights.export import KEPT
from muse_weights.folder import check_free, replacing_folder
from muse_weights.formats import dialect, refusal
from muse_weights.recipes import write
from muse_weights.report import Fit, Report
from muse_weights.source import Source, opened
from muse_weights.table import Found, Match, Piece, differences, made, match
from muse_weights.tensors import Tensors


@dataclass
class ImportWeights:
    """Read published weights by their dialect's table, strictly, and write them as ours with a recipe beside them.

    No name may be left over, none of ours missing, every shape equal and every number finite; else nothing is written
    and what does not fit is told. No code of the source is ever run: pickled files are read by torch's reader of
    tensors alone, and refused where they need more.

    source: a local folder or file, hf://owner/name, or any address that fsspec knows; what is remote is fetched into
        the cache folder (MUSE_CACHE), once.
    format: the dialect, such as amused; a wrong one is answered with those there are.
    out: the folder to write, which must not be there yet; it appears when all of it is written.
    dry_run: tell what fits and what doesn't, and write nothing.
    variant: of the published files, such as fp16; those without by default. Numbers are kept in the type they have.
    sha256: of files of the source, by their names in it; each is checked.
    others: where that lies which is published apart from the source, by its name, such as {tokenizer: vq.pt}; by
        default where the dialect knows it to be.
    """

    source: str
    format: str
    out: str = "imported"
    dry_run: bool = False
    variant: str | None = None
    sha256: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise ValueError("source is empty; give a folder, a file, or an address such as hf://owner/name")
        check_others(self.format, self.others)

    def __call__(self, hook: Any = None) -> Report:
        """Read, compare, write. UserError, with nothing written, where the source does not fit or `out` is taken."""
        chosen = dialect(self.format)
        source = Source(self.source, self.variant, self.sha256)
        out = path_of(self.out).resolve()
        if not self.dry_run:
            check_free(out)
        try:
            told = _told(chosen, source)
            opens = [self._open(piece, source, told) for piece in chosen.pieces]
            copies = {each.name: _copies(each, source) for each in chosen.copied}
            source.check_sums()
        except UserError as error:
            raise refusal(self.format, error) from error
        report = Report(str(source), [each.fit for each in opens])
        if self.dry_run:
            return report
        if not report.whole:
            raise UserError(f"{source} does not fit format {self.format!r}:\n{report.summary()}")
        memory.check(
            max(each.bytes for each in opens),
            "its largest part takes",
            "take a variant of smaller numbers, such as fp16",
        )
        with replacing_folder(out) as aside:
            for name, table in told.items():
                (aside / KEPT / name).parent.mkdir(parents=True, exist_ok=True)
                (aside / KEPT / name).write_text(json.dumps(table, indent=2), encoding="utf-8")
            for name, files in copies.items():
                (aside / name).mkdir()
                for new, file in files.items():
                    shutil.copyfile(file, aside / name / new)
            settings = {each.piece.name: each.settings for each in opens} | {
                name: {**given, "model": self.others.get(name, given["model"])} for name, given in chosen.given.items()
            }
            for each in opens:
                further = chosen.further.get(each.piece.name, _nothing)(aside, settings)
                where = self.others.get(each.piece.name, each.piece.home) if each.piece.home else self.source
                each.save(aside / each.piece.written, further, where)
            names = write(aside, chosen.recipes(Imported(out, settings)), self.source, self.format)
        report.recipes = [out / name for name in names]
        return report

    def _open(self, piece: Piece, source: Source, told: dict[str, dict[str, Any]]) -> _Opened:
        """A piece where it lies."""
        if not piece.home:
            return _Opened.of(piece, source, told)
        try:
            return _Opened.of(piece, Source(self.others.get(piece.name, piece.home), None, {}), told)
        except UserError as error:
            raise UserError(f"{error}; what others.{piece.name} says is taken for it") from error


def check_others(format: str, others: dict[str, str]) -> None:
    """ValueError where there is no such dialect, or where `others` names what is not published apart from it."""
    chosen = dialect(format)
    apart = [*(piece.name for piece in chosen.pieces if piece.home), *chosen.given]
    for name in others:
        if name not in apart:
            has = f"these are: {', '.join(apart)}" if apart else "nothing is"
            raise ValueError(f"others has {name!r}, which of format {format!r} is not published apart; {has}")


def _nothing(folder: Path, settings: Tables) -> dict[str, Tensor]:
    return {}


def _told(chosen: Dialect, source: Source) -> dict[str, dict[str, Any]]:
    """The JSON files that the dialect speaks of; UserError where one says that this is another model."""
    told = {}
    for name, expected in chosen.told.items():
        told[name] = source.table(name)
        for key, value in expected.items():
            if told[name].get(key) != value:
                raise UserError(f"{source} is another model's: {name} has {key} {told[name].get(key)!r}, not {value!r}")
    return told


def _copies(copied: Copied, source: Source) -> dict[str, Path]:
    wanted = {new: name for new, name in copied.files.items() if new not in copied.optional or source.has(name)}
    return {new: source.file(name) for new, name in wanted.items()}


@dataclass
class _Opened:
    """One piece with its files open: how it fits, and how our part is set."""

    piece: Piece
    settings: dict[str, Any]
    tensors: Tensors
    found: Match
    fit: Fit
    bytes: int
    """The size of its files, which is what its tensors take."""

    @classmethod
    def of(cls, piece: Piece, source: Source, told: dict[str, dict[str, Any]]) -> _Opened:
        """Open a piece's files, and hold every name, shape and number against the table."""
        folder = f"{piece.folder}/" if piece.folder else ""
        config = {**piece.defaults, **source.table(f"{folder}config.json")} if piece.expected else {}
        if config:
            told[f"{folder}config.json"] = config
        for key, value in piece.expected.items():
            if config.get(key) != value:
                said = repr(config[key]) if key in config else "not said"
                raise UserError(
                    f"{source} is another model's: {folder}config.json has {key} {said}, the part {piece.part!r} "
                    f"knows {value!r} alone"
                )
        files = source.weights(f"{folder}{piece.weights}" if piece.weights else "")
        tensors = opened(files, piece.unwrap).without(piece.prefixes).averaged(piece.averages)
        try:
            settings = piece.settings(Found(config, tensors.shapes, told))
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(f"{source} is another model's: its {piece.name} lacks {error}") from error
        found = match(tensors.shapes, piece, settings)
        misfits = differences(found, tensors.shapes, _wanted(piece, settings, config))
        fit = Fit(piece.name, f"{source}/{folder}".rstrip("/"), dropped=found.dropped, misfits=misfits)
        fit.matched, fit.made = sum(map(len, found.origins.values())), len(found.origins)
        names = progress([o.name for origins in found.origins.values() for o in origins], f"reading {piece.name}")
        misfits["not finite"] = [name for name in names if not tensors.read(name).isfinite().all()]
        misfits["no copies"] = [
            f"{name} differs from {other}"
            for name, other in piece.copies.items()
            if {name, other} <= tensors.shapes.keys() and not torch.equal(tensors.read(name), tensors.read(other))
        ]
        return cls(piece, settings, tensors, found, fit, sum(file.stat().st_size for file in files))

    def save(self, path: Path, further: dict[str, Tensor], source: str) -> None:
        """Write the piece as our part has it, its settings in the metadata."""
        own = {name: made(origins, self.tensors.read) for name, origins in self.found.origins.items()}
        if self.piece.starts:
            shapes = _shapes(self.piece, self.settings)
            own |= {
                name: torch.full(shapes[name], value) for name, value in self.piece.starts.items() if name in shapes
            }
        weights.save(own | further, path, {"use": self.piece.part, **self.settings}, muse_imported_from=source)


def _wanted(piece: Piece, settings: dict[str, Any], config: dict[str, Any]) -> dict[str, list[int]]:
    """The shapes of our part's tensors, those left out that no published file has."""
    if piece.shapes is not None:
        return piece.shapes(config)
    shapes = _shapes(piece, settings)
    return {name: shape for name, shape in shapes.items() if name not in piece.starts and name not in piece.made}


def _shapes(piece: Piece, settings: dict[str, Any]) -> dict[str, list[int]]:
    try:
        with torch.device("meta"):
            part = parts(piece.kind, piece.part)[0].load()(**settings)
    except (ValueError, TypeError) as error:
        raise UserError(f"{piece.name}: no {piece.part!r} can be of these sizes: {error}") from error
    return {name: list(tensor.shape) for name, tensor in part.state_dict().items()}
