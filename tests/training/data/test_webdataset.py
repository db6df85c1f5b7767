"""Pictures in tar files: read by seeking, wherever they lie; what is no tar file or has no caption is told."""

import io
import tarfile

import fsspec
import numpy as np
import pytest
import torch
from muse_training.data import webdataset
from muse_training.data.folder import Folder
from muse_training.data.webdataset import WebDataset, expand
from PIL import Image
from warned import warned

from muse_studio.errors import UserError


def picture(value=7, size=(12, 8), kind="PNG"):
    content = io.BytesIO()
    noise = np.random.default_rng(value).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(content, kind)
    return content.getvalue()


def tar(address, members, mode="w"):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as opened:
        for name, message in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(message)
            opened.addfile(entry, io.BytesIO(message))
    with fsspec.open(str(address), "wb") as file:
        file.write(content.getvalue())
    return str(address)


def captions(path, **more):
    return [record["caption"] for record in WebDataset(path, 8, **more)]


def test_captions_come_from_text_or_json(tmp_path):
    path = tar(
        tmp_path / "a.tar",
        {
            "000.png": picture(0),
            "000.txt": " ein Zebra, größer \n".encode(),
            "000.json": b'{"caption": "not this one"}',
            "deep/001.x.png": b"a second picture of 001, which is none of ours",
            "deep/001.json": '{"caption": "a cat 猫", "width": 3}'.encode(),
            "deep/001.JPG": picture(1, kind="JPEG"),
            "002.webp": picture(2, kind="WEBP"),
            "002.json": b'{"caption": null, "text": "text is a key too"}',
            "notes.txt": b"beside no picture",
        },
    )
    with pytest.warns(UserWarning, match=r"captions: 1 from \.txt, 2 from \.json\n3 files, folders or lines were not"):
        assert captions(path) == ["ein Zebra, größer", "a cat 猫", "text is a key too"]


def test_captions_have_other_endings_and_pictures_too(tmp_path):
    path = tar(
        tmp_path / "a.tar",
        {
            "0.avif": picture(0, (32, 32), "AVIF"), "0.caption": b"zero",
            "./1.jfif": picture(1, kind="JPEG"), "./1.text": b"one",
            "2.jp2": picture(2, (32, 32), "JPEG2000"), "2.json": b'["two", "second"]',
            "3.bmp": picture(3, kind="BMP"), "3.json": b'"three"',
        },
    )  # fmt: skip
    assert captions(path) == ["zero", "one", "two", "three"]


def test_classes_go_by_their_names(tmp_path):
    path = tar(
        tmp_path / "a.tar",
        {
            "0.png": picture(0), "0.cls": b"1\n",
            "1.png": picture(1), "1.cls": b"a bird",
            "2.png": picture(2), "2.json": b'{"caption": null, "label": 0}',
        },
    )  # fmt: skip
    assert captions(path, classes=["a cat", "a dog"]) == ["a dog", "a bird", "a cat"]
    (tmp_path / "names.txt").write_text("a cat\na dog\n")
    with warned("2 of 3 pictures") as told:
        assert captions(path) == ["a bird"]
    assert "its .cls is the number 1 of a class; give the classes' names as dataset.classes" in told[0]
    assert "its .json is a number, 0, and no text" in told[0]
    assert captions(path, classes=str(tmp_path / "names.txt")) == ["a dog", "a bird", "a cat"]
    with pytest.warns(UserWarning, match="0: its .cls is class 1, and there are names of 1, from 0 on"):
        assert captions(path, classes=["a cat"]) == ["a bird", "a cat"]


def test_one_caption_in_another_encoding_leaves_out_one_record(tmp_path):
    members = {f"{index}.png": picture(index) for index in range(3)}
    members |= {"0.txt": b"gr\xf6\xdfer", "1.json": b'{"text": "gr\xf6\xdfer"}', "2.txt": "größer".encode()}
    data = WebDataset(tar(tmp_path / "a.tar", members), 8)
    with warned("2 of 3 pictures") as told:
        assert [record["caption"] for record in data] == ["größer"]
    assert told[0].count("is not UTF-8 text (invalid start byte at byte") == 2


def test_every_member_that_is_not_used_is_told(tmp_path):
    path = tar(
        tmp_path / "a.tar",
        {
            "0.png": picture(0), "0.txt": b"zero", "0.json": b"{}", "0.jpg": picture(1), "0.npy": b"x",
            "photo.2024.jpg": picture(2), "photo.2024.txt": b"said",
            "lone.txt": b"said", "lone.heic": b"x",
            "__MACOSX/._0.png": b"x", ".hidden/1.png": picture(3), "._0.png": b"x", "@eaDir/0.png": picture(4),
        },
    )  # fmt: skip
    found = {each.name.removeprefix(f"{path}/"): each.reason for each in WebDataset(path).account().unused}
    dot = "a name ends at its first dot, so it is the 2024.{} of photo; write _ for the other dots"
    assert found == {
        "0.json": "0.txt is taken", "0.jpg": "0.png is taken",
        "0.npy": "neither a picture that pillow reads here nor a caption",
        "photo.2024.jpg": dot.format("jpg"), "photo.2024.txt": dot.format("txt"),
        "lone.txt": "no picture of its name is in the tar file",
        "lone.heic": "neither a picture that pillow reads here nor a caption",
        "__MACOSX/._0.png": "made by a system, not by you; it is passed over",
        ".hidden/1.png": "hidden; it is passed over", "._0.png": "hidden; it is passed over",
        "@eaDir/0.png": "made by a system, not by you; it is passed over",
    }  # fmt: skip


