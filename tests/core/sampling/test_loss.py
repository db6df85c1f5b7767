"""Stage.loss is what training pays, and is differentiable in the transformer's weights alone."""

from __future__ import annotations

import pytest
import torch
from muse_training.optimizers import AdamW
from muse_training.train import Train

import muse_studio as ms
from muse_studio.testing import FakeTextEncoder, TinyModel, tiny_stage
from muse_studio.training.loop import Fit

TEXTS = ["a fox", "a cat", "", "a fox"]


@pytest.fixture
def model():
    tiny = TinyModel({"base": tiny_stage(16, 0), "superres": tiny_stage(32, 1)}, FakeTextEncoder())
    return ms.Model(tiny.stages, tiny.text_encoder)


@pytest.fixture
def images():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Same:
    """One record, again and again."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        image = torch.arange(3 * 16 * 16, dtype=torch.int64).view(3, 16, 16) * 7 % 256
        return {"image": image.byte(), "caption": "a fox"}


def test_it_is_what_the_task_pays_for_the_same_batch_and_masks(tmp_path):
    fit = Fit(str(tmp_path / "run"), steps=1, batch=4, log_every=1, device="cpu")
    record = Same()[0]
    bound = ms.Model({"base": tiny_stage()}, FakeTextEncoder()).stages["base"]
    images = (record["image"].float() / 255).repeat(4, 1, 1, 1)
    ours = bound.loss(images, [record["caption"]] * 4, generator=fit.generator(0, "mask"))
    task = Train({"base": tiny_stage()}, FakeTextEncoder(), Same(), fit, AdamW(1e-3), text_dropout=0.0)
    assert task().rows[0]["loss"] == ours.item()


def test_the_seed_decides_what_is_hidden_and_nothing_else_does(model, images):
    base = model.stages["base"]
    first, again, other = (base.loss(images, TEXTS, seed=seed).item() for seed in (0, 0, 1))
    assert first == again != other
    assert base.loss(images, TEXTS, generator=torch.Generator().manual_seed(0)).item() == first
    assert base.loss(images, base._text_encoder(TEXTS), seed=0).item() == first
    assert base.loss(images, TEXTS, seed=0, smoothing=0.1).item() != first


def test_gradients_reach_the_transformer_and_nothing_else(model, images):
    base = model.stages["base"]
    base.loss(images, TEXTS, seed=0).backward()
    moved = [name for name, each in base.transformer.named_parameters() if each.grad is not None and each.grad.any()]
    assert moved, "the loss depends on no weight"
    images.requires_grad_()
    base.loss(images, TEXTS, seed=0).backward()
    assert images.grad is None


def test_a_loop_of_ones_own_brings_the_loss_down(model, images):
    base = model.stages["base"]
    optimizer = torch.optim.AdamW(base.transformer.parameters(), lr=1e-2)
    losses = []
    for step in range(40):
        loss = base.loss(images, TEXTS, seed=step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_a_picture_of_another_size_is_scaled_as_training_scales_it(model, images):
    large = model.stages["superres"]
    pixels = (torch.rand(4, 3, 64, 64) * 255).round() / 255
    small = large.resize((pixels * 255).round().byte()).float() / 255
    assert torch.equal(large.loss(pixels, TEXTS, seed=0), large.loss(small, TEXTS, seed=0))


def test_dropped_texts_say_nothing(model, images):
    base = model.stages["base"]
    assert base.loss(images, TEXTS, seed=0, text_dropout=1.0).item() == base.loss(images, [""] * 4, seed=0).item()


@pytest.mark.slow
def test_the_second_stage_refines_the_first_one_s_tokens():
    model = ms.load("models/emoji", device="cpu")
    superres, base = model.stages["superres"], model.stages["base"]
    images = ms.to_tensor(model.draw("a fox, noto style").image)
    right = superres.loss(images, ["a fox, noto style"], seed=0)
    assert torch.equal(right, superres.loss(images, ["a fox, noto style"], seed=0, low=base.encode(images)))
    wrong = superres.loss(images, ["a fox, noto style"], seed=0, low=torch.zeros(1, 8, 8, dtype=torch.int64))
    assert right < wrong
