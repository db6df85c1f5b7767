"""Pictures of a Hugging Face data set: of save_to_disk and of parquet; a column or the library that lacks is told."""

import io
import sys
from pathlib import Path

import pytest
from muse_training.data.huggingface import HuggingFace
from PIL import Image
from warned import warned

from muse_studio.errors import UserError


@pytest.fixture(scope="module")
def rows():
    datasets = pytest.importorskip("datasets")

    def content(colour, size=(12, 8)):
        made = io.BytesIO()
        Image.new("RGB", size, colour).save(made, "PNG")
        return {"bytes": made.getvalue(), "path": f"{colour}.png"}

    held = {
        "image": [
            content("red"),
            content("blue"),
            {"bytes": b"none", "path": None},
            content("lime", (3, 8)),
            content("red"),
        ],
        "caption": ["a red picture", " blue ", "none", "small", ""],
        "captions": [["one", "two"], ["three"], ["none"], ["small"], []],
    }
    message = datasets.Value("string")
    features = datasets.Features({"image": datasets.Image(), "caption": message, "captions": datasets.List(message)})
    return datasets.Dataset.from_dict(held, features)


@pytest.fixture(params=["disk", "splits", "parquet"])
def path(rows, request, tmp_path):
    import datasets

    if request.param == "parquet":
        rows.to_parquet(str(tmp_path / "deep" / "rows.parquet"))
    else:
        held = rows if request.param == "disk" else datasets.DatasetDict({"train": rows})
        held.save_to_disk(str(tmp_path))
    return str(tmp_path)


def test_records_are_its_rows(path, monkeypatch, tmp_path_factory):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("hub"))
    data = HuggingFace(path, size=8, smallest=4)
    with warned("3 of 5 pictures") as told:
        found = {record["caption"]: record["image"][:, 4, 4].tolist() for record in data}
    assert found == {"a red picture": [255, 0, 0], "blue": [0, 0, 255]}
    assert "row 2: no picture that pillow can read" in told[0]
    assert "row 3 (lime.png): 3x8 pixels, and smallest is 4" in told[0]
    assert "row 4 (red.png): its caption is empty" in told[0]


def test_other_columns(rows, tmp_path):
    rows.select([0, 1]).rename_column("image", "picture").save_to_disk(str(tmp_path))
    data = HuggingFace(str(tmp_path), image="picture", caption="captions", size=8)
    assert [record["caption"] for record in data] == ["one", "three"]
    with pytest.raises(
        UserError, match=r"has no column 'image', but picture, caption, captions; say by dataset\.image"
    ):
        len(HuggingFace(str(tmp_path)))
    with pytest.raises(UserError, match=r"has no column 'text', but .*; say by dataset\.caption which one holds it"):
        len(HuggingFace(str(tmp_path), image="picture", caption="text"))


