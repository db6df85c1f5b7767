"""Preparing tokens: what the frozen parts say of each picture, resumable at any moment, anywhere, broken ones told."""

import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from muse_training.data.augmented import Augmented
from muse_training.data.encoder import pack_states, unpack_states
from muse_training.data.folder import Folder
from muse_training.data.prepare import PrepareTokens
from muse_training.data.shard_writer import Attempts
from muse_training.data.storage import StorageFolder
from muse_training.data.token_index import TokenIndex
from muse_training.data.tokens import Tokens
from PIL import Image

from muse_studio import testing
from muse_studio.contracts import RunContext
from muse_studio.errors import UserError
from muse_studio.stage import Stage


def stage(size):
    parts = testing.FakeTransformer(), testing.FakeSchedule(), testing.FakeSampler(), testing.FakeGuidance()
    return Stage(testing.FakeTokenizer(), *parts, size)


class Noise:
    """Pictures of noise, each captioned with its number; reading number `dies_at` is a power cut."""

    def __init__(self, count=23, size=16, dies_at=None):
        self.count, self.size, self.dies_at, self.read = count, size, dies_at, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.read.append(index)
        if index == self.dies_at and len(self.read) > 32:
            raise RuntimeError("the power is gone")
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(256, (3, self.size, self.size), dtype=torch.uint8, generator=generator)
        return {"image": image, "caption": f"picture {index}"}


def prepare(dataset, out, **more):
    stages = more.pop("stages", None) or {"base": stage(8), "large": stage(16)}
    settings = {"shard": 5, "device": "cpu"} | more
    return PrepareTokens(stages, testing.FakeTextEncoder(), dataset, str(out), **settings)


@pytest.mark.parametrize("more", [{}, {"workers": 2, "batch": 3}, {"batch": 1, "shard": 23}])
def test_a_record_is_what_the_frozen_parts_say(tmp_path, more):
    data = Noise()
    prepare(data, tmp_path, **more)(None)
    made = Tokens(str(tmp_path))
    assert len(made) == 23
    for index in (0, 4, 5, 22):
        image = data[index]["image"][None]
        smaller = image.float().view(1, 3, 8, 2, 8, 2).mean((3, 5)).round().byte()  # each the mean of four
        text = testing.FakeTextEncoder()([f"picture {index}"])
        record, encode = made[index], testing.FakeTokenizer().encode
        assert torch.equal(record["tokens.large"].long(), encode(image.float() / 255)[0])
        assert torch.equal(record["tokens.base"].long(), encode(smaller.float() / 255)[0])
        assert torch.equal(record["states"], text.states[0].bfloat16())
        assert torch.equal(record["mask"], text.mask[0])
        torch.testing.assert_close(record["pooled"], text.pooled[0])


def test_its_index_says_what_it_is(tmp_path):
    recipe = {"use": "prepare-tokens", "dataset": "noise"}
    prepare(Noise(), tmp_path)(None, RunContext(recipe))
    message = json.loads((tmp_path / "index.json").read_text())
    assert message["records"] == 23 and message["left_out"] == 0 and message["recipe"] == recipe
    assert [each["records"] for each in message["shards"]] == [5, 5, 5, 5, 3]
    assert [each["bytes"] for each in message["shards"]] == [
        (tmp_path / each["file"]).stat().st_size for each in message["shards"]
    ]
    assert message["fields"] == {
        "tokens.base": {"dtype": "int16", "shape": [2, 2]},
        "tokens.large": {"dtype": "int16", "shape": [4, 4]},
        "states": {"dtype": "bfloat16", "shape": [8, 8]},
        "mask": {"dtype": "bool", "shape": [8]},
        "pooled": {"dtype": "float32", "shape": [8]},
    }
    assert message["stages"]["large"]["size"] == [16, 16] and message["stages"]["large"]["grid"] == [4, 4]


def test_the_summary_says_the_cost_of_each_kind_of_states(tmp_path):
    told = prepare(Noise(), tmp_path, states="int8")(None).summary().splitlines()
    size = sum(file.stat().st_size for file in tmp_path.glob("*.safetensors"))
    assert told[0] == f"{tmp_path}: 23 records in 5 shards, {size / 1000:.4g} kB"
    each = 2 * 4 + 2 * 16 + 8 + 4 * 8  # both grids in two bytes, mask, pooled
    assert told[1].startswith(f"states as bfloat16 would take {each + 2 * 64} bytes a record (tokens.base 8, ")
    assert told[2].startswith(f"states as int8 take {each + 64 + 4 * 8} bytes a record (")
    assert told[2].endswith(f"scale 32, mask 8, pooled 32), {23 * (each + 96) / 1000:.4g} kB in all")
    assert told[3] == f"to train on them: dataset='{{use: tokens, path: {tmp_path}}}'"


