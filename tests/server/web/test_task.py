"""The task `studio` and its command: what is refused before a model is loaded, and how a server comes and goes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from muse_server import serving
from muse_server.task import NEEDED, Studio, is_loopback
from muse_server.web.offered import Served
from PIL import Image
from processes import environment
from studios import started

import muse_studio
from muse_studio.cli import main
from muse_studio.errors import SettingError, UserError
from muse_studio.recipe.serving import page_of
from muse_studio.testing import TinyModel


def studio(**settings: Any) -> Studio:
    model = TinyModel()
    return Studio(model.stages, model.text_encoder, **settings)


REFUSED = [
    ({"port": -1}, "port", "give one from 1024 to 65535, or 0"),
    ({"port": 65536}, "port", "port is 65536"),
    ({"host": ""}, "host", "give a number or a name"),
    ({"host": "http://x"}, "host", "give a number or a name"),
    ({"host": "0.0.0.0"}, "host", "add token=auto"),
    ({"host": "::"}, "host", "add token=auto"),
    ({"host": "192.168.1.2"}, "host", "whoever reaches this machine"),
    ({"host": "studio.example"}, "host", "add token=auto"),
    ({"token": "short"}, "token", "16 or more"),
    ({"token": "with a blank in the middle"}, "token", "letters, digits"),
    ({"token": ""}, "token", "or auto"),
    ({"hosts": ["http://studio.example"]}, "hosts", "no name of a host"),
    ({"origins": ["studio.example"]}, "origins", "no origin"),
    ({"out": " "}, "out", "name a folder"),
]


@pytest.mark.parametrize(("given", "setting", "told"), REFUSED)
def test_a_setting_that_can_not_be_is_refused_with_its_cure(given: dict[str, Any], setting: str, told: str) -> None:
    with pytest.raises(SettingError, match=told) as refused:
        studio(**given)
    assert refused.value.setting == setting
    assert "short" not in str(refused.value) or setting == "token"
    name, value = next(iter(given.items()))
    (problem,) = muse_studio.check("studio", {name: value})
    assert problem.path == setting and told in problem.message


@pytest.mark.parametrize("given", [{}, {"host": "::1"}, {"host": "localhost"}, {"host": "0.0.0.0", "token": "auto"}])
def test_what_only_this_machine_reaches_or_has_a_token_is_fine(given: dict[str, Any]) -> None:
    assert studio(**given).port == 7860


def test_only_loopback_is_this_machine_alone() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "127.0.0.1.nip.test")))


def test_without_the_extra_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("muse_server.task.find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(UserError, match=r"needs uvicorn.*pip install 'muse-studio\[studio\]'"):
        studio(out=str(tmp_path))()
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_the_parts_and_a_check_need_no_web_server() -> None:
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NEEDED:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from muse_studio.cli import main
for words in (["--help"], ["parts"], ["parts", "task", "studio"], ["check", "studio", "port=0"], ["studio", "--help"]):
    assert main(words) == 0, words
""".replace("NEEDED", repr(NEEDED))
    ran = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "studio" in ran.stdout and "no problem found" in ran.stdout


def test_addresses_are_for_here_and_for_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_address", lambda family: "10.0.0.5")
    assert serving.addresses(Served("m", "127.0.0.1", 80)) == ["http://127.0.0.1:80/"]
    assert serving.addresses(Served("m", "::1", 80)) == ["http://[::1]:80/"]
    assert serving.addresses(Served("m", "0.0.0.0", 80, token="t")) == [
        "http://127.0.0.1:80/#token=t",
        "http://10.0.0.5:80/#token=t",
    ]
    monkeypatch.setattr(serving, "_address", lambda family: None)
    assert serving.addresses(Served("m", "0.0.0.0", 80)) == ["http://127.0.0.1:80/"]


# recipes


