"""Quantizers against brute force: nearest codes, the moving average, revival, signs, levels, entropy."""

import math

import numpy as np
import pytest
import torch
from muse_vqgan.quantizers import vector
from muse_vqgan.quantizers.entropy import ENTROPY_TEMPERATURE, entropy_loss
from muse_vqgan.quantizers.finite import FSQ
from muse_vqgan.quantizers.index import IBQ
from muse_vqgan.quantizers.lookup_free import LFQ, LookupFree
from muse_vqgan.quantizers.vector import VQ, SimVQ, VectorQuantizer, rotated
from muse_vqgan.vqgan import VQGAN


def latents(batch=2, width=3, seed=0):
    return torch.randn(batch, width, 4, 5, generator=torch.Generator().manual_seed(seed))


def vq(size=16, width=3, cosine=False, ema=0.0, revive_after=0):
    torch.manual_seed(1)
    return VQ(size, width, cosine, ema, revive_after)


@pytest.mark.parametrize("cosine", [False, True])
def test_the_nearest_code_wins(cosine):
    quantizer, z = vq(cosine=cosine).eval(), latents()
    codes = quantizer.codes.detach().numpy()
    out = quantizer(z)
    assert torch.equal(out.tokens, quantizer.tokens(z))
    for row, y, x in np.ndindex(2, 4, 5):
        here = z[row, :, y, x].numpy()
        if cosine:
            here, codes = here / np.linalg.norm(here), codes / np.linalg.norm(codes, axis=1, keepdims=True)
        nearest = min(range(16), key=lambda code: ((here - codes[code]) ** 2).sum())
        assert out.tokens[row, y, x] == nearest
        np.testing.assert_allclose(out.latents[row, :, y, x].detach(), codes[nearest], atol=1e-6)
        np.testing.assert_allclose(quantizer.lookup(out.tokens)[row, :, y, x].detach(), codes[nearest], atol=1e-6)


def test_losses_by_hand():
    quantizer, z = vq(), latents().requires_grad_()
    found = quantizer.lookup(quantizer.tokens(z)).detach()
    losses = quantizer(z).losses
    assert losses.keys() == {"commitment", "codebook"}
    for loss in losses.values():
        torch.testing.assert_close(loss, (z - found).square().mean())
    (to_latents,) = torch.autograd.grad(losses["commitment"], z, retain_graph=True)
    torch.testing.assert_close(to_latents, 2 * (z - found).detach() / z.numel())
    (to_codes,) = torch.autograd.grad(losses["codebook"], quantizer.codes)
    assert (to_codes.abs().sum(1) > 0).sum() == quantizer.tokens(z).unique().numel()


@pytest.mark.parametrize("quantizer", [vq(), vq(ema=0.9), LFQ(8)])
def test_gradients_pass_straight_through(quantizer):
    z, upstream = latents().requires_grad_(), latents(seed=5)
    quantizer(z).latents.backward(upstream)
    assert torch.equal(z.grad, upstream)


@pytest.mark.parametrize("cosine", [False, True])
def test_the_codebook_follows_its_moving_average(cosine):
    decay, quantizer = 0.8, vq(cosine=cosine, ema=0.8)
    counts, sums = np.ones(16), quantizer.codes.detach().double().numpy().copy()
    for step in range(4):
        z = latents(batch=3, seed=step)
        tokens = quantizer.tokens(z).flatten().numpy()
        flat = z.movedim(1, -1).reshape(-1, 3).double().numpy()
        if cosine:
            flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        assert np.array_equal(quantizer(z).tokens.flatten().numpy(), tokens)
        quantizer.update_codebook()
        for code in set(tokens):  # what nothing chose stays
            counts[code] = decay * counts[code] + (1 - decay) * (tokens == code).sum()
            sums[code] = decay * sums[code] + (1 - decay) * flat[tokens == code].sum(0)
        codes = sums / counts[:, None]
        if cosine:
            codes = codes / np.linalg.norm(codes, axis=1, keepdims=True)
        np.testing.assert_allclose(quantizer.codes.detach().numpy(), codes, atol=1e-5)
    assert not quantizer.codes.requires_grad


