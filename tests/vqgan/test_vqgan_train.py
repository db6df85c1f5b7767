"""Training a tokenizer: it learns, resumes bit for bit, and generator and discriminator keep to their own weights."""

import warnings

import pytest
import torch
from muse_training.optimizers import AdamW, Muon
from muse_vqgan.adversarial import Adversarial
from muse_vqgan.losses import Reconstruction
from muse_vqgan.quantizers.vector import VectorQuantizer
from muse_vqgan.train import TrainTokenizer
from muse_vqgan.vqgan import VQGAN
from runs import check_same_files, rows, same_tensors

from muse_studio.errors import UserError
from muse_studio.images.pixels import psnr
from muse_studio.testing import FakeTokenizer, RecordingObserver
from muse_studio.training.loop import Fit


class Pictures:
    """Blocks of two colours, drawn by the index."""

    def __init__(self, size=16, count=24):
        self.size, self.count = size, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (3, 2, 2), generator=generator, dtype=torch.uint8)
        half = self.size // 2
        return {"image": image.repeat_interleave(half, 1).repeat_interleave(half, 2), "caption": f"picture {index}"}


def vqgan(**more):
    torch.manual_seed(0)
    small = {"codebook_size": 16, "code_width": 4, "channels": 8, "multipliers": [1, 1], "blocks": 1, "patch": 2}
    own = {key: more.pop(key) for key in ("cosine", "ema", "revive_after") if key in more}
    return VQGAN(**small | {"quantizer": VectorQuantizer(**{"revive_after": 3} | own)} | more)


def task(folder, model=None, dataset=None, optimizer=None, **more):
    fit = {"out": str(folder), "steps": 9, "batch": 4, "log_every": 1, "checkpoint_every": 3, "device": "cpu"}
    fit |= more.pop("fit", {})
    model = vqgan() if model is None else model
    return TrainTokenizer(
        model, Pictures() if dataset is None else dataset, Fit(**fit), optimizer or AdamW(1e-3), **more
    )


FAKES = Adversarial(start=2, channels=8, levels=2, rate=1e-3)


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ({}, {"adversarial": FAKES, "entropy": 0.1, "fit": {"ema": 0.9}}),
        ({"ema": 0.0}, {"entropy": 0.1, "fit": {"warmup": 3}}),
        ({"quantizer": "lfq"}, {"entropy": 0.1}),
        ({"quantizer": {"use": "fsq", "levels": [4, 4]}}, {"fit": {"precision": "bfloat16"}}),
    ],
    ids=["vq-average-adversarial", "vq-gradient", "lfq", "fsq"],
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, model, more):
    through = task(tmp_path / "a", vqgan(**model), **more)(RecordingObserver())
    for step in (2, 5):
        with pytest.raises(RuntimeError, match="power"):
            task(tmp_path / "b", vqgan(**model), **more)(RecordingObserver(dies_at=step))
    resumed = task(tmp_path / "b", vqgan(**model), **more)(RecordingObserver())
    assert rows(through) == rows(resumed)
    check_same_files(tmp_path / "a", tmp_path / "b")


def test_a_discriminator_that_never_comes_in_is_told():
    late = Adversarial(start=9, channels=8, levels=2)
    with pytest.warns(UserWarning, match=r"adversarial.start is 9, and the run ends at step 9 \(fit.steps\)"):
        learner(adversarial=late)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner(adversarial=Adversarial(start=8, channels=8, levels=2))


@pytest.mark.slow
def test_it_learns(tmp_path):
    history = task(
        tmp_path,
        vqgan(channels=16, codebook_size=64),
        Pictures(count=8),
        AdamW(5e-3),
        reconstruction=Reconstruction(1, 1),
        fit={"steps": 60, "batch": 8},
    )(RecordingObserver())
    first, last = history.rows[0], history.rows[-1]
    assert first["psnr"] < 12 and last["psnr"] > 18
    assert {"loss", "pixels", "psnr", "norm", "usage", "perplexity"} <= last.keys()
    trained = vqgan(channels=16, codebook_size=64, weights=str(history.weights)).eval()
    images = torch.stack([Pictures()[index]["image"] for index in range(8)]).float() / 255
    assert psnr(trained.decode(trained.encode(images)), images, 1).mean() > 17


def learner(**more):
    return task("unused", vqgan(ema=0.0, revive_after=0), **more).learner()