@given(arrays(np.float32, array_shapes(min_dims=3, max_dims=3), elements=st.floats(-1e4, 1e4, width=32)))
def test_int8_is_off_by_half_a_step_of_its_scale_at_most(states):
    kept = pack_states(torch.from_numpy(states), "int8")
    assert kept["states"].dtype == torch.int8 and kept["scale"].shape == states.shape[:-1]
    step = np.abs(states).max(-1, keepdims=True) / 127
    assert (np.abs(unpack_states(kept).numpy() - states) <= step * 0.5001 + 1e-30).all()


@pytest.mark.parametrize("out", ["memory://made", None], ids=["memory", "folder"])
def test_a_killed_run_goes_on_with_the_shard_it_lost(tmp_path, out):
    out = out or tmp_path / "made"
    with pytest.raises(RuntimeError, match="power"):
        prepare(Noise(dies_at=12), out)(None)
    assert StorageFolder(str(out)).names() == {"000000000.safetensors", "000000005.safetensors"}
    data = Noise()
    resumed = prepare(data, out)(None)
    probes = 32
    assert data.read[probes:] == list(range(10, 23))
    prepare(Noise(), tmp_path / "through")(None)
    for name in StorageFolder(str(out)).names():
        assert StorageFolder(str(out)).read(name) == (tmp_path / "through" / name).read_bytes(), name
    data = Noise()
    assert prepare(data, out)(None).index == resumed.index and len(data.read) == probes


def test_a_torn_shard_is_made_again(tmp_path):
    prepare(Noise(), tmp_path)(None)
    file = tmp_path / "000000005.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    (tmp_path / "000000010.safetensors").unlink()
    prepare(Noise(), tmp_path)(None)
    assert file.read_bytes() == whole and len(Tokens(str(tmp_path))[12]) == 5


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("data", "more"),
    [
        (Noise(22), {}),
        (Noise(), {"states": "int8"}),
        (Noise(), {"stages": {"large": stage(16)}}),
        (Augmented(Noise(), 1, size=16, seed=3), {"shard": 4}),
    ],
)
def test_something_else_is_not_mixed_in(tmp_path, data, more, finished):
    prepare(Noise(), tmp_path)(None)
    if not finished:
        (tmp_path / "index.json").unlink()
    with pytest.raises(UserError, match="holds tokens of other pictures, settings or weights; give another folder as"):
        prepare(data, tmp_path, **more)(None)


def pictures(folder, count=9, broken=(), small=()):
    folder.mkdir()
    for index in range(count):
        size = (9, 30) if index in small else (16, 24)
        file = folder / f"{index:02d}.png"
        Image.new("RGB", size, (20 * index, 0, 0)).save(file)
        if index in broken:
            file.write_bytes(file.read_bytes()[:50])
    return Folder(str(folder), 16, smallest=10)


def test_a_list_of_somebody_else_stays(tmp_path):
    (tmp_path / "left-out.jsonl").write_text("mine\n")
    with pytest.raises(UserError, match=r"left-out.jsonl is none that prepare-tokens wrote.*move it away, or give"):
        prepare(pictures(tmp_path / "pictures", 4), tmp_path)(None)
    assert (tmp_path / "left-out.jsonl").read_text() == "mine\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["left-out.jsonl", "pictures"]


def test_broken_and_small_pictures_are_counted_and_listed(tmp_path):
    data = pictures(tmp_path / "pictures", 23, broken=range(5, 16), small=[2, 20])
    made = prepare(data, tmp_path / "out", workers=2)(None)
    assert made.index.records == 10 and made.index.left_out == 13
    assert [shard.records for shard in made.index.shards] == [4, 0, 0, 4, 2]
    lines = [json.loads(line) for line in (tmp_path / "out" / "left-out.jsonl").read_text().splitlines()]
    assert [line["picture"] for line in lines] == ["02.png", *(f"{i:02d}.png" for i in range(5, 16)), "20.png"]
    assert lines[0]["reason"] == "9x30 pixels, and smallest is 10"
    told = made.summary()
    assert f"13 pictures left out, listed in {tmp_path / 'out' / 'left-out.jsonl'}:\n  02.png: 9x30 pixels" in told
    assert "\n  13.png: " in told and "14.png" not in told and "\n  and 3 more\n" in told
    read = Tokens(str(tmp_path / "out"))
    wanted = [index for index in range(23) if index not in (2, 20, *range(5, 16))]
    encoded = testing.FakeTokenizer().encode(torch.stack([data.attempt(i)["image"] for i in wanted]).float() / 255)
    assert torch.equal(read.__getitems__(list(range(10)))["tokens.large"].long(), encoded)