@pytest.mark.parametrize("cosine", [False, True])
def test_a_code_that_nothing_chose_stays_where_it_is(cosine):
    quantizer, z = vq(64, 3, cosine, ema=0.5), latents(batch=1)
    before, chosen = quantizer.codes.clone(), set()
    for _ in range(300):  # halved so often, a sum would be nothing
        chosen |= set(quantizer(z).tokens.flatten().tolist())
        quantizer.update_codebook()
    idle = [code for code in range(64) if code not in chosen]
    assert idle and torch.equal(quantizer.codes[idle], before[idle])
    assert quantizer.codes.isfinite().all()


@pytest.mark.parametrize("cosine", [False, True])
def test_nearest_codes_are_the_same_in_pieces(cosine, monkeypatch):
    quantizer, z = vq(cosine=cosine, ema=0.9, revive_after=1), latents(batch=5)
    whole = quantizer.tokens(z)
    monkeypatch.setattr(vector, "SCORES", 16 * 3)
    seen, scores = [], vector.minus_distances
    monkeypatch.setattr(vector, "minus_distances", lambda flat, codes: seen.append(len(flat)) or scores(flat, codes))
    assert torch.equal(quantizer.tokens(z), whole) and torch.equal(quantizer(z).tokens, whole)
    quantizer.update_codebook()
    assert max(seen) == 3


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_batch_in_parts_moves_the_codebook_as_in_one(ema):
    whole, parts, z = vq(ema=ema, revive_after=1), vq(ema=ema, revive_after=1), latents(batch=4)
    whole(z)
    for part in z.chunk(2):
        parts(part)
    whole.update_codebook()
    parts.update_codebook()
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], tensor)


def test_outside_of_training_nothing_moves():
    quantizer = vq(ema=0.5, revive_after=1).eval()
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    quantizer(latents())
    quantizer.update_codebook()
    assert all(torch.equal(before[name], tensor) for name, tensor in quantizer.state_dict().items())


@pytest.mark.parametrize(("cosine", "ema"), [(False, 0.9), (True, 0.9), (False, 0.0), (True, 0.0)])
def test_a_collapsed_codebook_recovers(cosine, ema):
    def used(revive_after):
        quantizer = vq(32, 3, cosine, ema, revive_after)
        with torch.no_grad():
            quantizer.codes[1:] = 50 * quantizer.codes[:1]  # all alike: the first of them takes everything
            if ema:
                quantizer.sums.copy_(quantizer.codes)
        for step in range(40):
            quantizer(latents(batch=8, seed=step))
            quantizer.update_codebook()
        return quantizer.tokens(latents(batch=8, seed=99)).unique().numel() / 32

    assert used(0) < 0.4
    assert used(2) > 0.9


def test_a_dead_code_goes_to_the_latent_farthest_from_all():
    quantizer = vq(4, 2, ema=0.9, revive_after=2)
    with torch.no_grad():
        quantizer.codes.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [90.0, 90.0], [-90.0, 90.0]]))
        quantizer.sums.copy_(quantizer.codes)
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0], [0.0, -7.0]]).T.reshape(1, 2, 2, 2)
    quantizer(z)
    quantizer.update_codebook()
    assert quantizer.idle.tolist() == [0, 0, 1, 1]
    quantizer(z)
    quantizer.update_codebook()
    assert quantizer.idle.tolist() == [0, 0, 0, 0]
    torch.testing.assert_close(quantizer.codes[2:], torch.tensor([[0.0, -7.0], [0.0, 3.0]]))
    assert quantizer.counts[2:].tolist() == [1, 1]


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_training_step_can_go_backward(ema, cosine, entropy):
    quantizer, z = vq(cosine=cosine, ema=ema, revive_after=1), latents().requires_grad_()
    for _ in range(2):
        out = quantizer(z, entropy)
        (out.latents.sum() + sum(out.losses.values())).backward()
    assert z.grad.isfinite().all() and (z.grad != 0).any()
    assert (quantizer.codes.grad is None) == (ema > 0)