def batch():
    return {"image": torch.stack([Pictures()[index]["image"] for index in range(4)])}


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_the_discriminator_starts_at_its_step():
    made = learner(adversarial=FAKES)
    critic = made.modules["discriminator"]
    before = state(critic)
    for step in (0, 1):
        assert "critic" not in made.step(batch(), step)
    assert same_tensors(state(critic), before)
    assert "critic" in made.step(batch(), 2)
    assert not same_tensors(state(critic), before)


@pytest.mark.parametrize("regulariser", ["lecam", "r1", "none"])
@pytest.mark.parametrize("loss", ["hinge", "non-saturating"])
def test_each_keeps_to_its_own_weights(loss, regulariser):
    settings = Adversarial(start=0, channels=8, levels=2, loss=loss, regulariser=regulariser, strength=1.0)
    for still, moving in (("tokenizer", "discriminator"), ("discriminator", "tokenizer")):
        made = learner(adversarial=settings)
        for group in made.optimizers[still].param_groups:
            group["lr"] = 0.0
        parameters = {name: [p.detach().clone() for p in made.modules[name].parameters()] for name in (still, moving)}
        for step in range(3):
            numbers = made.step(batch(), step)
            assert all(value.isfinite() for value in numbers.values())
        now = {name: list(made.modules[name].parameters()) for name in (still, moving)}
        assert all(map(torch.equal, parameters[still], now[still]))
        moved = [not torch.equal(*pair) for pair in zip(parameters[moving], now[moving], strict=True)]
        assert sum(moved) >= len(moved) - 1  # hinge's two slopes may cancel in the last bias


def test_the_discriminator_s_loss_gives_the_generator_no_gradient(monkeypatch):
    gradients = []
    for silenced in (False, True):
        made = learner(adversarial=Adversarial(start=0, channels=8, levels=2))
        if silenced:
            monkeypatch.setattr(made, "_discriminator_step", lambda *given: torch.zeros(()))
        made.step(batch(), 0)
        gradients.append([parameter.grad for parameter in made.model.parameters()])
    assert all(map(torch.equal, *gradients))


def test_the_generator_s_loss_is_weighed_sum():
    made = learner(commitment=0.5, codebook=2.0, entropy=0.3, reconstruction=Reconstruction(1, 2, 0))
    real = batch()["image"].float() / 255
    with torch.no_grad():
        out, quantized = vqgan(ema=0.0, revive_after=0).train().reconstruct(real, entropy=True)
        pixels = (out - real).abs().mean() + 2 * (out - real).square().mean()
        weighed = (
            0.5 * quantized.losses["commitment"] + 2 * quantized.losses["codebook"] + 0.3 * quantized.losses["entropy"]
        )
    numbers = made.step(batch(), 0)
    torch.testing.assert_close(numbers["loss"], pixels + weighed)
    torch.testing.assert_close(numbers["pixels"], pixels)
    torch.testing.assert_close(numbers["psnr"], psnr(out.clamp(0, 1), real, 1).mean())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"dataset": Pictures(18)},
            r"18x18 pixels don't divide into tokens of 4x4; the nearest that do: .*change its size",
        ),
        ({"dataset": Pictures(count=0)}, "no record to train on"),
        (
            {"adversarial": Adversarial(levels=5)},
            "halves pictures 5 times, those of the data set have 16x16 pixels; lower",
        ),
        ({"optimizer": Muon()}, "muon turns the matrices of hidden linear layers, and VQGAN has none; take adamw"),
        ({"fit": {"device": "abacus"}}, "device 'abacus' is not there"),
    ],
)
def test_what_can_not_be_trained_is_told_before(tmp_path, more, message):
    with pytest.raises(UserError, match=message):
        task(tmp_path, **more)(RecordingObserver())
    assert not (tmp_path / "checkpoints").exists()


def test_a_folder_that_can_not_be_written_is_told_before(tmp_path):
    (tmp_path / "file").touch()

    class Costly:
        def load(self):
            raise AssertionError("loaded for nothing")

    with pytest.raises(UserError, match="can't be written"):
        task(tmp_path / "file" / "run", perceptual=Costly())(RecordingObserver())


def test_settings_that_can_not_be():
    with pytest.raises(ValueError, match="the tokenizer FakeTokenizer does not say how it is trained"):
        task("unused", FakeTokenizer())
    with pytest.raises(ValueError, match="commitment, codebook and entropy are weights: 0 or more"):
        task("unused", commitment=-1)
