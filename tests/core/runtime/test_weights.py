"""Weights: from any address, checked before use, never half written."""

import io
import json
import os
import stat
import struct

import fsspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from muse_studio.errors import UserError
from muse_studio.runtime import fetching, weights
from muse_studio.runtime.files import temporary_name


def net(wide=3):
    return nn.Sequential(nn.Linear(2, wide), nn.Linear(wide, 1))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.safetensors"
    weights.save(net().state_dict(), path, {"use": "net", "wide": 3})
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_saved_is_loaded(file):
    model = net()
    weights.load(model, str(file))
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in load_file(file).items())
    shapes, metadata = weights.header(file)
    assert shapes == {"0.weight": [3, 2], "0.bias": [3], "1.weight": [1, 3], "1.bias": [1]}
    assert json.loads(metadata[weights.SETTINGS]) == {"use": "net", "wide": 3}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_widened(file, dtype):
    source = net()
    weights.save({name: tensor.to(dtype) for name, tensor in source.state_dict().items()}, file, {})
    model = net()
    weights.load(model, str(file))
    for name, tensor in source.state_dict().items():
        assert model.state_dict()[name].dtype == torch.float32
        assert torch.equal(model.state_dict()[name], tensor.to(dtype).float())


def test_a_module_on_the_meta_device_is_compared_alone(file):
    with torch.device("meta"):
        weights.load(net(), str(file))
        with pytest.raises(UserError, match=r"0\.weight is \[3, 2\], not \[4, 2\]"):
            weights.load(net(4), str(file))


def test_another_shape_is_told_with_the_settings_of_the_file(file):
    with pytest.raises(UserError) as caught:
        weights.load(net(4), str(file))
    assert str(caught.value) == (
        f"{file} does not fit here: 0.weight is [3, 2], not [4, 2]; 0.bias is [3], not [4]; 1.weight is [1, 3], "
        'not [1, 4] (3 differences of 4 tensors). It was written for {"use": "net", "wide": 3}'
    )


def test_missing_and_strange_tensors_are_told(file):
    save_file({"0.weight": torch.zeros(3, 2), "extra": torch.zeros(1)}, file)
    with pytest.raises(UserError, match=r"0\.bias is missing; 1\.weight is missing; 1\.bias is missing \(4 diff"):
        weights.load(net(), str(file))


def test_a_share_of_a_file(file):
    model, before = net(), net().state_dict()
    model.load_state_dict(before)
    weights.load(model, str(file), ("1.",))
    after, there = model.state_dict(), load_file(file)
    assert all(torch.equal(after[name], (there if name.startswith("1.") else before)[name]) for name in after)
    assert weights.read(str(file), ("1.", "0.b")).keys() == {"1.weight", "1.bias", "0.bias"}


def test_a_share_of_a_file_is_filled_strictly(file):
    assert weights.difference(net(), str(file)) == ""
    wide = net(4)
    assert weights.difference(wide, str(file), ("1.bias",)) == ""
    weights.load(wide, str(file), ("1.bias",))
    assert torch.equal(wide[1].bias, load_file(file)["1.bias"])
    message = '0.bias is [3], not [4] (1 differences of 1 tensors). It was written for {"use": "net", "wide": 3}'
    assert weights.difference(wide, str(file), ("0.bias",)) == message
    with pytest.raises(UserError) as caught:
        weights.load(wide, str(file), ("0.bias",))
    assert str(caught.value) == f"{file} does not fit here: {message}"


def test_what_is_read_keeps_its_type(file):
    weights.save({name: tensor.half() for name, tensor in net().state_dict().items()}, file, {})
    assert {tensor.dtype for tensor in weights.read(str(file)).values()} == {torch.float16}


@pytest.mark.parametrize("message", [None, "no json", "[1, 2]"])
def test_settings_that_a_file_does_not_tell(file, message):
    assert weights.settings(str(file)) == {"use": "net", "wide": 3}
    save_file({"a": torch.zeros(1)}, file, None if message is None else {weights.SETTINGS: message})
    assert weights.settings(str(file)) == {}


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_a_truncated_file(file, kept):
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"is not a whole safetensors file .* fetch it again"):
        weights.load(net(), str(file))


@given(st.one_of(st.binary(max_size=64), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr)))
def test_no_content_breaks_the_reader(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("odd") / "odd.safetensors"
    data = content if isinstance(content, bytes) else struct.pack("<Q", len(content.encode())) + content.encode()
    path.write_bytes(data)
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        weights.header(path)


@pytest.mark.parametrize(
    "header",
    [
        '{"a": {"shape": [1], "dtype": "F32", "data_offsets": [0]}}',
        '{"a": {"shape": 1, "dtype": "F32", "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "data_offsets": [0, 4]}}',
        '{"a": {"shape": [1], "dtype": "F32", "data_offsets": [0, 400]}}',
        '{"a": 3}',
        "[1, 2]",
        "[" * 5000,
        '{"__metadata__": 3}',
    ],
)
def test_a_damaged_header(tmp_path, header):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(4))
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        weights.header(path)


