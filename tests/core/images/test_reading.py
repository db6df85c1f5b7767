"""Pictures of every mode that files have, against the colours that were put into them."""

from __future__ import annotations

import io
import random
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bomb import bomb
from PIL import Image, ImageCms, features
from warned import heard

from muse_studio.errors import UserError
from muse_studio.images.reading import mask_of, on_white, open_mask, open_picture, upright

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
    with heard() as told:
        read = open_picture(name)
    assert read.mode == "RGB"
    assert np.asarray(read).reshape(-1, 3).tolist() == [list(colour) for colour in expected]
    text = f"picture: {name} is transparent in places, which are taken as white"
    assert told == [text] * transparent


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


def exif_block(entries: bytes, order: bytes = b"II*\0") -> bytes:
    return b"Exif\0\0" + order + entries


def entry(kind: int, value: bytes, count: int = 1, tag: int = 0x0112) -> bytes:
    """A block of one tag, by default the orientation, of any type and value."""
    return exif_block(struct.pack("<IHHHI", 8, 1, tag, kind, count) + value.ljust(4, b"\0") + bytes(4))


ODD_EXIF = {
    "no block at all": b"Exif\0\0",
    "no number of bytes": exif_block(b"", b"XX*\0"),
    "cut off in its header": b"Exif\0\0II",
    "cut off in its table": exif_block(struct.pack("<IH", 8, 40)),
    "a table beyond the end": exif_block(struct.pack("<I", 2**31)),
    "orientation 9": entry(3, struct.pack("<H", 9)),
    "orientation 0": entry(3, struct.pack("<H", 0)),
    "orientation 65535": entry(3, struct.pack("<H", 65535)),
    "orientation as text": entry(2, b"six\0", 4),
    "orientation as a ratio over 0": entry(5, struct.pack("<I", 26)),
    "orientation as two": entry(3, struct.pack("<HH", 6, 6), 2),
    "orientation as a fraction": entry(11, struct.pack("<f", 0.5)),
    "orientation as not a number": entry(11, struct.pack("<f", float("nan"))),
    "orientation of no type": entry(99, b"abcd"),
    "a count of billions": entry(3, b"abcd", 2**32 - 1),
    "a directory that is a number": entry(3, struct.pack("<H", 7), tag=0x8769),
    "a directory that is itself": entry(4, struct.pack("<I", 8), tag=0x8769),
    "noise": b"Exif\0\0" + random.Random(1).randbytes(300),
}


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("odd", ODD_EXIF)
def test_odd_exif_stops_nothing(here, odd, ending):
    """Whatever stands in the block, the picture is read as it lies."""
    picture = Image.new("RGB", (32, 16), RED)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pillow's writer, which reads the block too
            picture.save(f"odd.{ending}", exif=ODD_EXIF[odd], quality=100)
    except Exception:
        pytest.skip(f"pillow writes no such block into a {ending}")
    with heard() as told:
        read = open_picture(f"odd.{ending}")
    assert read.size in ((32, 16), (16, 32)) and read.getpixel((4, 4))[0] > 240
    assert all(text.startswith(f"picture: odd.{ending}") for text in told)


def test_an_orientation_that_is_none_is_told_once(here):
    Image.new("RGB", (2, 1)).save("odd.jpg", exif=ODD_EXIF["orientation 9"])
    with heard() as told:
        open_picture("odd.jpg")
    text = "picture: odd.jpg has the orientation 9, and EXIF knows 1 to 8; it is not turned"
    assert told == [text]


