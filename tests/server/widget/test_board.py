"""The board of a notebook, by its messages: it draws in a thread, is cancelled, and leaves the canvas whole."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import muse_server
import numpy as np
import pytest
from serving import until

from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.testing import FakeTextEncoder, tiny_stage

PAGE = Path(muse_server.__file__).parent / "page"


def pixels(canvas: Canvas) -> Any:
    return np.asarray(canvas.image)


def test_it_is_the_page_s_own_board(notebook: Any) -> None:
    assert (PAGE / "board.js").read_text(encoding="utf-8") in notebook.board._esm
    assert "\nimport " not in notebook.board._esm and "export default { render }" in notebook.board._esm
    assert notebook.board.height == 300 and notebook.board.canvas is notebook.canvas


def test_a_view_is_told_the_state(notebook: Any) -> None:
    notebook.receive({"shown": True})
    state = notebook.last("state")
    assert state["size"] == [32, 32] and list(state["grids"]) == ["base", "superres"] and state["job"] is None
    assert state["grids"]["base"]["grid"] == [4, 4] and state["image"].startswith("data:image/png;base64,")


def test_it_draws_what_the_canvas_draws(notebook: Any) -> None:
    notebook.act("generate", prompt="a fox", seed=3)
    done = until(lambda: notebook.last("done"))
    steps = [data for name, data in notebook.sent if name == "step"]
    assert [each["stage"] for each in steps] == ["base"] * 4 + ["superres"] * (len(steps) - 4)
    assert steps[3]["image"] is not None and done["state"]["place"] == 1
    other = Canvas({"base": tiny_stage(16, 0), "superres": tiny_stage(32, 1)}, FakeTextEncoder(), seed=1, device="cpu")
    other.model.stages["base"].sampler = notebook.sampler
    assert (pixels(notebook.canvas) == pixels(other.generate("a fox", seed=3))).all()
    assert notebook.canvas.history[-1]["do"] == "generate" and not notebook.board.busy


def test_all_else_is_done_too(notebook: Any) -> None:
    bits = {"cells": {"stage": "base", "bits": "gAA="}}
    for number, (do, given) in enumerate(
        [("generate", {"prompt": "a fox"}), ("freeze", {"region": bits}), ("erase", {}), ("fill", {}), ("undo", {})]
    ):
        notebook.sent.clear()
        notebook.act(do, **given)
        done = until(lambda: notebook.last("done"))
        assert done["state"]["place"] == (number + 1 if do != "undo" else number - 1)
    assert [did["do"] for did in notebook.canvas.history] == ["generate", "freeze", "erase"]
    assert done["state"]["redo"] == 1


def test_it_draws_in_a_thread_and_is_cancelled(notebook: Any) -> None:
    notebook.canvas.generate("a fox")
    before, history = pixels(notebook.canvas), notebook.canvas.history
    notebook.sampler.waiting = True
    notebook.act("generate", prompt="a cat")
    assert notebook.sampler.at.acquire(timeout=20) and notebook.board.busy  # the message's handler is done meanwhile
    notebook.act("undo")
    assert "wait for it" in notebook.last("refused")["message"]
    notebook.receive({"cancel": True})
    notebook.sampler.gate.release()
    until(lambda: "cancelled" in notebook.names())
    assert len(notebook.names()) - notebook.names().index("cancelled") == 1 and "done" not in notebook.names()
    assert (pixels(notebook.canvas) == before).all() and notebook.canvas.history == history
    assert not notebook.board.busy and not notebook.board.cancel()
    notebook.sampler.waiting = False
    notebook.act("generate", prompt="a cat")
    until(lambda: notebook.last("done"))


def test_a_cell_s_own_change_is_kept(notebook: Any) -> None:
    notebook.sampler.waiting = True
    notebook.act("generate", prompt="a cat")
    assert notebook.sampler.at.acquire(timeout=20)
    notebook.canvas.freeze("0,0,8,8")
    notebook.sampler.gate.release(100)
    assert "changed by the notebook" in until(lambda: notebook.last("failed"))["message"]
    assert [did["do"] for did in notebook.canvas.history] == ["freeze"]
    notebook.board.refresh()
    assert notebook.last("state")["place"] == 1


@pytest.mark.parametrize(
    "action",
    [
        None,
        {},
        {"do": "run"},
        {"do": "generate"},
        {"do": "erase", "region": "/etc/hostname"},
        {"do": "place", "picture": "/etc/passwd"},
        {"do": "generate", "prompt": "x", "count": 4},
        {"do": "generate", "prompt": "x", "settings": {"base": {"sampler": {"use": "/tmp/x.py"}}}},
    ],
)
def test_what_is_no_action_is_refused(notebook: Any, action: Any) -> None:
    notebook.receive({"act": action})
    told = until(lambda: notebook.last("refused"))
    assert told["message"] and "done" not in notebook.names() and notebook.canvas.history == []


def test_settings_that_can_t_be_are_told(notebook: Any) -> None:
    notebook.act("generate", prompt="x", settings={"middle": {"sampler": {"use": "halton"}}})
    assert "middle" in until(lambda: notebook.last("failed"))["message"]


def test_closed_it_ends_its_thread(notebook: Any) -> None:
    before = threading.active_count()
    notebook.board.close()
    assert threading.active_count() == before - 1
    notebook.act("undo")
    assert notebook.last("refused")["message"]


def test_without_the_extra_it_says_what_installs_it() -> None:
    code = "import sys; sys.modules['anywidget'] = None; import muse_server; muse_server.Board"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "pip install 'muse-studio[widget]'" in done.stderr.splitlines()[-1]
    assert "UserError" in done.stderr.splitlines()[-1]


def test_the_server_s_package_needs_no_notebook() -> None:
    code = "import muse_server.plugin, sys; assert sys.modules.keys().isdisjoint({'anywidget', 'starlette', 'torch'})"
    subprocess.run([sys.executable, "-c", code], check=True)
