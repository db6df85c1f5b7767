"""What a reconstruction is measured by, by hand; perceptual networks from a folder, and names that lead nowhere."""

import json
import time

import pytest
import torch
import torch.nn.functional as F
from muse_vqgan.adversarial import Adversarial, Discriminator, r1
from muse_vqgan.learner import usage
from muse_vqgan.losses import Perceptual, Reconstruction
from safetensors.torch import load_file, save_file
from torch import nn

from muse_studio.errors import UserError


def pictures(count=2, size=32, seed=0):
    """Soft random pictures float[B, 3, size, size], with edges at every scale."""
    generator = torch.Generator().manual_seed(seed)
    layers = [torch.rand(count, 3, side, side, generator=generator) for side in (4, 8, size)]
    return sum(F.interpolate(layer, size, mode="nearest") for layer in layers) / 3


def test_reconstruction_by_hand():
    real = torch.zeros(1, 1, 2, 2)
    made = torch.tensor([[[[0.5, -1.0], [0.0, 0.5]]]])
    assert Reconstruction()(made, real).item() == pytest.approx(0.5)
    assert Reconstruction(l1=0, l2=1)(made, real).item() == pytest.approx(1.5 / 4)
    along, down = (1.5 + 0.5) / 2, (0.5 + 1.5) / 2
    assert Reconstruction(l1=0, edges=1)(made, real).item() == pytest.approx(along + down)
    assert Reconstruction(2, 3, 4)(made, real).item() == pytest.approx(2 * 0.5 + 3 * 0.375 + 4 * 2)
    assert Reconstruction(1, 1, 1)(made, made).item() == 0


def test_usage_and_perplexity_by_hand():
    found = usage(torch.tensor([[[0, 0], [1, 2]]]), 8)
    assert found["usage"].item() == pytest.approx(3 / 8)
    assert found["perplexity"].item() == pytest.approx(2**1.5)  # entropy: 1/2 log 2 + 2 * 1/4 log 4
    even = usage(torch.arange(8).view(1, 2, 4), 8)
    assert (even["usage"].item(), even["perplexity"].item()) == (1.0, pytest.approx(8.0))


@pytest.fixture(scope="module", params=["resnet", "convnext"])
def network(request, tmp_path_factory):
    from transformers import ConvNextConfig, ConvNextModel, ResNetConfig, ResNetModel

    torch.manual_seed(0)
    if request.param == "resnet":
        model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    else:
        model = ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, patch_size=2))
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return folder


