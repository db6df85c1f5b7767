"""What lies in a folder: all that pillow reads, linked folders once, what systems make passed over and counted."""

import pytest
from muse_training.data.folder import Folder
from muse_training.data.listing import list_files, picture_endings
from PIL import Image

from muse_studio.errors import UserError


def paint(path, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), "red").save(path, **more)
    return path


def names(folder):
    return [path.relative_to(folder).as_posix() for path in list_files(folder).files]


def passed(folder):
    return {each.name: each.reason for each in list_files(folder).passed}


ENDINGS = [
    ".png",
    ".jfif",
    ".jpe",
    ".avif",
    ".jp2",
    ".j2k",
    ".tga",
    ".ppm",
    ".pgm",
    ".ico",
    ".dds",
    ".webp",
    ".GIF",
    ".qoi",
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_pillow_reads_is_taken(tmp_path, ending):
    paint(tmp_path / f"a_cat{ending}")
    assert Folder(str(tmp_path), 8)[0]["caption"] == "a cat"


def test_what_pillow_can_only_name_is_not_taken():
    assert not {".eps", ".ps", ".mpg", ".mpeg", ".h5", ".grib", ".pdf", ".txt"} & picture_endings()


@pytest.mark.parametrize("folder", ["@eaDir", "__MACOSX", ".ipynb_checkpoints", ".git", "#recycle", "$RECYCLE.BIN"])
def test_hidden_folders_and_those_of_systems_are_passed_over_and_counted(tmp_path, folder):
    (
        paint(tmp_path / "cat.png"),
        paint(tmp_path / "deep" / folder / "cat.png"),
        paint(tmp_path / "deep" / folder / "x/y.png"),
    )
    assert names(tmp_path) == ["cat.png"]
    [(name, reason)] = passed(tmp_path).items()
    assert name == f"deep/{folder}" and reason.endswith(", with 2 files; it is passed over")
    with pytest.warns(UserWarning, match="1 files, folders or lines were not used"):
        assert len(Folder(str(tmp_path), 8)) == 1


@pytest.mark.parametrize("name", ["._cat.png", ".DS_Store", "Thumbs.db", "desktop.ini"])
def test_hidden_files_and_those_of_systems_are_passed_over(tmp_path, name):
    paint(tmp_path / "cat.png")
    (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path) == ["cat.png"] and list(passed(tmp_path)) == [name]


def test_a_hidden_folder_that_is_asked_for_is_read(tmp_path):
    paint(tmp_path / ".mine" / "cat.png")
    assert names(tmp_path / ".mine") == ["cat.png"]


def test_linked_folders_are_followed_once(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    paint(inside / "zoo" / "cat.png"), paint(outside / "deep" / "dog.png")
    (inside / "a").symlink_to("zoo")
    (inside / "zoo" / "up").symlink_to("..")
    (inside / "b").symlink_to(outside)
    (inside / "c").symlink_to(outside)
    (outside / "deep" / "round").symlink_to(outside)
    (inside / "nowhere.png").symlink_to("gone.png")
    assert names(inside) == ["b/deep/dog.png", "zoo/cat.png"]
    already = "a link to a folder that is read already"
    assert passed(inside) == {
        "a": already, "zoo/up": already, "c": already, "b/deep/round": already,
        "nowhere.png": "a link that leads nowhere",
    }  # fmt: skip


def test_where_there_is_no_picture_what_lies_there_is_told(tmp_path):
    (tmp_path / "cat.heic").write_bytes(b"x")
    paint(tmp_path / ".hidden" / "cat.png")
    with pytest.raises(UserError, match=r"that pillow reads; what lies there is no picture: cat\.heic, \.hidden$"):
        len(Folder(str(tmp_path)))
