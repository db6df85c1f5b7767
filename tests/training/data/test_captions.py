"""Where captions come from: every form in which trainers write them, and the account of what was not used."""

import json
import unicodedata

import pytest
from muse_training.data.augmented import Augmented
from muse_training.data.captions import caption_of, class_names
from muse_training.data.folder import Folder
from PIL import Image

from muse_studio.errors import UserError

CAT = "größer"


def paint(path, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)
    return path


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def captions(folder, **more):
    data = Folder(str(folder), 8, **more)
    return {data.name(index): data.caption(index) for index in range(data.candidates())}


def unused(folder, **more):
    return {each.name: each.reason for each in Folder(str(folder), 8, **more).account().unused}


def form(name):
    return unicodedata.normalize("NFD", name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("größer.txt", "a cat"),
        ("größer.caption", "a cat"),
        ("größer.png.txt", "a cat"),
        ("größer.TXT", "a cat"),
        ("GRÖSSER.txt", "a cat"),
        (form("größer.txt"), "a cat"),
        (form("Größer.Caption"), "a cat"),
        ("größer.json", '{"caption": "a cat", "width": 3}'),
        ("größer.json", '"a cat"'),
        ("metadata.csv", "file_name,text\ngrößer.png,a cat\n"),
        ("metadata.csv", '\ufefffile_name;caption\r\ngrößer.png;"a cat"\r\n'),
        ("metadata.csv", 'width,image,caption\n3,größer.png,"a cat"\n'),
        ("Metadata.CSV", "File_Name,Text\ngrößer.png,a cat\n"),
        ("metadata.tsv", "file\tcaption\ngrößer.png\ta cat\n"),
        ("metadata.jsonl", '{"file_name": "größer.png", "caption": "a cat"}'),
        ("metadata.jsonl", '{"file": "größer.png", "text": "a cat"}'),
        ("metadata.jsonl", '{"image": "größer.png", "prompt": "a cat"}'),
        ("metadata.jsonl", '{"image_file_name": "größer.png", "text": null, "caption": "a cat"}'),
        ("metadata.jsonl", json.dumps({"file_name": form("größer.png"), "text": "a cat"})),
        ("metadata.jsonl", '{"file_name": "GRÖSSER.PNG", "text": "a cat"}'),
        ("metadata.jsonl", '{"file_name": "./größer.png", "text": "a cat"}'),
        ("metadata.jsonl", r'{"file_name": ".\\größer.png", "text": "a cat"}'),
        ("metadata.jsonl", '{"file_name": "größer", "text": "a cat"}'),
        ("metadata.jsonl", '{"file_name": "größer.png", "text": "a cat"}\r\n\r\n'),
        ("metadata.json", '[{"file_name": "größer.png", "text": "a cat"}]'),
        ("metadata.json", '{"größer.png": "a cat"}'),
        ("meta_cap.json", '{"größer": {"caption": "a cat", "train_resolution": [8, 8]}}'),
    ],
)
def test_a_caption_is_read_in_every_form(tmp_path, name, content):
    paint(tmp_path / "größer.png")
    write(tmp_path / name, content)
    assert captions(tmp_path) == {"größer.png": "a cat"}
    assert Folder(str(tmp_path)).account().by_name == [] and unused(tmp_path) == {}


@pytest.mark.parametrize(
    "name", ["deep/cat.png", r"deep\\cat.png", r".\\Deep\\CAT.png", "./deep/cat", "x/../deep/cat.png"]
)
def test_a_table_above_names_pictures_below(tmp_path, name):
    paint(tmp_path / "deep" / "cat.png")
    write(tmp_path / "metadata.jsonl", f'{{"file_name": "{name}", "text": "a cat"}}')
    assert captions(tmp_path) == {"deep/cat.png": "a cat"}


def test_an_absolute_name_is_of_the_folder(tmp_path):
    paint(tmp_path / "deep" / "cat.png")
    write(tmp_path / "meta_cap.json", json.dumps({str(tmp_path / "deep" / "cat"): {"caption": "a cat"}}))
    assert captions(tmp_path) == {"deep/cat.png": "a cat"}


def test_a_parquet_table_is_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    paint(tmp_path / "cat.png")
    rows = pyarrow.table({"file_name": ["cat.png"], "text": [["a cat", "a pet"]], "width": [3]})
    parquet.write_table(rows, tmp_path / "metadata.parquet")
    assert captions(tmp_path) == {"cat.png": "a cat"}


