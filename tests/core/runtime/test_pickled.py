"""Files of torch.save as trainers write them are read, and nothing in one is imported, called or executed."""

import argparse
import collections
import copyreg
import functools
import io
import os
import pathlib
import pickle
import struct
import sys
import time
import types
import zipfile

import numpy as np
import pytest
import torch

from muse_studio.errors import UserError
from muse_studio.runtime import inert, pickled
from muse_studio.runtime.inert import StandIn, followed
from muse_studio.runtime.pickled import TorchFile, unpickled

WRITTEN = {
    "as torch writes today": {},
    "by protocol 4": {"pickle_protocol": 4},
    "by protocol 5": {"pickle_protocol": 5},
    "as torch wrote before archives": {"_use_new_zipfile_serialization": False},
}
WAYS = pytest.mark.parametrize("way", WRITTEN.values(), ids=WRITTEN.keys())


def tensors():
    """Of each type and layout that is published, some of them views of one storage."""
    whole = torch.arange(100.0)
    return collections.OrderedDict(
        plain=torch.randn(3, 4),
        parameter=torch.nn.Parameter(torch.randn(2)),
        transposed=torch.randn(4, 5).t(),
        empty=torch.empty(0, 3),
        scalar=torch.tensor(3),
        half=torch.randn(3).half(),
        brain=torch.randn(3).bfloat16(),
        yes=torch.tensor([True, False]),
        begin=whole[10:20],
        steps=whole[15:40:3],
        one=whole[:1].expand(7),
        unsigned=torch.ones(4, dtype=torch.uint16),
        tiny=torch.ones(2).to(torch.float8_e4m3fn),
    )


@WAYS
def test_tensors_are_read_as_they_were_written(tmp_path, way):
    wanted = tensors()
    torch.save({"state_dict": wanted, "epoch": 3}, tmp_path / "model.ckpt", **way)
    mine = unpickled(tmp_path / "model.ckpt", ("state_dict",))
    assert mine.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert mine[name].dtype == tensor.dtype and mine[name].stride() == tensor.stride(), name
        assert torch.equal(mine[name].double(), tensor.detach().double()), name


def test_torch_s_own_careful_reader_gives_the_same(tmp_path):
    torch.save(tensors(), tmp_path / "model.pt")
    mine, theirs = unpickled(tmp_path / "model.pt"), torch.load(tmp_path / "model.pt", weights_only=True)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name].double(), theirs[name].double()) for name in theirs)


@pytest.fixture
def lightning():
    """The classes that Lightning's files name, as modules that vanish when the test calls what it is given."""
    made = {}

    def module(name, *classes):
        for end in [place for place, letter in enumerate(f"{name}.") if letter == "."]:
            if name[:end] not in sys.modules:
                made[name[:end]] = sys.modules[name[:end]] = types.ModuleType(name[:end])
        for each in classes:
            each.__module__, each.__qualname__ = name, each.__name__
            setattr(made[name], each.__name__, each)

    class ModelCheckpoint:
        def __setstate__(self, state):
            raise AssertionError("it was filled")

    class AttributeDict(dict):
        pass

    class DictConfig:
        def __init__(self, content):
            self.content = content

        def __reduce__(self):
            return DictConfig, (self.content,), {"_flags": None}

    ModelCheckpoint.__getstate__ = lambda self: {"best": 1.0}
    module("pytorch_lightning.callbacks.model_checkpoint", ModelCheckpoint)
    module("lightning_fabric.utilities.data", AttributeDict)
    module("omegaconf.dictconfig", DictConfig)

    def vanish():
        for name in made:
            sys.modules.pop(name, None)

    yield types.SimpleNamespace(
        ModelCheckpoint=ModelCheckpoint, AttributeDict=AttributeDict, DictConfig=DictConfig, vanish=vanish
    )
    vanish()


