"""MaskGIT's published layouts: flax's trees and torch's names of them, against an independent model."""

import sys

import numpy as np
import pytest
import torch
from importing import importing
from muse_maskgit.dialect import model
from muse_weights.flaxfile import opened
from safetensors.torch import load_file

import muse_studio
from muse_studio.cli import main
from muse_studio.contracts import MASK, TextEmbedding, Tokenizer, Transformer
from muse_studio.errors import UserError
from muse_studio.recipe.build import build
from muse_studio.recipe.merging import load
from muse_studio.registry.plugins import Registry
from muse_studio.runtime.dialects import Found
from muse_studio.runtime.matching import differences, match

FORMATS = {"maskgit-256": False, "maskgit-256-flax": True}
"""Whether each is a tree of flax."""


@pytest.fixture(params=FORMATS)
def format(request):
    if FORMATS[request.param]:
        pytest.importorskip("msgpack")
    return request.param


def part(file, path, contract):
    """The part that a recipe's table at that path builds."""
    table = load(file).plain()
    for key in path.split("."):
        table = table[key]
    return build(load(table), Registry(), contract).eval()


def of_class(number, classes=1000):
    states = torch.zeros(1, 1, classes)
    states[0, 0, number] = 1
    return TextEmbedding(states, torch.ones(1, 1, dtype=torch.bool))


def some_tokens(reference):
    tokens = torch.randint(reference.CODES, (2, 4, 4), generator=torch.Generator().manual_seed(3))
    tokens[:, ::2, 1:] = MASK
    return tokens


@torch.no_grad()
def test_a_folder_is_the_independent_model_of_the_same_numbers(reference, format, tmp_path):
    reference.publish(tmp_path / "published", FORMATS[format])
    report = importing(str(tmp_path / "published"), format, str(tmp_path / "out"))()
    assert report.recipes == [tmp_path / "out" / name for name in ("model.yaml", "generate.yaml")]
    assert [str(problem) for problem in muse_studio.check(str(report.recipes[1]))] == []

    ours, tree = part(report.recipes[0], "stages.base.transformer", Transformer), reference.transformer_tree()
    tokens = some_tokens(reference)
    for number in (0, 207, 999):
        ids = torch.cat([torch.full((2, 1), reference.CODES + number), tokens.flatten(1)], 1)
        expected = reference.transformer(tree, ids)[:, 1:, : reference.CODES].view(2, 4, 4, -1)
        text = TextEmbedding(*(each.expand(2, *each.shape[1:]) for each in of_class(number)[:2]))
        torch.testing.assert_close(ours(tokens, ours.condition(text)), expected, atol=1e-4, rtol=0)
        assert expected.std() > 0.1

    tokenizer, tree = part(report.recipes[0], "stages.base.tokenizer", Tokenizer), reference.vqgan_tree()
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    codes = reference.encode(tree, images)
    assert torch.equal(tokenizer.encode(images), codes) and codes.unique().numel() > 3
    pictures = reference.decode(tree, codes)
    torch.testing.assert_close(tokenizer.decode(codes), pictures, atol=1e-4, rtol=0)
    assert pictures.std() > 0.01


@torch.no_grad()
def test_no_class_is_mask_in_its_place(reference, tmp_path):
    reference.publish(tmp_path / "published", False)
    importing(str(tmp_path / "published"), "maskgit-256", str(tmp_path / "out"))()
    ours = part(tmp_path / "out" / "model.yaml", "stages.base.transformer", Transformer)
    tokens = some_tokens(reference)[:1]
    ids = torch.cat([torch.full((1, 1), -1), tokens.flatten(1)], 1)  # as the code gives MASK: the table's last row
    expected = reference.transformer(reference.transformer_tree(), ids)[:, 1:, : reference.CODES].view(1, 4, 4, -1)
    torch.testing.assert_close(ours(tokens, ours.condition(of_class(3).null())), expected, atol=1e-4, rtol=0)