def test_the_entropy_loss_by_hand():
    logits = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).log()
    each = [-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)), math.log(2)]
    mean = -(0.7 * math.log(0.7) + 0.3 * math.log(0.3))
    assert entropy_loss(logits).item() == pytest.approx(sum(each) / 2 - mean)
    sure_and_even = torch.tensor([[0.0, 100.0], [100.0, 0.0]])
    assert entropy_loss(sure_and_even).item() == pytest.approx(-math.log(2))


def test_vq_s_entropy_is_of_minus_the_distances():
    quantizer, z = vq(), latents()
    distances = torch.cdist(z.movedim(1, -1).reshape(-1, 3), quantizer.codes).square()
    expected = entropy_loss(-distances / ENTROPY_TEMPERATURE)
    torch.testing.assert_close(quantizer(z, entropy=True).losses["entropy"], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [2, 8, 256])
def test_every_code_is_a_row_of_signs(size):
    quantizer, tokens = LFQ(size), torch.arange(size).view(1, 1, size)
    signs = quantizer.lookup(tokens)
    assert signs.shape == (1, size.bit_length() - 1, 1, size)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(quantizer.tokens(signs), tokens)
    assert torch.equal(quantizer.tokens(signs * 0.01), tokens)
    assert quantizer.lookup(tokens)[0, 0, 0, :2].tolist() == [-1, 1], "the first latent is the lowest bit"


def test_lfq_s_losses_by_hand():
    z = torch.tensor([[[[0.5, -0.25]], [[2.0, 1.0]]]])  # two bits at two places
    out = LFQ(4)(z, entropy=True)
    assert out.tokens.tolist() == [[[3, 2]]]
    assert out.latents.tolist() == [[[[1, -1]], [[1, 1]]]]
    assert out.losses["commitment"].item() == pytest.approx((0.5**2 + 0.75**2 + 1 + 0) / 4)

    def share(value):  # of +1, by exp(-(z - c)^2) over c = -1, 1
        return math.exp(-((value - 1) ** 2)) / (math.exp(-((value - 1) ** 2)) + math.exp(-((value + 1) ** 2)))

    def entropy(p):
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    bits = [[share(0.5), share(-0.25)], [share(2.0), share(1.0)]]
    each = sum(entropy(p) for bit in bits for p in bit) / 2
    even = sum(entropy(sum(bit) / 2) for bit in bits)
    assert out.losses["entropy"].item() == pytest.approx(each - even, abs=1e-5)


