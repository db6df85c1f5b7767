"""three-heads keeps the promises of a dialect, and what it imports gives the logits that its three heads give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import muse_studio
import pytest
import torch
from muse_studio import testing
from muse_studio.contracts import MASK
from muse_studio.runtime.dialects import Dialect, Found
from safetensors.torch import save_file

from muse_pixel_art.dialect import CHANNELS, sizes, three_heads
from muse_pixel_art.transformer import ColourHeads


def small() -> ColourHeads:
    """A small model with random weights."""
    torch.manual_seed(0)
    return ColourHeads(grid=[3, 4], text_width=8, width=8, layers=2).eval()


def published() -> dict[str, torch.Tensor]:
    """Its weights as a model with three heads has them."""
    held = {}
    for name, tensor in small().state_dict().items():
        place, _, rest = name.partition(".")
        if place == "embed":
            held[f"{CHANNELS[int(rest[0])]}.table.weight"] = tensor
        elif name.startswith("head.1."):
            for channel, part in zip(CHANNELS, tensor.chunk(3), strict=True):
                held[f"{channel}.head.{name[7:]}"] = part.contiguous()
        else:
            known = {"positions": "places", "text.weight": "words.weight"}
            moved = name.replace("layers.layers.", "blocks.").replace("head.0.", "norm.")
            held[known.get(name, moved)] = tensor
    return held


class TestThreeHeads(testing.DialectContract):
    def target(self) -> Callable[[], Dialect]:
        return three_heads

    def source(self) -> dict[str, dict[str, torch.Tensor]]:
        return {"transformer": published()}


@torch.no_grad()
def test_what_is_imported_gives_the_same_logits(tmp_path: Path) -> None:
    save_file(published(), tmp_path / "three.safetensors")
    recipe = {"use": "import-weights", "source": str(tmp_path / "three.safetensors"), "format": "three-heads"}
    report = muse_studio.run(recipe, {"out": str(tmp_path / "out")})
    assert report.fits[0].matched == report.fits[0].made + 4, "two tensors are stacked of three"
    weights = str(tmp_path / "out" / "transformer.safetensors")
    ours = ColourHeads(grid=[3, 4], text_width=8, width=8, layers=2, weights=weights).eval()
    tokens, text = torch.randint(MASK, 64, (2, 3, 4)), testing.embedding(2, width=8)
    theirs = small()
    assert torch.equal(ours(tokens, ours.condition(text)), theirs(tokens, theirs.condition(text)))


def test_a_file_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="layers: it has none"):
        sizes(Found({}, {"places": [3, 4, 8], "words.weight": [8, 8]}, {}))
