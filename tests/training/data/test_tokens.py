"""Tokens as a data set: records and batches, local and remote; what is torn, missing or another model's is told."""

import json
import pickle

import pytest
import torch
from muse_training.data.encoder import collate
from muse_training.data.prepare import PrepareTokens
from muse_training.data.storage import StorageFolder
from muse_training.data.tokens import Tokens
from muse_training.optimizers import AdamW
from muse_training.train import Train
from torch.utils.data import DataLoader

from muse_studio import testing
from muse_studio.contracts import RunContext
from muse_studio.errors import UserError
from muse_studio.stage import Stage
from muse_studio.training.loop import Fit

SIZE = 8


def stage(tokenizer=None, size=SIZE):
    parts = testing.FakeTransformer(), testing.FakeSchedule(), testing.FakeSampler(), testing.FakeGuidance()
    return Stage(tokenizer or testing.FakeTokenizer(), *parts, size)


def made(address, count=11, **more):
    data = testing.FakeDataset(count=count, size=SIZE)
    settings = {"shard": 4, "device": "cpu"} | more
    PrepareTokens({"base": stage()}, testing.FakeTextEncoder(), data, str(address), **settings)(None)
    return Tokens(str(address))


def train(tokens, folder, stages=None, encoder=None):
    fit = Fit(str(folder / "run"), steps=1, batch=2, device="cpu")
    task = Train(stages or {"base": stage()}, encoder or testing.FakeTextEncoder(), tokens, fit, AdamW(1e-3))
    recipe = {
        "text_encoder": "wordy",
        "stages": {"base": {"tokenizer": {"use": "vqgan", "patch": 2}, "size": 12}, "large": {"size": 16}},
    }
    return task(testing.RecordingObserver(), RunContext(recipe))


@pytest.mark.parametrize("states", ["bfloat16", "int8"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_the_records_in_their_order(tmp_path, states, workers):
    data = made(tmp_path, states=states)
    order = [[10, 0, 3], [4, 4, 7], [8]]
    loaded = list(DataLoader(data, batch_sampler=order, collate_fn=collate, num_workers=workers))
    for indices, batch in zip(order, loaded, strict=True):
        expected = collate([data[index] for index in indices])
        assert batch.keys() == expected.keys()
        assert all(torch.equal(batch[name], expected[name]) for name in batch)


@pytest.mark.parametrize("index", [-1, 11, 1000])
def test_an_index_beyond_the_end(tmp_path, index):
    data = made(tmp_path)
    with pytest.raises(IndexError, match=f"record {index} of 11"):
        data[index]
    with pytest.raises(IndexError, match="of 11"):
        data.__getitems__([0, index])


def test_remote_shards_are_copied_once(tmp_path, monkeypatch):
    local, remote = made(tmp_path / "local"), made("memory://tokens")
    batch = remote.__getitems__(range(11))
    assert all(torch.equal(batch[name], each) for name, each in local.__getitems__(range(11)).items())
    monkeypatch.setattr("muse_studio.runtime.fetching.fsspec.open", lambda *args: pytest.fail("it was copied again"))
    assert torch.equal(Tokens("memory://tokens")[9]["states"], local[9]["states"])


def test_a_server_that_lists_no_folder_is_read(monkeypatch):
    made("memory://")

    def refuse(*args, **more):
        raise NotImplementedError("no listing here")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.ls", refuse)
    assert len(Tokens("memory://")) == 11 and Tokens("memory://")[4]["mask"].any()


def test_other_tokens_at_the_same_address_are_not_taken_for_the_copy(monkeypatch):
    first = made("memory://tokens")[10]
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem.store.clear()
    second = made("memory://tokens", states="int8")[10]
    assert first["states"].dtype == torch.bfloat16 and second["states"].dtype == torch.int8


def test_another_process_maps_the_shards_itself(tmp_path):
    data = made(tmp_path)
    expected = data[3]["states"].clone()
    sent = pickle.dumps(data)
    assert len(sent) < 1000
    assert torch.equal(pickle.loads(sent)[3]["states"], expected)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda file, whole: file.write_bytes(whole[:-2]), r"has \d+ bytes where \d+ were written"),
        (lambda file, whole: file.write_bytes(b"\xff" * 8 + whole[8:]), r"is damaged \(.*\)"),
        (
            lambda file, whole: file.write_bytes(whole.replace(b"mask", b"musk")),
            "holds other tensors than its index says",
        ),
        (lambda file, whole: file.unlink(), "is missing"),
    ],
)
def test_a_shard_that_is_torn_or_missing_is_told_and_made_again(tmp_path, harm, message):
    whole = made(tmp_path)[5]["states"].clone()
    file = tmp_path / "000000004.safetensors"
    harm(file, file.read_bytes())
    cure = f"delete it, and the command that made it makes it again, such as: muse run prepare-tokens out={tmp_path}"
    with pytest.raises(UserError, match=f"{file} {message}: {cure}$"):
        Tokens(str(tmp_path))[0]
    file.unlink(missing_ok=True)
    assert torch.equal(made(tmp_path)[5]["states"], whole)


