"""The example plugins pass their own tests, their recipes run, and docs/write-a-plugin.md shows their very text."""

from __future__ import annotations

import re
import shlex
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from PIL import Image

from muse_studio import testing
from muse_studio.cli import main, scaffold

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/pyproject.toml"))
PAGE = (ROOT / "docs" / "write-a-plugin.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
"""The file that the page says a block is, and the block."""
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture(scope="module")
def path(installed) -> list[str]:
    return installed(EXAMPLES)


@pytest.mark.slow
def test_each_example_passes_its_own_tests(path, passed, tmp_path):
    counts = passed(path, EXAMPLES, tmp_path)
    assert list(counts) == ["muse-entropy-bounded", "muse-pixel-art", "muse-research"]
    assert min(counts.values()) > 10


def test_each_example_says_its_licence():
    for example in EXAMPLES:
        assert 'license = "Apache-2.0"' in (example / "pyproject.toml").read_text(encoding="utf-8")
        assert "Licence: Apache-2.0." in (example / "README.md").read_text(encoding="utf-8")


def from_one_file() -> type:
    found = spec_from_file_location("one_file", ROOT / "examples" / "one_file.py")
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module.FromTheMiddle


class TestOneFile(testing.SamplerContract):
    def make(self):
        return from_one_file()(steps=4)


@pytest.mark.slow
def test_one_file_draws(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (command,) = [each for each in COMMANDS if "--plugin" in each and each.startswith("muse generate")]
    (tmp_path / "one_file.py").write_bytes((ROOT / "examples" / "one_file.py").read_bytes())
    assert main(shlex.split(command)[1:]) == 0
    with Image.open(next(tmp_path.glob("out/*.png"))) as picture:
        assert picture.size == (128, 128)


def test_the_page_shows_the_very_files(tmp_path):
    name, kind = re.search(r"^muse new ([\w-]+) --kind ([\w-]+)$", PAGE, re.MULTILINE).groups()
    scaffold.new(name, kind, str(tmp_path / name))
    assert len(SHOWN) >= 4
    for file, text in SHOWN:
        source = (ROOT if file.startswith("examples/") else tmp_path) / file
        assert text == source.read_text(encoding="utf-8"), f"docs/write-a-plugin.md shows another {file}"


@pytest.mark.slow  # trains a model for half a minute
def test_pixel_art_learns_and_draws(path, python, tmp_path):
    folder = ROOT / "examples" / "muse-pixel-art"
    for recipe in folder.glob("*.yaml"):
        (tmp_path / recipe.name).write_bytes(recipe.read_bytes())
    trained = python(path, "-m", "muse_studio", "run", "train.yaml", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    drawn = python(path, "-m", "muse_studio", "run", "draw.yaml", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    compare = (
        "import numpy as np; from PIL import Image; from muse_pixel_art.dataset import paint\n"
        "art = paint('ghost', 'red', 'at night').permute(1, 2, 0).numpy() * 85\n"
        "drawn = np.asarray(Image.open('out/a-red-ghost-at-night.png'))[4::8, 4::8]\n"
        "print((art == drawn).all(-1).mean())"
    )
    right = python(path, "-c", compare, cwd=tmp_path)
    assert float(right.stdout) > 0.8, f"of a red ghost at night {right.stdout} is right {right.stderr}"
