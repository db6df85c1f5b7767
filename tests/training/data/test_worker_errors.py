"""What a source of pictures can't give on the way is said alike with and without workers that read it."""

import shutil

import pytest
from muse_training.data.folder import Folder
from PIL import Image

from muse_studio.errors import UserError
from muse_studio.training.loading import batches


def breaks(folder):
    (folder / "1.png").write_bytes(b"no picture")


def goes(folder):
    (folder / "1.png").unlink()


def folder_goes(folder):
    shutil.rmtree(folder)


@pytest.mark.parametrize("harm", [breaks, goes, folder_goes])
def test_a_picture_that_is_lost_on_the_way(tmp_path, harm):
    told = []
    for workers in (0, 2):
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        for number in range(3):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
        data = Folder(str(folder), 8)
        assert len(data) == 3
        harm(folder)
        with pytest.raises(UserError) as caught:
            list(batches(data, [[1]], workers=workers))
        told.append(str(caught.value))
    assert told[0] == told[1]
    assert told[0].startswith(f"{tmp_path / 'pictures'}: 1.png: ") and "start the same command again" in told[0]