def test_of_a_member_that_is_there_twice_the_last_is_taken(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as opened:
        for name, content in (("0.png", picture()), ("0.txt", b"first"), ("0.TXT", b"second"), ("0.txt", b"third")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            opened.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "0.png"
        opened.addfile(link)
    data = WebDataset(str(tmp_path / "a.tar"), 8)
    assert data.caption(0) == "third"
    assert [each.reason for each in data.account().unused] == [
        "0.TXT comes after it and is taken in its place",
        "0.txt comes after it and is taken in its place",
        "a link or a file with holes, which is no picture and no caption",
    ]


def test_a_record_is_what_a_folder_of_the_same_files_gives(tmp_path):
    members = {
        f"{index:03d}.{end}": picture(index) if end == "png" else b"said"
        for index in range(9)
        for end in ("png", "txt")
    }
    first = dict(list(members.items())[:8])
    rest = dict(list(members.items())[8:])
    tar("memory://shards/s-07.tar", first), tar("memory://shards/s-08.tar", rest)
    for name, content in members.items():
        (tmp_path / name).write_bytes(content)
    data, folder = WebDataset("memory://shards/s-{07..08}.tar", 8), Folder(str(tmp_path), 8)
    assert len(data) == 9
    for index in (8, 0, 3, 4):
        assert torch.equal(data[index]["image"], folder[index]["image"])


def test_headers_are_read_once_and_again_where_a_file_has_changed(tmp_path, monkeypatch):
    path = tar(tmp_path / "a.tar", {"0.png": picture(), "0.txt": b"first"})
    assert captions(path) == ["first"]
    with monkeypatch.context() as patched:
        patched.setattr(webdataset, "_headers", lambda *args: pytest.fail("the headers were read again"))
        assert captions(path) == ["first"]
    tar(path, {"0.png": picture(), "1.png": picture(), "0.txt": b"another", "1.txt": b"second"})
    assert captions(path) == ["another", "second"]


def test_what_can_not_be_used_is_left_out_with_the_reason(tmp_path):
    whole = picture(size=(40, 40))
    path = tar(
        tmp_path / "a.tar",
        {
            "good.png": whole, "good.txt": b"good",
            "mute.png": whole,
            "blank.png": whole, "blank.txt": b" ",
            "other.png": whole, "other.json": b'{"title": "x"}',
            "odd.png": whole, "odd.json": b"[",
            "torn.png": whole[:99], "torn.txt": b"torn",
            "none.jpg": b"none", "none.txt": b"none",
            "small.png": picture(size=(9, 40)), "small.txt": b"small",
        },
    )  # fmt: skip
    data = WebDataset(path, 8, smallest=10)
    with warned("7 of 8 pictures in .* left out") as told:
        assert len(data) == 1
    for text in (
        "/mute: no caption: neither .txt nor .json is beside it",
        "/blank: its .txt is empty, and holds no caption",
        "/other: its .json holds no caption",
        "/none: no picture that pillow can read",
        "/small: 9x40 pixels, and smallest is 10",
    ):
        assert f"{path}{text}" in told[0]
    assert data.skipped == 7


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{8..11}.tar", ["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"]),
        ("s3://b/{00..01}/{098..099}.tar", [f"s3://b/{i}/{j}.tar" for i in ("00", "01") for j in ("098", "099")]),
    ],
)
def test_braces(path, expected):
    assert expand(path) == expected


def test_braces_that_count_down():
    with pytest.raises(ValueError, match=r"path has \{9\.\.0\}, which counts down; write the lower number first"):
        WebDataset("a-{9..0}.tar")


def test_tar_files_that_are_none(tmp_path):
    tar(tmp_path / "a.tar", {f"{index}.png": picture(index) for index in range(4)})
    content = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "torn.tar").write_bytes(content[:1600])
    (tmp_path / "text.tar").write_text("this is no tar file")
    tar(tmp_path / "packed.tar", {"0.png": picture()}, "w:gz")
    for name in ("torn", "text", "packed"):
        with pytest.raises(
            UserError, match=rf"{name}.tar is not a whole tar file \(.*\); a compressed one must be unpac"
        ):
            len(WebDataset(str(tmp_path / f"{name}.tar")))
    with pytest.raises(UserError, match=r"b-1\.tar is not there; give the address of tar files as dataset\.path"):
        len(WebDataset(str(tmp_path / "b-{1..2}.tar")))
    with pytest.raises(
        UserError, match=r"no picture that can be read is in .*; it may hold \.png, \.jpg, \.jpeg, \.webp"
    ):
        len(WebDataset(tar(tmp_path / "empty.tar", {"notes.txt": b"x"})))


def test_a_lost_connection_is_no_broken_picture(monkeypatch):
    data = WebDataset(tar("memory://a.tar", {"0.png": picture(), "0.txt": b"said"}), 8)
    assert data.candidates() == 1

    def lost(*args, **more):
        raise ConnectionError("the line is dead")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.cat_file", lost)
    with pytest.raises(UserError, match=r"memory://a\.tar can't be read: the line is dead; check the network"):
        data.attempt(0)


def test_a_member_s_name_becomes_no_path(tmp_path, monkeypatch):
    """It is a record's name alone: by names that lead elsewhere nothing is read or written."""
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    stems = ["../../outside", "/outside", "a/../../b", "c\\d", "con", "n" * 300]
    members = {f"{stem}{ending}": text for stem in stems for ending, text in ((".png", picture()), (".txt", b"a cat"))}
    assert captions(tar(tmp_path / "a.tar", members)) == ["a cat"] * len(stems)
    files = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2
    assert "a.tar" in files
