"""Weights in several files, as transformers and diffusers write them, are read by their index, whole or not at all."""

import functools
import hashlib
import json
import os
import shutil

import fsspec
import pytest
import torch
from dialect_sources import SOURCES
from importing import importing
from runs import same_tensors
from safetensors.torch import load_file, save_file

from muse_studio.errors import UserError

INDEXES = ["model.safetensors", "diffusion_pytorch_model.safetensors", "pytorch_model.bin"]


@functools.cache
def tensors():
    """Those of a small tokenizer, by name and in the order of their names."""
    held = SOURCES["taming-vqgan"]()[0]["tokenizer"]
    return {name: held[name] for name in sorted(held)}


def write(folder, file="model.safetensors"):
    """Three shards and their index; the index's path."""
    folder.mkdir(exist_ok=True)
    stem, _, ending = file.rpartition(".")
    homes = {name: f"{stem}-{place % 3 + 1:05}-of-00003.{ending}" for place, name in enumerate(tensors())}
    for home in set(homes.values()):
        held = {name: tensor for name, tensor in tensors().items() if homes[name] == home}
        torch.save(held, folder / home) if ending == "bin" else save_file(held, folder / home, {"format": "pt"})
    (folder / f"{file}.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": homes}))
    return folder / f"{file}.index.json"


def take(source, out, **settings):
    importing(str(source), "taming-vqgan", str(out), **settings)()
    return load_file(out / "tokenizer.safetensors")


@pytest.fixture
def whole(tmp_path):
    """What the same tensors in one file become."""
    save_file(tensors(), tmp_path / "one.safetensors")
    return take(tmp_path / "one.safetensors", tmp_path / "whole")


@pytest.mark.parametrize("by", ["folder", "index"])
@pytest.mark.parametrize("file", INDEXES)
def test_shards_are_read_by_their_folder_or_their_index(tmp_path, whole, file, by):
    index = write(tmp_path / "model", file)
    assert same_tensors(take(index if by == "index" else index.parent, tmp_path / "out"), whole)


def test_an_index_of_the_working_folder(tmp_path, monkeypatch, whole):
    write(tmp_path / "model")
    monkeypatch.chdir(tmp_path / "model")
    assert same_tensors(take("model.safetensors.index.json", tmp_path / "out"), whole)


def test_what_transformers_writes_is_read(tmp_path):
    """A text encoder in shards of transformers' own, as a part of an aMUSEd's folder would have it."""
    from muse_weights.source import Source, opened
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    from muse_studio import parts

    sizes = {"vocab_size": 99, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    model = CLIPTextModelWithProjection(CLIPTextConfig(**sizes, num_attention_heads=2, projection_dim=10))
    model.save_pretrained(tmp_path / "text_encoder", max_shard_size="8KB")
    assert len(list((tmp_path / "text_encoder").glob("*.safetensors"))) > 2
    piece = parts("dialect", "amused")[0].load()().pieces[0]
    tensors = opened(Source(str(tmp_path), None, {}).weights("text_encoder/model.safetensors"), piece)
    read = {name: tensors.read(name) for name in tensors.shapes}
    assert same_tensors(read, {name: each for name, each in model.state_dict().items() if name in read})
    assert {name for name, _ in model.named_parameters()} <= read.keys()


@pytest.mark.parametrize("by", ["", "/model.safetensors.index.json"])
def test_shards_at_an_address_are_fetched(tmp_path, monkeypatch, whole, by):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "model")
    fsspec.filesystem("memory").put(str(tmp_path / "model"), "/shards/model", recursive=True)
    assert same_tensors(take(f"memory://shards/model{by}", tmp_path / "out"), whole)


def test_each_file_s_checksum_is_checked(tmp_path, whole):
    index = write(tmp_path / "model")
    shard = "model-00002-of-00003.safetensors"
    sums = {each: hashlib.sha256((index.parent / each).read_bytes()).hexdigest() for each in (shard, index.name)}
    assert same_tensors(take(index, tmp_path / "out", sha256=sums), whole)
    shutil.rmtree(tmp_path / "out")
    refuse(index.parent, f"{shard} has sha256 .* not 00ff", sha256={shard: "00ff"})
    refuse(f"{index}#sha256=00ff", r"index\.json has sha256 .* not 00ff")