@pytest.mark.parametrize("recipe", ["models/amused-256", "generate", "inpaint", "models/emoji.yaml"])
def test_any_recipe_with_a_model_can_be_served(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(recipe).plain()
    own = muse_studio.recipe.merging.load(recipe).plain()
    assert (page["use"], page["name"], page["port"]) == ("studio", recipe.removesuffix(".yaml"), 7860)
    assert page["stages"] == own["stages"] and page["text_encoder"] == own["text_encoder"]
    assert not {"prompt", "count", "picture"} & set(page)


def test_a_recipe_of_ones_own_keeps_its_settings_and_its_place(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: studio\nport: 99999\n")
    (problem,) = muse_studio.check(page_of(str(mine)))
    assert problem.path == "port" and problem.place.endswith("mine.yaml:2")
    mine.write_text("extends: models/emoji\nobservers: [word-filter]\nstages: {base: {sampler: {steps: 0}}}\n")
    page = page_of(str(mine))
    assert page.plain()["name"] == "mine.yaml" and page.plain()["observers"] == ["word-filter"]
    (problem,) = muse_studio.check(page)
    assert problem.path == "stages.base.sampler.steps" and problem.place.endswith("mine.yaml:3")


def test_what_has_no_model_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="models/emoji-tokenizer has no stages to draw with"):
        page_of("models/emoji-tokenizer")
    with pytest.raises(UserError, match="there is no recipe 'nothing'"):
        page_of("nothing")
    assert main(["studio", "generate", "models/emoji"]) == 2
    assert "two recipes" in capfd.readouterr().err


def test_a_picture_of_a_stranger_serves_no_more_than_its_values(tmp_path: Path, emoji: Any) -> None:
    path = emoji.draw("a fox", seed=1).save(tmp_path / "x.png")
    assert page_of(str(path)).plain()["stages"] == emoji.recipe["stages"]


# the whole, in a process of its own


@pytest.mark.slow
def test_it_comes_up_draws_and_ends_by_ctrl_c_with_all_saved(tmp_path: Path) -> None:
    with started(tmp_path / "out") as address:
        said = json.load(urllib.request.urlopen(f"{address}api/model"))
        assert said["recipe_name"] == "models/emoji" and said["token"] is False
        ask = urllib.request.Request(
            f"{address}v1/images/generations",
            data=json.dumps({"prompt": "a red apple", "seed": 3}).encode(),
            headers={"content-type": "application/json"},
        )
        assert json.load(urllib.request.urlopen(ask, timeout=120))["data"]
        session = urllib.request.Request(f"{address}api/sessions", b"{}", {"content-type": "application/json"})
        id = json.load(urllib.request.urlopen(session))["id"]
        action = {"do": "generate", "prompt": "a red apple", "seed": 3}
        acted = urllib.request.Request(
            f"{address}api/sessions/{id}/actions", json.dumps(action).encode(), {"content-type": "application/json"}
        )
        urllib.request.urlopen(acted)
        stream = urllib.request.urlopen(f"{address}api/sessions/{id}/events")  # open until the server ends it
        while b"event: done" not in stream.readline():
            pass
    assert stream.read() is not None
    (picture,) = (tmp_path / "out" / "gallery").glob("*.png")
    with Image.open(picture) as kept:
        told = "".join(kept.text.values())  # type: ignore[attr-defined]
        again = muse_studio.run(picture, out=str(tmp_path / "again.png")).images[0]
        assert again.tobytes() == kept.convert("RGB").tobytes()
    assert "a red apple" in told
    for word in ("7860", "127.0.0.1", str(tmp_path), "\ntoken:", "origins", "use: studio"):
        assert word not in told, word


def test_a_taken_port_is_told_before_the_model_is_served(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is taken, by .*port=\\d+"):
            studio(port=port, out=str(tmp_path))()


def test_a_lost_device_ends_it_with_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost(serving.Desk):
        async def start(self) -> None:
            await super().start()
            self.lost.set()

    monkeypatch.setattr(serving, "Desk", Lost)
    with pytest.raises(UserError, match="the device cpu is gone; all canvases are saved: start again"):
        studio(port=0, out=str(tmp_path))()


def test_what_is_told_at_the_end(tmp_path: Path) -> None:
    said = serving.Ended("x", tmp_path, 1).summary()
    assert said == f"{tmp_path}  one new picture in its gallery; all canvases are saved"
    assert "no new pictures" in serving.Ended("x", tmp_path, 0).summary()
    assert "12 new pictures" in serving.Ended("x", tmp_path, 12).summary()


@pytest.mark.slow
def test_sigterm_ends_it_well_and_a_token_is_printed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "muse_studio", "studio", "port=0", "open=false", "host=0.0.0.0", "token=auto"]
    place = {**environment(), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen([*command, f"out={tmp_path}"], stderr=subprocess.PIPE, text=True, env=place)
    assert server.stderr is not None
    said = ""
    while "Ctrl-C ends it" not in said:
        line = server.stderr.readline()
        assert line, said
        said += line
    address, _, token = said.partition("muse studio: ")[2].splitlines()[0].partition("#token=")
    assert len(token) == 43
    ask = urllib.request.Request(f"{address}api/model", headers={"authorization": f"Bearer {token}"})
    assert json.load(urllib.request.urlopen(ask))["token"] is True
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{address}api/model")
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 143
    rest = server.stderr.read()
    assert "not encrypted" in said + rest and "Traceback" not in rest