def test_perceptual_distance_is_none_for_equals_and_grows_with_blur(network):
    loss, real = Perceptual(str(network)).load(), pictures()
    assert loss(real, real).item() == 0
    distances = [loss(F.avg_pool2d(real, k, 1, k // 2, count_include_pad=False), real).item() for k in (3, 5, 9)]
    assert 0 < distances[0] < distances[1] < distances[2]
    assert not any(parameter.requires_grad for parameter in loss.network.parameters())
    made = F.avg_pool2d(real, 3, 1, 1).requires_grad_()
    loss(made, real).backward()
    assert made.grad.abs().sum() > 0


def test_perceptual_distance_by_hand(network):
    settings = Perceptual(str(network), mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    loss, (one, other) = settings.load(), pictures(2).split(1)
    layers = []
    for picture in (one, other):
        hidden = loss.network(picture * 2 - 1, output_hidden_states=True).hidden_states
        layers.append([layer / layer.norm(dim=1, keepdim=True).clamp(min=1e-12) for layer in hidden])
    each = [(a - b).square().sum(1).mean() for a, b in zip(*layers, strict=True)]
    torch.testing.assert_close(loss(one, other), sum(each) / len(each))


def test_a_perceptual_network_that_can_not_be_had(tmp_path):
    began = time.monotonic()
    for name in ("nobody/no-such-network", str(tmp_path / "nowhere"), str(tmp_path)):
        with pytest.raises(
            UserError, match=r"perceptual\.network .* could not be loaded: .*; give a folder that save_pre"
        ):
            Perceptual(name).load()
    assert time.monotonic() - began < 120


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch):
    asked = []

    class Silent:
        def head(self, url, timeout):
            asked.append((url, timeout))
            raise ConnectionError("nobody answers")

    monkeypatch.setattr("huggingface_hub.utils.get_session", Silent)
    with pytest.raises(UserError, match=r"could not be loaded: .*nobody answers.*; give a folder"):
        Perceptual("nobody/no-such-network").load()
    assert [(url.endswith("nobody/no-such-network/resolve/main/config.json"), wait) for url, wait in asked] == [
        (True, 10)
    ]


def test_a_perceptual_network_without_all_its_weights(network, tmp_path):
    state = load_file(network / "model.safetensors")
    lost = sorted(state)[0]
    del state[lost]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text((network / "config.json").read_text())
    with pytest.raises(UserError, match=f"lacks 1 of its weights, first .*{lost}"):
        Perceptual(str(tmp_path)).load()


def test_a_perceptual_network_that_is_none(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nothing-known"}))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match="could not be loaded"):
        Perceptual(str(tmp_path)).load()


def test_adversarial_losses_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    hinge, soft = Adversarial(loss="hinge"), Adversarial(loss="non-saturating")
    assert hinge.generator_loss(fake).item() == pytest.approx(1.0)
    assert hinge.discriminator_loss(real, fake).item() == pytest.approx(0.5 / 2 + 2.0 / 2)
    log = torch.nn.functional.logsigmoid
    assert soft.generator_loss(fake).item() == pytest.approx(-log(fake).mean().item())
    assert soft.discriminator_loss(real, fake).item() == pytest.approx(-(log(real) + log(-fake)).mean().item())


def test_lecam_by_hand():
    critic = Discriminator(8, 1)
    assert critic.means.tolist() == [0, 0]
    loss = critic.lecam(torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 1.0]), decay=0.5)
    assert critic.means.tolist() == [1.0, 0.0]  # half of the means 2 and 0
    assert loss.item() == pytest.approx((1 + 9) / 2 + (2**2 + 0) / 2)
    assert "means" in critic.state_dict()


def test_r1_by_hand():
    weight = torch.arange(12.0).view(1, 3, 2, 2)
    images = torch.rand(2, 3, 2, 2).requires_grad_()
    logits = ((weight * images).sum((1, 2, 3)) + 0.5 * (images**2).sum((1, 2, 3)))[:, None]
    expected = (weight + images).square().sum((1, 2, 3)).mean() / 2
    penalty = r1(logits, images)
    torch.testing.assert_close(penalty, expected)
    (onward,) = torch.autograd.grad(penalty, images)
    torch.testing.assert_close(onward, (weight + images) / 2)  # it can itself be learned from


def test_r1_is_as_strong_whatever_the_picture_s_size_is():
    torch.manual_seed(0)
    critic, tile = Discriminator(8, 2), torch.rand(1, 3, 16, 16)
    strength = []
    for times in (2, 4, 8):
        images = tile.repeat(1, 1, times, times).requires_grad_()
        strength.append(r1(critic(images), images).item() * times**2)  # a pixel counts for less, and there are more
    assert max(strength) < 1.3 * min(strength)


@pytest.mark.parametrize(("levels", "side"), [(1, 16), (2, 8), (3, 4)])
def test_a_discriminator_judges_patches(levels, side):
    critic = Discriminator(8, levels)
    assert critic(torch.rand(2, 3, 32, 32)).shape == (2, 1, side, side)
    assert all(isinstance(each, nn.Conv2d | nn.GroupNorm | nn.LeakyReLU) for each in critic.layers)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reconstruction(0, 0, 0), "0 or more, and not all 0"),
        (lambda: Reconstruction(-1), "0 or more, and not all 0"),
        (lambda: Perceptual("a", weight=0), "weight is 0; give a number above 0, or leave perceptual out"),
        (lambda: Perceptual("a", mean=[0.5]), r"mean is \[0.5\]; give three numbers, for red, green and blue"),
        (lambda: Adversarial(weight=0), "weight and rate must be above 0; leave adversarial out to train without"),
        (lambda: Adversarial(start=-1), "start and strength must be 0 or more"),
        (lambda: Adversarial(levels=0), "channels and levels 1 or more"),
    ],
)
def test_settings_that_can_not_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()