def test_a_parquet_table_without_the_library_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    paint(tmp_path / "cat.png")
    write(tmp_path / "metadata.parquet", b"PAR1")
    with pytest.raises(
        UserError, match=r"metadata\.parquet needs the library pyarrow: pip install .*; or give the capt"
    ):
        captions(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "metadata.csv",
            "file_name,width\ncat.png,3",
            "has no column of captions, but file_name, width; call it caption",
        ),
        ("metadata.csv", "width,text\n3,a cat", "has no column of file names, but width, text; call it file_name"),
        ("metadata.csv", "", "has no column of file names, but nothing"),
        ("metadata.csv", "file_name,text\ncat.png,a cat, a dog", r"metadata\.csv:2 has more fields than the 2 of its"),
        ("metadata.csv", "file_name,text\n,a cat", r"metadata\.csv:2 names no picture in its column file_name"),
        ("metadata.json", "{", r"metadata\.json is no JSON"),
        ("metadata.json", "7", r"metadata\.json is no list of"),
        ("metadata.json", "[7]", r"metadata\.json, entry 1, is not a line like .*: it is int"),
        ("metadata.jsonl", '{"file_name": "cat.png", "title": "x"}', "no caption or text, but file_name, title"),
        (
            "metadata.jsonl",
            '{"file_name": "cat.png", "text": "a", "text": "b"}',
            ":1 is not a line like .*: it has text twice",
        ),
        ("metadata.jsonl", "[" * 100_000, r"metadata\.jsonl:1 is not a line like"),
        ("metadata.parquet", "PAR1", r"metadata\.parquet is no whole parquet file"),
    ],
)
def test_a_table_that_can_not_be_understood_is_an_error(tmp_path, name, content, message):
    paint(tmp_path / "cat.png")
    write(tmp_path / name, content)
    with pytest.raises(UserError, match=message):
        captions(tmp_path)


def test_what_is_not_used_is_named_with_the_reason(tmp_path):
    for name in ("cat.png", "Dog.png", "dog.png", "e.png"):
        paint(tmp_path / name)
    for name in ("cat.txt", "cat.caption", "nobody.txt", "photo.heic", "captions.csv", "deep/README.md"):
        write(tmp_path / name, "said")
    write(
        tmp_path / "metadata.jsonl",
        "\n".join(
            json.dumps({"file_name": name, "text": name})
            for name in ("gone.png", "cat.png", "DOG.png", "e.png", "e.png")
        ),
    )
    assert unused(tmp_path) == {
        "cat.caption": "cat.txt is taken as the caption",
        "nobody.txt": "no picture of its name is beside it",
        "photo.heic": "neither a picture that pillow reads here nor a caption",
        "captions.csv": "a table of captions is called metadata.csv",
        "deep/README.md": "neither a picture that pillow reads here nor a caption",
        "metadata.jsonl:1": "names 'gone.png', which is no picture here",
        "metadata.jsonl:2": "cat.txt has the caption of 'cat.png'",
        "metadata.jsonl:3": "names 'DOG.png', that may be Dog.png, dog.png",
        "metadata.jsonl:5": "metadata.jsonl:4 has the caption of 'e.png' already",
    }


def test_a_name_that_is_there_twice_in_a_table_is_told(tmp_path):
    paint(tmp_path / "cat.png")
    write(tmp_path / "metadata.json", '{"cat.png": "a cat", "cat.png": "a dog"}')
    assert captions(tmp_path) == {"cat.png": "a cat"}
    assert unused(tmp_path) == {"metadata.json: cat.png": "metadata.json: cat.png has the caption of 'cat.png' already"}


def test_a_text_file_is_of_the_picture_of_its_very_name(tmp_path):
    paint(tmp_path / "cat.png"), paint(tmp_path / "Cat.png")
    write(tmp_path / "cat.txt", "small")
    assert captions(tmp_path) == {"cat.png": "small", "Cat.png": "Cat"}


def test_the_account_says_where_captions_came_from(tmp_path):
    for index in range(20):
        paint(tmp_path / f"{index:02d}.png")
        if index < 8:
            write(tmp_path / f"{index:02d}.txt", "said")
        elif index < 10:
            write(tmp_path / f"{index:02d}.caption", "said")
    write(tmp_path / "metadata.csv", "file_name,caption\n10.png,said\n11.png,said\n")
    told = Folder(str(tmp_path)).account(["00.png", "19.png"])
    assert told.captions() == (
        "captions: 7 from .txt, 2 from .caption, 2 from metadata.csv, 7 from file names: 12.png, 13.png, 14.png, "
        "15.png, 16.png, …"
    )
    assert Augmented(Folder(str(tmp_path))).account().captions().startswith("captions: 8 from .txt, ")


