"""docs/python.md runs word for word, and shows what comes of it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shown() -> list[str]:
    """What the page shows to be printed, block by block."""
    return re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.slow  # trains, and draws some ten pictures
def test_the_page_runs_word_for_word(shown, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    Path("page.py").write_text(code, encoding="utf-8")
    made = runpy.run_path("page.py")
    printed = capsys.readouterr().out
    printed = re.sub(r"^Model on [\w:]+:", "Model on cpu:", printed)
    assert len(shown) == 2
    assert [each for each in shown if each not in printed] == [], printed
    assert [line.split()[0] for line in printed.splitlines() if line.endswith("(128, 128)")] == ["superres"]
    picture, hat = made["picture"], made["hat"]
    outside = torch.ones(128, 128, dtype=torch.bool)
    outside[:48, 22:108] = False
    pixels = made["ms"].to_tensor([picture.image, hat.image])
    assert torch.equal(*pixels[:, :, outside]) and not torch.equal(*pixels)
    assert made["losses"][-1] < made["losses"][0]
    assert len(made["observer"].seen) == 2 and made["history"].weights == Path("run/base.safetensors")
    assert made["loss"].requires_grad and made["step"].image.size == (128, 128) and made["ms"].__version__
    assert len(made["my_observer"].seen) == 2 and Path("again/base.safetensors").is_file()
    assert made["back"].size == (128, 128) and len(repr(made["model"]).splitlines()) <= 10
    assert (made["before"].size, made["after"].size) == ((128, 128), (128, 128))