def test_one_command_draws_a_class_by_number_and_by_name(reference, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    reference.publish(tmp_path / "published", False)
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"thing {number}, it" for number in range(1000)))
    settings = {"source": str(tmp_path / "published"), "changes.text_encoder.names": str(names)}
    settings |= {"out": str(tmp_path / "out")}
    drawn = muse_studio.run("maskgit-256", {**settings, "prompt": ["207", "Thing 207", "thing 208"]})
    first, same, other = (picture.tobytes() for picture in drawn.images)
    assert first == same != other and drawn.images[0].size == (16, 16)
    said = [f"source={tmp_path / 'published'}", f"changes={{text_encoder: {{names: {names}}}}}", f"out={tmp_path}"]
    assert main(["run", "maskgit-256", "prompt=thimg 207", *said]) == 2
    assert "'thimg 207' is no class of" in (told := capsys.readouterr().err) and "did you mean 'thing 207'?" in told


def test_an_archive_of_a_flattened_tree_is_read_too(reference, tmp_path):
    tree = reference.vqgan_tree()
    np.savez(tmp_path / "tokenizer.npz", **{f"params/{name}": tensor.numpy() for name, tensor in tree.items()})
    np.savez(tmp_path / "bare.npz", **{name: tensor.numpy() for name, tensor in tree.items()})
    for name in ("tokenizer", "bare"):
        importing(str(tmp_path / f"{name}.npz"), "maskgit-vqgan-flax", str(tmp_path / name))()
    written = [load_file(tmp_path / name / "tokenizer.safetensors") for name in ("tokenizer", "bare")]
    assert torch.equal(written[0]["quantizer.codes"], tree["quantizer/codebook"])
    assert all(torch.equal(tensor, written[1][name]) for name, tensor in written[0].items())
    assert [
        str(problem) for problem in muse_studio.check(str(tmp_path / "bare" / "model.yaml"), {"use": "vqgan"})
    ] == []
    (tmp_path / "bare.npz").write_bytes((tmp_path / "bare.npz").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"bare\.npz is no archive of arrays, or is damaged"):
        importing(str(tmp_path / "bare.npz"), "maskgit-vqgan-flax", dry_run=True)()


def refuse(folder, format, message, **settings):
    """The import is refused so, and leaves nothing behind."""
    out = folder.parent / "out"
    with pytest.raises(UserError, match=message):
        importing(str(folder), format, str(out), **settings)()
    assert not out.exists()


def spoiled(reference, folder, format, edit):
    """A published folder whose transformer was edited before it was written."""
    reference.publish(folder, FORMATS[format])
    tree = reference.transformer_tree()
    edit(tree)
    if FORMATS[format]:
        reference.pack(tree, folder / "maskgit_imagenet256_checkpoint")
    else:
        torch.save({"state_dict": reference.torch_transformer(tree)}, folder / "maskgit_imagenet256.ckpt")
    return folder


