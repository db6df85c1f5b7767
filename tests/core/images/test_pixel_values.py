"""Pictures become tensors value by value, and how far two are apart is counted by hand."""

import numpy as np
import pytest
import torch
from PIL import Image

from muse_studio.images.pixels import from_image, psnr, to_images


def test_an_image_and_its_array_are_the_same_tensor():
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    array.flags.writeable = False
    tensor = from_image(Image.fromarray(array))
    assert tensor.dtype == torch.uint8 and tensor.shape == (3, 5, 7) and tensor.is_contiguous()
    assert tensor[2, 4, 6] == array[4, 6, 2]
    assert torch.equal(from_image(array), tensor)
    assert np.array_equal(to_images(tensor[None])[0], array)


def test_psnr_by_hand():
    real = torch.zeros(2, 3, 4, 4)
    made = real.clone()
    made[0] += 0.1  # a mean squared error of 0.01
    made[1] += 0.01
    assert psnr(made, real, 1).tolist() == pytest.approx([20, 40], abs=1e-3)
    assert psnr(255 * made, 255 * real, 255).tolist() == pytest.approx([20, 40], abs=1e-3)


def test_psnr_is_100_at_most():
    real = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    assert psnr(real, real, 1).tolist() == pytest.approx([100, 100])
    assert psnr(real + 1e-7, real, 1).tolist() == pytest.approx([100, 100])
