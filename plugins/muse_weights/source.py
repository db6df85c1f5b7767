"""Where published weights lie: a folder, a file, the hub or any address; safetensors, pickled, or a tree of flax."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muse_studio.errors import UserError, words_of
from muse_studio.runtime import weights
from muse_studio.runtime.fetching import file_system
from muse_studio.runtime.files import file_name, path_of
from muse_studio.runtime.matching import Tensors
from muse_studio.runtime.pickled import unpickled
from muse_weights import flaxfile

PICKLED = (".pt", ".pth", ".ckpt", ".bin")
"""How the names of pickled files end; what is none of flax's either is taken to be safetensors."""


class Source:
    """A published model's files by their names in it; what is remote is fetched into the cache, once.

    address: a folder or a file, as a path, hf://owner/name, or any address that fsspec knows.
    variant: of the files, "fp16": transformer/model.fp16.safetensors is then taken for transformer/model.safetensors.
    sha256: of files, by their names in the source, where they are known; each is checked as it is read. That of a
        source that is a file may stand behind the address, as #sha256=<hex>.
    """

    def __init__(self, address: str, variant: str | None, sha256: Mapping[str, str]) -> None:
        address, _, digest = address.partition("#sha256=")
        self.address, self.variant = address.rstrip("/"), variant
        self.sha256 = {**sha256, "": digest} if digest else dict(sha256)
        self.checked: set[str] = set()

    def __str__(self) -> str:
        return self.address

    def has(self, name: str) -> bool:
        """Whether there is a file of that name; UserError where nobody can tell."""
        where = self._where(name)
        if "://" not in where:
            return path_of(where).is_file()
        try:
            system, path = file_system(where)
            return system.exists(path)
        except UserError:
            raise
        except Exception as error:  # each file system of fsspec raises what its own library has
            raise UserError(
                f"{where} can't be asked for: {words_of(error)}; check the "
                "address and the network, or give a folder of this machine"
            ) from error

    def file(self, name: str) -> Path:
        """A file on this machine; UserError where there is none, or where it isn't what `sha256` says."""
        if not self.has(name):
            lack = f"{self} has no {name}; give the whole model" if name else f"{self} is no file; give the file itself"
            raise UserError(f"{lack}, as it was published")
        wanted = self.sha256.get(name)
        self.checked.add(name)
        return weights.local(self._where(name) + (f"#sha256={wanted}" if wanted else ""))

    def table(self, name: str) -> dict[str, Any]:
        """What a JSON file says; UserError where it is none."""
        try:
            table = json.loads(self.file(name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{name} of {self} is no JSON ({words_of(error)}); fetch it again") from error
        if not isinstance(table, dict):
            raise UserError(f"{name} of {self} is no table but {table!r:.40}; fetch it again")
        return table

    def weights(self, name: str) -> list[Path]:
        """The files of weights that `name` stands for: itself, its variant, or all shards that its index lists."""
        stem, dot, ending = name.rpartition(".")
        varied = name if self.variant is None else f"{stem}.{self.variant}{dot}{ending}"
        index = f"{varied}.index.json"
        if not name or self.has(varied) or not self.has(index):
            return [self.file(varied)]
        listed = self.table(index).get("weight_map", {})
        if not isinstance(listed, dict):
            raise UserError(
                f"{self}/{index}: weight_map is no table of names to files but {listed!r:.40}; fetch it again"
            )
        shards = sorted({file_name(shard, f"{self}/{index}") for shard in listed.values()})
        folder = name.rpartition("/")[0]
        inside = [f"{folder}/{shard}" if folder else shard for shard in shards]
        if missing := [shard for shard in inside if not self.has(shard)]:
            raise UserError(
                f"{self} lacks {len(missing)} of the {len(inside)} shards that {index} lists, first {missing[0]}; "
                "fetch them too"
            )
        return [self.file(shard) for shard in inside]

    def check_sums(self) -> None:
        """UserError where `sha256` speaks of a file that was not read: a misspelt name would pass unchecked."""
        if idle := sorted(set(self.sha256) - self.checked):
            raise UserError(
                f"sha256 names {idle[0]!r}, which is no file that was read of {self}; these were: "
                f"{', '.join(sorted(self.checked))}"
            )

    def _where(self, name: str) -> str:
        return f"{self.address}/{name}" if name else self.address


def opened(files: list[Path], unwrap: tuple[str, ...] = ()) -> Tensors:
    """The tensors of one or several files; UserError where one is damaged, or would run code.

    unwrap: under which keys of a pickled file, or of a tree, they lie; the first that is there counts.
    """
    if files[0].suffix in flaxfile.ENDINGS:
        return flaxfile.opened(files[0], unwrap)
    if files[0].suffix in PICKLED:
        held = unpickled(files[0], unwrap)
        return Tensors({name: list(tensor.shape) for name, tensor in held.items()}, held.__getitem__)
    shapes: dict[str, list[int]] = {}
    homes: dict[str, Path] = {}
    for file in files:
        found, _ = weights.header(file)
        shapes |= found
        homes |= dict.fromkeys(found, file)
    return Tensors(shapes, lambda name: weights.tensor(homes[name], name))
