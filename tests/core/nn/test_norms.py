"""The root-mean-square norm on a CPU, with and without a gradient, against the formula in float64."""

import pytest
import torch

from muse_studio.nn.layers import rms_norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gained", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_it_is_the_formula(dtype, gained, grad):
    x = torch.randn(2, 3, 5, 8, dtype=dtype).transpose(1, 2) * 7
    gain = torch.randn(8) if gained else None
    wide = x.double()
    expected = wide / (wide.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 if gain is None else gain.double())
    with torch.set_grad_enabled(grad):
        got = rms_norm(x, 1e-6, gain)
    assert got.dtype == dtype
    atol, rtol = (1e-6, 1e-6) if dtype is torch.float32 else (1e-3, 1.2e-2)
    torch.testing.assert_close(got.double(), expected, atol=atol, rtol=rtol)


def test_zeros_stay_zeros_and_have_a_gradient():
    x = torch.zeros(2, 4, requires_grad=True)
    rms_norm(x, 1e-6).sum().backward()
    assert x.grad.isfinite().all()
    with torch.no_grad():
        assert torch.equal(rms_norm(x, 1e-6), torch.zeros(2, 4))
