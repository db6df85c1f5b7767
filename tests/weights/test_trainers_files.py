"""Checkpoints as trainers write them: wrapped names, several models in a file, stand-ins in a tensor's place."""

import argparse

import pytest
import torch
from dialect_sources import FORMER, SOURCES
from importing import dialect, importing
from runs import same_tensors
from safetensors.torch import load_file, save_file

from muse_studio.errors import UserError
from muse_studio.runtime.dialects import Piece, Rule
from muse_studio.runtime.matching import Tensors
from muse_studio.runtime.wrappers import HIDDEN, as_the_table_has_them

LAYOUTS = [name for name in SOURCES if name not in FORMER]
"""Every published layout that is read."""


def held(names, **strange):
    """Tensors of these names, each holding which of them it is."""
    numbers = {name: torch.tensor([float(place)]) for place, name in enumerate(names)}
    return Tensors({name: [1] for name in names}, numbers.__getitem__, strange)


def pieces_of(format):
    """Each file of a layout, with the names in it."""
    source = SOURCES[format]()[0]
    return [(piece, list(source[piece.name])) for piece in dialect(format).pieces]


def inside(name, word):
    """A name with a word behind its first one, where what it names is a layer of a layer."""
    first, _, rest = name.partition(".")
    return f"{first}.{word}.{rest}" if "." in rest else name


WRAPPED = {
    "DataParallel": lambda name: f"module.{name}",
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "the other way round": lambda name: f"_orig_mod.module.{name}",
    "Lightning": lambda name: f"model.{name}",
    "a net in a model": lambda name: f"model.net.{name}",
    "Fabric": lambda name: f"_forward_module.{name}",
    "all": lambda name: f"_forward_module.module.model._orig_mod.net.{name}",
    "FSDP of a layer": lambda name: inside(f"_fsdp_wrapped_module.{name}", "_fsdp_wrapped_module"),
    "a compiled layer": lambda name: inside(name, "_orig_mod"),
    "a compiled layer in all": lambda name: f"model.{inside(name, '_orig_mod')}",
    "a recomputed layer": lambda name: inside(name, "_checkpoint_wrapped_module"),
}


@pytest.mark.parametrize("format", LAYOUTS)
@pytest.mark.parametrize("way", WRAPPED)
def test_every_layout_is_read_without_what_is_wrapped_around_it(format, way):
    for piece, found in pieces_of(format):
        names = [each for each in found if "/" not in each]  # trees of flax have none
        read = as_the_table_has_them(held([WRAPPED[way](each) for each in names]), piece)
        assert list(read.shapes) == list(as_the_table_has_them(held(names), piece).shapes)
        assert all(read.read(each).item() == place for place, each in enumerate(read.shapes))
        assert not names or read.notes[0].startswith("names are read without ")


@pytest.mark.parametrize("format", LAYOUTS)
def test_a_layer_in_parallel_is_read_without_it(format):
    for piece, found in pieces_of(format):
        if piece.name != "text_encoder":
            names = [each for each in found if "/" not in each]
            assert list(as_the_table_has_them(held([inside(each, "module") for each in names]), piece).shapes) == names


@pytest.mark.parametrize("format", LAYOUTS)
def test_a_layout_itself_is_not_touched(format):
    for piece, names in pieces_of(format):
        found = as_the_table_has_them(held(names), piece)
        assert set(found.shapes) <= set(names) and found.notes == ()


def layout(*patterns, **settings):
    rules = tuple(Rule(pattern, "weight") for pattern in patterns)
    return Piece("tokenizer", "tokenizer", "vqgan", "", rules, lambda found: {}, **settings)


@pytest.mark.parametrize("word", ["model", "net", "module", *HIDDEN])
def test_a_word_that_is_part_of_a_layout_stays(word):
    piece = layout(rf"{word}\.weight", rf"deep\.{word}\.weight")
    names = [f"{word}.weight", f"deep.{word}.weight"]
    assert list(as_the_table_has_them(held(names), piece).shapes) == names
    assert list(as_the_table_has_them(held([f"module.{names[0]}"]), piece).shapes) == names[:1]


def test_a_name_that_is_unknown_however_it_is_cut_stays_whole():
    names = ["model.other.weight", "module.module", "model"]
    assert list(as_the_table_has_them(held(names), layout("weight")).shapes) == names


@pytest.mark.parametrize("names", [["model.weight", "net.weight"], ["weight", "_orig_mod.weight"]])
def test_two_tensors_of_one_name_are_refused(names):
    with pytest.raises(UserError, match=rf"'{names[0]}' and '{names[1]}' are both 'weight', and which one is meant"):
        as_the_table_has_them(held(names), layout("weight"))


def test_moving_averages_of_a_wrapped_model_are_taken():
    piece = layout(r"enc\.weight", averages="model_ema.")
    names = ["module._orig_mod.enc.weight", "module.model_ema._orig_modencweight", "model_ema.decay"]
    found = as_the_table_has_them(held(names), piece)
    assert list(found.shapes) == ["enc.weight"] and found.read("enc.weight").item() == 1