@pytest.mark.parametrize("levels", [[2], [3], [8, 5, 5, 5], [4, 3, 2], [7, 6]])
def test_every_code_is_a_row_of_levels(levels):
    size = math.prod(levels)
    quantizer, tokens = FSQ(size, levels), torch.arange(size).view(1, 1, size)
    values = quantizer.lookup(tokens)
    assert values.shape == (1, len(levels), 1, size)
    assert values.min() == -1 and values.max() <= 1
    assert [values[0, index].unique().numel() for index in range(len(levels))] == levels
    half = torch.tensor([level // 2 for level in levels]).view(1, -1, 1, 1)
    reach = torch.tensor([(level - 1) * 1.001 / 2 for level in levels]).view(1, -1, 1, 1)
    offset = torch.tensor([0.5 * (level % 2 == 0) for level in levels]).view(1, -1, 1, 1)
    back = torch.atanh((values * half + offset) / reach) - torch.atanh(offset / reach)  # the bound, undone
    assert torch.equal(quantizer.tokens(back), tokens)
    out = quantizer(back)
    assert torch.equal(out.tokens, tokens)
    torch.testing.assert_close(out.latents, values)
    assert out.losses == {}


@pytest.mark.parametrize("levels", [[2], [3], [4], [5], [8], [15]])
def test_every_level_is_reached_and_in_order(levels):
    z = torch.linspace(-9, 9, 4001).view(1, 1, 1, -1)
    tokens = FSQ(levels[0], levels).tokens(z).flatten()
    assert tokens.unique().tolist() == list(range(levels[0]))
    assert (tokens.diff() >= 0).all()


def test_fsq_s_gradient_is_that_of_its_bound():
    quantizer, z = FSQ(20, [5, 4]), latents(width=2).requires_grad_()
    quantizer(z).latents.sum().backward()
    reach = torch.tensor([4 * 1.001 / 2, 3 * 1.001 / 2]).view(1, 2, 1, 1)
    shift = torch.atanh(torch.tensor([0, 0.5]).view(1, 2, 1, 1) / reach)
    expected = (1 - torch.tanh(z.detach() + shift) ** 2) * reach / 2
    torch.testing.assert_close(z.grad, expected, atol=1e-5, rtol=1e-4)


def test_the_rotation_trick_by_hand():
    """The latent turned by the angle to its code, in the plane of both, and stretched: a matrix that is constant."""
    torch.manual_seed(0)
    z, code = torch.randn(6, 5, dtype=torch.float64).requires_grad_(), torch.randn(6, 5, dtype=torch.float64)
    turned = rotated(z, code)
    torch.testing.assert_close(turned, code)
    weight = torch.randn(6, 5, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((turned * weight).sum(), z)
    for row in range(6):
        first = (z[row] / z[row].norm()).detach()
        second = code[row] - (code[row] @ first) * first
        second = second / second.norm()
        angle = math.atan2(code[row] @ second, code[row] @ first)
        plane = torch.stack([first, second], 1)
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
        matrix = torch.eye(5).double() + plane @ (turn - torch.eye(2).double()) @ plane.T
        matrix = matrix * code[row].norm() / z[row].detach().norm()
        torch.testing.assert_close(matrix @ z[row].detach(), code[row])
        torch.testing.assert_close(gradient[row], matrix.T @ weight[row])


@pytest.mark.parametrize("cosine", [False, True])
def test_the_gradient_s_way_changes_no_code_and_no_latent(cosine):
    z = latents(width=4)
    made = {}
    for gradient in ("straight", "rotation"):
        torch.manual_seed(1)
        made[gradient] = VQ(16, 4, cosine, 0.9, 0, gradient)(z)
    torch.testing.assert_close(made["straight"].latents, made["rotation"].latents, atol=1e-6, rtol=1e-6)
    assert torch.equal(made["straight"].tokens, made["rotation"].tokens)


def test_simvq_s_codes_are_one_matrix_of_a_frozen_table():
    torch.manual_seed(0)
    quantizer, z = SimVQ(16, 3), latents()
    codes = (quantizer.basis @ quantizer.project.weight.T + quantizer.project.bias).detach()
    distances = torch.cdist(z.movedim(1, -1).reshape(-1, 3), codes)
    out = quantizer(z)
    assert torch.equal(out.tokens.flatten(), distances.argmin(-1)) and torch.equal(out.tokens, quantizer.tokens(z))
    torch.testing.assert_close(quantizer.lookup(out.tokens), codes[out.tokens].movedim(-1, 1))
    torch.testing.assert_close(out.losses["commitment"], distances.amin(-1).square().mean() / 3)
    sum(out.losses.values()).backward()
    assert quantizer.project.weight.grad.any() and not quantizer.basis.requires_grad
    before = quantizer.lookup(torch.arange(16).view(1, 4, 4)).detach()
    with torch.no_grad():
        quantizer.project.weight.sub_(0.1 * quantizer.project.weight.grad)
    moved = (quantizer.lookup(torch.arange(16).view(1, 4, 4)) - before).abs().amax(1)
    assert (moved > 0).all(), "a step moves every code, chosen or not"


def test_ibq_by_hand():
    torch.manual_seed(0)
    quantizer, z = IBQ(7, 3), latents()
    flat = z.movedim(1, -1).reshape(-1, 3)
    logits = flat @ quantizer.codes.detach().T
    out = quantizer(z)
    assert torch.equal(out.tokens.flatten(), logits.argmax(-1))
    weight = torch.randn(out.latents.shape)
    (gradient,) = torch.autograd.grad((out.latents * weight).sum(), quantizer.codes)
    codes = quantizer.codes.detach().clone().requires_grad_()
    soft = (flat @ codes.T).softmax(-1)
    hard = torch.nn.functional.one_hot(logits.argmax(-1), 7).float()
    chosen = (hard - soft.detach() + soft) @ codes
    (expected,) = torch.autograd.grad((chosen * weight.movedim(1, -1).reshape(-1, 3)).sum(), codes)
    torch.testing.assert_close(out.latents.movedim(1, -1).reshape(-1, 3), hard @ codes.detach(), atol=1e-6, rtol=0)
    torch.testing.assert_close(gradient, expected)
    assert (gradient.abs().sum(-1) > 0).all(), "every code learns"


@pytest.mark.parametrize(("temperature", "group"), [(1.0, 1), (0.5, 2), (2.0, 4)])
def test_lfq_s_entropy_over_groups_by_brute_force(temperature, group):
    z = latents(width=4)
    got = LFQ(16, temperature, group)(z, entropy=True).losses["entropy"].item()
    signs = torch.tensor([[1.0 if code >> bit & 1 else -1.0 for bit in range(4)] for code in range(16)])
    flat = z.movedim(1, -1).reshape(-1, 4)
    share = (-torch.cdist(flat, signs).square() / temperature).softmax(-1).double()
    each = -(share * share.log()).sum(-1).mean()
    together = 0.0
    for first in range(0, 4, group):
        members = torch.tensor([code >> first & (1 << group) - 1 for code in range(16)])
        mean = torch.zeros(1 << group).double().index_add_(0, members, share.mean(0))
        together += -(mean * mean.log()).sum()
    assert got == pytest.approx(float(each - together), abs=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0.0}, r"temperature is 0\.0; give a number above 0"),
        ({"group": 0}, "group is 0; give 1 bit to 16"),
    ],
)
def test_what_lfq_refuses(wrong, message):
    with pytest.raises(ValueError, match=message):
        LookupFree(**wrong)
    with pytest.raises(ValueError, match="group is 3, which does not divide the 4 bits of 16 codes"):
        LookupFree(group=3)(16, 0)