def test_what_can_not_be_loaded(rows, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub")
    with pytest.raises(
        UserError, match=r"can't be loaded: .* holds no parquet file, .*; give as dataset\.path a hub name"
    ):
        len(HuggingFace(str(tmp_path)))
    rows.select([2, 4]).to_parquet(str(tmp_path / "rows.parquet"))
    with (
        pytest.warns(UserWarning, match="2 of 2 pictures"),
        pytest.raises(UserError, match="no picture that can be read is in the split 'train' of "),
    ):
        len(HuggingFace(str(tmp_path)))


@pytest.fixture
def parquet(rows, tmp_path, monkeypatch):
    """Writes the first rows as a parquet file, each captioned with its file's name and its number."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub")

    def write(name, count=4):
        import datasets

        held = {
            "image": [rows.data.column("image")[0].as_py()] * count,
            "caption": [f"{name} {i}" for i in range(count)],
        }
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
        datasets.Dataset.from_dict(held, features).to_parquet(str(file))
        return str(tmp_path / "data")

    return write


def read(path, split):
    data = HuggingFace(path, split, size=8)
    return [data.caption(index) for index in range(data.candidates())]


@pytest.mark.parametrize(
    "names",
    [
        {"train": "train-00000-of-00001.parquet", "test": "test-00000-of-00001.parquet"},
        {"train": "data/train.parquet", "test": "data/test_0.parquet"},
        {"train": "train/0.parquet", "test": "test/0.parquet"},
        {"train": "default/training/a.parquet", "test": "default/eval/a.parquet"},
        {"validation": "cats-dev.parquet", "test": "cats-testing.parquet"},
        {"half": "half-00000-of-00002.parquet", "rest": "rest-00000-of-00001.parquet"},
        {"train": "train.parquet", "rows": "rows.parquet"},
    ],
)
def test_a_split_of_parquet_is_what_its_name_says(parquet, names):
    for name in names.values():
        path = parquet(name, 2)
    for split, name in names.items():
        assert read(path, split) == [f"{name} 0", f"{name} 1"]
    first, second = names.items()
    [rest] = HuggingFace(path, first[0]).account().unused
    assert rest == (second[1], f"of the split {second[0]}, and {first[0]} is read")
    with pytest.raises(
        UserError, match=rf"has no split 'nothing', but {'|'.join(names)}, .*; say by dataset\.split which"
    ):
        read(path, "nothing")


@pytest.mark.parametrize(
    ("split", "places"),
    [
        ("train[:50%]", [0, 1]), ("train[1:3]", [1, 2]), ("train[-1:]", [3]), ("train[:25%]+train[75%:]", [0, 3]),
        ("train[2:]", [2, 3]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["parquet", "disk", "splits"])
def test_a_slice_is_that_slice(parquet, rows, tmp_path, split, places, kind):
    path = parquet("a.parquet")
    if kind != "parquet":
        import datasets

        held = datasets.Dataset.from_parquet(path + "/a.parquet")
        path = str(tmp_path / "saved")
        (held if kind == "disk" else datasets.DatasetDict({"train": held})).save_to_disk(path)
    assert read(path, split) == [f"a.parquet {place}" for place in places]


def test_splits_can_be_added_and_a_slice_that_is_none_is_refused(parquet):
    parquet("train.parquet", 2)
    path = parquet("test.parquet", 2)
    assert read(path, "test+train[:1]") == ["test.parquet 0", "test.parquet 1", "train.parquet 0"]
    for split in ("train[", "train[a:b]", "train[:200%]", "train[::2]"):
        with pytest.raises(
            UserError, match=r"dataset\.split is .*, which names no rows .* a slice such as train\[:10%\]"
        ):
            read(path, split)


def test_hidden_parquet_is_passed_over_and_told(parquet):
    parquet(".cache/train.parquet", 1), parquet("._train.parquet", 1)
    path = parquet("train.parquet", 1)
    (Path(path) / ".gitattributes").touch()
    assert read(path, "train") == ["train.parquet 0"]
    assert [each.name for each in HuggingFace(path).account().unused] == ["._train.parquet", ".cache"]


@pytest.mark.parametrize("kind", ["disk", "splits", "file"])
def test_an_unknown_split_is_an_error(parquet, rows, tmp_path, kind):
    import datasets

    path = parquet("a.parquet") + "/a.parquet"
    if kind != "file":
        path = str(tmp_path / "saved")
        (rows if kind == "disk" else datasets.DatasetDict({"train": rows})).save_to_disk(path)
    assert HuggingFace(path, "train").candidates() > 3
    with pytest.raises(UserError, match=r"has no split 'tset', but train; say by dataset\.split which one is read"):
        read(path, "tset")


def test_what_is_no_text_is_no_caption_and_classes_give_their_names(rows, tmp_path):
    import datasets

    names = datasets.ClassLabel(names=["a cat", "a dog"])
    held = rows.select([0, 1]).add_column("number", [1, 0]).add_column("missing", [None, "said"])
    held = held.add_column("label", [1, 0], feature=names)
    held = held.add_column("labels", [[0, 1], [1]], feature=datasets.List(names))
    held.save_to_disk(str(tmp_path))

    def said(column, **more):
        return [record["caption"] for record in HuggingFace(str(tmp_path), caption=column, size=8, **more)]

    assert said("label") == ["a dog", "a cat"] and said("labels") == ["a cat", "a dog"]
    assert said("number", classes=["a tree", "a house"]) == ["a house", "a tree"]
    with pytest.warns(UserWarning, match=r"row 0 \(red\.png\): its missing is null, and holds no caption"):
        assert said("missing") == ["said"]
    with (
        pytest.warns(UserWarning, match=r"its number is a number, 1, and no text"),
        pytest.raises(UserError, match="no picture that can be read"),
    ):
        said("number")
    assert {tuple(said("captions", captions="random")) for _ in range(2)} <= {("one", "three"), ("two", "three")}


def test_without_the_library_the_line_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        UserError, match=r"needs the library datasets; pip install -c constraints\.txt -e '\.\[datasets\]'"
    ):
        len(HuggingFace("user/pictures"))
