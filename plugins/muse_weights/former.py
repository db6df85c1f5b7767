"""Files of an earlier version of muse_studio: their tensors are renamed, and every byte of the numbers stays."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_studio.errors import UserError
from muse_studio.nn.lora import KEY as ADAPTER
from muse_studio.nn.lora import is_adapter
from muse_studio.runtime import weights
from muse_studio.runtime.files import file_name, path_of
from muse_studio.runtime.former import FormerNames
from muse_studio.training.state import STATE, checksums
from muse_weights.report import Fit
from muse_weights.source import Source

ENDING = ".safetensors"


@dataclass(frozen=True)
class Former:
    """A file or a folder of an earlier version: weights, an adapter, a checkpoint, or a run with all of them.

    files: of safetensors and of anything else, by where they go in the folder that is written.
    """

    files: Mapping[str, Path]
    names: FormerNames

    @classmethod
    def of(cls, source: Source, names: FormerNames) -> Former:
        """What lies there; UserError where nothing does, or where no tensor has a former name."""
        folder = path_of(source.address)
        if "://" not in source.address and folder.is_dir():
            found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
        else:
            found = {file_name(source.address.rsplit("/", 1)[-1], source.address): source.file("")}
        former = cls(found, names)
        if not former.fits(str(source)):
            raise UserError(f"{source} has no tensor of a name that format {names.format!r} knows; it needs none")
        return former

    def fits(self, source: str) -> list[Fit]:
        """How many tensors of each file of weights are renamed; files without any are left out."""
        fits = []
        for name, path in self._weights():
            shapes, _ = weights.header(path)
            renamed = self.names.renamed(shapes)
            if renamed.keys() == shapes.keys():
                continue
            changed = len(renamed.keys() - shapes.keys())
            twice = [name for name in shapes if self.names.current(name) != name and self.names.current(name) in shapes]
            fits.append(Fit(name, source, changed, changed, misfits={"given twice": twice}))
        return fits

    def settings(self) -> dict[str, dict[str, Any]]:
        """What a source that is one file of whole weights says of its part, by the file's name; none otherwise."""
        ((name, path), *others) = self.files.items()
        return {} if others or is_adapter(str(path)) else {name: weights.settings(str(path))}

    def write(self, out: Path) -> None:
        """All of it into the folder `out`, which is there."""
        for name, path in self.files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(ENDING) or len(self.files) == 1:
                _rename(path, out / name, self.names)
            else:
                shutil.copyfile(path, out / name)
        for state in [path for path in out.rglob(STATE) if f"{path.relative_to(out)}" in self.files]:
            _resize(state)

    def _weights(self) -> Iterable[tuple[str, Path]]:
        return ((name, path) for name, path in self.files.items() if name.endswith(ENDING) or len(self.files) == 1)


def _rename(path: Path, out: Path, names: FormerNames) -> None:
    """Write a safetensors file with other names in its header; what lies behind that is copied as it is."""
    weights.header(path)  # whole, or an error
    with path.open("rb") as file, out.open("wb") as to:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
        metadata = entries.pop("__metadata__", {})
        head: dict[str, Any] = {"__metadata__": _without_base(metadata)} if metadata else {}
        head |= {names.current(name): entry for name, entry in entries.items()}
        text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)  # the format wants the numbers at a multiple of 8
        to.write(struct.pack("<Q", len(text)) + text)
        shutil.copyfileobj(file, to)


def _without_base(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata less an adapter's digest of the weights that it was trained on: it covers their names, which changed."""
    try:
        settings = json.loads(metadata.get(weights.SETTINGS, "{}"))
    except ValueError:
        return dict(metadata)
    if not isinstance(settings, dict) or not isinstance(settings.get(ADAPTER), dict):
        return dict(metadata)
    settings[ADAPTER].pop("base", None)
    return {**metadata, weights.SETTINGS: json.dumps(settings)}


def _resize(state: Path) -> None:
    """A checkpoint's list of its files' sizes and checksums, which headers with other names have changed."""
    said = json.loads(state.read_text(encoding="utf-8"))
    said["files"] = {name: (state.parent / name).stat().st_size for name in said["files"]}
    said["checksums"] = checksums(state.parent, said["files"])
    state.write_text(json.dumps(said), encoding="utf-8")