@WAYS
def test_a_checkpoint_of_lightning_s(tmp_path, lightning, way):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "global_step": 1000,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": model.state_dict(),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": collections.Counter(total=4)}},
        "callbacks": {
            lightning.ModelCheckpoint: {"best_model_path": pathlib.PosixPath("/logs/best.ckpt")},
            "ModelCheckpoint{'monitor': 'loss'}": {"best": torch.tensor(0.5), "kept": lightning.ModelCheckpoint()},
        },
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"last_lr": [np.float64(1e-3)], "lambda": functools.partial(max, 1)}],
        "hparams_name": "kwargs",
        "hyper_parameters": lightning.AttributeDict(
            args=argparse.Namespace(lr=1e-3, seeds={1, 2}, loss=torch.nn.functional.mse_loss),
            config=lightning.DictConfig({"a": [1, 2]}),
            table=np.ones((2, 3), dtype=np.float32),
            kinds=collections.defaultdict(list, {"x": [1]}),
            type=np.dtype("int64"),
            frozen=frozenset({1}),
            complex=1j,
            many=bytearray(b"abc"),
        ),
    }
    torch.save(checkpoint, tmp_path / "last.ckpt", **way)
    lightning.vanish()
    before = set(sys.modules)
    found = unpickled(tmp_path / "last.ckpt", ("state_dict",))
    assert found.keys() == {"weight", "bias"} and all(
        torch.equal(found[name], model.state_dict()[name]) for name in found
    )
    assert set(sys.modules) == before
    held = TorchFile.of(tmp_path / "last.ckpt").held
    assert held["epoch"] == 3 and held["pytorch-lightning_version"] == "2.5.0"
    said = held["hyper_parameters"]
    assert isinstance(said, StandIn) and said.name == "lightning_fabric.utilities.data.AttributeDict"
    assert said.items["args"].name == "argparse.Namespace" and said.items["args"].items == {}
    assert said.items["kinds"] == {"x": [1]} and isinstance(said.items["table"], StandIn)


def test_a_table_that_is_of_a_class_derived_from_dict_is_read(tmp_path, lightning):
    torch.save({"state_dict": lightning.AttributeDict(weight=torch.ones(2))}, tmp_path / "model.ckpt")
    lightning.vanish()
    assert torch.equal(unpickled(tmp_path / "model.ckpt", ("state_dict",))["weight"], torch.ones(2))


RAN = []


def run(*given):
    """What no reader may call."""
    RAN.append(given)


class Runs:
    """An object whose pickle calls something, in one of the ways that there are."""

    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        return self.how


class Filled:
    """A class whose state is given to its own code."""

    def __setstate__(self, state):
        run(state)


class Named:
    """A class that is made by names: NEWOBJ_EX."""

    def __new__(cls, *given, **named):
        if named:
            run(named)
        return super().__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"a": 1}


def filled():
    one = Filled()
    one.state = 1
    return one


