"""A folder of the test's own for downloads, a memory:// that is empty, and a recipe that trains until it is stopped."""

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

RECIPE = """
use: train-tokenizer
tokenizer: {use: vqgan, codebook_size: 16, code_width: 4, channels: 8, multipliers: [1], blocks: 0, patch: 4}
dataset: {use: folder, path: pictures, size: 8}
optimizer: {use: adamw, rate: 1e-3}
fit: {out: run, steps: 1000000, batch: 2, log_every: 1, checkpoint_every: 1000000, device: cpu}
"""


@pytest.fixture(autouse=True)
def own_places(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])


@pytest.fixture
def recipe(tmp_path):
    """The folder of train.yaml and of the pictures that it trains a small tokenizer on."""
    (tmp_path / "train.yaml").write_text(RECIPE)
    (tmp_path / "pictures").mkdir()
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (8, 8), colour).save(tmp_path / "pictures" / f"{colour}.png")
    return tmp_path
