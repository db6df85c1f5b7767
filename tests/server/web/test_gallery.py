"""The gallery keeps what is drawn, finds it by its words, and deletes nothing for good."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from muse_server.gallery import ID, SIDE, Gallery
from muse_server.refusals import NotFound
from PIL import Image


def png(colour: str = "red", size: tuple[int, int] = (8, 6)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def test_a_picture_is_kept_as_it_is_and_found_again_after_a_restart(tmp_path: Path) -> None:
    id = Gallery(tmp_path).add(png(), 7, "a red Apple", session="s")
    assert ID.fullmatch(id)
    gallery = Gallery(tmp_path)
    assert gallery.path(id).read_bytes() == png() and len(gallery) == 1
    (told,) = gallery.listed()
    assert told["when"] > 1.7e9
    assert told | {"when": 0} == {
        "id": id,
        "prompt": "a red Apple",
        "seed": 7,
        "when": 0,
        "width": 8,
        "height": 6,
        "session": "s",
        "image": f"/api/gallery/{id}",
        "thumbnail": f"/api/gallery/{id}/thumbnail",
    }


def test_all_words_must_occur_and_the_newest_comes_first(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    ids = [gallery.add(png(), None, prompt) for prompt in ("a red apple", "a green apple", "ein roter Äpfel 🍎")]
    assert [each["id"] for each in gallery.listed()] == ids[::-1]
    assert [each["id"] for each in gallery.listed("APPLE a")] == [ids[1], ids[0]]
    assert [each["id"] for each in gallery.listed("apple red")] == [ids[0]]
    assert [each["id"] for each in gallery.listed("äpfel 🍎")] == [ids[2]]
    assert gallery.listed("pear") == []


def test_pages_of_it_follow_each_other(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    ids = [gallery.add(png(), number, "x") for number in range(5)][::-1]
    first = [each["id"] for each in gallery.listed(limit=2)]
    rest = [each["id"] for each in gallery.listed(before=first[-1], limit=60)]
    assert first + rest == ids
    assert gallery.listed(before="nobody") == [] and len(gallery.listed(limit=-3)) == 1


def test_deleted_is_moved_to_the_bin(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    id = gallery.add(png(), 1, "x")
    gallery.thumbnail(id)
    gallery.delete(id)
    assert (tmp_path / "bin" / f"{id}.png").read_bytes() == png()
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()].count(f"{id}.webp") == 0
    for ask in (gallery.path, gallery.thumbnail, gallery.delete):
        with pytest.raises(NotFound, match="no such picture"):
            ask(id)
    assert gallery.listed() == [] == Gallery(tmp_path).listed()


def test_a_thumbnail_is_small_and_made_once(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    id = gallery.add(png("blue", (600, 300)), 1, "x")
    with Image.open(io.BytesIO(gallery.thumbnail(id))) as small:
        assert small.format == "WEBP" and small.size == (SIDE, SIDE // 2)
        assert small.convert("RGB").getpixel((3, 3))[2] > 240
    gallery.path(id).write_bytes(b"")
    assert gallery.thumbnail(id)


def test_what_the_index_lost_or_spoilt_stands_there_still(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    ids = [gallery.add(png(), number, "x") for number in range(3)]
    index = tmp_path / "gallery" / "index.jsonl"
    lines = index.read_text().splitlines()
    index.write_text("\n".join([lines[0], "{", '{"id": 3}', '{"id": "../../etc/passwd"}', "\0", lines[2], "7"]))
    gallery.path(ids[2]).unlink()
    (tmp_path / "gallery" / f"{'a' * 22}.png").write_bytes(b"no picture")
    (tmp_path / "gallery" / "mine.png").write_bytes(png())
    again = Gallery(tmp_path)
    assert {each["id"]: each["prompt"] for each in again.listed()} == {ids[0]: "x", ids[1]: ""}
    assert {each["id"] for each in Gallery(tmp_path).listed()} == {ids[0], ids[1]}


@pytest.mark.parametrize("id", ["", "..", "../sessions/x", "/etc/passwd", "a" * 22, "index.jsonl"])
def test_what_is_no_id_is_no_file(tmp_path: Path, id: str) -> None:
    with pytest.raises(NotFound):
        Gallery(tmp_path).path(id)