def archived(path, described):
    """A file of torch's with that pickle in it, beside numbers of a storage "0"."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", described)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", struct.pack("<2f", 1, 2))
    return path


ATTACKS = {
    "REDUCE": lambda: pickle.dumps(Runs((run, (1,)))),
    "REDUCE of os.system": lambda: b"\x80\x02cposix\nsystem\nX\x08\0\0\0exit 120\x85R.",
    "REDUCE of eval": lambda: b"\x80\x02c__builtin__\neval\nX\x06\0\0\0exit()\x85R.",
    "REDUCE of getattr": lambda: b"cbuiltins\ngetattr\n(cos\nenviron\nX\x03\0\0\0poptR.",
    "BUILD": lambda: pickle.dumps(filled()),
    "BUILD of a class": lambda: f"c{__name__}\nFilled\n}}X\x01\0\0\0ai\x01\nb.".replace("i\x01\n", "K\x01s").encode(),
    "NEWOBJ_EX": lambda: pickle.dumps(Named(), 4),
    "NEWOBJ_EX of protocol 2": lambda: pickle.dumps(Named(), 2),
    "INST": lambda: f"(I1\ni{__name__}\nrun\n.".encode(),
    "OBJ": lambda: f"(c{__name__}\nrun\nI1\no.".encode(),
    "STACK_GLOBAL": lambda: pickle.dumps(Runs((run, (1,))), 4),
    "a dotted name": lambda: b"\x80\x04\x8c\x08builtins\x8c\x0cprint.__call\x93)R.",
    "list items": lambda: pickle.dumps(Runs((list, (), None, iter([Runs((run, (2,)))])))),
    "a key that is called": lambda: pickle.dumps({"a": 1, "b": {"c": Runs((run, (2,)))}}),
    "a persistent id": lambda: f"c{__name__}\nrun\n(I1\ntRQ.".encode(),
    "a persistent id in text": lambda: b"Pos.system\n.",
    "a set": lambda: pickle.dumps({"a": frozenset({1}), "b": {2}}, 4),
    "a buffer": lambda: b"\x80\x05\x97\x98.",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_of_a_file_is_called(tmp_path, monkeypatch, attack):
    monkeypatch.setattr(os, "system", run)
    RAN.clear()
    described = ATTACKS[attack]()
    followed(io.BytesIO(described))
    beside = b"\x80\x02}(X\x01\0\0\0w" + described.removesuffix(b".").removeprefix(b"\x80\x02") + b"u."
    TorchFile.of(archived(tmp_path / "model.pt", beside))
    assert RAN == []


def test_a_class_that_is_registered_by_a_number_is_not_made():
    copyreg.add_extension(__name__, "run", 200)
    try:
        described = pickle.dumps(Runs((run, (1,))), 2)
        assert b"\x82" in described
        RAN.clear()
        assert isinstance(followed(io.BytesIO(described)), StandIn)
    finally:
        copyreg.remove_extension(__name__, "run", 200)
    assert RAN == []


def test_no_module_is_imported(tmp_path):
    described = b"\x80\x02canti" + b"gravity\nx\n)R."
    assert followed(io.BytesIO(described)).name == "antigravity.x"
    assert "antigravity" not in sys.modules


def times(body, count):
    return body * count


BOMBS = {
    "dicts in dicts, each twice": b"}q\0" + b"".join(
        b"}(X\x01\0\0\0ah" + bytes([n]) + b"X\x01\0\0\0bh" + bytes([n]) + b"uq" + bytes([n + 1]) for n in range(200)
    ) + b".",
    "a tuple in a tuple, as a key": b"}" + b")" + times(b"\x85", 10**5) + b"K\x01s.",
    "a list in a list": times(b"]", 10**5) + times(b"a", 10**5 - 1) + b".",
    "one long list of pairs, again and again": b"(" + times(b")", 10**5) + b"tq\0" + b"0"
    + times(b"ccollections\nOrderedDict\nh\0\x85R0", 1000) + b"N.",
    "one large dict, again and again": b"}(" + b"".join(b"J" + struct.pack("<i", n) + b"N" for n in range(10**5))
    + b"uq\x000" + times(b"ccollections\nOrderedDict\nh\0\x85R0", 10**4) + b"N.",
    "marks above a long list": b"(" + times(b"N", 10**5) + times(b"(1", 10**5) + b"t.",
    "a long name, again and again": b"\x80\x04X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"q\0"
    + times(b"h\0h\0\x93", 10**4) + b".",
    "a number of a million digits": b"I" + b"9" * 10**6 + b"\n.",
    "a long number as a key": b"\x80\x02\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6 + b"q\0}"
    + times(b"h\0Ns", 10**4) + b".",
    "a text that is longer than it": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"abc.",
    "bytes that are longer than it": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",
    "too many tuples": b"N\x87\x87.",
    "a name that nothing put": b"h\x07.",
    "a tensor of a million axes": b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n"
    b"X\x01\0\0\x000X\x03\0\0\0cpuK\x02tQK\0(" + times(b"K\x01", 10**5) + b"tq\0h\0tR.",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_read_or_refused_soon(tmp_path, bomb):
    began = time.process_time()
    try:
        TorchFile.of(archived(tmp_path / "model.pt", BOMBS[bomb]))
    except UserError as error:
        assert "is not read: it is damaged, truncated, or no file of torch's" in str(error)
    assert time.process_time() - began < 5


def test_a_pickle_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(inert, "MOST", 1000)
    with pytest.raises(UserError, match=r"it has more than 1,000 instructions"):
        TorchFile.of(archived(tmp_path / "model.pt", b"N0" * 501 + b"N."))


def test_a_pickle_of_an_archive_is_not_read_beyond_measure(tmp_path, monkeypatch):
    monkeypatch.setattr(pickled, "LARGEST", 1000)
    with pytest.raises(UserError, match=r"what it says of its tensors has more than 1\.0 KiB"):
        TorchFile.of(archived(tmp_path / "model.pt", b"N0" * 501 + b"N."))


def tensor_of(storage=b"0", kind=b"FloatStorage", count=2, offset=0, shape=(2,), stride=(1,)):
    """The pickle of one tensor under "w", said as it is given."""

    def numbers(values):
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", each) for each in values) + b"t"

    named = b"(X\x07\0\0\0storagectorch\n" + kind + b"\nX" + struct.pack("<I", len(storage)) + storage
    named += b"X\x03\0\0\0cpu\x8a\x08" + struct.pack("<q", count) + b"tQ"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + named + b"\x8a\x08" + struct.pack("<q", offset)
    return b"\x80\x02}X\x01\0\0\0w" + rebuilt + numbers(shape) + numbers(stride) + b"\x89NtRs."


def test_the_pickle_that_the_next_tests_spoil_is_a_tensor_s(tmp_path):
    assert unpickled(archived(tmp_path / "model.pt", tensor_of()))["w"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 2**40, "shape": (2**40,)},
        {"offset": 1},
        {"offset": -1},
        {"shape": (3,)},
        {"shape": (-1,)},
        {"shape": (2, 2)},
        {"shape": (2**40,), "stride": (0,)},
        {"shape": (2**30, 2**30, 2**30), "stride": (0, 0, 0)},
        {"stride": (-1,)},
        {"stride": (2**61,)},
        {"count": -1},
        {"kind": b"LongStorage"},
        {"storage": b"1"},
        {"storage": b"../data.pkl"},
        {"storage": b"/etc/passwd"},
    ],
    ids=str,
)
def test_a_tensor_outside_of_its_numbers_is_refused(tmp_path, wrong):
    path = archived(tmp_path / "model.pt", tensor_of(**wrong))
    if wrong.get("count") == -1:
        assert unpickled(path) == {}  # it is of no storage
        return
    with pytest.raises(UserError, match=r"model\.pt is not read: it is damaged"):
        unpickled(path)


def test_an_archive_that_is_packed_or_big_endian_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"}" * 10**6 + b".")
    with pytest.raises(UserError, match=r"'archive/data\.pkl' is packed"):
        unpickled(tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"}.")
        archive.writestr("archive/byteorder", "big")
    with pytest.raises(UserError, match="its numbers are big-endian"):
        unpickled(tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("weights.npy", b"")
    with pytest.raises(UserError, match=r"an archive without a data\.pkl"):
        unpickled(tmp_path / "model.pt")


@WAYS
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path, way):
    torch.save({"w": torch.randn(20), "args": argparse.Namespace(a=1)}, tmp_path / "model.pt", **way)
    whole = (tmp_path / "model.pt").read_bytes()
    for length in range(0, len(whole) - 1, 7):
        (tmp_path / "model.pt").write_bytes(whole[:length])
        with pytest.raises(UserError, match="is not read: it is damaged, truncated"):
            unpickled(tmp_path / "model.pt")


def test_a_whole_module_is_no_table(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"holds a torch\.nn\.modules\.linear\.Linear, .* not tensors by name"):
        unpickled(tmp_path / "model.pt")