def test_all_that_lay_there_is_told_and_listed(tmp_path):
    folder = tmp_path / "pictures"
    pictures(folder, 9, broken=[8])
    for index in range(5):
        (folder / f"{index:02d}.txt").write_text("said")
    (folder / "10.heic").write_bytes(b"x")
    (folder / "metadata.csv").write_text("file_name,text\n05.png,said\ngone.png,said\n")
    (folder / ".thumbs").mkdir()
    (folder / ".thumbs" / "00.png").write_bytes(b"x")
    out = tmp_path / "out"
    told = prepare(Folder(str(folder), 16), out)(None).summary()
    assert "captions: 5 from .txt, 1 from metadata.csv, 2 from file names: 06.png, 07.png\n" in told
    assert f"3 files, folders or lines were not used, listed in {out / 'left-out.jsonl'}:\n" in told
    lines = [json.loads(line) for line in (out / "left-out.jsonl").read_text().splitlines()]
    assert [line.get("picture") or line["unused"] for line in lines] == [
        "08.png", "metadata.csv:3", "10.heic", ".thumbs",
    ]  # fmt: skip
    (folder / "11.heic").write_bytes(b"x")
    assert "4 files, folders or lines were" in prepare(Folder(str(folder), 16), out)(None).summary()
    assert '"11.heic"' in (out / "left-out.jsonl").read_text()


def test_what_is_left_out_is_told_again_by_a_run_that_goes_on(tmp_path):
    data = pictures(tmp_path / "pictures", broken=[1])
    first = prepare(data, tmp_path / "out")(None)
    (tmp_path / "out" / "index.json").unlink()
    (tmp_path / "out" / "000000005.safetensors").unlink()
    assert prepare(data, tmp_path / "out")(None).summary() == first.summary()


def test_nothing_that_can_be_read(tmp_path):
    with pytest.raises(UserError, match=r"none of 3 pictures could be read; the first: 00.png: "):
        prepare(pictures(tmp_path / "pictures", 3, broken=range(3)), tmp_path / "out")(None)
    assert not (tmp_path / "out" / "index.json").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no picture that can be read is in .*empty; it may hold \.png, \.jpg"):
        prepare(Folder(str(tmp_path / "empty"), 16), tmp_path / "other")(None)
    with pytest.raises(UserError, match="no record"):
        prepare(Noise(0), tmp_path / "other")(None)


def test_pictures_of_another_size(tmp_path):
    with pytest.raises(UserError, match="pictures have 8x8 pixels, the stage 'large' has 16x16; set both to the same"):
        prepare(Noise(size=8), tmp_path)(None)


def test_a_place_that_can_not_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"can't be written: .* give another folder as out"):
        prepare(Noise(), tmp_path / "file" / "out")(None)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere://x", "nowhere://x is no address: Protocol not known: nowhere; give a path, or s3://, gs://, hf://"),
        ("s3://bucket/x", r"s3://bucket/x needs a library that is not installed; pip install .*\[s3\]"),
        ("gs://bucket/x", r"gs://bucket/x needs a library that is not installed; pip install .*\[gcs\]"),
    ],
)
def test_an_address_without_its_file_system(address, message, monkeypatch):
    for name in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=message):
        prepare(Noise(), address)(None)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"workers": -1}, "workers is -1, batch 128, shard 5; they are 0, 1 and 1 or more"),
        ({"batch": 0}, "workers is 0, batch 0, shard 5; they are"),
        ({"shard": 0}, "workers is 0, batch 128, shard 0; they are"),
        ({"dataset": Tokens("anywhere")}, "dataset is of tokens already; give one of pictures"),
    ],
)
def test_settings_that_can_not_be(tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        prepare(more.pop("dataset", Noise()), tmp_path, **more)


def test_an_error_that_is_no_broken_picture_is_not_taken_for_one(tmp_path):
    data = pictures(tmp_path / "pictures")
    (tmp_path / "pictures" / "metadata.jsonl").write_text("no JSON")
    with pytest.raises(UserError, match=r"metadata\.jsonl:1 is not a line like"):
        Attempts(data)[3]


def test_an_object_store_that_refuses_is_told(monkeypatch):
    def refuse(self, path, value, **more):
        raise PermissionError("AccessDenied")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.pipe_file", refuse)
    with pytest.raises(UserError, match="memory://made could not be written: AccessDenied; check the address, the net"):
        prepare(Noise(), "memory://made")(None)


def test_a_decoder_that_is_trained_further_leaves_tokens_valid(tmp_path):
    class Halves(testing.FakeTokenizer, torch.nn.Module):
        encodes_by = ("encoder.",)

        def __init__(self, encoder=1.0, decoder=1.0):
            torch.nn.Module.__init__(self)
            self.encoder, self.decoder = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
            torch.nn.init.constant_(self.encoder.weight, encoder)
            torch.nn.init.constant_(self.decoder.weight, decoder)
            torch.nn.init.zeros_(self.encoder.bias)

    def names(**more):
        parts = {"large": stage(16)}
        parts["large"].tokenizer = Halves(**more)
        return prepare(Noise(), tmp_path / str(more), stages=parts)(None).index.made_of

    assert names() == names(decoder=2.0) != names(encoder=2.0)


def test_an_index_reads_back_as_it_was_written(tmp_path):
    made = prepare(Noise(), "memory://made")(None)
    assert TokenIndex.read(StorageFolder("memory://made")) == made.index


def test_asking_for_a_file_at_such_an_address_says_the_same():
    with pytest.raises(UserError, match=r"nowhere://x/index\.json is no address: .*; give a path, or s3://"):
        StorageFolder("nowhere://x").has("index.json")
