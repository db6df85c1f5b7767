"""A model is loaded with its parts ready to draw, and what is wrong with its recipe or device is said."""

from __future__ import annotations

import pytest
import torch

import muse_studio
from muse_studio.contracts import MASK
from muse_studio.errors import RecipeError, UserError


def test_a_loaded_model_draws():
    model = muse_studio.load("models/emoji-base", ["stages.base.sampler.steps=3"], device="cpu")
    base = model.stages["base"]
    *before, tokens = base.sample(model.text_encoder(["a red apple"]), torch.Generator().manual_seed(0))
    assert len(before) == 2 and tokens.shape == (1, 8, 8) and (tokens != MASK).all()
    assert base.tokenizer.decode(tokens).shape == (1, 3, 64, 64)
    assert not base.transformer.training
    assert model.recipe["stages"]["base"]["sampler"]["steps"] == 3


def test_what_is_wrong_is_said():
    with pytest.raises(RecipeError, match="stpes"):
        muse_studio.load("models/emoji-base", ["stages.base.sampler.stpes=3"])
    with pytest.raises(UserError, match="quantum"):
        muse_studio.load("models/emoji-base", device="quantum")
