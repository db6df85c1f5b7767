"""A wrong argument gets one sentence that says what was expected and how to make it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import muse_studio as ms
from muse_studio.testing import FakeTextEncoder, tiny_stage

GENERATOR = torch.Generator()
PICTURE = Image.new("RGB", (16, 16))
IMAGES = torch.zeros(1, 3, 16, 16)
TOKENS = torch.zeros(1, 4, 4, dtype=torch.int64)
TEXT = FakeTextEncoder()(["a fox"])


@pytest.fixture(scope="module")
def model():
    return ms.Model({"base": tiny_stage()}, FakeTextEncoder())


@pytest.fixture(scope="module")
def stage(model):
    return model.stages["base"]


TENSOR, SCALED, TEXTS = "by muse_studio.to_tensor(picture)", "by images.float() / 255", 'model.text_encoder(["a fox"])'
WRONG = [
    ("loss", (PICTURE, ["a fox"]), "images: expected float32[B, 3, H, W] in 0..1, got a picture of pillow; make it"),
    ("loss", ("fox.png", ["a fox"]), f"got the text 'fox.png'; make it {TENSOR}"),
    ("loss", (np.zeros((16, 16, 3)), ["a fox"]), f"got a numpy array float64[16, 16, 3]; make it {TENSOR}"),
    ("loss", (IMAGES.byte(), ["a fox"]), f"got uint8[1, 3, 16, 16]; make it {SCALED}"),
    ("loss", (IMAGES[0], ["a fox"]), "got float32[3, 16, 16], without a batch axis; make it by images[None]"),
    ("loss", (IMAGES.permute(0, 2, 3, 1), ["a fox"]), "channels last; make it by images.permute(0, 3, 1, 2)"),
    ("loss", (IMAGES + 200, ["a fox"]), "got 200..200; make it by images / 255"),
    ("loss", (IMAGES - 1, ["a fox"]), "got -1..-1; make it by (images + 1) / 2"),
    ("loss", (IMAGES, "a fox", ("seed", 0)), "prompts is one string; give a list of them: ['a fox']"),
    ("loss", (IMAGES, ["a fox", "a cat"], ("seed", 0)), "images are 1, texts 2; give one text a picture"),
    ("loss", (IMAGES, ["a fox"]), "seed: expected a whole number, got None; give one such as seed=3"),
    ("encode", (IMAGES.byte(),), f"got uint8[1, 3, 16, 16]; make it {SCALED}"),
    ("decode", (PICTURE,), "tokens: expected int64[B, h, w], got a picture of pillow; make it by stage.tok"),
    ("decode", (TOKENS.float(),), "got float32[1, 4, 4]; make it by stage.tokenizer.encode(images)"),
    ("decode", (TOKENS.int(),), "got int32[1, 4, 4]; make it by tokens.long()"),
    ("decode", (TOKENS[0],), "got int64[4, 4], without a batch axis; make it by tokens[None]"),
    ("condition", ("a fox",), "text: expected a TextEmbedding, got the text 'a fox'; make it by model.text"),
    ("condition", (["a fox"],), f"got a list; make it by {TEXTS}"),
    ("logits", (TOKENS, TEXT), "got a TextEmbedding; make it by stage.condition(text)"),
    ("logits", (TOKENS, "a fox"), f"got the text 'a fox'; make it by stage.condition({TEXTS})"),
    ("sample", ("a fox", GENERATOR), "text: expected a TextEmbedding, got the text 'a fox'"),
    ("sample", (TEXT, 3), "got 3; make it by torch.Generator().manual_seed(3)"),
    ("sample", (TEXT, None), "got None; make it by torch.Generator().manual_seed(0)"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "given", "message"), WRONG)
def test_a_stage_says_what_it_expected(stage, method, given, message):
    with pytest.raises((TypeError, ValueError)) as error:
        getattr(stage, method)(*given[:2], **dict(given[2:]))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("draw", {"prompt": 3}, 'prompt: expected a text, got 3; give one such as prompt="a fox"'),
        ("draw", {"prompt": "a fox", "seed": "3"}, "seed: expected a whole number, got the text '3'"),
        ("draw", {"prompt": "a fox", "seed": -1}, "seed is -1; give one from 0 to"),
        ("draw", {"prompt": "a fox", "negative": None}, "negative: expected a text, got None"),
        ("steps", {"prompt": ["a fox"]}, "prompt: expected a text, got a list"),
        ("edit", {"picture": IMAGES}, "got float32[1, 3, 16, 16]; make it by muse_studio.to_image(tensor)"),
        ("using", {"base": "halton"}, "base: expected a table of the stage's settings, got the text 'halton'"),
    ],
)
def test_a_model_says_what_it_expected(model, method, given, message):
    with pytest.raises((TypeError, ValueError)) as error:
        getattr(model, method)(**given)
    assert message in str(error.value)


@pytest.mark.parametrize("given", [PICTURE, IMAGES.byte(), IMAGES[0]])
def test_a_tokenizer_alone_says_it_too(given):
    tokenizer = ms.load("models/emoji-tokenizer", {"weights": None}, device="cpu")
    with pytest.raises((TypeError, ValueError), match="images: expected float32"):
        tokenizer.encode(given)


def test_a_stage_alone_says_what_it_lacks():
    alone = tiny_stage()
    with pytest.raises(ValueError, match="a stage alone can't encode; give text_encoder"):
        alone.loss(IMAGES, ["a fox"], seed=0)
    assert alone.loss(IMAGES, TEXT, seed=0) > 0
