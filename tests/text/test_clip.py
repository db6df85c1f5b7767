"""CLIP on tiny random weights: transformers' own numbers for each layer and each form of the weights."""

import json

import pytest
import torch
from muse_text.clip import CLIP

from muse_studio.errors import UserError

PROMPTS = ["a red apple", "the cat to the left of a blue car", "two"]


def as_transformers_has_it(folder):
    """Its own model and tokenizer of a folder, and whether that model is without projection."""
    from transformers import AutoTokenizer, CLIPTextModel, CLIPTextModelWithProjection

    without = folder.name.startswith("text")
    model = (CLIPTextModel if without else CLIPTextModelWithProjection).from_pretrained(folder).eval()
    return model, AutoTokenizer.from_pretrained(folder), without


@pytest.mark.parametrize("layer", [-1, -2, -3])
def test_equals_transformers_on_one_unpadded_prompt(clip_folder, layer):
    reference, tokenizer, without = as_transformers_has_it(clip_folder)
    encoder = CLIP(str(clip_folder), length=20, layer=layer)
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            answer = reference(input_ids=ids, output_hidden_states=True)
        expected = answer.last_hidden_state if layer == -1 else answer.hidden_states[layer]
        got = encoder([prompt])
        count = ids.shape[1]
        assert got.states.shape == (1, 20, 16) and got.mask.sum() == count == len(prompt.split()) + 2
        torch.testing.assert_close(got.states[0, :count], expected[0], atol=1e-5, rtol=0)
        pooled = answer.pooler_output if without else answer.text_embeds
        assert got.pooled.shape == (1, 16 if without else 12)
        torch.testing.assert_close(got.pooled, pooled, atol=1e-5, rtol=0)
        torch.testing.assert_close(encoder([prompt]).pooled, got.pooled)


def test_the_last_layer_has_the_final_norm_and_the_others_do_not(clip_folder):
    states = [CLIP(str(clip_folder), length=8, layer=layer)(PROMPTS[:1]).states for layer in (-1, -2)]
    assert (states[0] - states[1]).abs().max() > 0.1


def test_padding_does_not_leak(clip_folder):
    encoder = CLIP(str(clip_folder), length=20)
    together = encoder([*PROMPTS, ""])
    for i, prompt in enumerate(PROMPTS):
        alone = encoder([prompt])
        torch.testing.assert_close(together.states[i], alone.states[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.pooled[i], alone.pooled[0], atol=1e-5, rtol=0)
    assert not together.mask[3].any() and not together.states[3].any() and not together.pooled[3].any()


def test_width_and_bfloat16(clip_folder):
    encoder = CLIP(str(clip_folder), length=8, dtype="bfloat16")
    assert encoder.width == 16 and encoder._module is None
    got = encoder(["a cat"])
    assert encoder.module.dtype == torch.bfloat16
    assert got.states.dtype == got.pooled.dtype == torch.float32


def test_a_long_prompt_is_cut_before_its_closing_token(clip_folder):
    encoder = CLIP(str(clip_folder), length=5)
    with pytest.warns(UserWarning, match="is 2 tokens longer than the text length 5"):
        cut = encoder(["a red apple the cat"])
    whole = encoder(["a red apple"])
    torch.testing.assert_close(cut.states, whole.states, atol=1e-6, rtol=0)
    torch.testing.assert_close(cut.pooled, whole.pooled, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 77}, "length is 77; .* has 20 positions"),
        ({"length": 9, "layer": -4}, "layer is -4; .* has 3 layers"),
    ],
)
def test_more_than_the_model_has(clip_folder, settings, message):
    encoder = CLIP(str(clip_folder), **settings)
    with pytest.raises(UserError, match=message):
        _ = encoder.width
    with pytest.raises(UserError, match=message):
        encoder(["a cat"])


@pytest.mark.parametrize("layer", [0, 1])
def test_layers_count_from_the_end(layer):
    with pytest.raises(ValueError, match="counts from the end: -1 is the last"):
        CLIP("openai/clip-vit-large-patch14", layer=layer)


def test_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(UserError, match="is a 't5'; text encoder 'clip' takes a clip"):
        _ = CLIP(str(tmp_path)).width


@pytest.mark.parametrize("layer", [-1, -2])
def test_padded_equals_transformers_on_padded_prompts(clip_folder, layer):
    reference, tokenizer, without = as_transformers_has_it(clip_folder)
    encoder = CLIP(str(clip_folder), length=20, layer=layer, padded=True)
    ids = tokenizer([*PROMPTS, ""], return_tensors="pt", padding="max_length", max_length=20)["input_ids"]
    with torch.no_grad():
        answer = reference(input_ids=ids, output_hidden_states=True)
    expected = answer.last_hidden_state if layer == -1 else answer.hidden_states[layer]
    got = encoder.embed([*PROMPTS, ""])
    torch.testing.assert_close(got.states, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(got.pooled, answer.pooler_output if without else answer.text_embeds, atol=1e-5, rtol=0)
    assert got.mask.all() and encoder.identity.endswith(" padded")
    called = encoder([*PROMPTS, ""])
    assert called.mask[:3].all() and not called.mask[3].any() and not called.states[3].any()
    assert not called.pooled[3].any()


def test_a_told_width_needs_no_model_and_must_agree(clip_folder):
    assert CLIP("nowhere/nothing", width=768).width == 768
    with pytest.raises(UserError, match=r"width is 768, but .* has 16; leave width out"):
        CLIP(str(clip_folder), length=8, width=768)(["a cat"])
    with pytest.raises(ValueError, match="width is 0; give the model's hidden_size"):
        CLIP("nowhere/nothing", width=0)
