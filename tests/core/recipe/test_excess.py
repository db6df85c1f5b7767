"""Sizes that no machine has are refused before anything is made of them, at the setting that asks for them."""

from __future__ import annotations

import pytest
import torch

from muse_studio.recipe import build, running


@pytest.mark.parametrize(
    ("recipe", "path", "number", "told"),
    [
        ("generate", "stages.base.transformer.layers", 10**8, "more than 20,000 modules of torch would be made"),
        ("generate", "stages.superres.transformer.low_layers", 10**9, "more than 20,000 modules of torch"),
        ("train-emoji-tokenizer", "tokenizer.blocks", 10**9, "more than 20,000 modules of torch"),
        ("train-emoji-tokenizer", "tokenizer.decoder_blocks", 10**9, "more than 20,000 modules of torch"),
        ("train-emoji-base", "fit.workers", 2000, "give 256 or less"),
        ("train-emoji-base", "fit.batch", 10**9, "give 1,048,576 or less"),
        ("generate", "count", 10**12, "1,000,000,000,000 pictures in all; draw at most 1,000,000 at a time"),
    ],
)
def test_an_excess_is_refused_by_name(recipe, path, number, told):
    (problem,) = running.check(recipe, {path: number})
    name = path.rpartition(".")[2]
    assert problem.path == path and problem.message.startswith(f"{name} is {number}") and told in problem.message


def test_modules_are_counted_where_no_setting_s_name_tells(monkeypatch):
    monkeypatch.setattr(build, "MODULES", 5)
    told = pytest.raises(ValueError, match=r"^pieces is 9: more than 5 modules of torch would be made")
    with told, build._counted({"pieces": 9, "name": "x"}):
        torch.nn.ModuleList(torch.nn.Identity() for _ in range(9))
    torch.nn.ModuleList(torch.nn.Identity() for _ in range(9))
