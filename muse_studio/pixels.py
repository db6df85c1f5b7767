"""Pictures between torch and pillow: floats become the 8 bits a channel that a file holds."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor


def to_bytes(pixels: Tensor) -> Tensor:
    """float[..., 3, H, W] in 0..1 to uint8 of the same shape: a picture as it is saved."""
    return (pixels.clamp(0, 1) * 255).round().byte()


def to_images(pixels: Tensor) -> list[Image.Image]:
    """float[B, 3, H, W] in 0..1, or uint8[B, 3, H, W], to B pictures of 8 bits a channel."""
    channels = pixels if pixels.dtype == torch.uint8 else to_bytes(pixels)
    return [Image.fromarray(picture) for picture in channels.permute(0, 2, 3, 1).contiguous().cpu().numpy()]
