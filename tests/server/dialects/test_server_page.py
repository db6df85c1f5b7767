"""Every example of docs/server.md, against a server with the model that it speaks of."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from muse_server.desk import Desk
from muse_server.gallery import Gallery
from muse_server.web.app import Served, make_app
from muse_server.web.connection import configured
from PIL import Image
from serving import serving

from muse_studio import load

PAGE = Path(__file__).parents[3] / "docs" / "server.md"
NAME = "models/emoji"
ADDRESS = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the embedded model is served."""
    folder = tmp_path_factory.mktemp("studio")
    desk = Desk(load(NAME, device="cpu"), Gallery(folder), folder)

    def config(port: int) -> Any:
        return configured(make_app(desk, Served(NAME, "127.0.0.1", port, a1111=True)))

    with serving(config) as port:
        yield f"http://127.0.0.1:{port}"


def blocks(language: str) -> list[str]:
    """The page's blocks that need a server, in order."""
    marked = r"<!-- not run: needs a server[^>]*-->\n\n```" + language + r"\n(.*?)^```$"
    return re.findall(marked, PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_every_block_is_run() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(blocks("python")) + len(blocks("sh")) + 1 == len(re.findall(r"^```\w+$", text, re.MULTILINE)) == 8


@pytest.mark.slow  # draws and edits a dozen pictures
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI no longer makes variations itself
def test_the_examples_do_what_they_say(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks("python")):
        Path(f"block{number}.py").write_text(block.replace(ADDRESS, address), encoding="utf-8")
        names = runpy.run_path(f"block{number}.py", init_globals=names)
    partial = sorted(path.name for path in tmp_path.glob("image_generation*.png"))
    assert partial == ["image_generation.completed.png", "image_generation.partial_image.png"]
    assert Image.open("apple.png").size == (128, 128) and "muse_recipe" in Image.open("apple.png").info
    assert names["answer"].size == "256x256" and len(names["varied"].data) == 2
    if shutil.which("curl") is None:
        pytest.skip("the commands of the page need curl")
    answers = [run(line, address) for block in blocks("sh") for line in block.splitlines()]
    assert len(answers) == 5
    assert answers[0]["data"][0]["id"] == NAME and answers[4]["progress"] == 0
    assert len(answers[1]["data"]) == 1 and len(answers[2]["data"]) == 2 and len(answers[3]["images"]) == 1


def run(line: str, address: str) -> Any:
    """What a command of the page is answered, as JSON."""
    words = shlex.split(line.replace(ADDRESS, address))
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    answer = json.loads(done.stdout)
    assert "error" not in answer, answer
    return answer
