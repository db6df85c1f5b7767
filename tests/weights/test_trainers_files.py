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

PIECES = [(name, piece.name) for name in SOURCES if name not in FORMER for piece in dialect(name).pieces]
"""Every file of every published layout that is read."""


def held(names, **strange):
    """Tensors of these names, each holding which of them it is."""
    numbers = {name: torch.tensor([float(place)]) for place, name in enumerate(names)}
    return Tensors({name: [1] for name in names}, numbers.__getitem__, strange)


def piece_of(format, name):
    return next(piece for piece in dialect(format).pieces if piece.name == name)


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


@pytest.mark.parametrize(("format", "name"), PIECES)
@pytest.mark.parametrize("way", WRAPPED)
def test_every_layout_is_read_without_what_is_wrapped_around_it(format, name, way):
    piece = piece_of(format, name)
    names = [each for each in SOURCES[format]()[0][name] if "/" not in each]  # trees of flax have none
    found = as_the_table_has_them(held([WRAPPED[way](each) for each in names]), piece)
    assert list(found.shapes) == list(as_the_table_has_them(held(names), piece).shapes)
    assert all(found.read(each).item() == place for place, each in enumerate(found.shapes))
    assert not names or found.notes[0].startswith("names are read without ")


@pytest.mark.parametrize(("format", "name"), [each for each in PIECES if each[1] != "text_encoder"])
def test_a_layer_in_parallel_is_read_without_it(format, name):
    piece = piece_of(format, name)
    names = [each for each in SOURCES[format]()[0][name] if "/" not in each]
    found = as_the_table_has_them(held([inside(each, "module") for each in names]), piece)
    assert list(found.shapes) == names


@pytest.mark.parametrize(("format", "name"), PIECES)
def test_a_layout_itself_is_not_touched(format, name):
    names = list(SOURCES[format]()[0][name])
    found = as_the_table_has_them(held(names), piece_of(format, name))
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


TAMING = SOURCES["taming-vqgan"]()[0]["tokenizer"]


def filled(number):
    return {name: torch.full_like(tensor, number) for name, tensor in TAMING.items()}


def take(tmp_path, checkpoint, **settings):
    """The report of an import, and a number that all tensors of it have."""
    torch.save(checkpoint, tmp_path / "last.ckpt")
    report = importing(str(tmp_path / "last.ckpt"), "taming-vqgan", str(tmp_path / "out"), **settings)()
    tensors = load_file(tmp_path / "out" / "tokenizer.safetensors")
    return report, tensors["encoder.layers.0.bias"].mean().item()


ONE, TWO, OTHER = filled(1.0), filled(2.0), {"main.0.weight": torch.zeros(3)}
HELD = {
    "bare": (ONE, None),
    "state_dict": ({"state_dict": ONE}, None),
    **{key: ({key: ONE, "epoch": 3}, None) for key in ("model", "module", "ema", "params", "params_ema", "net")},
    "a GAN": ({"discriminator": OTHER, "generator": ONE, "optimizer": {"state": {0: {"exp_avg": TWO}}}}, None),
    "an odd name": ({"vq": {"weights": ONE}, "loss": OTHER}, None),
    "model and ema": ({"model": TWO, "ema": ONE}, r"read from ema; key=model reads model"),
    "state_dict in model": ({"model": {"state_dict": ONE}}, None),
    "params and params_ema": ({"params": TWO, "params_ema": ONE}, "read from params_ema; key=params reads params"),
    "an ema of a part": ({"model": ONE, "ema": dict(list(TWO.items())[4:])}, "read from model; key=ema reads ema"),
    "two of one kind": ({"state_dict": ONE, "model": TWO}, "read from state_dict; key=model reads model"),
    "names in a model": (
        {"state_dict": {f"model._orig_mod.{name}": each for name, each in ONE.items()}},
        "without _or",
    ),
}


@pytest.mark.parametrize("wrapped", HELD)
def test_the_model_is_found_in_what_a_trainer_writes_and_others_are_told(tmp_path, wrapped):
    checkpoint, note = HELD[wrapped]
    report, number = take(tmp_path, {**checkpoint, "hyper_parameters": argparse.Namespace(lr=1)})
    assert number == 1
    assert note in report.summary() if note else len(report.summary().splitlines()) == 3


def test_the_other_model_is_taken_by_its_key(tmp_path):
    _, number = take(tmp_path, {"model": {"state_dict": TWO}, "ema": ONE}, key="model.state_dict")
    assert number == 2


def test_a_key_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    with pytest.raises(
        UserError, match=r"key is 'modle', and \S+ holds no .* did you mean 'model'\? it has .* model, ema"
    ):
        take(tmp_path, {"model": TWO, "ema": ONE}, key="modle")
    save_file(TAMING, tmp_path / "vq.safetensors")
    with pytest.raises(UserError, match=r"key is 'ema', and \S+ is no file of torch\.save"):
        importing(str(tmp_path / "vq.safetensors"), "taming-vqgan", key="ema")()


def test_another_model_is_answered_with_the_file_s_keys(tmp_path):
    with pytest.raises(UserError, match=r"lacks .*; it holds discriminator, epoch, hyper_parameters, of which discrim"):
        take(tmp_path, {"discriminator": OTHER, "epoch": 3, "hyper_parameters": argparse.Namespace(lr=1)})
    with pytest.raises(UserError, match=r"holds no tensors by name, but epoch, hyper_parameters; it is another"):
        take(tmp_path, {"epoch": 3, "hyper_parameters": argparse.Namespace(lr=1)})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("before", ["", "module."])
def test_a_stand_in_where_a_tensor_is_wanted_is_named(tmp_path, before):
    strange = {before + name: each for name, each in ONE.items()} | {
        f"{before}quant_conv.bias": argparse.Namespace(a=1)
    }
    with pytest.raises(
        UserError, match=r"'quant_conv\.bias' is to be a tensor, and is made by argparse\.Namespace, which"
    ):
        take(tmp_path, {"state_dict": strange})
    assert not (tmp_path / "out").exists()


def test_what_stands_beside_tensors_is_no_matter(tmp_path):
    _, number = take(tmp_path, {"state_dict": ONE | {"_extra_state": argparse.Namespace(a=1), "step": 3}})
    assert number == 1


def test_a_wrapped_checkpoint_becomes_the_same_as_a_bare_one(tmp_path):
    take(tmp_path, ONE)
    (tmp_path / "out").rename(tmp_path / "bare")
    take(tmp_path, {"state_dict": {f"module.{name}": each for name, each in ONE.items()}})
    bare, wrapped = (load_file(tmp_path / each / "tokenizer.safetensors") for each in ("bare", "out"))
    assert same_tensors(bare, wrapped)
