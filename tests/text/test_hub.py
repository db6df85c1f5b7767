"""Where a model's files come from: a folder, the cache, the hub last, and words that help where none has them."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
from muse_text.t5 import T5

from muse_studio.errors import UserError
from muse_studio.runtime import hub

CURE = r"give as model a local folder with config\.json, model\.safetensors and tokenizer\.json, or point HF_HOME"


def test_a_local_folder_is_used_without_any_network(t5_folder, no_network):
    assert T5(str(t5_folder), length=8)(["a cat"]).mask.sum() == 3


@pytest.mark.parametrize("model", ["/no/such/folder", "./t5", "~/no-such-folder-here", "a/b/c"])
def test_a_missing_folder_is_named_with_the_cure(model, no_network):
    with pytest.raises(UserError, match=f"there is no folder {model}; {CURE}"):
        T5(model)(["a cat"])


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("config.json", "has no config.json; give the folder that holds it"),
        ("model.safetensors", "has no model.safetensors; only safetensors are read"),
        ("tokenizer.json", "has no tokenizer.json; save the model's tokenizer beside its weights"),
    ],
)
def test_what_a_folder_lacks_is_said(t5_folder, tmp_path, lost, message):
    folder = shutil.copytree(t5_folder, tmp_path / "model")
    (folder / lost).unlink()
    with pytest.raises(UserError, match=message):
        T5(str(folder))(["a cat"])


def test_a_lost_shard_is_named(t5_encoder_folder, tmp_path):
    folder = shutil.copytree(t5_encoder_folder, tmp_path / "model")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(UserError, match=f"has no {shard.name}"):
        T5(str(folder))(["a cat"])


@pytest.mark.parametrize("shard", ["../outside", "/etc/passwd", "..", "a\\b", "nul"])
def test_an_index_that_lists_a_file_elsewhere_is_refused(t5_encoder_folder, tmp_path, shard):
    folder = shutil.copytree(t5_encoder_folder, tmp_path / "folder")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(UserError, match=r"has a model\.safetensors\.index\.json with a file's name that "):
        hub.folder_of(str(folder), offline=True)


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": ["a"]}'])
def test_an_index_that_says_nothing_is_told(t5_encoder_folder, tmp_path, index):
    folder = tmp_path / "t5"
    shutil.copytree(t5_encoder_folder, folder)
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UserError, match=r"has a model\.safetensors\.index\.json that does not say which files hold"):
        T5(str(folder))(["a cat"])


def hub_that(monkeypatch, cache, remote):
    """A stand-in for the hub's client: what each answers, a folder or an error; it writes down who was asked."""
    asked = []

    def answer(who):
        asked.append(who)
        found = cache if who == "cache" else remote
        if isinstance(found, Exception):
            raise found
        return found

    def snapshot_download(model, *, allow_patterns, local_files_only=False):
        return str(answer("cache" if local_files_only else "hub"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr(hub, "knock", lambda model: None)
    return asked


def test_what_the_cache_has_is_not_asked_of_the_hub(t5_folder, monkeypatch):
    asked = hub_that(monkeypatch, cache=t5_folder, remote=AssertionError("the hub was asked"))
    assert hub.folder_of("someone/t5", offline=False) == t5_folder
    assert hub.folder_of("someone/t5", offline=True) == t5_folder
    assert asked == ["cache", "cache"]


def test_a_cache_with_half_of_it_asks_the_hub(t5_folder, tmp_path, monkeypatch):
    shutil.copy(t5_folder / "config.json", tmp_path)
    asked = hub_that(monkeypatch, cache=tmp_path, remote=t5_folder)
    assert hub.folder_of("someone/t5", offline=False, files=hub.CONFIG) == tmp_path
    assert asked == ["cache"]
    assert hub.folder_of("someone/t5", offline=False) == t5_folder
    assert asked == ["cache", "cache", "hub"]


def test_the_width_asks_for_the_config_alone(t5_folder, monkeypatch):
    def snapshot_download(model, *, allow_patterns, local_files_only=False):
        assert allow_patterns == ["config.json"]
        return str(t5_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert T5("someone/t5").width == 24


@pytest.mark.parametrize("half", [True, False])
def test_offline_never_asks_the_hub(half, tmp_path, monkeypatch):
    asked = hub_that(monkeypatch, tmp_path if half else FileNotFoundError("not there"), AssertionError("asked"))
    reason = "the cache has only a part of it, and offline is true" if half else "not there"
    with pytest.raises(UserError, match=f"'someone/t5' is neither a folder here nor .*: {reason}; {CURE}"):
        T5("someone/t5", offline=True)(["a cat"])
    assert asked == ["cache"]


def test_what_the_hub_says_is_passed_on(monkeypatch):
    asked = hub_that(monkeypatch, cache=FileNotFoundError("x"), remote=RuntimeError("401: gated\nmore lines"))
    with pytest.raises(UserError, match=f"nor to be had from the hub: 401: gated; {CURE}"):
        hub.folder_of("someone/t5", offline=False)
    assert asked == ["cache", "hub"]


def test_a_hub_model_of_pickles_is_refused(t5_folder, tmp_path, monkeypatch):
    shutil.copy(t5_folder / "config.json", tmp_path)
    hub_that(monkeypatch, cache=FileNotFoundError("x"), remote=tmp_path)
    with pytest.raises(UserError, match=r"the hub's someone/t5 has no model\.safetensors; only safetensors are read"):
        hub.folder_of("someone/t5", offline=False)


@pytest.mark.parametrize("model", ["no spaces allowed", "what:ever", "x" * 200])
def test_a_name_that_no_hub_could_have(model):
    with pytest.raises(UserError, match="is neither a folder here nor to be had from the hub"):
        hub.folder_of(model, offline=False)


def in_a_fresh_process(endpoint, home):
    """Ask for a model of the hub at `endpoint`, with an empty cache: what is printed, and the seconds it took."""
    script = """
from muse_studio.runtime import hub
from muse_studio.errors import UserError
from muse_text.t5 import T5
try:
    T5("someone/t5").width
except UserError as error:
    print(error)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home)}
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120)
    return done.stdout + done.stderr, time.monotonic() - began


@pytest.mark.slow
def test_a_hub_that_refuses_is_no_traceback(tmp_path):
    message, _ = in_a_fresh_process("http://127.0.0.1:9", tmp_path)
    assert "the model 'someone/t5' is neither a folder here nor to be had from the hub: no answer from http" in message
    assert "Traceback" not in message


def test_a_hub_that_never_answers_is_given_up():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
            patch.setattr("huggingface_hub.hf_hub_url", lambda *_: f"http://127.0.0.1:{silent.getsockname()[1]}/model")
            with pytest.raises(ConnectionError, match=r"no answer from http.*timed out"):
                hub.knock("someone/t5", seconds=0.5)
    assert time.monotonic() - began < 30
