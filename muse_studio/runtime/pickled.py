"""Tensors out of pickled files, which may hold code: read by what runs none, or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from muse_studio.errors import UserError
from muse_studio.runtime import memory


def unpickled(file: Path, unwrap: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The tensors of a pickled file by name, read by torch's reader that runs no code; UserError where that doesn't do.

    unwrap: keys under which training keeps a model; the first one that is there leads to its tensors.
    """
    memory.check(file.stat().st_size, f"{file}, which is read at once, takes", "find it as safetensors")
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's own kinds, zip's, torch's RuntimeError: by what is wrong with the file
        raise UserError(f"{file} is not read: {_why(str(error))}") from error
    for key in unwrap:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
    if not isinstance(loaded, dict):
        raise UserError(f"{file} holds a {type(loaded).__name__}, not tensors by name; it is another model's")
    return {name: value for name, value in loaded.items() if isinstance(value, Tensor)}


def _why(message: str) -> str:
    """Why torch refused a pickled file. Its own advice, to read the file with its code, is not passed on."""
    if (code := re.search(r"GLOBAL (\S+)|global (\S+)", message)) is not None:
        return (
            f"it is pickled, and would have to run {code[1] or code[2]} to be read, which nothing here does; "
            "find it as safetensors, or write its tensors alone to such a file where you trust it"
        )
    first = message.partition("\n")[0]
    return f"it is damaged, truncated, or no file of torch's ({first[:200]}); fetch it again"
