"""Anyone's pictures: captions from three places, odd pictures read right, broken ones told and left out."""

import json

import numpy as np
import pytest
import torch
from muse_training.data.folder import Folder
from PIL import Image
from warned import warned

from muse_studio.errors import UserError


def paint(path, colour="red", size=(8, 8), mode="RGB", **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **more)
    return path


def pixel(record, x=0, y=0):
    return record["image"][:, y, x].tolist()


def by_caption(folder):
    return {folder[index]["caption"]: folder[index] for index in range(len(folder))}


def test_captions_come_from_a_sidecar_a_table_or_the_name(tmp_path):
    paint(tmp_path / "beside.png").with_suffix(".txt").write_text(" ein Zebra, größer als 3 m \n", encoding="utf-8")
    paint(tmp_path / "deep" / "told.webp")
    paint(tmp_path / "a_red-square.png")
    paint(tmp_path / "marked.png").with_suffix(".txt").write_bytes("\N{BYTE ORDER MARK}a mark".encode())
    lines = [
        json.dumps({"file_name": "told.webp", "text": "a cat 猫"}),
        "",
        json.dumps({"file_name": "x", "text": "y"}),
    ]
    (tmp_path / "deep" / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    data = Folder(str(tmp_path), 4)
    with pytest.warns(
        UserWarning, match=r"captions: 2 from \.txt, 1 from deep/metadata\.jsonl, 1 from file names: a_red-"
    ):
        len(data)
    assert set(by_caption(data)) == {
        "ein Zebra, größer als 3 m", "a cat 猫", "a red square", "a mark",
    }  # fmt: skip


def test_a_sidecar_goes_before_the_table(tmp_path):
    paint(tmp_path / "cat.png").with_suffix(".txt").write_text("beside")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "cat.png", "text": "in the table"}))
    with pytest.warns(UserWarning, match=r"metadata\.jsonl:1: cat\.txt has the caption of 'cat\.png'"):
        assert Folder(str(tmp_path))[0]["caption"] == "beside"


def test_pictures_are_cut_square_from_the_middle(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = (10, 200, 30)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    record = Folder(str(tmp_path), 10)[0]
    assert record["image"].shape == (3, 10, 10) and record["image"].dtype == torch.uint8
    assert torch.equal(record["image"], torch.tensor([10, 200, 30], dtype=torch.uint8).view(3, 1, 1).expand(3, 10, 10))


def test_odd_pictures_are_read_right(tmp_path):
    paint(tmp_path / "clear.png", (255, 0, 0, 0), mode="RGBA")
    paint(tmp_path / "half.png", (255, 0, 0, 128), mode="RGBA")
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([9, 9, 9, 0, 128, 255])
    palette.save(tmp_path / "palette.png")
    palette.save(tmp_path / "hole.png", transparency=1)
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.full((8, 8), 514, np.uint16)).save(tmp_path / "dark.tif")
    paint(tmp_path / "grey.png", 77, mode="L")
    paint(tmp_path / "greyhole.png", (0, 0), mode="LA")
    paint(tmp_path / "ink.jpg", (0, 0, 0, 0), mode="CMYK")
    paint(tmp_path / "bit.png", 1, mode="1")
    read = {name: pixel(record) for name, record in by_caption(Folder(str(tmp_path), 4)).items()}
    assert read == {
        "clear": [255, 255, 255],
        "half": [255, 127, 127],
        "palette": [0, 128, 255],
        "hole": [255, 255, 255],
        "deep": [156, 156, 156],  # 40000 / 257
        "dark": [2, 2, 2],
        "grey": [77, 77, 77],
        "greyhole": [255, 255, 255],
        "ink": [255, 255, 255],
        "bit": [255, 255, 255],
    }


def test_a_picture_is_turned_as_its_camera_was_held(tmp_path):
    upright = np.zeros((8, 8, 3), np.uint8)
    upright[:4] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: turn it clockwise to see it
    Image.fromarray(np.rot90(upright)).save(tmp_path / "turned.png", exif=exif)
    record = Folder(str(tmp_path), 8)[0]
    assert pixel(record, 4, 1) == [255, 255, 255] and pixel(record, 4, 6) == [0, 0, 0]


