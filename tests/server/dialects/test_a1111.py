"""A1111's small part: what its scripts send is drawn, and they are told how far it is."""

from __future__ import annotations

import base64
import io
import json
import threading
from typing import Any

import httpx
import numpy as np
import pytest
from fake_desk import FakeDesk
from PIL import Image
from serving import until
from spoken import NAME, mask, png

from muse_studio.errors import Refused

SCRIPT = {"prompt": "a red apple", "negative_prompt": "brown", "seed": -1, "steps": 20, "cfg_scale": 7}


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_text_to_image(http: httpx.Client, desk: FakeDesk) -> None:
    more = {"width": 512, "height": 256, "batch_size": 2, "n_iter": 2, "sampler_name": "Euler a", "save_images": True}
    answer = http.post("/sdapi/v1/txt2img", json=SCRIPT | more).json()
    asked = desk.drawing
    assert (asked.prompt, asked.negative, asked.seed, asked.count) == ("a red apple", "brown", None, 4)
    assert asked.settings == {"base": {"sampler": {"steps": 20}, "guidance": {"scale": 7}}}
    assert asked.size == (512, 256) and asked.steps
    info = json.loads(answer["info"])
    assert info["all_seeds"] == [100, 101, 102, 103] and info["seed"] == 100 and len(info["infotexts"]) == 4
    image = opened(answer["images"][1])
    assert image.size == (512, 256) and "Seed: 101" in image.info["parameters"] and "muse_recipe" in image.info
    assert answer["parameters"]["steps"] == 20


def test_a_sampler_of_ours_is_taken_and_nothing_said_is_the_recipe_s(http: httpx.Client, desk: FakeDesk) -> None:
    http.post("/sdapi/v1/txt2img", json={"prompt": "a fox", "sampler_name": "halton"})
    assert desk.drawing.settings == {"base": {"sampler": {"use": "halton"}}}
    http.post("/sdapi/v1/txt2img", json={"prompt": "a fox", "width": 256})
    assert desk.drawing.settings is None and desk.drawing.size == (256, 256)


def test_pictures_may_be_left_out(http: httpx.Client) -> None:
    answer = http.post("/sdapi/v1/txt2img", json=SCRIPT | {"send_images": False}).json()
    assert answer["images"] == [] and json.loads(answer["info"])["all_seeds"] == [100]


@pytest.mark.parametrize("head", ["", "data:image/png;base64,"])
def test_image_to_image(http: httpx.Client, desk: FakeDesk, head: str) -> None:
    body = SCRIPT | {"init_images": [head + in_base64(png(64, 32, "red"))], "denoising_strength": 0.4, "seed": 5}
    answer = http.post("/sdapi/v1/img2img", json=body).json()
    asked = desk.drawing
    assert asked.picture is not None and asked.picture.size == (64, 32) and asked.region is None
    assert asked.editor == {"use": "variations", "strength": 0.4} and asked.seed == 5
    assert "init_images" not in answer["parameters"]


@pytest.mark.parametrize("invert", [0, 1])
def test_a_mask_s_white_is_drawn(http: httpx.Client, desk: FakeDesk, invert: int) -> None:
    values = np.zeros((64, 64), np.uint8)
    values[:32] = 255
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    body = {"init_images": [in_base64(png())], "mask": in_base64(file.getvalue()), "inpainting_mask_invert": invert}
    http.post("/sdapi/v1/img2img", json=body)
    region = desk.drawing.region
    assert region is not None and region.shape == (128, 128)
    assert region[:64].all() == (not invert) and region[64:].any() == bool(invert)


def test_a_mask_s_transparency_is_white(http: httpx.Client, desk: FakeDesk) -> None:
    http.post("/sdapi/v1/img2img", json={"init_images": [in_base64(png())], "mask": in_base64(mask())})
    assert desk.drawing.region is not None and desk.drawing.region.all()


def test_progress_and_interrupt(http: httpx.Client, desk: FakeDesk) -> None:
    assert http.get("/sdapi/v1/progress").json()["progress"] == 0
    desk.waiting = True
    answers: list[Any] = []
    body = SCRIPT | {"n_iter": 2}
    drawing = threading.Thread(target=lambda: answers.append(http.post("/sdapi/v1/txt2img", json=body).json()))
    drawing.start()
    told = until(lambda: (found := http.get("/sdapi/v1/progress").json())["current_image"] and found)
    assert told["progress"] == pytest.approx(0.125) and told["eta_relative"] > 0
    assert told["state"]["job_count"] == 2 and (told["state"]["sampling_step"], told["state"]["sampling_steps"]) == (
        8,
        16,
    )
    assert opened(told["current_image"]).size == (128, 128)
    assert http.get("/sdapi/v1/progress?skip_current_image=true").json()["current_image"] is None
    assert http.post("/sdapi/v1/interrupt").json() == {}
    drawing.join(10)
    assert answers[0]["images"] == [] and desk.cancelled == 1
    assert http.get("/sdapi/v1/progress").json()["state"]["job_count"] == 0


def test_a_client_that_leaves_cancels(http: httpx.Client, desk: FakeDesk) -> None:
    desk.waiting = True
    with pytest.raises(httpx.ReadTimeout):
        http.post("/sdapi/v1/txt2img", json=SCRIPT, timeout=0.3)
    until(lambda: desk.cancelled == 1)


def test_the_model_is_told_without_its_place(http: httpx.Client) -> None:
    (model,) = http.get("/sdapi/v1/sd-models").json()
    assert (model["title"], model["model_name"], model["filename"]) == (NAME, NAME, "")
    options = http.get("/sdapi/v1/options").json()
    assert options["sd_model_checkpoint"] == NAME
    assert http.post("/sdapi/v1/options", json=options).status_code == 200
    assert http.post("/sdapi/v1/options", json={"sd_model_checkpoint": "v1-5-pruned"}).status_code == 400
    assert http.post("/sdapi/v1/txt2img", json={"override_settings": {"sd_model_checkpoint": "x"}}).status_code == 400
    assert [each["name"] for each in http.get("/sdapi/v1/samplers").json()] == ["halton"]


def test_a_filter_is_told(http: httpx.Client, desk: FakeDesk) -> None:
    desk.failing = Refused("word-filter refuses this prompt")
    told = http.post("/sdapi/v1/txt2img", json=SCRIPT)
    assert told.status_code == 400 and "word-filter" in told.json()["error"]["message"]
