"""A folder of shards behind any fsspec address: files that are whole or not there, read and written by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from muse_studio.errors import UserError, words_of
from muse_studio.runtime import fetching, weights
from muse_studio.runtime.fetching import cache_folder, fetch, present
from muse_studio.runtime.files import file_name, open_folder, replacing


def file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path within; UserError where there is no such file system.

    Asked for at each use: fsspec keeps one a process and thread, as a forked process can't use its parent's.
    """
    try:
        return fetching.file_system(address)
    except ValueError as error:
        raise UserError(
            f"{address} is no address: {error}; give a path, or s3://, gs://, hf:// or memory://"
        ) from error


class StorageFolder:
    """The files of one folder, `address`: a path, s3://, gs://, hf://, memory://, or any other that fsspec knows."""

    def __init__(self, address: str) -> None:
        self.address = address if address.endswith("://") else address.rstrip("/") or address

    def __str__(self) -> str:
        return self.address

    @property
    def folder(self) -> Path | None:
        """The folder on this machine, None where it is another's."""
        files, path = file_system(self.address)
        return Path(path) if isinstance(files, LocalFileSystem) else None

    def prove_writable(self, setting: str) -> None:
        """UserError, before anything costly, where a folder of this machine can't be written."""
        if (folder := self.folder) is not None:
            open_folder(folder, setting)

    def join(self, name: str) -> str:
        """The address of a file in it; UserError where the name is one of no file right in it."""
        return f"{self.address}/{file_name(name, self.address)}"

    def names(self) -> set[str]:
        """The names of the files that are there; none where there is no folder."""
        with self._errors("read"):
            files, path = file_system(self.address)
            files.invalidate_cache(path)
            if not files.isdir(path):
                return set()
            return {each.rstrip("/").rpartition("/")[2] for each in files.ls(path, detail=False)}

    def has(self, name: str) -> bool:
        """Whether a file is there; asks for that one alone, as a web server lists no folder."""
        with self._errors("read"):
            return present(*file_system(self.join(name)))

    def read(self, name: str) -> bytes:
        """A file's content."""
        with self._errors("read"):
            files, path = file_system(self.join(name))
            return files.cat_file(path)

    def header(self, name: str) -> tuple[dict[str, list[int]], dict[str, str]]:
        """Shapes by tensor name, and the metadata, of a safetensors file; UserError where it is not whole."""
        with self._errors("read"):
            files, path = file_system(self.join(name))
            with files.open(path, "rb") as file:
                return weights.header_of(file, files.size(path), self.join(name))

    def size(self, name: str) -> int:
        """A file's length in bytes."""
        with self._errors("read"):
            files, path = file_system(self.join(name))
            return files.size(path)

    def write(self, name: str, content: bytes) -> None:
        """Write a file: aside first and then renamed on this machine; an object store puts it at once or not at all."""
        with self._errors("written"):
            if (folder := self.folder) is not None:
                with replacing(folder / file_name(name, self.address)) as aside:
                    aside.write_bytes(content)
            else:
                files, path = file_system(self.join(name))
                files.makedirs(path.rpartition("/")[0], exist_ok=True)
                files.pipe_file(path, content)

    def fetched(self, name: str, version: str) -> Path:
        """A file of this machine with the content of `name`: itself, or a copy, made once, in the cache folder.

        version: what tells this content from another that was there under the same name.
        """
        address = self.join(name)
        if (folder := self.folder) is not None:
            return folder / name
        return fetch(address, cache_folder() / "tokens" / version / name)

    @contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        """Each file system of fsspec raises what its own library has, much of it no OSError: a UserError of it all."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None and self.folder is not None:
                raise  # this machine's own refusals have their own cures
            raise UserError(
                f"{self.address} could not be {done}: {words_of(error)}; check the address, the network, "
                "and that you may"
            ) from error