LOOK = "TransformerLayer_1/Attention_0/self_attention"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tree: tree.pop("MlmLayer_0/mlm_ln/scale"), "1 missing: head.2.weight"),
        (lambda tree: tree["MlmLayer_0/mlm_bias/bias"][5:6].fill_(torch.nan), "1 not finite: .*bias"),
        (
            lambda tree: tree.update({f"{LOOK}/out/bias": torch.ones(5)}),
            r"\[5\], and blocks.1.self_attention.out.bias is \[32\]",
        ),
        (
            lambda tree: tree.update({"Embed_0/position_embeddings/embedding": torch.ones(12, 32)}),
            "its transformer lacks positions of a square grid and of a class in front of it: it has 12",
        ),
        (
            lambda tree: tree.update({"Embed_0/word_embeddings/embedding": torch.ones(1001, 32)}),
            "its transformer lacks rows for codes before 1000 classes and MASK: its table has 1001",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(reference, format, tmp_path, edit, message):
    folder = spoiled(reference, tmp_path / "published", format, edit)
    refuse(folder, format, message)


def test_of_too_few_axes(reference, tmp_path):
    pytest.importorskip("msgpack")
    made = {f"{LOOK}/out/kernel": torch.ones(1024), "Extra_0/kernel": torch.ones(2)}
    folder = spoiled(reference, tmp_path / "published", "maskgit-256-flax", lambda tree: tree.update(made))
    refuse(folder, "maskgit-256-flax", r"(?s)1 not used: Extra_0/kernel.*\[1024\] makes \[\], and .* is \[32, 32\]")


def test_another_model_s_folder(reference, published, tmp_path, format):
    refuse(published, format, rf"has no tokenizer_imagenet256.*it was read as format '{format}'")
    folder = reference.publish(tmp_path / "published", FORMATS[format])
    end = "_checkpoint" if FORMATS[format] else ".ckpt"
    (folder / f"maskgit_imagenet256{end}").write_bytes((folder / f"tokenizer_imagenet256{end}").read_bytes())
    refuse(folder, format, "is another model's: its transformer lacks")


@pytest.mark.parametrize("spoil", [lambda held: held[:-7], lambda held: b"", lambda held: b"\xc1" + held])
def test_a_damaged_tree(reference, tmp_path, spoil):
    pytest.importorskip("msgpack")
    folder = reference.publish(tmp_path / "published", True)
    file = folder / "maskgit_imagenet256_checkpoint"
    file.write_bytes(spoil(file.read_bytes()))
    refuse(folder, "maskgit-256-flax", "checkpoint is no tree of flax, or is damaged or truncated")


def test_what_is_no_tree(tmp_path):
    msgpack = pytest.importorskip("msgpack")
    file = tmp_path / "tokenizer.msgpack"
    file.write_bytes(msgpack.packb([1, 2]))
    refuse(file, "maskgit-vqgan-flax", "holds a list, no tree of arrays")
    array = msgpack.ExtType(1, msgpack.packb(((3,), "float32", b"too short")))
    file.write_bytes(msgpack.packb({"params": {"quantizer": {"codebook": array}}}))
    refuse(file, "maskgit-vqgan-flax", r"damaged or truncated \(an array of float32 \[3\] in 9 bytes\)")


def test_numbers_keep_their_type(reference, tmp_path):
    msgpack = pytest.importorskip("msgpack")
    half = torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16)
    held = (half.shape, "bfloat16", half.view(torch.uint8).numpy().tobytes())
    said = {"params": {"a": msgpack.ExtType(1, msgpack.packb(held))}, "step": 3}
    (tmp_path / "x").write_bytes(msgpack.packb(said))
    found = opened(tmp_path / "x", ("params",))
    assert found.shapes == {"a": [1, 2]} and torch.equal(found.read("a"), half)


def test_without_msgpack_the_cure_is_told(reference, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "msgpack", None)
    for name in ("tokenizer", "maskgit"):
        (tmp_path / f"{name}_imagenet256_checkpoint").write_bytes(b"\x80")
    with pytest.raises(UserError, match=r"needs the library msgpack to be read; pip install .*\[flax\]"):
        importing(str(tmp_path), "maskgit-256-flax", dry_run=True)()


@pytest.mark.parametrize(("size", "side", "millions"), [(256, 16, 172.5), (512, 32, 173.0)])
@pytest.mark.parametrize("tree", [True, False], ids=["flax", "torch"])
def test_the_published_sizes_have_our_names(reference, size, side, millions, tree):
    """The recipe's parts, and shapes as the published checkpoints have them."""
    with torch.device("meta"):
        published = {
            "tokenizer": reference.vqgan_tree(128, (1, 1, 2, 2, 4), 256, 1024),
            "transformer": reference.transformer_tree(24, 768, 16, 3072, 2025, side),
        }
        if not tree:
            published["tokenizer"] = reference.torch_vqgan(published["tokenizer"])
            published["transformer"] = reference.torch_transformer(published["transformer"])
    counted = {name: sum(tensor.numel() for tensor in tensors.values()) for name, tensors in published.items()}
    assert {name: round(count / 1e6, 1) for name, count in counted.items()} == {
        "tokenizer": 54.5,
        "transformer": millions,
    }
    said = load(f"models/maskgit-{size}").plain()["stages"]["base"]
    for piece in model("x", size, tree).pieces:
        shapes = {name: list(tensor.shape) for name, tensor in published[piece.name].items()}
        settings = piece.settings(Found({}, shapes, {}))
        assert said[piece.name] == {"use": piece.part, **settings, "weights": None}
        with torch.device("meta"):
            ours = muse_studio.parts(piece.kind, piece.part)[0].load()(**settings)
        wanted = {name: list(tensor.shape) for name, tensor in ours.named_parameters()}
        wrong = differences(match(shapes, piece, settings), shapes, wanted)
        assert not any(wrong.values()), wrong
        assert sum(parameter.numel() for parameter in ours.parameters()) == counted[piece.name]
