"""What does not fit is told by name, and nothing is written; code in a pickled file is never run."""

import json
import shutil
from typing import get_args

import fsspec
import pytest
import torch
from importing import importing
from muse_weights import formats
from runs import check_same_files
from safetensors.torch import load_file, save_file

import muse_studio
from muse_studio.cli import main
from muse_studio.errors import UserError
from muse_studio.runtime import memory
from muse_studio.runtime.pickled import unpickled

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
VQ = "vqvae/diffusion_pytorch_model.safetensors"
MADE = {"empty_states", "empty_pooled"}
"""What the import has the text encoder make."""


@pytest.fixture
def copy(published, tmp_path):
    """A published folder to spoil."""
    return shutil.copytree(published, tmp_path / "published")


def refuse(copy, message, **settings):
    """The import is refused so, leaves nothing behind, and names the formats."""
    before = sorted(copy.parent.iterdir())
    with pytest.raises(UserError, match=message):
        importing(str(copy), "amused", str(copy.parent / "out"), **settings)()
    assert sorted(copy.parent.iterdir()) == before


def change(copy, name, edit):
    tensors = load_file(copy / name)
    edit(tensors)
    save_file(tensors, copy / name, {"format": "pt"})


def say(copy, name, **values):
    file = copy / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        (
            "model_index.json",
            {"_class_name": "StableDiffusionPipeline"},
            "another model's: model_index.json has _class",
        ),
        ("scheduler/scheduler_config.json", {"masking_schedule": "linear"}, "masking_schedule 'linear', not 'cosine'"),
        ("scheduler/scheduler_config.json", {"mask_token_id": 40}, "lacks a mask_token_id that is the last of vocab"),
        ("transformer/config.json", {"use_bias": True}, "has use_bias True, the part 'amused' knows False alone"),
        ("transformer/config.json", {"upsample": "yes"}, "its transformer lacks an upsample that is"),
        ("transformer/config.json", {"num_hidden_layers": 3}, "missing: blocks.2.gains"),
        ("transformer/config.json", {"num_hidden_layers": 1}, "not used: transformer_layers.1|not used: .*as blocks.1"),
        ("transformer/config.json", {"intermediate_size": 40}, r"4 of another shape: .* makes \[88, 32\], and .*\[80"),
        ("transformer/config.json", {"num_attention_heads": 5}, "no 'amused' can be of these sizes: heads is 5"),
        ("vqvae/config.json", {"mid_block_add_attention": True}, "mid_block_add_attention True"),
        ("vqvae/config.json", {"norm_num_groups": 16}, "its vqvae lacks channels that are multiples"),
        ("text_encoder/config.json", {"model_type": "t5"}, "has model_type 't5'"),
    ],
)
def test_another_model_is_told_by_what_its_files_say(copy, file, values, message):
    say(copy, file, **values)
    refuse(copy, message)


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        (WEIGHTS, lambda t: t.pop("embed.conv.weight"), "1 missing: into_channels.weight"),
        (WEIGHTS, lambda t: t.update(extra=torch.ones(1)), "1 not used: extra"),
        (WEIGHTS, lambda t: t.pop("transformer_layers.0.attn1.to_k.weight"), r"makes \[64, 32\], and .* is \[96, 32\]"),
        (
            WEIGHTS,
            lambda t: t["project_to_hidden.weight"].view(-1)[3:4].fill_(torch.nan),
            "1 not finite: project_to_hid",
        ),
        (VQ, lambda t: t["quant_conv.bias"].fill_(torch.inf), "1 not finite: quant_conv.bias"),
        ("text_encoder/model.safetensors", lambda t: t.pop("text_projection.weight"), "1 missing: text_projection"),
        ("text_encoder/model.safetensors", lambda t: t.update(extra=torch.ones(1)), "1 not used: extra"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(copy, name, edit, message):
    change(copy, name, edit)
    refuse(copy, message)
    assert importing(str(copy), "amused", dry_run=True)().summary().endswith("it does not fit and would be refused")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", r"vqvae/config\.json of \S+ is no JSON"), ("[1]", r"vqvae/config\.json of \S+ is no table but \[1\]")],
)
def test_a_json_file_that_is_none(copy, content, message):
    (copy / "vqvae/config.json").write_text(content)
    refuse(copy, message)


def test_an_address_that_can_t_be_asked(tmp_path):
    with pytest.raises(UserError, match=r"nowhere://model/\S+ can't be asked for: .*check the address and the network"):
        importing("nowhere://model", "amused", str(tmp_path / "out"))()
    assert not (tmp_path / "out").exists()


def test_a_truncated_file(copy):
    whole = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(whole[:-5])
    refuse(copy, "diffusion_pytorch_model.safetensors is not a whole safetensors file")


def test_a_file_that_is_not_there(copy):
    (copy / VQ).unlink()
    refuse(copy, rf"has no {VQ}; give the whole model, as it was published .it was read as format 'amused'")


def test_a_wrong_checksum(copy):
    refuse(copy, "has sha256 .* not 00ff", sha256={VQ: "00ff"})
    refuse(copy, "sha256 names 'vqvae.safetensors', which is no file that was read", sha256={"vqvae.safetensors": "00"})