def swapped_profile() -> bytes:
    """An sRGB profile whose red and blue change places: what has it shows red where it stores blue."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")


def linear_grey() -> bytes:
    """A profile of grey whose numbers are amounts of light."""
    tag = b"curv" + bytes(8) + bytes(4)
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    tags = [(b"wtpt", white), (b"kTRC", tag)]
    table, data, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, each in tags:
        table += name + struct.pack(">II", start + len(data), len(each))
        data += each
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    head = head.ljust(36, b"\0") + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + data


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "avif"])
def test_a_colour_profile_is_converted(here, ending):
    Image.new("RGB", (16, 16), BLUE).save(f"wide.{ending}", icc_profile=swapped_profile(), quality=100)
    red, green, blue = open_picture(f"wide.{ending}").getpixel((4, 4))
    assert red > 235 and green < 20 and blue < 20


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_a_profile_s_picture_keeps_its_transparency(here, mode):
    picture = Image.new("RGBA", (2, 1), (*BLUE, 255))
    picture.putpixel((1, 0), (*BLUE, 0))
    (picture if mode == "RGBA" else picture.quantize(4)).save("wide.png", icc_profile=swapped_profile())
    opened = Image.open("wide.png")
    assert opened.mode == mode
    assert [upright(opened).getpixel((x, 0))[3] for x in (0, 1)] == [255, 0]
    assert upright(opened).getpixel((0, 0))[0] > 250


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_a_profile_of_grey_is_converted(here, mode):
    """A fifth of the light, 51 of 255, is shown as 124 of sRGB (IEC 61966-2-1)."""
    grey = Image.new("L", (2, 2), 51)
    picture = Image.fromarray(np.full((2, 2), 51 * 257, np.uint16)) if mode == "I;16" else grey.convert(mode)
    picture.save("grey.png", icc_profile=linear_grey())
    assert all(abs(value - 124) <= 1 for value in open_picture("grey.png").getpixel((0, 0)))


def test_a_profile_that_says_srgb_keeps_every_bit(here):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    noise.save("own.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert np.array_equal(np.asarray(open_picture("own.png")), np.asarray(noise))
    assert "icc_profile" not in upright(Image.open("own.png")).info


@pytest.mark.parametrize(
    "profile", [b"broken", swapped_profile()[:200], linear_grey(), bytes(3000)], ids=["text", "half", "grey", "zeros"]
)
def test_a_profile_that_is_broken_or_for_another_picture_is_passed_over_with_a_warning(here, profile):
    Image.new("RGB", (4, 4), RED).save("odd.png", icc_profile=profile)
    with pytest.warns(UserWarning, match=r"^picture: odd.png has a colour profile that can't be used \(.*sRGB$"):
        assert open_picture("odd.png").getpixel((0, 0)) == RED


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 100, 255]], np.float32), [0, 100, 255]),
        (np.array([[0, 25700, 65535]], np.float32), [0, 100, 255]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 25700, 65535]], np.int32), [0, 100, 255]),
        (np.array([[0, 25700, 100]], np.uint16), [0, 100, 0]),
    ],
)
def test_grey_of_more_bits_is_scaled_by_its_range(here, values, shown):
    Image.fromarray(values).save("grey.tif")
    read = np.asarray(open_picture("grey.tif"))
    assert read[0, :, 0].tolist() == shown and (read == read[..., :1]).all()


def test_dark_grey_of_sixteen_bits_stays_dark(here):
    Path("dark.pgm").write_bytes(b"P5 2 1 65535\n" + struct.pack(">HH", 257, 0))
    assert np.asarray(open_picture("dark.pgm"))[0, :, 0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[-1, 5]], np.int32), "grey of 32 bits from -1 to 5"),
        (np.array([[0, 10**6]], np.int32), "grey of 32 bits from 0 to 1e+06"),
        (np.array([[0, 1.5]], np.float32), "grey of fractions from 0 to 1.5"),
        (np.array([[-3.0, 0.5]], np.float32), "grey of fractions from -3 to 0.5"),
        (np.array([[0, np.nan]], np.float32), "grey of fractions from nan to nan"),
        (np.array([[0, np.inf]], np.float32), "grey of fractions from 0 to inf"),
    ],
)
def test_grey_of_an_unknown_range_is_refused(here, values, message):
    Image.fromarray(values).save("grey.tif")
    with pytest.raises(UserError) as caught:
        open_picture("grey.tif")
    cure = "of which nothing says how much is white; save it as 8 or 16 bits, or as fractions from 0 to 1"
    assert str(caught.value) == f"picture: grey.tif is {message}, {cure}"


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 30)])
@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_a_mask_with_transparency_goes_by_it(here, colour, ending):
    """Strokes of any colour on a layer of their own are what is chosen; so is the hole in a picture."""
    strokes = Image.new("RGBA", (4, 2), (255, 255, 255, 0))
    strokes.paste((*colour, 255), (1, 0, 2, 2))
    strokes.save(f"mask.{ending}", lossless=True)
    with pytest.warns(UserWarning, match=rf"^region: mask.{ending} is transparent in places; what is opaque in it"):
        assert (np.asarray(open_mask(f"mask.{ending}")) >= 128).tolist() == [[False, True, False, False]] * 2
    hole = Image.new("RGBA", (4, 3), (*colour, 255))
    hole.putpixel((2, 1), (*colour, 0))
    with pytest.warns(UserWarning, match="^the mask is transparent in places; what is transparent in it counts as wh"):
        assert np.argwhere(np.asarray(mask_of(hole)) >= 128).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("opaque", "chosen"),
    [
        ([(0, 0, 1, 1)], "opaque"),  # a stroke in a corner
        ([(2, 0, 4, 4)], "opaque"),  # the right half
        ([(0, 0, 4, 1), (0, 0, 1, 4)], "transparent"),  # a picture whose lower right is erased
        ([(1, 1, 3, 3)], "opaque"),
    ],
)
def test_what_lies_in_most_corners_of_a_transparent_mask_is_kept(opaque, chosen):
    layer = Image.new("RGBA", (4, 4))
    for box in opaque:
        layer.paste((90, 90, 90, 255), box)
    with pytest.warns(UserWarning, match=f"what is {chosen} in it counts as white"):
        read = np.asarray(mask_of(layer))
    assert (read == (255 if chosen == "opaque" else 0)).tolist() == (np.asarray(layer)[..., 3] == 255).tolist()


def test_an_opaque_mask_with_an_alpha_channel_goes_by_its_colours():
    mask = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    mask.putpixel((1, 0), (255, 255, 255, 255))
    assert np.asarray(mask_of(mask)).tolist() == [[0, 255]]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
def test_a_mask_of_zeros_and_ones_is_taken_and_that_is_said(here, kind):
    Image.fromarray(np.array([[0, 1, 1, 0]], kind)).save("mask.tif")
    with heard() as told:
        read = open_mask("mask.tif")
    assert told == ["region: mask.tif holds 0 and 1 in place of 0 and 255; 1 is taken as white"]
    assert np.asarray(read).tolist() == [[0, 255, 255, 0]]


@pytest.mark.parametrize("mask", [Image.new("1", (2, 1), 1), Image.fromarray(np.ones((1, 2), np.float32))])
def test_a_mask_whose_one_is_white_already_is_no_matter(mask):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.asarray(mask_of(mask)).tolist() == [[255, 255]]


WRITTEN = {
    "AVIF": "RGB", "BLP": "P", "BMP": "RGB", "DDS": "RGBA", "DIB": "RGB", "GIF": "P", "ICNS": "RGBA", "ICO": "RGBA",
    "IM": "RGB", "JPEG": "RGB", "JPEG2000": "RGB", "MPO": "RGB", "MSP": "1", "PCX": "RGB", "PNG": "RGBA", "PPM": "RGB",
    "QOI": "RGB", "SGI": "RGB", "SPIDER": "F", "TGA": "RGB", "TIFF": "RGB", "WEBP": "RGBA", "XBM": "1",
}  # fmt: skip
"""Formats that pillow both writes and reads by itself, with a mode of each."""


def written(kind: str) -> bytes:
    needs = {"AVIF": "avif", "WEBP": "webp", "JPEG2000": "jpg_2000"}
    if kind in needs and not features.check(needs[kind]):
        pytest.skip(f"this pillow has no {kind}")
    picture = Image.effect_noise((32, 32), 60).convert("RGB").convert(WRITTEN[kind])
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a format that pillow will drop
        picture.save(file, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    return file.getvalue()


def damaged(data: bytes, kind: str, count: int) -> Iterator[bytes]:
    """Copies with flipped, cut off, doubled, zeroed or moved bytes, more of them near the head; always the same."""
    lot = random.Random(kind)
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(lot.choice([1, 1, 2, 5, 20])):
            place = lot.randrange(min(len(copy), lot.choice([24, 80, 400, len(copy)])))
            match lot.randrange(5):
                case 0 | 1:
                    copy[place] = lot.choice([0, 1, 127, 128, 255, lot.randrange(256)])
                case 2:
                    del copy[place : place + lot.choice([1, 4, 50])]
                case 3:
                    copy[place:place] = copy[place : place + lot.choice([1, 4, 50])]
                case 4:
                    copy[place : place + 4] = lot.choice([bytes(4), b"\xff" * 4, lot.randbytes(4)])
            copy = copy or bytearray(1)
        yield _checked(bytes(copy)) if kind == "PNG" and lot.random() < 0.7 else bytes(copy)


def _checked(data: bytes) -> bytes:
    """A PNG whose checksums are right again, so that what is wrong in a chunk comes to be read."""
    found, place = data[:8], 8
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        content = data[place + 4 : place + 8 + size]
        found += data[place : place + 4] + content + struct.pack(">I", zlib.crc32(content))
        place += 12 + size
    return found


def told_otherwise(kind: str, count: int) -> list[str]:
    """What reading damaged files says that is not one line about the file."""
    path, odd = Path("damaged"), []
    for data in damaged(written(kind), kind, count):
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for read in (open_picture, open_mask):
                try:
                    read(str(path), "picture")
                except UserError as error:
                    odd += [str(error)] * (not re.fullmatch(r"picture: damaged [^\n]+", str(error)))
    return odd


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_damaged_file_is_one_error_that_names_it(here, kind):
    assert told_otherwise(kind, 30 if kind == "ICNS" else 100) == []  # of ICNS, each holds ten pictures


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITTEN)
def test_a_file_damaged_in_two_thousand_ways_is_one_error_that_names_it(here, kind):
    assert told_otherwise(kind, 2000) == []


@pytest.mark.parametrize("error", [OverflowError("x"), KeyError(3), struct.error(), AttributeError(), MemoryError()])
def test_whatever_a_reader_raises_is_the_file_s_fault(here, monkeypatch, error):
    def load(self):
        raise error

    Image.new("RGB", (2, 2)).save("whole.gif")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(UserError, match=r"^picture: whole.gif can't be read to its end \(.+\); give another copy"):
        open_picture("whole.gif")


def test_no_program_is_started_for_a_picture(tmp_path, monkeypatch):
    """PostScript is a language: pillow has Ghostscript draw it, whatever the file is called."""
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **settings: started.append(arguments))
    monkeypatch.setattr("subprocess.check_call", lambda *arguments, **settings: started.append(arguments))
    drawn = io.BytesIO()
    Image.new("RGB", (8, 8)).save(drawn, "EPS")
    for name in ("stranger.eps", "stranger.png"):
        (tmp_path / name).write_bytes(drawn.getvalue())
        with pytest.raises(UserError, match=r"is no picture that pillow can read"):
            open_picture(str(tmp_path / name))
    assert started == []