def test_a_type_that_there_is_not(tmp_path):
    path = tmp_path / "strange.safetensors"
    header = '{"weight": {"dtype": "Q7", "shape": [1, 1], "data_offsets": [0, 4]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(4))
    with pytest.raises(UserError, match=r"strange\.safetensors is damaged .*; fetch it again"):
        weights.load(nn.Linear(1, 1, bias=False), str(path))


def test_a_checksum(file):
    import hashlib

    right = hashlib.sha256(file.read_bytes()).hexdigest()
    assert weights.local(f"{file}#sha256={right}") == file
    with pytest.raises(UserError, match=f"has sha256 {right}, not {'0' * 64}: it is damaged or another file"):
        weights.local(f"{file}#sha256={'0' * 64}")


def test_addresses_that_lead_nowhere(tmp_path):
    for address, message in [
        (str(tmp_path / "none.safetensors"), "no weights at .*none.safetensors is not a file"),
        (str(tmp_path), "is not a file"),
        ("package://no_such_package/a.safetensors", "no package 'no_such_package' is installed, which package://"),
        ("package://os.path/a.safetensors", "no package 'os.path' is installed"),
        ("package://muse_studio/none.safetensors", "no weights at package://muse_studio/none.safetensors"),
        ("memory://nothing/here.safetensors", "memory://nothing/here.safetensors could not be fetched: .*check the ad"),
        ("strangefs://a/b.safetensors", "strangefs://a/b.safetensors could not be fetched: .*strangefs"),
    ]:
        with pytest.raises(UserError, match=message):
            weights.local(address)


def test_a_file_of_a_package():
    assert weights.local("package://muse_studio/runtime/weights.py").samefile(weights.__file__)


def test_what_is_fetched_is_kept(file, cache):
    address = "memory://weights/net.safetensors"
    with fsspec.open(address, "wb") as target:
        target.write(file.read_bytes())
    model = net()
    weights.load(model, address)
    fsspec.filesystem("memory").rm("/weights/net.safetensors")
    again = net()
    weights.load(again, address)
    assert torch.equal(model[0].weight, again[0].weight)
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["net.safetensors"]


def test_a_fetch_that_breaks_off_leaves_nothing(cache, monkeypatch):
    class Broken:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def read(self, size):
            raise RuntimeError("the line is dead")

    monkeypatch.setattr(fetching.fsspec, "open", lambda *address: Broken())
    with pytest.raises(UserError, match="could not be fetched: the line is dead"):
        weights.local("memory://broken/net.safetensors")
    assert [path for path in cache.rglob("*") if path.is_file()] == []


class Breaking(io.BytesIO):
    """A file whose line breaks once `left` bytes were read of it, and that remembers where it was read from."""

    def __init__(self, content, left, seekable=True, size=None):
        super().__init__(content)
        self.left, self.can_seek, self.starts = left, seekable, []
        self.size = len(content) if size is None else size

    def seek(self, *place):
        if not self.can_seek:
            raise ValueError("Cannot seek streaming HTTP file")
        return super().seek(*place)

    def read(self, size=-1):
        self.starts.append(self.tell())
        if self.left <= 0:
            raise ConnectionError("the line is dead")
        chunk = super().read(min(size, self.left, 100))
        self.left -= len(chunk)
        return chunk


@pytest.mark.parametrize(("seekable", "first"), [(True, 300), (False, 0)])
def test_a_fetch_that_broke_off_is_gone_on_with(cache, monkeypatch, seekable, first):
    content = bytes(range(256)) * 4
    address, files = "memory://broken/file", [Breaking(content, 300), Breaking(content, 9999, seekable)]
    opened = iter(files)
    monkeypatch.setattr(fetching.fsspec, "open", lambda *address: next(opened))
    with pytest.raises(UserError, match="could not be fetched: the line is dead"):
        fetching.fetch(address, cache / "file")
    (left,) = cache.glob(".file.*")
    left.rename(cache / ".file.1234567")  # as if another process had died there, a while ago
    os.utime(cache / ".file.1234567", (1, 1))
    assert fetching.fetch(address, cache / "file").read_bytes() == content
    assert files[1].starts[0] == first
    assert [path.name for path in cache.iterdir()] == ["file"]


def test_what_another_process_still_fetches_is_left_to_it(cache, monkeypatch):
    cache.mkdir()
    (cache / ".file.1234567").write_bytes(b"other")
    monkeypatch.setattr(fetching.fsspec, "open", lambda *address: Breaking(b"content", 9999))
    assert fetching.fetch("memory://file", cache / "file").read_bytes() == b"content"
    assert (cache / ".file.1234567").read_bytes() == b"other"


