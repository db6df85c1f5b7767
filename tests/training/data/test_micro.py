"""Micro-conditions: a picture's size, its cut and its score, from the data set to the transformer that takes them."""

import io
import json
import math
import tarfile

import pytest
import torch
from muse_training.data.augmented import Augmented
from muse_training.data.captions import score_of
from muse_training.data.folder import Folder
from muse_training.data.huggingface import HuggingFace
from muse_training.data.pictures import of_crop, of_middle
from muse_training.data.prepare import PrepareTokens
from muse_training.data.tokens import Tokens
from muse_training.data.webdataset import WebDataset
from muse_training.optimizers import AdamW
from muse_training.train import Train
from PIL import Image
from warned import heard, warned

from muse_studio import testing
from muse_studio.contracts import MICRO
from muse_studio.sampling.masking import drop_text
from muse_studio.stage import Stage
from muse_studio.testing.fakes import embedding
from muse_studio.training.loop import Fit

SIZE = 8


def paint(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)


def said(record):
    """A record's micro-conditions by name, those left out that nobody knows."""
    return {name: value for name, value in zip(MICRO, record["micro"].tolist(), strict=True) if not math.isnan(value)}


def test_a_square_of_the_middle():
    """By hand: 40 x 24 pixels to 12 x 12 is a half, so 20 x 12 pixels, of which 4 are left of the square."""
    assert of_middle(40, 24, 12, 5.5).tolist() == [40, 24, 0, 4, 5.5]
    assert of_middle(24, 48, 12).tolist()[:4] == [24, 48, 6, 0]


@pytest.mark.parametrize(("flipped", "left"), [(False, 20), (True, 16)])
def test_a_crop_of_it(flipped, left):
    """By hand: 6 of 12 pixels to 12 again is twice; the whole picture is then 40 x 24 and the square at (4 + 6) * 2.

    Turned left to right, the picture's last 40 - 12 - 20 = 8 pixels are the first.
    """
    got = of_crop(of_middle(40, 24, 12), 12, (2, 6, 6), 12, flipped).tolist()
    assert got[:4] == [40, 24, 4, 8 if flipped else left]


def test_a_folder_s_pictures_say_their_size_and_their_score(tmp_path):
    for name, size in (("json", (16, 8)), ("table", (8, 24)), ("bare", (8, 8)), ("text", (8, 8))):
        paint(tmp_path / f"{name}.png", size)
    (tmp_path / "json.json").write_text(json.dumps({"caption": "a", "score": 6.5}))
    (tmp_path / "text.txt").write_text("b")
    (tmp_path / "metadata.csv").write_text("file_name,text,score\ntable.png,c,4\ntext.png,d,1\n")
    data = Folder(str(tmp_path), SIZE, micro=True)
    found = {record["caption"]: said(record) for record in map(data.attempt, range(4))}
    assert found == {
        "bare": {"width": 8, "height": 8, "top": 0, "left": 0},
        "a": {"width": 16, "height": 8, "top": 0, "left": 4, "score": 6.5},
        "c": {"width": 8, "height": 24, "top": 8, "left": 0, "score": 4},
        "b": {"width": 8, "height": 8, "top": 0, "left": 0},
    }
    assert all("micro" not in record for record in Folder(str(tmp_path), SIZE))


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.json", "meta_cap.json", "metadata.parquet"])
def test_every_table_may_have_a_score(tmp_path, name):
    paint(tmp_path / "cat.png", (8, 8))
    line = {"file_name": "cat.png", "caption": "a cat", "score": 3}
    texts = {"metadata.json": [line], "meta_cap.json": {"cat.png": {"caption": "a cat", "score": 3}}}
    if name.endswith("parquet"):
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist([line]), tmp_path / name)
    else:
        (tmp_path / name).write_text(json.dumps(texts.get(name, line)))
    assert said(Folder(str(tmp_path), SIZE, micro=True)[0])["score"] == 3


def test_a_picture_turned_by_its_camera_is_measured_as_it_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (24, 8)).save(tmp_path / "cat.jpg", exif=exif)
    assert said(Folder(str(tmp_path), SIZE, micro=True)[0]) == {"width": 8, "height": 24, "top": 8, "left": 0}


@pytest.mark.parametrize("value", ["lovely", [1], "inf", {"a": 1}])
def test_a_score_that_is_none_leaves_the_picture_out(tmp_path, value):
    for name in ("cat", "dog"):
        paint(tmp_path / f"{name}.png", (8, 8))
    (tmp_path / "cat.json").write_text(json.dumps({"caption": "a cat", "score": value}))
    with warned("1 of 2 pictures") as told:
        assert [record["caption"] for record in Folder(str(tmp_path), SIZE, micro=True)] == ["dog"]
    assert "cat.png: its score is" in told[0] and "and no number" in told[0]
    assert len(Folder(str(tmp_path), SIZE)) == 2


@pytest.mark.parametrize(("value", "expected"), [(5, 5.0), ("5.5", 5.5), (True, 1.0)])
def test_scores(value, expected):
    assert score_of(value) == expected
    assert math.isnan(score_of(None)) and math.isnan(score_of(""))