def filled(number):
    """The tensors of a small tokenizer, all of this number."""
    tensors = SOURCES["taming-vqgan"]()[0]["tokenizer"]
    return {name: torch.full_like(tensor, number) for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def one():
    return filled(1.0)


@pytest.fixture(scope="module")
def two():
    return filled(2.0)


def take(tmp_path, checkpoint, **settings):
    """The report of an import, and a number that all tensors of it have."""
    torch.save(checkpoint, tmp_path / "last.ckpt")
    report = importing(str(tmp_path / "last.ckpt"), "taming-vqgan", str(tmp_path / "out"), **settings)()
    tensors = load_file(tmp_path / "out" / "tokenizer.safetensors")
    return report, tensors["encoder.layers.0.bias"].mean().item()


OTHER = {"main.0.weight": torch.zeros(3)}
HELD = {
    "bare": (lambda one, two: one, None),
    "state_dict": (lambda one, two: {"state_dict": one}, None),
    **{
        key: (lambda one, two, key=key: {key: one, "epoch": 3}, None)
        for key in ("model", "module", "ema", "params", "params_ema", "net")
    },
    "a GAN": (
        lambda one, two: {"discriminator": OTHER, "generator": one, "optimizer": {"state": {0: {"exp_avg": two}}}},
        None,
    ),
    "an odd name": (lambda one, two: {"vq": {"weights": one}, "loss": OTHER}, None),
    "model and ema": (lambda one, two: {"model": two, "ema": one}, r"read from ema; key=model reads model"),
    "state_dict in model": (lambda one, two: {"model": {"state_dict": one}}, None),
    "params and params_ema": (
        lambda one, two: {"params": two, "params_ema": one},
        "read from params_ema; key=params reads params",
    ),
    "an ema of a part": (
        lambda one, two: {"model": one, "ema": dict(list(two.items())[4:])},
        "read from model; key=ema reads ema",
    ),
    "two of one kind": (
        lambda one, two: {"state_dict": one, "model": two},
        "read from state_dict; key=model reads model",
    ),
    "names in a model": (
        lambda one, two: {"state_dict": {f"model._orig_mod.{name}": each for name, each in one.items()}},
        "without _or",
    ),
}
"""What a trainer writes, of a model of ones and another of twos, and what is told of it."""


@pytest.mark.parametrize("wrapped", HELD)
def test_the_model_is_found_in_what_a_trainer_writes_and_others_are_told(tmp_path, one, two, wrapped):
    checkpoint, note = HELD[wrapped]
    report, number = take(tmp_path, {**checkpoint(one, two), "hyper_parameters": argparse.Namespace(lr=1)})
    assert number == 1
    assert note in report.summary() if note else len(report.summary().splitlines()) == 3


def test_the_other_model_is_taken_by_its_key(tmp_path, one, two):
    _, number = take(tmp_path, {"model": {"state_dict": two}, "ema": one}, key="model.state_dict")
    assert number == 2


def test_a_key_that_is_not_there_is_answered_with_those_that_are(tmp_path, one, two):
    with pytest.raises(
        UserError, match=r"key is 'modle', and \S+ holds no .* did you mean 'model'\? it has .* model, ema"
    ):
        take(tmp_path, {"model": two, "ema": one}, key="modle")
    save_file(two, tmp_path / "vq.safetensors")
    with pytest.raises(UserError, match=r"key is 'ema', and \S+ is no file of torch\.save"):
        importing(str(tmp_path / "vq.safetensors"), "taming-vqgan", key="ema")()


def test_another_model_is_answered_with_the_file_s_keys(tmp_path):
    with pytest.raises(UserError, match=r"lacks .*; it holds discriminator, epoch, hyper_parameters, of which discrim"):
        take(tmp_path, {"discriminator": OTHER, "epoch": 3, "hyper_parameters": argparse.Namespace(lr=1)})
    with pytest.raises(UserError, match=r"holds no tensors by name, but epoch, hyper_parameters; it is another"):
        take(tmp_path, {"epoch": 3, "hyper_parameters": argparse.Namespace(lr=1)})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("before", ["", "module."])
def test_a_stand_in_where_a_tensor_is_wanted_is_named(tmp_path, one, before):
    strange = {before + name: each for name, each in one.items()} | {
        f"{before}quant_conv.bias": argparse.Namespace(a=1)
    }
    with pytest.raises(
        UserError, match=r"'quant_conv\.bias' is to be a tensor, and is made by argparse\.Namespace, which"
    ):
        take(tmp_path, {"state_dict": strange})
    assert not (tmp_path / "out").exists()


def test_what_stands_beside_tensors_is_no_matter(tmp_path, one):
    _, number = take(tmp_path, {"state_dict": one | {"_extra_state": argparse.Namespace(a=1), "step": 3}})
    assert number == 1


def test_a_wrapped_checkpoint_becomes_the_same_as_a_bare_one(tmp_path, one):
    take(tmp_path, one)
    (tmp_path / "out").rename(tmp_path / "bare")
    take(tmp_path, {"state_dict": {f"module.{name}": each for name, each in one.items()}})
    bare, wrapped = (load_file(tmp_path / each / "tokenizer.safetensors") for each in ("bare", "out"))
    assert same_tensors(bare, wrapped)