def test_a_warning_of_a_picture_says_which(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 77
    Image.new("RGB", (4, 4)).save(tmp_path / "odd.png", exif=exif)
    with pytest.warns(UserWarning, match=r"odd\.png has the orientation 77"):
        Folder(str(tmp_path), 4)[0]


def test_broken_pictures_are_told_counted_and_left_out(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.webp").write_text("this is no picture")
    (tmp_path / "folder.png").mkdir()
    data = Folder(str(tmp_path), 8)
    with warned("3 of 4 pictures in .* left out") as told:
        assert len(data) == 1
    assert all(name in told[0] for name in ("truncated.png: ", "empty.jpg: ", "text.webp: "))
    assert data.skipped == 3
    assert data[0]["caption"] == "good"


def test_small_pictures_and_empty_captions_are_left_out_with_the_reason(tmp_path):
    paint(tmp_path / "good.png", size=(16, 20))
    paint(tmp_path / "small.png", size=(15, 40))
    paint(tmp_path / "deep" / "silent.png", size=(16, 16)).with_suffix(".txt").write_text(" \n")
    data = Folder(str(tmp_path), 8, smallest=16)
    with warned("2 of 3 pictures") as told:
        assert [record["caption"] for record in data] == ["good"]
    assert told[0].splitlines()[1:] == [
        "  deep/silent.png: silent.txt is empty; write the caption, or delete it to have the picture's name",
        "  small.png: 15x40 pixels, and smallest is 16",
    ]


def test_many_broken_pictures_are_not_all_named(tmp_path):
    paint(tmp_path / "good.png")
    for index in range(14):
        (tmp_path / f"bad{index:02d}.png").write_bytes(b"bad")
    with warned("14 of 15 pictures") as told:
        assert Folder(str(tmp_path)).skipped == 14
    assert told[0].endswith("and 4 more")
    assert "bad09.png" in told[0] and "bad10.png" not in told[0]


def test_nothing_to_read(tmp_path):
    with pytest.raises(UserError, match=r"nowhere is not a folder; give one with pictures as dataset\.path"):
        len(Folder(str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match=r"no picture that can be read is in .*; it may hold \.png, \.jpg"):
        len(Folder(str(tmp_path)))
    (tmp_path / "bad.png").write_bytes(b"bad")
    with (
        pytest.warns(UserWarning, match="1 of 1 pictures"),
        pytest.raises(UserError, match="no picture that can be read"),
    ):
        len(Folder(str(tmp_path)))


@pytest.mark.parametrize("line", ["{", '{"file_name": "cat.png"}', "[]", "7"])
def test_a_line_that_is_none(tmp_path, line):
    paint(tmp_path / "cat.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "b"}\n' + line)
    with pytest.raises(UserError, match=r"metadata\.jsonl:2 is not a line like \{\"file_name\""):
        Folder(str(tmp_path))[0]


LINES = b"file_name,caption\ngood.png,good\n"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("cat.txt", "größer".encode("latin-1"), "cat.txt is not UTF-8 text (invalid start byte at byte 2)"),
        ("cat.caption", "a cat".encode("utf-16"), "cat.caption is not UTF-8 text (invalid start byte at byte 0)"),
        ("cat.json", b'{"caption": "gr\xf6\xdfer"}', "cat.json is not UTF-8 text (invalid start byte at byte 15)"),
        ("metadata.csv", LINES + b"cat.png,gr\xf6\xdfer\n", "metadata.csv:3 is not UTF-8 text"),
        (
            "metadata.jsonl",
            b'{"file_name": "good.png", "text": "good"}\n{"file_name": "cat.png", "text": "gr\xf6\xdfer"}\n',
            "metadata.jsonl:2 is not UTF-8 text",
        ),
        (
            "metadata.json",
            b'{"good.png": "good", "cat.png": "gr\xf6\xdfer"}',
            "metadata.json: cat.png is not UTF-8 text",
        ),
        ("metadata.json", rb'{"good.png": "good", "cat.png": "half a letter \ud83d"}', "metadata.json: cat.png is not"),
    ],
)
def test_one_caption_in_another_encoding_leaves_out_one_record(tmp_path, name, content, reason):
    paint(tmp_path / "cat.png"), paint(tmp_path / "good.png")
    (tmp_path / name).write_bytes(content)
    data = Folder(str(tmp_path), 8)
    with warned("1 of 2 pictures") as told:
        assert [record["caption"] for record in data] == ["good"]
    assert f"cat.png: {reason}" in told[0] and "save it as UTF-8" in told[0]


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_a_line_feed_ends_a_line_of_json(tmp_path, sign):
    paint(tmp_path / "a.png"), paint(tmp_path / "b.png")
    said = sign if sign in "\u2028\u2029\x85" else json.dumps(sign)[1:-1]
    lines = [f'{{"file_name": "{name}.png", "text": "one{said}two {name}"}}' for name in "ab"]
    (tmp_path / "metadata.jsonl").write_bytes("\r\n".join(lines).encode())
    assert set(by_caption(Folder(str(tmp_path), 8))) == {f"one{sign}two a", f"one{sign}two b"}


def test_an_index_beyond_the_end(tmp_path):
    paint(tmp_path / "cat.png")
    with pytest.raises(IndexError):
        Folder(str(tmp_path))[1]


def test_a_smallest_side_that_can_not_be():
    with pytest.raises(ValueError, match="smallest is 0; give the pixels of a side, 1 for any picture"):
        Folder("anywhere", smallest=0)


@pytest.mark.parametrize("size", [0, 1_000_000])
def test_a_size_that_can_not_be(size):
    with pytest.raises(ValueError, match=f"size is {size}; give the pixels of a side, from 1 to 8192"):
        Folder("anywhere", size)
