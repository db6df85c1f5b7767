"""What a run writes for Weights & Biases without any network, read back from its file of records."""

import json
import struct
import sys
import time

import pytest
import torch
from muse_observers.weights_and_biases import WeightsAndBiases
from PIL import Image

from muse_studio.contracts import RunContext
from muse_studio.errors import UserError

BLOCK = 32768


class Task:
    """A training's task, as far as an observer looks at it."""

    out = "out"


CONTEXT = RunContext({"use": "train", "fit": {"steps": 2}})


class Drawn:
    """A result with pictures and scores."""

    images = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]  # noqa: RUF012
    prompts = ["a red thing", "a blue thing"]  # noqa: RUF012

    def scores(self):
        return {"psnr": 20.5}


@pytest.fixture(autouse=True)
def offline(here, monkeypatch):
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(here / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(here / "config"))


def records(folder):
    """All records of a finished run's file, the last of which its writer may be a moment late with."""
    (path,) = folder.glob("out/wandb/offline-run-*/*.wandb")
    until = time.monotonic() + 20
    found = parse(path.read_bytes())
    while not any(each.HasField("exit") for each in found) and time.monotonic() < until:
        time.sleep(0.05)
        found = parse(path.read_bytes())
    return found


def parse(data):
    """Records, which are protocol buffers, in LevelDB's format of a log."""
    from wandb.proto.wandb_internal_pb2 import Record

    place, whole = 7, b""
    found = []
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # full, last
            found.append(Record.FromString(whole))
            whole = b""
    return found


def items(entries):
    return {each.key or ".".join(each.nested_key): json.loads(each.value_json) for each in entries}


@pytest.mark.slow
def test_a_training_s_numbers_and_samples_are_written_offline(here):
    observer = WeightsAndBiases(project="mine", name="first", tags=["small"])
    observer.muse_started(Task(), CONTEXT)
    observer.muse_step(1, None, {"loss": 8.5, "seconds": 0.25})
    observer.muse_step(2, None, {"loss": 7.5, "seconds": 0.25})
    observer.muse_step(2, torch.zeros(3, 4, 4, dtype=torch.uint8), None)
    observer.muse_finished(object())
    written = records(here)
    (run,) = [each.run for each in written if each.HasField("run")]
    assert (run.project, run.display_name, list(run.tags)) == ("mine", "first", ["small"])
    config = {each.key: json.loads(each.value_json) for each in run.config.update}
    assert (config["use"], config["fit"]) == ("train", {"steps": 2})
    rows = [items(each.history.item) for each in written if each.HasField("history")]
    assert [(row["_step"], row["loss"], row["seconds"]) for row in rows] == [(1, 8.5, 0.25), (2, 7.5, 0.25)]
    assert (rows[1]["samples._type"], rows[1]["samples.width"]) == ("image-file", 4)
    assert [each.exit.exit_code for each in written if each.HasField("exit")] == [0]


def test_pictures_and_scores_are_written_and_a_run_within_it_is_left_out(here):
    observer = WeightsAndBiases(mode="offline")
    observer.muse_started(Task(), CONTEXT)
    observer.muse_started(Task(), CONTEXT)
    observer.muse_step(1, None, {"loss": 8.5})
    observer.muse_finished(Drawn())
    observer.muse_finished(Drawn())
    written = records(here)
    rows = [items(each.history.item) for each in written if each.HasField("history")]
    assert [row["pictures.captions"] for row in rows] == [["a red thing", "a blue thing"]]
    assert "loss" not in rows[0]
    summaries = [items(each.summary.update) for each in written if each.HasField("summary")]
    assert {"psnr": 20.5}.items() <= {key: value for each in summaries for key, value in each.items()}.items()


def test_a_run_that_failed_is_closed_as_such(here):
    observer = WeightsAndBiases()
    observer.muse_started(Task(), CONTEXT)
    observer.muse_failed()
    assert [each.exit.exit_code for each in records(here) if each.HasField("exit")] == [1]


def test_without_the_package_the_cure_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        UserError, match=r"the observer wandb needs the package wandb .*: pip install 'muse-studio\[wan"
    ):
        WeightsAndBiases().muse_started(Task(), CONTEXT)


def test_what_the_service_refuses_is_told_in_one_line(monkeypatch):
    import wandb

    def refuse(**settings):
        raise wandb.errors.UsageError("api_key not configured (no-tty).")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match=r"the observer wandb: api_key not configured .*; log in by `wandb login`, or"):
        WeightsAndBiases().muse_started(Task(), CONTEXT)
