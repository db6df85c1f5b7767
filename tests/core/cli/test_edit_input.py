"""Editing by the shipped recipes: what is refused, with place and cure and nothing written, and what works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bomb import bomb
from PIL import Image

from muse_studio.recipe.sources import PICTURE_KEY

RANDOM = ("stages.base.transformer.weights=null", "stages.superres.transformer.weights=null")
"""The embedded tokenizer and transformers of random weights: nothing of these tests rests on what is drawn."""
QUICK = (*RANDOM, "stages.base.sampler.steps=1", "stages.superres.sampler.steps=1", "prompt=''")


@pytest.fixture(autouse=True)
def photo(here):
    """photo.png, 48 x 36 pixels of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (36, 48, 3), np.uint8)
    Image.fromarray(noise).save("photo.png")
    Image.new("L", (48, 36)).save("black.png")
    return noise


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        ("inpaint", (), "picture: there is no file picture.png; give the path of a picture"),
        ("inpaint", ("picture=folder",), "picture: folder is a folder; give the file of a picture"),
        ("inpaint", ("picture=text.png",), "picture: text.png is no picture that pillow can read; give a PNG, JPEG or"),
        ("inpaint", ("picture=half.png",), "picture: half.png can't be read to its end (image file is truncated"),
        (
            "inpaint",
            ("picture=bomb.png",),
            "picture: bomb.png has more than 178,956,970 pixels; give one that is scaled",
        ),
        (
            "inpaint",
            ("picture=photo.png", "region=48,0,5,5"),
            "region: the box 48,0,5,5 lies outside the picture, which",
        ),
        (
            "inpaint",
            ("picture=photo.png", "region=0,0,5"),
            "region: '0,0,5' is no box; give x,y,w,h, four whole numbers",
        ),
        (
            "inpaint",
            ("picture=photo.png", "region=black.png"),
            "region: nothing is to change; give a mask that is white",
        ),
        ("inpaint", ("picture=photo.png", "region=half.png"), "region: half.png can't be read to its end ("),
        (
            "inpaint",
            ("picture=photo.png", "region=no.png"),
            "region: there is no file no.png; give the path of a picture",
        ),
        (
            "outpaint",
            ("picture=photo.png", "extend.right=1000000000"),
            "extend: 1000000048x36 pixels would come of it, and 89,478,485 is the most; add fewer",
        ),
        (
            "outpaint",
            ("picture=photo.png", "extend.right=1000000"),
            "picture: scaled to the model's 128x128, 1000048x36 pixels would be 455,133,184, and",  # 222,233 cells
        ),
        (
            "variations",
            ("picture=photo.png", "out=photo.png/deeper"),
            "photo.png/deeper can't be written: Not a directory; give another folder as out",
        ),
        ("variations", ("picture=photo.png", "out=one.png"), "out — out is 'one.png', one file, but 4 pictures are"),
    ],
)
def test_a_file_that_cannot_be(refused, recipe, overrides, message):
    Path("folder").mkdir()
    Path("text.png").write_text("no picture")
    Path("half.png").write_bytes(Path("photo.png").read_bytes()[:1000])
    Path("bomb.png").write_bytes(bomb(20_000))
    told = refused("run", recipe, *RANDOM, *overrides)
    assert message in told
    assert len(told.splitlines()) == 1
    assert not Path("out").exists()


@pytest.mark.slow
def test_an_empty_prompt_edits_too_and_the_picture_edits_itself_again(muse, photo):
    told = muse("run", "inpaint", *QUICK, "picture=photo.png", "region=4,8,20,10", "seed=5", "feather=0")
    assert told == (0, "out/photo-picture.png  seed 5  (no prompt)\n", "")
    drawn = Image.open("out/photo-picture.png")
    assert PICTURE_KEY in drawn.text
    changed = (np.asarray(drawn) != photo).any(2)
    assert changed[8:18, 4:24].any()
    changed[8:18, 4:24] = False
    assert not changed.any()
    assert muse("run", "out/photo-picture.png", "out=again", "picture=photo.png")[0] == 0
    assert Image.open("again/photo-picture.png").tobytes() == drawn.tobytes()
    assert muse("run", "out/photo-picture.png", "out=other", "seed=6", "picture=photo.png")[0] == 0
    assert Image.open("other/photo-picture.png").tobytes() != drawn.tobytes()


def test_what_is_taken_otherwise_than_it_is_is_said(muse):
    frames = [Image.new("RGBA", (40, 30), (shade, 0, 0, shade)) for shade in (50, 250)]
    frames[0].save("moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    Image.new("1", (7, 5), 1).save("white.png")
    code, out, err = muse("run", "inpaint", *QUICK, "picture=moving.webp", "region=white.png")
    assert (code, out) == (0, "out/moving-picture.png  seed 0  (no prompt)\n")
    assert err.splitlines() == [
        "warning: picture: moving.webp has 2 frames; the first is taken",
        "warning: picture: moving.webp is transparent in places, which are taken as white",
        "warning: region: white.png has 7x5 pixels, the picture 40x30; it was scaled",
        "warning: region: white.png is white everywhere; nothing of the picture is kept",
    ]


@pytest.mark.slow
def test_the_shipped_recipes_edit_a_picture_of_the_embedded_model(muse):
    """Sizes and known pixels; 128 pixels to 512 is four times what the model draws at once."""
    assert muse("generate", "a red apple, noto style", "out=apple.png")[0] == 0
    apple = np.asarray(Image.open("apple.png"))
    given = ("picture=apple.png", "prompt=a green apple, noto style")
    assert muse("run", "inpaint", *given, "region=32,40,64,50", "out=inpaint.png")[0] == 0
    kept = np.ones((128, 128), bool)
    kept[40 - 4 : 90 + 4, 32 - 4 : 96 + 4] = False  # a 32nd of 128 is the feather
    inpainted = np.asarray(Image.open("inpaint.png"))
    assert (inpainted[kept] == apple[kept]).all() and (inpainted[~kept] != apple[~kept]).any()

    assert muse("run", "outpaint", *given, "extend.left=192", "extend.right=192", "out=outpaint.png")[0] == 0
    outpainted = np.asarray(Image.open("outpaint.png"))
    assert outpainted.shape == (128, 512, 3)
    assert (outpainted[:, 192:320] == apple).all()
    assert outpainted[:, :192].std() > 1 and outpainted[:, 320:].std() > 1

    assert muse("run", "edit-mask-free", *given, "every=25", "out=changed.png")[0] == 0
    assert sorted(path.name for path in Path().glob("changed*")) == [
        *(f"changed-{step:03d}.png" for step in (25, 50, 75)),
        "changed.png",
    ]
    red, green = (np.asarray(Image.open(f"{name}.png"))[40:100, 40:90].mean((0, 1)) for name in ("apple", "changed"))
    assert red[0] > red[1] and green[1] > green[0]  # it is what the prompt says

    assert muse("run", "variations", "picture=apple.png", "out=others")[0] == 0
    others = [np.asarray(Image.open(path)) for path in sorted(Path("others").glob("apple-*.png"))]
    assert [each.shape for each in others] == [(128, 128, 3)] * 4
    assert len({each.tobytes() for each in others}) == 4
