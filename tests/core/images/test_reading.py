"""Pictures of every mode that files have, against the colours that were put into them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from bomb import bomb
from PIL import Image

from muse_studio.errors import UserError
from muse_studio.images.reading import on_white, open_picture, upright

RED, BLUE = (255, 0, 0), (0, 0, 255)


def palette(transparent: bool) -> Image.Image:
    picture = Image.new("P", (2, 1))
    picture.putpalette([*RED, *BLUE])
    picture.putpixel((1, 0), 1)
    if transparent:
        picture.info["transparency"] = 1
    return picture


def grey16() -> Image.Image:
    return Image.fromarray(np.array([[0, 65535, 257 * 100]], dtype=np.uint16))


PICTURES = {
    "RGB.png": (Image.new("RGB", (2, 1), RED), [RED, RED], False),
    "RGBA.png": (Image.new("RGBA", (1, 1), (255, 0, 0, 102)), [(255, 153, 153)], True),  # 255 - 102 of white
    "RGBA-opaque.png": (Image.new("RGBA", (1, 1), (*RED, 255)), [RED], False),
    "palette.png": (palette(False), [RED, BLUE], False),
    "palette-transparent.png": (palette(True), [RED, (255, 255, 255)], True),
    "L.png": (Image.new("L", (1, 1), 100), [(100, 100, 100)], False),
    "LA.png": (Image.new("LA", (1, 1), (0, 51)), [(204, 204, 204)], True),
    "bit.png": (Image.new("1", (1, 1), 1), [(255, 255, 255)], False),
    "grey16.png": (grey16(), [(0, 0, 0), (255, 255, 255), (100, 100, 100)], False),
    "RGB.webp": (Image.new("RGB", (1, 1), (255, 255, 255)), [(255, 255, 255)], False),
    "RGBA.webp": (Image.new("RGBA", (1, 1), (9, 9, 9, 0)), [(255, 255, 255)], True),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_mode_has_the_colours_that_it_shows(name, here):
    made, expected, transparent = PICTURES[name]
    made.save(name)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        read = open_picture(name)
    assert read.mode == "RGB"
    assert np.asarray(read).reshape(-1, 3).tolist() == [list(colour) for colour in expected]
    text = f"picture: {name} is transparent in places, which are taken as white"
    assert [str(each.message) for each in told] == [text] * transparent


def test_a_cmyk_jpeg_is_converted(here):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save("print.jpg", quality=95)  # no cyan: red
    red, green, blue = open_picture("print.jpg").getpixel((4, 4))
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_s_picture_is_turned_as_it_was_held(here, orientation):
    """Of Exif's eight orientations, those from 5 on exchange the sides, undone by hand."""
    seen = np.zeros((16, 32, 3), np.uint8)
    seen[:8, :16] = 255  # white in the top left quarter
    back = {
        1: lambda it: it,
        2: lambda it: it[:, ::-1],
        3: lambda it: it[::-1, ::-1],
        4: lambda it: it[::-1],
        5: lambda it: it.transpose(1, 0, 2),
        6: lambda it: np.rot90(it, 1),  # shown turned clockwise
        7: lambda it: it[::-1, ::-1].transpose(1, 0, 2),
        8: lambda it: np.rot90(it, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(back[orientation](seen))).save("held.jpg", exif=exif, quality=100)
    read = np.asarray(open_picture("held.jpg")).astype(int)
    assert read.shape == seen.shape
    assert abs(read - seen).max() < 8  # JPEG's own losses


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp", "moving.png"])
def test_of_a_picture_that_moves_the_first_frame_is_taken_and_that_is_said(here, name):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE, RED)]
    frames[0].save(name, save_all=True, append_images=frames[1:], **({"lossless": True} if "webp" in name else {}))
    with pytest.warns(UserWarning, match=rf"^region: {name} has 3 frames; the first is taken$"):
        read = open_picture(name, "region")
    assert read.getpixel((4, 4)) == RED


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (2000, 1500), (20000, 40)])
def test_every_size_is_kept(here, size):
    Image.new("RGB", size, RED).save("sized.png")
    assert open_picture("sized.png").size == size


def whole() -> bytes:
    Image.effect_noise((64, 64), 50).save("whole.png")
    return Path("whole.png").read_bytes()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("bomb.png", lambda: bomb(20_000), "bomb.png has more than 178,956,970 pixels; give one that is scaled down"),
        ("half.png", lambda: whole()[:1000], "half.png can't be read to its end ("),
        ("head.png", lambda: whole()[:30], "head.png "),
        ("text.png", lambda: b"no picture", "text.png is no picture that pillow can read; give a PNG, JPEG or WebP"),
        ("empty.png", lambda: b"", "empty.png is no picture that pillow can read; give a PNG, JPEG or WebP"),
    ],
)
def test_what_is_no_whole_picture_is_refused(here, name, data, message):
    Path(name).write_bytes(data())
    with pytest.raises(UserError) as caught:
        open_picture(name, "region")
    assert str(caught.value).startswith(f"region: {message}")


def test_what_is_no_file_is_refused(here):
    Path("folder").mkdir()
    for name, message in (
        ("folder", "picture: folder is a folder; give the file of a picture"),
        ("missing.png", "picture: there is no file missing.png; give the path of a picture"),
    ):
        with pytest.raises(UserError) as caught:
            open_picture(name)
        assert str(caught.value) == message


def test_the_parts_of_reading_alone():
    """What a canvas does with a picture that it is handed: turn it, then lay it on white."""
    assert upright(Image.new("L", (1, 1), 7)).getpixel((0, 0)) == (7, 7, 7, 255)
    assert on_white(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
