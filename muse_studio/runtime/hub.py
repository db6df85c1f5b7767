"""A model by its hub name or its local folder, as a folder; the hub is asked only for what is not here yet."""

from __future__ import annotations

import json
from pathlib import Path

from muse_studio.errors import UserError, words_of
from muse_studio.runtime.files import name_problem, path_of
from muse_studio.runtime.launch import ask_to_fetch

CONFIG = ("config.json",)
WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
TOKENIZER = ("tokenizer*.json", "special_tokens_map.json", "vocab.*", "merges.txt", "spiece.model")
ALL = (*CONFIG, *WEIGHTS, *TOKENIZER)


def folder_of(model: str, offline: bool, files: tuple[str, ...] = ALL) -> Path:
    """Where a model's files lie; UserError, saying how to get them here, where they can't be had.

    files: CONFIG, with WEIGHTS and TOKENIZER as wanted.
    model: a local folder, or a hub name such as "google/flan-t5-xxl".
    offline: ask no hub. Otherwise it is asked once, where the cache lacks a file.
    """
    here = path_of(model)
    if here.is_dir():
        problem = lacking(here, files)
        if problem:
            raise UserError(f"the folder {model} has {problem}")
        return here
    if model.startswith((".", "/", "~")) or "\\" in model or model.count("/") > 1:
        raise UserError(f"there is no folder {model}; {cure()}")
    return from_hub(model, offline, files)


def from_hub(model: str, offline: bool, files: tuple[str, ...]) -> Path:
    """The snapshot of a hub model: from the cache where it is whole there, else downloaded. UserError as above."""
    from huggingface_hub import snapshot_download

    wanted = list(files)
    try:
        folder = Path(snapshot_download(model, allow_patterns=wanted, local_files_only=True))
        if not lacking(folder, files):
            return folder
        if offline:
            raise FileNotFoundError("the cache has only a part of it, and offline is true")
    except Exception as error:  # the hub's client has kinds of its own, other ones in each version; here: not cached
        if offline:
            raise not_to_be_had(model, error) from error
    ask_to_fetch(model)
    try:
        knock(model)
        folder = Path(snapshot_download(model, allow_patterns=wanted))
    except Exception as error:  # as above: no such name, no network, no access
        raise not_to_be_had(model, error) from error
    problem = lacking(folder, files)
    if problem:
        raise UserError(f"the hub's {model} has {problem}")
    return folder


def knock(model: str, seconds: float = 10) -> None:
    """Returns where the hub answers at all, be it with a refusal; ConnectionError where it does not.

    The hub's client repeats a request that timed out, and without a limit: it would wait for ever.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import get_session

    url = hf_hub_url(model, "config.json")
    try:
        get_session().head(url, timeout=seconds)
    except Exception as error:  # of requests, httpx or what follows them, by the version of the hub's client
        raise ConnectionError(f"no answer from {url}: {words_of(error)}") from error


def not_to_be_had(model: str, error: Exception) -> UserError:
    """What to tell the user of a hub name that led to nothing: the first line of the reason, and the cure."""
    reason = str(error).strip().partition("\n")[0]
    return UserError(f"the model {model!r} is neither a folder here nor to be had from the hub: {reason}; {cure()}")


def lacking(folder: Path, files: tuple[str, ...] = ALL) -> str:
    """What a folder lacks, with the cure; empty where it is whole."""
    if not (folder / "config.json").is_file():
        return "no config.json; give the folder that holds it"
    if not {*WEIGHTS} <= {*files}:
        return ""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, LookupError, TypeError, AttributeError):
            return f"a {index.name} that does not say which files hold the weights; fetch it again"
        if problem := next(filter(None, map(name_problem, shards)), ""):
            return f"a {index.name} with a file's name that {problem}, so it is none of the model's; fetch it again"
    else:
        shards = {"model.safetensors"}
    missing = sorted(shard for shard in shards if not (folder / shard).is_file())
    if missing:
        return (
            f"no {missing[0]}; only safetensors are read, as pickled weights can run code: "
            "convert them with save_pretrained, or choose a model that has them"
        )
    vocabularies = ("tokenizer.json", "spiece.model", "vocab.*")
    if {*TOKENIZER} <= {*files} and not any(next(folder.glob(pattern), None) for pattern in vocabularies):
        return "no tokenizer.json; save the model's tokenizer beside its weights"
    return ""


def cure() -> str:
    """What a user can do to have a model here."""
    return (
        "give as model a local folder with config.json, model.safetensors and tokenizer.json, "
        "or point HF_HOME at a cache that has it, or allow the network (offline: false, HF_HUB_OFFLINE unset)"
    )