def test_settings_that_were_the_vqgan_s_still_work_and_say_where_they_are_now():
    sizes = {"codebook_size": 16, "code_width": 4, "channels": 8, "multipliers": [1], "blocks": 1}
    with pytest.warns(
        DeprecationWarning, match=r"cosine of vqgan are deprecated; write quantizer: \{use: \.\.\., cosine: F"
    ):
        former = VQGAN(**sizes, cosine=False)
    assert not former.quantizer.cosine
    with pytest.warns(DeprecationWarning, match="levels: "):
        assert VQGAN(**sizes, quantizer="fsq", levels=[4, 4]).quantizer.width == 2
    with pytest.warns(DeprecationWarning, match="leave out ema, which the quantizer LookupFree has not"):
        VQGAN(**sizes, quantizer="lfq", ema=0.5)
    assert VQGAN(**sizes, quantizer=VectorQuantizer(ema=0.0)).quantizer.ema == 0


def test_a_quantizer_of_one_s_own():
    class Own:
        def __call__(self, size, width):
            return SimVQ(size, width)

    model = VQGAN(codebook_size=16, code_width=4, channels=8, multipliers=[1], blocks=1, quantizer=Own())
    images, quantized = model.train().reconstruct(torch.rand(1, 3, 4, 4))
    assert images.shape == (1, 3, 4, 4) and quantized.tokens.shape == (1, 4, 4)
    model.update_codebook()