def test_names_can_not_move_a_terminal(tmp_path):
    paint(tmp_path / "a.png")
    write(tmp_path / "b\x1b[2J.txt", "said")
    told = "\n".join(Folder(str(tmp_path)).account().lines())
    assert r"b\x1b[2J.txt: no picture" in told and "\x1b" not in told


@pytest.mark.parametrize(
    ("value", "caption"),
    [
        ("  a cat ", "a cat"),
        (["a cat", "a pet"], "a cat"),
        ([None, "", 3, "a cat"], "a cat"),
        ([["a cat"], "a pet"], "a cat"),
        ({"caption": ["a cat", "a pet"]}, "a cat"),
        ({"Caption": None, "TEXT": "a cat"}, "a cat"),
        ({"raw": "a cat", "tokens": ["a", "cat"]}, "a cat"),
        ([{"text": "a cat"}], "a cat"),
        ("größer".encode(), "größer"),
    ],
)
def test_what_is_a_caption(value, caption):
    assert caption_of(value, "a.png") == caption


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "is null"),
        (7, "is a number, 7, and no text"),
        (float("nan"), "is a number, nan, and no text"),
        (True, "is bool, True, and no text"),
        ("", "is empty"),
        (" \n", "is empty"),
        ([], "is an empty list"),
        ([None], "is null"),
        ([3, 4], "is a number, 3"),
        ({}, "holds no caption: a table of nothing"),
        ({"title": "x"}, "holds no caption: a table of title"),
        ({"caption": None}, "holds no caption: its caption is empty"),
        ({"caption": 3}, "is a number, 3"),
        (b"gr\xf6", "is not UTF-8 text"),
        ("\ud83d", "is not UTF-8 text"),
    ],
)
def test_what_is_none(value, reason):
    with pytest.raises(ValueError, match=reason):
        caption_of(value, "a.png")


def test_one_of_a_list_by_lot_is_the_same_for_the_same_picture():
    several = [f"caption {number}" for number in range(5)]
    drawn = [caption_of(several, f"{index}.png", "random") for index in range(200)]
    assert set(drawn) == set(several)
    assert drawn == [caption_of(several, f"{index}.png", "random") for index in range(200)]


def test_a_class_goes_by_its_name(tmp_path):
    write(tmp_path / "names.txt", "a cat\r\na dog\u2028of two lines\r\n")
    names = class_names(str(tmp_path / "names.txt"))
    assert names == ["a cat", "a dog\u2028of two lines"]
    assert [caption_of(value, "a.png", "first", names) for value in (0, "1", {"label": 0})] == [
        names[0],
        names[1],
        names[0],
    ]
    with pytest.raises(ValueError, match="is class 2, and there are names of 2, from 0 on"):
        caption_of(2, "a.png", "first", names)
    with pytest.raises(UserError, match=r"gone can't be read as names of classes: No such file .* as dataset\.classes"):
        class_names(str(tmp_path / "gone"))


@pytest.mark.parametrize(
    "line",
    ['{"file_name": "b.png", "text": null}', '{"file_name": "b.png", "text": 7}', '{"file": "b.png", "label": 1}'],
)
def test_a_line_without_text_leaves_out_its_picture(tmp_path, line):
    paint(tmp_path / "a.png"), paint(tmp_path / "b.png")
    write(tmp_path / "metadata.jsonl", f'{{"file_name": "a.png", "text": ["a cat", "a pet"]}}\n{line}')
    data = Folder(str(tmp_path), 8)
    with pytest.warns(UserWarning, match=r"1 of 2 pictures in .*\n  b\.png: metadata\.jsonl:2 "):
        assert [record["caption"] for record in data] == ["a cat"]


def test_labels_of_a_table_are_classes(tmp_path):
    paint(tmp_path / "a.png"), paint(tmp_path / "b.png")
    write(tmp_path / "metadata.csv", "file_name,label\na.png,1\nb.png,0\n")
    assert captions(tmp_path, classes=["a cat", "a dog"]) == {"a.png": "a dog", "b.png": "a cat"}
    with pytest.raises(ValueError, match=r"metadata\.csv:2 is a number, 1, and no text"):
        captions(tmp_path)
