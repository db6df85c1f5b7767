"""Pictures between torch and pillow, 8 bits a channel and floats; how far two are apart; their size in tokens."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

MOST_DB = 100.0
"""The most that a PSNR counts; without any error it would be infinite."""


def from_image(image: Image.Image | NDArray[np.uint8]) -> Tensor:
    """A picture of mode RGB, or uint8[H, W, 3], to uint8[3, H, W] in memory of its own."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def to_bytes(pixels: Tensor) -> Tensor:
    """float[..., 3, H, W] in 0..1 to uint8 of the same shape: a picture as it is saved."""
    return (pixels.clamp(0, 1) * 255).round().byte()


def to_images(pixels: Tensor) -> list[Image.Image]:
    """float[B, 3, H, W] in 0..1, or uint8[B, 3, H, W], to B pictures of 8 bits a channel."""
    channels = pixels if pixels.dtype == torch.uint8 else to_bytes(pixels)
    return [Image.fromarray(picture) for picture in channels.permute(0, 2, 3, 1).contiguous().cpu().numpy()]


def to_image(pixels: Tensor) -> Image.Image | list[Image.Image]:
    """float[B, 3, H, W] in 0..1, or uint8, to a list of B pictures; one alone, [3, H, W] or B = 1, to a picture.

    What is outside of 0..1 is cut off. TypeError or ValueError where it is no such tensor.
    """
    if not isinstance(pixels, Tensor):
        raise TypeError(f"expected float[B, 3, H, W] in 0..1, got {type(pixels).__name__}; give a tensor")
    batch = pixels[None] if pixels.ndim == 3 else pixels
    if batch.ndim != 4 or batch.shape[1] != 3:
        raise ValueError(f"expected float[B, 3, H, W] in 0..1, got {list(pixels.shape)}; three channels stand first")
    images = to_images(batch.detach())
    return images[0] if len(images) == 1 else images


def scaled(images: Tensor, size: tuple[int, int]) -> Tensor:
    """float[B, 3, H, W] to another (height, width); the very same where they have it.

    Of smaller ones each pixel is the mean of what it covers, as a smaller drawing of the same would have it (which
    blurring filters miss); larger ones are bicubic, and may leave the range that they had.
    """
    height, width = images.shape[-2:]
    if (height, width) == tuple(size):
        return images
    return F.interpolate(images, size, mode="area" if height >= size[0] and width >= size[1] else "bicubic")


def psnr(images: Tensor, originals: Tensor, peak: float) -> Tensor:
    """Peak signal-to-noise ratio of each picture and its original in dB, float[B], MOST_DB at most.

    float[B, 3, H, W] twice, in 0..peak: -10 log10(mean squared error / peak^2), in the precision that they have.
    """
    error = (images - originals).square().mean((1, 2, 3)) / peak**2
    return -10 * error.clamp(min=10 ** (-MOST_DB / 10)).log10()


def divided(height: int, width: int, stride: int) -> tuple[int, int]:
    """Rows and columns of tokens of stride x stride pixels; ValueError, with what is near, where they don't divide."""
    if height % stride or width % stride or min(height, width) < 1:
        near = [max(1, round(side / stride)) * stride for side in (height, width)]
        raise ValueError(
            f"{height}x{width} pixels don't divide into tokens of {stride}x{stride}; "
            f"the nearest that do: {near[0]}x{near[1]}"
        )
    return height // stride, width // stride
