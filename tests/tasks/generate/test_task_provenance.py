"""Every picture that a task writes says whether all of it was generated, or some of it was given."""

import re

import pytest
import torch
from muse_editing.editors import Inpaint
from muse_tasks.edit.task import Edit
from muse_tasks.evaluate.task import Evaluate
from muse_tasks.generate.task import Generate
from PIL import Image

SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED, COMPOSITE = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"


class Shades:
    """Three grey pictures."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return {"image": torch.full((3, 24, 32), 60 * index, dtype=torch.uint8), "caption": f"shade {index}"}


def told(folder):
    """What each picture in a folder says of its source, by file name."""
    found = {}
    for path in folder.iterdir():
        if path.suffix in (".png", ".webp"):
            with Image.open(path) as picture:
                packet = picture.info["xmp"].decode()
            (found[path.name],) = re.findall(f"<Iptc4xmpExt:DigitalSourceType>{SOURCES}(\\w+)<", packet)
    return found


def generate(stages, encoder, out):
    Generate(stages, encoder, ["a cat", "a dog"], out=out, animate=True, previews=True)()


def edit(stages, encoder, out):
    Image.new("RGB", (20, 10), "red").save("photo.png")
    Edit(stages, encoder, Inpaint(), picture="photo.png", region="0,0,9,9", count=2, previews=True, out=out)()


def evaluate(stages, encoder, out):
    Evaluate(stages, encoder, Shades(), n=2, out=out)()


@pytest.mark.parametrize(
    ("work", "source", "files"), [(generate, GENERATED, 7), (edit, COMPOSITE, 5), (evaluate, COMPOSITE, 1)]
)
def test_every_picture_says_its_source(stages, encoder, tmp_path, monkeypatch, work, source, files):
    monkeypatch.chdir(tmp_path)
    work(stages, encoder, "out")
    found = told(tmp_path / "out")
    assert set(found.values()) == {source}
    assert len(found) == files
