"""The task `export-weights`: an imported model, trained further or not, in its published layout again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from muse_studio import parts
from muse_studio.contracts import Dialect
from muse_studio.errors import UserError
from muse_studio.runtime import weights
from muse_studio.runtime.dialects import Piece
from muse_studio.runtime.files import path_of, replacing_folder, within
from muse_weights.folder import check_free
from muse_weights.formats import NotDone, done
from muse_weights.inverse import published

KEPT = "published"
"""The folder of an imported model that keeps the JSON files that it was published with."""


@dataclass
class Exported:
    """The folder that was written."""

    folder: Path

    def summary(self) -> str:
        """What the command line prints."""
        return str(self.folder)


@dataclass
class ExportWeights:
    """Write what `import-weights` has imported as it was published, for other programs to load.

    source: a folder that import-weights wrote.
    out: the folder to write, which must not be there yet; it appears when all of it is written.
    format: the dialect that it was imported from; null is amused.
    weights: addresses of other weights of the same shapes, by piece, such as {transformer: average.safetensors}.
    """

    source: str
    out: str
    format: Dialect | NotDone | None = None
    weights: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chosen = self.dialect()
        if not chosen.declares:
            raise ValueError(f"format is {chosen.name!r}, which is imported alone; amused can be exported too")
        names = [piece.name for piece in chosen.pieces]
        for name in self.weights:
            if name not in names:
                raise ValueError(f"weights has {name!r}, which format {chosen.name!r} lacks; it has {', '.join(names)}")

    def __call__(self, hook: Any = None) -> Exported:
        """Write the folder. UserError, with nothing written, where the source is none or `out` is taken."""
        chosen, source, out = self.dialect(), path_of(self.source), path_of(self.out).resolve()
        if not (source / KEPT).is_dir():
            raise UserError(f"{source} has no folder {KEPT!r}; give as source a folder that import-weights wrote")
        check_free(out)
        with replacing_folder(out) as aside:
            shutil.copytree(source / KEPT, aside, dirs_exist_ok=True)
            for copied in chosen.copied:
                for ours, theirs in copied.files.items():
                    if (source / copied.name / ours).is_file():
                        path = within(aside, theirs, f"format {chosen.name}")
                        path.parent.mkdir(exist_ok=True)
                        shutil.copyfile(source / copied.name / ours, path)
            for piece in chosen.pieces:
                self._write(piece, source, aside / piece.folder / piece.weights)
        return Exported(out)

    def dialect(self) -> Dialect:
        """The dialect to write; ValueError where it is one that is not done."""
        return parts("dialect", "amused")[0].load()() if self.format is None else done(self.format)

    def _write(self, piece: Piece, source: Path, path: Path) -> None:
        own = str(source / piece.written)
        address = self.weights.get(piece.name, own)
        shapes, other = (weights.header(weights.local(each))[0] for each in (own, address))
        if shapes != other:
            name = next(name for name in [*shapes, *other] if shapes.get(name) != other.get(name))
            raise UserError(
                f"weights.{piece.name}: {address} is of another model: {name} is {other.get(name, 'missing')}, "
                f"not {shapes.get(name, 'asked for')}"
            )
        tensors: dict[str, Tensor] = {}
        for name, tensor in weights.read(address).items():
            if name not in piece.made and name not in piece.starts:
                tensors |= published(name, tensor, piece, weights.settings(own))
        save_file(tensors, path, {"format": "pt"})
