"""A picture says that it was generated, by what, and of what; read back by pillow and an XML parser."""

import hashlib
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from muse_studio.errors import UserError
from muse_studio.images.provenance import Provenance, write_png
from muse_studio.recipe.sources import recipe_text
from muse_studio.runtime import weights

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def properties(packet):
    """What a packet's only description says, by name."""
    root = ElementTree.fromstring(packet)
    assert root.tag == "{adobe:ns:meta/}xmpmeta"
    ((description,),) = root
    return {each.tag: each.text for each in description}


def red():
    return Image.new("RGB", (4, 4), "red")


@pytest.mark.parametrize(
    ("edited", "source"), [(False, "trainedAlgorithmicMedia"), (True, "compositeWithTrainedAlgorithmicMedia")]
)
def test_a_png_and_a_webp_say_that_they_were_generated(tmp_path, edited, source):
    recipe = {"use": "generate", "prompt": ["a <cat> & a dog", "a pear"], "negative": "blur", "seed": 3}
    message = Provenance(recipe, {"b": "2", "a": "1"}, edited)
    write_png(red(), tmp_path / "a.png", message)
    frames = [red(), Image.new("RGB", (4, 4), "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], **message.webp())
    for path in (tmp_path / "a.png", tmp_path / "a.webp"):
        with Image.open(path) as picture:
            told = properties(picture.info["xmp"])
        assert told[f"{IPTC}DigitalSourceType"] == SOURCES + source
        assert told[f"{IPTC}AISystemUsed"] == "muse_studio"
        assert told[f"{IPTC}AIPromptInformation"] == "a <cat> & a dog\na pear\nnegative: blur"
        assert told["{http://ns.adobe.com/xap/1.0/}CreatorTool"] == (
            f"muse_studio {told[f'{IPTC}AISystemVersionUsed']}"
        )
        assert "seed: 3" in recipe_text(path)
    with Image.open(tmp_path / "a.png") as picture:
        assert "srgb" in picture.info, "its colours are said"
        assert (picture.text["Software"], picture.text["muse_plugins"]) == ("muse_studio", "a 1\nb 2")


def test_weights_are_named_with_their_checksum(tmp_path):
    path = tmp_path / "base.safetensors"
    path.write_bytes(b"weights")
    pinned = "https://example.org/text.safetensors#sha256=00ff"
    recipe = {
        "stages": {"base": {"transformer": {"weights": str(path), "width": 8}, "tokenizer": {"weights": None}}},
        "text_encoder": {"weights": pinned},
        "parts": [{"weights": "gone.safetensors"}],
    }
    text = dict(chunk for chunk in _chunks(Provenance(recipe), tmp_path))
    assert text["muse_weights"].splitlines() == [
        f"stages.base.transformer {path} sha256:{hashlib.sha256(b'weights').hexdigest()}",
        f"text_encoder {pinned}",
        "parts[0] gone.safetensors",
    ]
    used = properties(Provenance(recipe).xmp())[f"{IPTC}AISystemUsed"]
    assert used == f"muse_studio with {path}, {pinned}, gone.safetensors"


def test_large_weights_are_not_hashed_for_every_picture(tmp_path, monkeypatch):
    path = tmp_path / "large.safetensors"
    path.write_bytes(b"weights")
    monkeypatch.setattr(weights, "HASHED", 6)
    assert dict(_chunks(Provenance({"weights": str(path)}), tmp_path))["muse_weights"] == f" {path}"


def _chunks(message, folder):
    write_png(red(), folder / "chunks.png", message)
    with Image.open(folder / "chunks.png") as picture:
        return picture.text.items()


@given(st.text())
def test_a_packet_holds_any_prompt(prompt):
    told = properties(Provenance({"prompt": prompt}).xmp())
    allowed = "".join(
        each if (each >= " " and each not in "\ufffe\uffff") or each in "\t\n\r" else "�" for each in prompt
    )
    as_lines = allowed.replace("\r\n", "\n").replace("\r", "\n")  # XML 1.0, section 2.11
    assert told.get(f"{IPTC}AIPromptInformation", "") == as_lines


def test_a_disk_that_refuses_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "sheet.png"
    path.write_bytes(b"before")

    def refuse(image, aside, *arguments, **settings):
        aside.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", refuse)
    with pytest.raises(UserError, match=r"sheet.png can't be written: No space left on device; make room, or choose"):
        write_png(red(), path, Provenance())
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"before"]