def test_a_remote_shard_that_is_missing_is_told():
    from fsspec.implementations.memory import MemoryFileSystem

    data = made("memory://tokens")
    MemoryFileSystem.store.pop("/tokens/000000004.safetensors")
    with pytest.raises(
        UserError, match=r"memory://tokens/000000004\.safetensors could not be fetched: .*; check the addr"
    ):
        data[0]


@pytest.mark.parametrize("place", ["memory://tokens", None], ids=["memory", "folder"])
def test_no_index(tmp_path, place):
    place = place or str(tmp_path / "tokens")
    with pytest.raises(
        UserError, match=f"there are no tokens at {place}; make them by: muse run prepare-tokens out={place}"
    ):
        len(Tokens(place))
    data = made(place)
    data.folder.write("index.json", b'{"records": 11}')
    with pytest.raises(
        UserError, match=r"index.json is damaged or another version's \(KeyError: 'format'\); delete it, and"
    ):
        len(Tokens(place))
    data.folder.write("index.json", b'{"format": 99}')
    with pytest.raises(UserError, match=r"version's \(format 99, where 1 is read\); delete it, and the command"):
        len(Tokens(place))


def test_a_folder_that_is_not_finished_says_how_to_go_on(tmp_path):
    made(tmp_path)
    (tmp_path / "index.json").unlink()
    with pytest.raises(UserError) as caught:
        len(Tokens(str(tmp_path)))
    assert str(caught.value) == (
        f"{tmp_path} holds 3 shards of tokens and no index.json: it is not finished. The command that began it goes on "
        f"where it stopped, such as: muse run prepare-tokens out={tmp_path}"
    )


class Shifted(testing.FakeTokenizer):
    pass


class Wordy(testing.FakeTextEncoder):
    identity = "wordy 8"


@pytest.mark.parametrize(
    ("stages", "encoder", "message", "cure"),
    [
        (
            {"base": stage(Shifted())},
            None,
            "stage 'base': they are of another tokenizer, or of other weights",
            """'stages.base.tokenizer={"use": "vqgan", "patch": 2}' stages.base.size=12""",
        ),
        (
            {"base": stage(size=12)},
            None,
            "stage 'base': their grid is 2x2 tokens, the recipe's 3x3",
            "stages.base.size=12",
        ),
        ({"large": stage()}, None, "they have no stage 'large', but base", """'stages.large={"size": 16}'"""),
        (None, Wordy(), "they are of another text encoder", "text_encoder=wordy"),
    ],
)
def test_training_refuses_the_tokens_of_other_parts(tmp_path, stages, encoder, message, cure):
    tokens = made(tmp_path / "tokens")
    with pytest.raises(UserError) as caught:
        train(tokens, tmp_path, stages, encoder)
    told = str(caught.value)
    start = f"the tokens at {tmp_path / 'tokens'} are not this recipe's: {message}. To make those: "
    assert told.startswith(f"{start}muse run prepare-tokens out={tmp_path / 'tokens'}-2 ")
    assert cure in told
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert train(tokens, tmp_path).steps == 1


def test_the_cure_names_the_pictures_that_were_read(tmp_path):
    made(tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps(index | {"recipe": {"dataset": {"use": "folder", "path": "p"}}}))
    with pytest.raises(UserError, match=r"""'dataset={"use": "folder", "path": "p"}'$"""):
        train(Tokens(str(tmp_path)), tmp_path, encoder=Wordy())


def test_a_task_that_wants_pictures_is_told(tmp_path):
    with pytest.raises(
        UserError, match=r"'tokens' has no image, but mask, pooled, states, tokens.base: .* give a data set"
    ):
        made(tmp_path)[0]["image"]


@pytest.mark.parametrize("where", ["folder", "memory"])
@pytest.mark.parametrize("name", ["../../../evil.pth", "/etc/evil.pth", "sub/evil.pth", "..\\evil.pth", "..", "e\0", 7])
def test_an_index_that_names_a_file_elsewhere_is_refused(tmp_path, where, name):
    folder = made(tmp_path / "tokens" if where == "folder" else "memory://tokens").folder
    index = json.loads(folder.read("index.json"))
    index["shards"][0]["file"] = name
    folder.write("index.json", json.dumps(index).encode())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"tokens/index\.json: the name .*, so no file may be called that"):
        Tokens(str(folder))[0]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../outside.json", "/outside", ".."])
@pytest.mark.parametrize("do", [StorageFolder.read, StorageFolder.has, StorageFolder.size, StorageFolder.header])
def test_nothing_outside_a_folder_is_read_or_written(tmp_path, name, do):
    folder = StorageFolder(str(tmp_path / "tokens"))
    for call in (lambda: do(folder, name), lambda: folder.write(name, b""), lambda: folder.fetched(name, "1")):
        with pytest.raises(UserError, match="tokens: the name"):
            call()
    assert list(tmp_path.iterdir()) == []
