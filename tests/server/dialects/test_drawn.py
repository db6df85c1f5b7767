"""What the embedded model draws for programs: the very pictures of `Model.draw`, and edits that keep the rest."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from muse_server.desk import Desk
from muse_server.gallery import Gallery
from muse_server.web.app import Served, make_app
from muse_server.web.connection import configured
from PIL import Image
from serving import serving, until
from spoken import mask

from muse_studio import load
from muse_studio.sampling.model import Model

if TYPE_CHECKING:
    from openai import OpenAI

pytestmark = pytest.mark.slow  # a real browser, or the embedded model: minutes of a default run

NAME = "models/emoji"
PROMPT = "a red apple, noto style"


@pytest.fixture(scope="module")
def model() -> Model:
    return load(NAME, device="cpu")


@pytest.fixture(scope="module")
def desk(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("studio")
    return Desk(model, Gallery(folder), folder)


@pytest.fixture(scope="module")
def client(desk: Desk, openai: ModuleType) -> Iterator[OpenAI]:
    def config(port: int) -> Any:
        return configured(make_app(desk, Served(NAME, "127.0.0.1", port)))

    with (
        serving(config) as port,
        openai.OpenAI(api_key="none", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0) as opened,
    ):
        yield opened


def opened(answer: Any, index: int = 0) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(answer.data[index].b64_json)))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def test_seed_for_seed_the_picture_is_the_model_s(client: OpenAI, model: Model) -> None:
    answer = client.images.generate(prompt=PROMPT, n=2, extra_body={"seed": 7})
    for index in range(2):
        assert (pixels(opened(answer, index)) == pixels(model.draw(PROMPT, seed=7 + index).image)).all()
    assert answer.usage is not None and answer.usage.output_tokens == 2 * (8 * 8 + 16 * 16)


def test_settings_are_the_model_s_too(client: OpenAI, model: Model) -> None:
    stage = {"sampler": {"use": "halton", "steps": 12}, "guidance": {"scale": 2.0}}
    answer = client.images.generate(prompt=PROMPT, extra_body={"seed": 7, "settings": {"base": stage}})
    assert (pixels(opened(answer)) == pixels(model.using(base=stage).draw(PROMPT, seed=7).image)).all()


def test_a_wrong_setting_is_named(client: OpenAI, openai: ModuleType) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.images.generate(prompt=PROMPT, extra_body={"settings": {"base": {"sampler": {"steps": 0}}}})
    assert error.value.param == "settings.base.sampler.steps"


def test_a_long_size_is_drawn_long(client: OpenAI) -> None:
    answer = client.images.generate(prompt=PROMPT, size="256x128", extra_body={"seed": 1})
    assert opened(answer).size == (256, 128) and answer.size == "256x128"
    assert answer.usage is not None and answer.usage.output_tokens == 2 * (8 * 8 + 16 * 16)


def test_an_edit_keeps_what_the_mask_does_not_choose(client: OpenAI, model: Model) -> None:
    file = io.BytesIO()
    model.draw(PROMPT, seed=7).image.save(file, "PNG")
    answer = client.images.edit(image=file.getvalue(), mask=mask(), prompt="a pear", extra_body={"seed": 2})
    changed = (pixels(opened(answer)) != pixels(Image.open(file))).any(-1)
    assert changed[:64, :64].mean() > 0.1 and not changed[80:].any() and not changed[:, 80:].any()


def test_partial_pictures_come_on_the_way(client: OpenAI) -> None:
    with client.images.generate(prompt=PROMPT, stream=True, partial_images=3, extra_body={"seed": 7}) as stream:
        events = list(stream)
    assert [each.type.rpartition(".")[2] for each in events] == [*["partial_image"] * 3, "completed"]
    assert len({each.b64_json for each in events}) == 4


def test_a_client_that_leaves_frees_the_model(client: OpenAI, openai: ModuleType, desk: Desk) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.2).images.generate(prompt=PROMPT, n=10)
    until(lambda: desk.engine.queue()["now"] is None and not desk.engine.queue()["waiting"])
    assert desk.engine.queue()["now"] is None
