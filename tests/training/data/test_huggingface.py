"""Pictures of a Hugging Face data set: of save_to_disk and of parquet; a column or the library that lacks is told."""

import io
import sys

import pytest
from muse_training.data.huggingface import HuggingFace
from PIL import Image

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
    with pytest.warns(UserWarning, match="3 of 5 pictures") as caught:
        found = {record["caption"]: record["image"][:, 4, 4].tolist() for record in data}
    assert found == {"a red picture": [255, 0, 0], "blue": [0, 0, 255]}
    told = str(caught[0].message)
    assert "row 2: no picture that pillow can read" in told
    assert "row 3 (lime.png): 3x8 pixels, and smallest is 4" in told
    assert "row 4 (red.png): its caption is empty" in told


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


def test_without_the_library_the_line_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        UserError, match=r"needs the library datasets; pip install -c constraints\.txt -e '\.\[datasets\]'"
    ):
        len(HuggingFace("user/pictures"))
