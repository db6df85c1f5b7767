"""T5 on tiny random weights: transformers' own numbers, padding that does not leak, nothing that trains it."""

import json
import shutil

import pytest
import torch
from muse_text.t5 import T5
from torch import nn
from warned import warned

from muse_studio.errors import UserError
from muse_studio.runtime import memory

PROMPTS = ["a red apple", "the cat to the left of a blue car", "two"]


@pytest.mark.parametrize("form", ["t5_folder", "t5_encoder_folder"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_equals_transformers_on_one_unpadded_prompt(form, prompt, request):
    from transformers import AutoTokenizer, T5EncoderModel

    folder = request.getfixturevalue(form)
    reference = T5EncoderModel.from_pretrained(folder).eval()
    ids = AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = reference(input_ids=ids).last_hidden_state[0]
    got = T5(str(folder), length=12, dtype="float32")([prompt])
    assert got.states.shape == (1, 12, 24) and got.pooled is None
    assert got.mask.sum() == len(expected) == len(prompt.split()) + 1  # </s> counts
    torch.testing.assert_close(got.states[0, : len(expected)], expected, atol=1e-5, rtol=0)
    assert not got.states[0, len(expected) :].any()


def test_padding_does_not_leak(t5_folder):
    encoder = T5(str(t5_folder), length=16, dtype="float32")
    together = encoder([*PROMPTS, ""])
    for i, prompt in enumerate(PROMPTS):
        alone = encoder([prompt])
        torch.testing.assert_close(together.states[i], alone.states[0], atol=1e-5, rtol=0)
        assert torch.equal(together.mask[i], alone.mask[0])
    assert not together.mask[3].any() and not together.states[3].any()


def test_bfloat16_weights_give_float32_states(t5_folder):
    encoder = T5(str(t5_folder), length=8)
    got = encoder(["a red apple"])
    assert encoder.module.dtype == torch.bfloat16 and got.states.dtype == torch.float32
    exact = T5(str(t5_folder), length=8, dtype="float32")(["a red apple"])
    torch.testing.assert_close(got.states, exact.states, atol=0.1, rtol=0.1)


def test_width_needs_the_config_alone(t5_folder, tmp_path):
    shutil.copy(t5_folder / "config.json", tmp_path)
    encoder = T5(str(tmp_path))
    assert encoder.width == 24 and encoder._module is None


def test_a_width_that_is_told_needs_no_model_until_the_weights_load(t5_folder):
    assert T5("no-such/model", width=4096).width == 4096
    told = T5(str(t5_folder), length=8, width=24)
    assert told.width == 24 and told(["two"]).states.shape == (1, 8, 24)
    with pytest.raises(UserError, match=r"width is 32, but .* has 24; leave width out"):
        T5(str(t5_folder), width=32)(["two"])


def test_nothing_trains_it(t5_folder):
    encoder = T5(str(t5_folder), length=8, dtype="float32")

    class Enclosing(nn.Module):
        def __init__(self):
            super().__init__()
            self.text, self.head = encoder, nn.Linear(24, 1)

    model = Enclosing().train()
    model.head(encoder(PROMPTS[:1]).states).sum().backward()
    assert [name for name, _ in model.named_parameters()] == ["head.weight", "head.bias"]
    assert not any(module.training for module in encoder.module.modules())
    assert not any(parameter.requires_grad for parameter in encoder.module.parameters())


def test_a_long_prompt_is_cut_before_its_closing_token(t5_folder):
    encoder = T5(str(t5_folder), length=4, dtype="float32")
    with warned("is 2 tokens longer than the text length 4"):
        cut = encoder(["a red apple the cat"])
    torch.testing.assert_close(cut.states, encoder(["a red apple"]).states, atol=1e-6, rtol=0)


def test_loading_leaves_the_random_numbers_alone_and_works_in_inference_mode(t5_folder):
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    encoder = T5(str(t5_folder), length=8, dtype="float32")
    with torch.inference_mode():
        encoder(["a cat"])
    assert torch.equal(torch.rand(2), expected)
    assert not any(parameter.is_inference() for parameter in encoder.module.parameters())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"length": 1}, "length is 1"),
        ({"dtype": "float16"}, "dtype is 'float16'; give 'float32' or 'bfloat16'"),
        ({"model": " "}, "model is empty; give a local folder or a hub name"),
        ({"width": 0}, "width is 0; give the model's d_model, or leave it out"),
    ],
)
def test_settings_that_can_not_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        T5(**{"model": "google/flan-t5-xxl", **wrong})


def test_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match="is a 'bert'; text encoder 't5' takes a t5, mt5 or umt5"):
        _ = T5(str(tmp_path)).width


@pytest.mark.parametrize("text", ["{", "{}", '{"model_type": "no-such-model"}'])
def test_a_config_that_can_not_be_read(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"transformers can't read the config\.json of"):
        _ = T5(str(tmp_path)).width


def test_missing_tensors_are_not_filled_with_random_numbers(t5_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(t5_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "encoder.block.1" in name and "SelfAttention.k" in name)
    del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=f"lack 1 of the encoder's tensors, first {name}"):
        T5(str(folder))(["a cat"])


DAMAGE = {"half": lambda whole: whole[: len(whole) // 2], "empty": lambda whole: b"", "noise": lambda whole: b"no" * 99}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_weights_name_the_model(t5_folder, tmp_path, damage):
    folder = shutil.copytree(t5_folder, tmp_path / "model")
    file = folder / "model.safetensors"
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with pytest.raises(UserError, match=r"the weights of .*model can't be loaded"):
        T5(str(folder))(["a cat"])


@pytest.mark.parametrize("text", ["{}", "{"])
def test_a_damaged_tokenizer_names_the_model(t5_folder, tmp_path, text):
    folder = shutil.copytree(t5_folder, tmp_path / "model")
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=r"transformers can't build the tokenizer of .*model"):
        T5(str(folder))(["a cat"])


def test_weights_that_do_not_fit_the_memory_are_not_loaded(t5_folder, monkeypatch):
    from transformers import T5EncoderModel

    encoder = T5(str(t5_folder), length=8, dtype="float32")
    need = sum(weight.numel() for weight in T5EncoderModel.from_pretrained(t5_folder).parameters()) * 4
    monkeypatch.setattr(memory, "free", lambda device=None: need - 1)
    with pytest.raises(UserError, match=r"not enough memory: the weights of .* choose a smaller text encoder"):
        encoder(["two"])
    monkeypatch.setattr(memory, "free", lambda device=None: need)
    assert encoder(["two"]).states.any()
