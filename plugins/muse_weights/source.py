"""Where published weights lie: a folder, a file, the hub or any address; safetensors, pickled, or a tree of flax."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from muse_studio.errors import UserError, words_of
from muse_studio.runtime import weights
from muse_studio.runtime.dialects import Piece
from muse_studio.runtime.fetching import exists, file_system
from muse_studio.runtime.files import path_of
from muse_studio.runtime.matching import Tensors
from muse_studio.runtime.pickled import TorchFile
from muse_weights import flaxfile
from muse_weights.shards import Files, check_inside, once, shards_of, together
from muse_weights.wrapped import chosen, plain

INDEX = ".index.json"
"""How the names of indexes end."""
USUAL = {
    "model.safetensors": "pytorch_model.bin",
    "diffusion_pytorch_model.safetensors": "diffusion_pytorch_model.bin",
}
"""What files of weights are called in folders of transformers and diffusers, and what their older ones are called."""
PICKLED = (".pt", ".pth", ".ckpt", ".bin")
"""How the names of pickled files end; what is none of flax's either is taken to be safetensors."""


class Source:
    """A published model's files by their names in it; what is remote is fetched into the cache, once.

    address: a folder or a file, as a path, hf://owner/name, or any address that fsspec knows; of weights in several
        files their index, or the folder of it.
    variant: of the files, "fp16": transformer/model.fp16.safetensors is then taken for transformer/model.safetensors.
    sha256: of files, by their names in the source, where they are known; each is checked as it is read. That of a
        source that is a file may stand behind the address, as #sha256=<hex>.
    """

    def __init__(self, address: str, variant: str | None, sha256: Mapping[str, str]) -> None:
        address, _, digest = address.partition("#sha256=")
        self.address, self.variant, self.index = address.rstrip("/"), variant, ""
        if self.address.endswith(INDEX):
            folder, slash, self.index = self.address.rpartition("/")
            self.address = folder if slash else "."
        self.sha256 = {**sha256, self.index: digest} if digest else dict(sha256)
        self.checked: set[str] = set()

    def __str__(self) -> str:
        return self.address

    def has(self, name: str) -> bool:
        """Whether there is a file of that name; UserError where nobody can tell."""
        where = self._where(name)
        if "://" not in where:
            return path_of(where).is_file()
        return self._ask(where, exists)

    def _ask(self, where: str, question: Callable[[str], bool]) -> bool:
        """What `question` says of an address; UserError where nobody can tell."""
        try:
            return question(where)
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

    def table(self, name: str, pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]] = dict) -> dict[str, Any]:
        """What a JSON file says; UserError where it is none. pairs: makes each table of its keys and values."""
        try:
            table = json.loads(self.file(name).read_text(encoding="utf-8"), object_pairs_hook=pairs)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name} of {self} is no JSON ({words_of(error)}); fetch it again") from error
        if not isinstance(table, dict):
            raise UserError(f"{name} of {self} is no table but {table!r:.40}; fetch it again")
        return table

    def weights(self, name: str) -> Files:
        """The files of weights that `name` stands for: itself, its variant, or all shards that its index lists.

        Where the source itself is the weights, `name` is "": a file, an index, or a folder with what is usual in one.
        """
        if self.index and not name:
            return self._shards(self.index)
        if not name and not self._is_folder():
            return Files((self.file(""),))
        folder, slash, plain = name.rpartition("/")
        wanted = [plain] if plain else list(USUAL)
        wanted += [USUAL[each] for each in wanted if each in USUAL]
        for file in wanted:
            varied, *indexes = self._varied(f"{folder}{slash}{file}")
            if self.has(varied):
                return Files((self.file(varied),))
            for index in indexes:
                if self.has(index):
                    return self._shards(index)
        if plain:
            return Files((self.file(self._varied(name)[0]),))  # which is told
        raise UserError(
            f"{self} is no file; give the file itself, as it was published, or a folder with one of "
            f"{', '.join(wanted)}, or with the index of one"
        )

    def _varied(self, name: str) -> list[str]:
        """A file by the variant, and what its index may be called."""
        if self.variant is None:
            return [name, f"{name}.index.json"]
        stem, dot, ending = name.rpartition(".")
        varied = f"{stem}.{self.variant}{dot}{ending}"
        return [
            varied,
            f"{varied}.index.json",
            f"{name}.{self.variant}.index.json",
            f"{name}.index.{self.variant}.json",
        ]

    def _shards(self, index: str) -> Files:
        """All files that an index lists, each fetched; UserError where one is missing, or lies elsewhere."""
        place = f"{self}/{index}"
        listed = shards_of(self.table(index, once), place)
        folder, slash, _ = index.rpartition("/")
        inside = {shard: f"{folder}{slash}{shard}" for shard in sorted(set(listed.values()))}
        if missing := [shard for shard in inside.values() if not self.has(shard)]:
            raise UserError(
                f"{self} lacks {len(missing)} of the {len(inside)} shards that {index} lists, first {missing[0]}; "
                "fetch them too"
            )
        if "://" not in self.address:
            home = path_of(self.address) / folder
            for shard in inside:
                check_inside(home, home / shard, place)
        paths = {shard: self.file(name) for shard, name in inside.items()}
        return Files(tuple(paths.values()), place, {name: paths[shard] for name, shard in listed.items()})

    def _is_folder(self) -> bool:
        """Whether the source is a folder, as far as its address can be asked; http has none."""
        if "://" not in self.address:
            return path_of(self.address).is_dir()
        if self.address.startswith(("http://", "https://")):
            return False
        return self._ask(self.address, _is_folder)

    def check_sums(self) -> None:
        """UserError where `sha256` speaks of a file that was not read: a misspelt name would pass unchecked."""
        if idle := sorted(set(self.sha256) - self.checked):
            raise UserError(
                f"sha256 names {idle[0]!r}, which is no file that was read of {self}; these were: "
                f"{', '.join(sorted(self.checked))}"
            )

    def _where(self, name: str) -> str:
        return f"{self.address}/{name}" if name else self.address


def _is_folder(address: str) -> bool:
    system, path = file_system(address)
    return bool(system.isdir(path))


def opened(files: Files, piece: Piece, key: str | None = None) -> Tensors:
    """The tensors of a piece in one or several files; UserError where one is damaged, or holds none.

    key: under which keys of a pickled file they lie, where it holds several models.
    """
    first = files.paths[0]
    if key is not None and first.suffix not in PICKLED:
        raise UserError(f"key is {key!r}, and {first} is no file of torch.save, which alone holds several models")
    if first.suffix in flaxfile.ENDINGS:
        return flaxfile.opened(first, piece.unwrap)
    if first.suffix in PICKLED and not files.homes:
        return chosen(TorchFile.of(first), piece, key)
    return together(files, {path: _plain(path) for path in files.paths})


def _plain(path: Path) -> Tensors:
    if path.suffix in PICKLED:
        return plain(TorchFile.of(path))
    shapes, _ = weights.header(path)
    return Tensors(shapes, lambda name: weights.tensor(path, name))
