"""The logits of some places alone are those that these transformers give of all."""

import pytest
import torch
from muse_halton.transformer import HaltonMaskGIT
from muse_maskgit.transformer import MaskGIT
from muse_uvit.transformer import ClassUViT, UViT

from muse_studio.testing import embedding

SIZES = {"codebook_size": 11, "grid": [3, 4], "width": 16, "heads": 2, "mlp": 20}


@torch.no_grad()
@pytest.mark.parametrize(
    "make",
    [
        lambda: MaskGIT(**SIZES, classes=8, layers=2),
        lambda: HaltonMaskGIT(**SIZES, classes=8, layers=2),
        lambda: ClassUViT(**SIZES, classes=8, layers=3),
        lambda: UViT(**SIZES, layers=3, text_width=8, text_positions=7),
    ],
    ids=["maskgit", "halton-maskgit", "uvit-class", "uvit"],
)
def test_logits_of_some_places(make):
    torch.manual_seed(0)
    model = make().eval()
    for weight in model.parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    conditioning = model.condition(embedding(2, width=model.text_width))
    tokens, places = torch.randint(-1, 11, (2, 3, 4)), torch.tensor([[0, 11, 5], [7, 2, 3]])
    every, some = model(tokens, conditioning).flatten(1, 2), model(tokens, conditioning, places)
    for row in range(2):
        torch.testing.assert_close(some[row], every[row, places[row]], atol=1e-5, rtol=1e-5)
    assert every.std() > 0.01