def refuse(source, message, **settings):
    with pytest.raises(UserError, match=message) as refusal:
        importing(str(source), "taming-vqgan", "never", **settings)()
    assert "\n" not in str(refusal.value)


def change(index, **said):
    index.write_text(json.dumps(json.loads(index.read_text()) | said))


def homes(index):
    return json.loads(index.read_text())["weight_map"]


@pytest.mark.parametrize("file", INDEXES)
def test_what_is_missing_is_told(tmp_path, file):
    index = write(tmp_path / "model", file)
    change(index, weight_map=homes(index) | {"more.weight": homes(index)[next(iter(tensors()))]})
    refuse(index, r"index\.json: 'more\.weight' is to be in \S+-00001-of-00003\.\w+, which lacks it; fetch both")
    index = write(tmp_path / "model", file)
    (index.parent / homes(index)[list(tensors())[1]]).unlink()
    refuse(index, r"lacks 1 of the 3 shards that \S+index\.json lists, first \S+-00002-of-00003\.\w+; fetch them too")


@pytest.mark.parametrize("file", INDEXES)
def test_a_tensor_in_two_shards_is_refused(tmp_path, file):
    index = write(tmp_path / "model", file)
    more = dict(list(tensors().items())[:2])
    twice, alone = more
    second = index.parent / homes(index)[alone]
    torch.save(more, second) if second.suffix == ".bin" else save_file(more, second)
    refuse(index, rf"index\.json: '{twice}' is in more than one file, also in \S+-00002-of-00003\.\w+; fetch")


@pytest.mark.parametrize("shard", ["../x.safetensors", "/etc/passwd", "..", "a\0b", "", 7, None])
def test_a_shard_elsewhere_is_refused(tmp_path, shard):
    index = write(tmp_path / "model")
    change(index, weight_map=homes(index) | {"more": shard})
    refuse(index, r"model\.safetensors\.index\.json: the name ")


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    index = write(tmp_path / "model")
    shard = index.parent / homes(index)[next(iter(tensors()))]
    shard.rename(tmp_path / "outside.safetensors")
    os.symlink(tmp_path / "outside.safetensors", shard)
    refuse(index, r"index\.json: model-00001\S+ is a link to \S+outside\.safetensors, outside of its folder; put the")


def test_links_of_the_hub_s_cache_are_followed(tmp_path, whole):
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--a--b" / "blobs").mkdir()
    for path in write(tmp_path / "model").parent.iterdir():
        shutil.move(path, tmp_path / "models--a--b" / "blobs" / f"{path.name}.blob")
        os.symlink(f"../../blobs/{path.name}.blob", snapshot / path.name)
    assert same_tensors(take(snapshot, tmp_path / "out"), whole)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"model\.safetensors\.index\.json of \S+ is no JSON"),
        ("[" * 10**5, r"is no JSON"),
        ("[]", r"is no table but \[\]"),
        ("{}", "weight_map is no table of names to files but None"),
        ('{"weight_map": {}}', r"weight_map is no table of names to files but \{\}"),
        ('{"weight_map": ["a"]}', r"weight_map is no table of names to files but \['a'\]"),
        ('{"weight_map": {"a": "b", "a": "c"}}', r"is no JSON .it has 'a' twice.; fetch it again"),
        ('{"weight_map": {"a": "b"}, "weight_map": {}}', "it has 'weight_map' twice"),
    ],
    ids=range(8),
)
def test_an_index_that_is_none_is_refused(tmp_path, text, message):
    index = write(tmp_path / "model")
    index.write_text(text)
    refuse(index, message)
    refuse(index.parent, message)


def test_a_folder_without_weights_is_refused(tmp_path):
    refuse(tmp_path, r"is no file; give the file itself, .* or a folder with one of model\.safetensors, diffusion_")