def test_tar_files(tmp_path):
    picture = io.BytesIO()
    Image.new("RGB", (16, 8)).save(picture, "PNG")
    members = {"0.png": picture.getvalue(), "0.json": b'{"text": "a", "score": 7}', "1.png": picture.getvalue()}
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in (members | {"1.txt": b"b"}).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    data = WebDataset(str(tmp_path / "a.tar"), SIZE, micro=True)
    assert [said(record).get("score") for record in data] == [7, None]
    assert said(data[1]) == {"width": 16, "height": 8, "top": 0, "left": 4}


@pytest.mark.parametrize("scored", [True, False])
def test_a_data_set_of_hugging_face(tmp_path, scored):
    datasets = pytest.importorskip("datasets")
    picture = io.BytesIO()
    Image.new("RGB", (16, 8)).save(picture, "PNG")
    scores = {"score": [2.5]} if scored else {}
    rows = {"image": [{"bytes": picture.getvalue(), "path": None}], "caption": ["a"]} | scores
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path))
    assert said(HuggingFace(str(tmp_path), size=SIZE, micro=True)[0]).get("score") == (2.5 if scored else None)


def test_a_variant_says_where_it_was_cut(tmp_path):
    """A picture's brightness says the column, so a record's says what it shows: just what its numbers say."""
    ramp = (torch.arange(96) * 2).byte().expand(48, 96)
    Image.fromarray(ramp.numpy()).convert("RGB").save(tmp_path / "cat.png")
    data = Augmented(Folder(str(tmp_path), 48, micro=True), variants=8, crop=0.4, flip=True, size=40)
    turned = set()
    for record in map(data.__getitem__, range(8)):
        width, height, _, left, score = record["micro"].tolist()
        row = record["image"][0, 20].double()
        slope = float(row[35] - row[5]) / 30
        column = (left + 20.5) / (2 / abs(slope))  # of the picture as it was
        expected = 2 * (column if slope > 0 else 96 - column) - 1  # a pixel's middle is half a pixel in
        assert (width, height) == (96, 48) and math.isnan(score)
        assert float(row[20]) == pytest.approx(expected, abs=2)
        turned.add(slope > 0)
    assert turned == {True, False}


def stage(transformer):
    parts = transformer, testing.FakeSchedule(), testing.FakeSampler(), testing.FakeGuidance()
    return Stage(testing.FakeTokenizer(), *parts, SIZE)


class Listening(testing.FakeTransformer):
    """Hears what it is told of the pictures, if it says that it takes that."""

    def __init__(self, takes):
        super().__init__()
        self.takes_micro, self.heard = takes, []

    def condition(self, text, low=None):
        self.heard.append(text.micro)
        return super().condition(text, low)


class Told(testing.FakeDataset):
    """Grey pictures, whose shades are their scores."""

    def __getitem__(self, index):
        return super().__getitem__(index) | {"micro": of_middle(16, 8, SIZE, index)}


@pytest.mark.parametrize("cached", [False, True])
def test_a_transformer_is_told_in_training_what_it_takes(tmp_path, cached):
    model, data, encoder = Listening(True), Told(count=5, size=SIZE), testing.FakeTextEncoder()
    if cached:
        PrepareTokens({"base": stage(model)}, encoder, data, str(tmp_path / "t"), shard=2, device="cpu")(None)
        data = Tokens(str(tmp_path / "t"))
        assert torch.equal(data[3]["micro"].nan_to_num(), of_middle(16, 8, SIZE, 3))
    fit = Fit(str(tmp_path / "run"), steps=2, batch=4, device="cpu")
    with heard() as told:
        Train({"base": stage(model)}, encoder, data, fit, AdamW(1e-3))(testing.RecordingObserver())
    steps = [each for each in model.heard if each is not None and len(each) == 4]
    assert not [text for text in told if "micro" in text]
    assert len(steps) == 2 and all(each[:, :4].tolist() == [[16, 8, 0, 4]] * 4 for each in steps)
    assert set(torch.cat(steps)[:, 4].tolist()) <= {0, 1, 2, 3, 4}


def test_one_that_takes_none_is_given_none_which_is_said_once(tmp_path):
    model = Listening(False)
    fit = Fit(str(tmp_path / "run"), steps=3, batch=4, device="cpu")
    with warned("Listening takes no micro-conditions, .* leave them out of the data set"):
        Train({"base": stage(model)}, testing.FakeTextEncoder(), Told(size=SIZE), fit, AdamW(1e-3))(
            testing.RecordingObserver()
        )
    assert all(each is None for each in model.heard)


def test_they_stay_where_a_prompt_is_dropped():
    text = embedding()._replace(micro=torch.stack([of_middle(9, 8, 8)] * 2))
    for other in (text.null(), text.null(positions=0), drop_text(text, torch.tensor([True, False])), text.to("cpu")):
        assert other.micro is not None and torch.equal(other.micro.nan_to_num(), text.micro.nan_to_num())


@pytest.mark.parametrize("takes", [True, False])
def test_a_text_encoder_may_tell_them_where_one_draws(takes):
    text = embedding(1)._replace(micro=torch.stack([of_middle(9, 8, 8)]))
    with heard() as told:
        list(stage(Listening(takes)).sample(text, torch.Generator().manual_seed(0)))
    assert [("takes no micro-conditions" in each) for each in told] == [True] * (not takes)