def test_what_stands_at_out_stays(copy, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    refuse(copy, "out is .*out, which is there already")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("format", "message"),
    [
        ("amusd", "no dialect is called 'amusd'; did you mean 'amused'? available: amused"),
        ("meissonic", "Meissonic and Monetico, which can't be imported yet"),
    ],
)
def test_an_unknown_format_is_answered_with_those_there_are(format, message, capsys):
    assert main(["run", "import-weights", "source=x", f"format={format}"]) == 2
    said = capsys.readouterr().err
    assert message in said and "format" in said


def test_every_format_is_there_or_not_done():
    assert set(get_args(formats.NotDone)) == set(formats.NOT_DONE)
    assert not {part.name for part in muse_studio.parts("dialect")} & set(formats.NOT_DONE)
    for name in formats.NOT_DONE:
        with pytest.raises(ValueError, match=f"format is '{name}': .*which can't be imported yet"):
            formats.done(name)


def sharded(copy):
    """The transformer in two shards with an index, as diffusers and transformers write them."""
    tensors = load_file(copy / WEIGHTS)
    names = sorted(tensors)
    homes = {name: f"diffusion_pytorch_model-{1 + (i % 2):05}-of-00002.safetensors" for i, name in enumerate(names)}
    for home in set(homes.values()):
        save_file({n: tensors[n] for n in names if homes[n] == home}, copy / "transformer" / home, {"format": "pt"})
    (copy / WEIGHTS).unlink()
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    return copy / "transformer" / homes[names[0]]


def test_shards_are_read_as_one(copy, tmp_path, imported):
    shard = sharded(copy)
    importing(str(copy), "amused", str(tmp_path / "out"))()
    check_same_files(tmp_path / "out", imported, MADE)
    shard.unlink()
    shutil.rmtree(tmp_path / "out")
    refuse(copy, "lacks 1 of the 2 shards that .*index.json lists, first transformer/diffusion_pytorch_model-00001")


def test_an_address_is_fetched_once(published, imported, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.put(str(published), "/models/amused", recursive=True)
    importing("memory://models/amused", "amused", str(tmp_path / "out"))()
    check_same_files(tmp_path / "out", imported, MADE)
    memory.rm(f"/models/amused/{WEIGHTS}")
    memory.touch(f"/models/amused/{WEIGHTS}")  # its size is no longer that of the copy in the cache
    importing("memory://models/amused", "amused", str(tmp_path / "again"))()
    check_same_files(tmp_path / "again", imported, MADE)
    with pytest.raises(UserError, match=r"models.nothing has no model_index\.json"):
        importing("memory://models/nothing", "amused", str(tmp_path / "none"))()


def test_a_variant_is_another_precision(published, tmp_path, imported):
    copy = shutil.copytree(published, tmp_path / "halves")
    for name in (WEIGHTS, VQ, "text_encoder/model.safetensors"):
        halves = {n: t.half() for n, t in load_file(copy / name).items()}
        save_file(halves, copy / name.replace(".safetensors", ".fp16.safetensors"), {"format": "pt"})
    importing(str(copy), "amused", str(tmp_path / "out"), variant="fp16")()
    mine, whole = (load_file(folder / "transformer.safetensors") for folder in (tmp_path / "out", imported))
    assert mine["embed.weight"].dtype == torch.float16
    assert torch.equal(mine["embed.weight"], whole["embed.weight"].half())
    assert [str(problem) for problem in muse_studio.check(str(tmp_path / "out" / "generate.yaml"))] == []


class Payload:
    """What would write a file if it were read by a reader that runs code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_code_in_a_pickled_file_is_not_run(tmp_path):
    torch.save({"state_dict": {"weight": torch.ones(2)}, "more": Payload(tmp_path / "ran")}, tmp_path / "model.ckpt")
    assert torch.equal(unpickled(tmp_path / "model.ckpt", ("state_dict",))["weight"], torch.ones(2))
    assert not (tmp_path / "ran").exists()


def test_tensors_alone_are_read_from_a_pickled_file(tmp_path):
    torch.save({"epoch": 3, "model": {"weight": torch.arange(2.0), "name": "x"}}, tmp_path / "model.pt")
    assert torch.equal(unpickled(tmp_path / "model.pt", ("ema", "model"))["weight"], torch.arange(2.0))


def test_a_pickled_file_without_tensors_by_name(tmp_path):
    torch.save([torch.ones(1)], tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"model\.pt holds a list, not tensors by name"):
        unpickled(tmp_path / "model.pt", ())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x80\x02}q\x00(X\x01"])
def test_a_damaged_pickled_file(tmp_path, content):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.pth is not read: it is damaged, truncated, or no file of torch's"):
        unpickled(tmp_path / "model.pth", ())


def test_what_does_not_fit_the_memory_is_not_written(copy, monkeypatch):
    largest = max(file.stat().st_size for file in copy.rglob("*.safetensors"))
    monkeypatch.setattr(memory, "free", lambda device=None: largest - 1)
    refuse(copy, r"not enough memory: its largest part takes .* take a variant")


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", "..", "a\0b", 7, ["a"]])
def test_an_index_that_lists_a_file_elsewhere_is_refused(copy, shard):
    sharded(copy)
    index = copy / f"{WEIGHTS}.index.json"
    table = json.loads(index.read_text())
    table["weight_map"]["more"] = shard
    index.write_text(json.dumps(table))
    refuse(copy, r"diffusion_pytorch_model\.safetensors\.index\.json: the name ")
    index.write_text(json.dumps({"weight_map": [shard]}))
    refuse(copy, "weight_map is no table of names to files")