@pytest.mark.parametrize("which", ["mine", "another process's"])
@pytest.mark.parametrize("planted", ["a link", "a hard link", "another user's", "a broken link", "a pipe"])
def test_what_others_planted_is_neither_gone_on_with_nor_followed(cache, tmp_path, monkeypatch, which, planted):
    cache.mkdir()
    aside = temporary_name(cache / "file") if which == "mine" else cache / ".file.1234567"
    victim = tmp_path / "victim"
    if planted != "a broken link":
        victim.write_bytes(b"evil")
    if planted == "a pipe":
        os.mkfifo(aside)
    elif planted == "another user's":
        aside.write_bytes(b"evil")
        monkeypatch.setattr(os, "getuid", lambda: 4711)
    else:
        (aside.hardlink_to if planted == "a hard link" else aside.symlink_to)(victim)
    if planted != "a broken link":
        os.utime(aside, (1, 1))
    monkeypatch.setattr(fetching.fsspec, "open", lambda *address: Breaking(b"content", 9999))
    assert fetching.fetch("memory://file", cache / "file").read_bytes() == b"content"
    assert not (cache / "file").is_symlink()
    assert victim.read_bytes() == b"evil" if planted != "a broken link" else not victim.exists()


def test_a_fetch_of_another_length_is_refused(cache, monkeypatch):
    monkeypatch.setattr(fetching.fsspec, "open", lambda *address: Breaking(b"content", 9999, size=9))
    with pytest.raises(UserError, match="it has 9 bytes, and 7 came; it has changed meanwhile"):
        fetching.fetch("memory://file", cache / "file")
    assert list(cache.iterdir()) == []


def test_a_half_written_file_is_never_seen(file, monkeypatch):
    before = file.read_bytes()

    def dies(tensors, path, metadata):
        path.write_bytes(b"half")
        assert file.read_bytes() == before
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", dies)
    with pytest.raises(UserError, match=r"net\.safetensors could not be written: .*No space left.*; make room"):
        weights.save(net().state_dict(), file, {})
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_folder_that_can_not_be(file):
    with pytest.raises(UserError, match="could not be written"):
        weights.save(net().state_dict(), file / "below" / "net.safetensors", {})


def test_others_may_read_what_the_umask_lets_them(file):
    plain = file.with_name("plain")
    plain.touch()
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("name", ["..", ".", "", "n" * 300, "a\0b", "..\\x"])
def test_an_address_whose_last_part_is_no_file_s_name(name, cache):
    with pytest.raises(UserError, match=r"the name .*, so no file may be called that"):
        weights.local(f"memory://somewhere/{name}")
    assert not cache.exists()


@pytest.mark.parametrize("name", ["../errors.py", "runtime/../../x", "/etc/passwd", ""])
def test_a_file_of_a_package_lies_in_it(name):
    with pytest.raises(UserError, match=r"package://muse_studio/.*: the name"):
        weights.local(f"package://muse_studio/{name}")


def test_a_signed_address_is_kept_by_its_file_s_name(monkeypatch, cache):
    fetched = []
    monkeypatch.setattr(fetching, "fetch", lambda address, path: fetched.append((address, path)) or path)
    address = f"https://host/folder/net.safetensors?signature={'x/y' * 200}"
    with pytest.raises(UserError, match="is not a file"):
        weights.local(address)
    ((asked, path),) = fetched
    assert asked == address
    assert (path.name, path.parent.parent) == ("net.safetensors", cache / "weights")


def test_equal_weights_are_equal_files(tmp_path):
    """Byte for byte, whatever metadata there are: safetensors itself writes them in another order each time."""
    told = {f"key {number}": f'\u00e9\u732b \\ " \n \t \x1f \x7f {number}' for number in range(9)}
    state = net().state_dict()
    contents = set()
    for number in range(6):
        path = tmp_path / f"{number}.safetensors"
        weights.save(state, path, {"use": "net"}, **told)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    metadata = weights.header(path)[1]
    assert metadata == {weights.SETTINGS: '{"use": "net"}', "format": "pt"} | told
    assert list(metadata) == sorted(metadata)
    assert all(torch.equal(state[name], tensor) for name, tensor in load_file(path).items())


def test_metadata_tell_no_folder_of_this_machine():
    told = {
        "dataset": {"path": "/mine/pictures", "more": ["~/x/y.png", "file:///mine/z", "s3://bucket/x", "a/b", 3]},
        "prompt": "/not a path",
    }
    assert weights.portable(told) == {
        "dataset": {"path": "pictures", "more": ["y.png", "z", "s3://bucket/x", "a/b", 3]},
        "prompt": "/not a path",
    }
