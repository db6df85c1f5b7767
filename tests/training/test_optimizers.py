"""Optimizers against plain references: which weights decay, which settings arrive, how each step goes."""

import math
import sys
import types

import numpy as np
import pytest
import torch
from muse_training import eightbit
from muse_training.adafactor import Adafactor
from muse_training.eightbit import AdamW8bit
from muse_training.optimizers import AdamW, Muon, groups
from muse_transformer.critic import Critic
from muse_transformer.muse import MuseTransformer
from muse_vqgan.vqgan import VQGAN
from torch import nn

from muse_studio.contracts import TextEmbedding
from muse_studio.errors import UserError
from muse_studio.training import checkpoint


def muse(codebook_size=12, **more):
    torch.manual_seed(0)
    return MuseTransformer(codebook_size, [2, 3], text_width=6, width=16, layers=2, heads=2, **more)


def names_of(model, parameters):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)] for parameter in parameters}


def test_only_the_matrices_of_layers_decay():
    model = muse()
    decays, stays = groups(model, 0.1)
    assert (decays["weight_decay"], stays["weight_decay"]) == (0.1, 0.0)
    decaying, staying = (names_of(model, group["params"]) for group in (decays, stays))
    assert decaying | staying == {name for name, _ in model.named_parameters()}
    assert not decaying & staying
    for name in decaying:
        assert name.endswith("weight") and "norm" not in name and "embed" not in name
    assert {
        "embed.weight",
        "positions",
        "norm.weight",
        "norm.bias",
        "head.2.weight",
        "text_projection.1.weight",
    } <= staying
    assert {
        f"blocks.0.{way}.norm_{each}.weight"
        for way in ("self_attention", "cross_attention")
        for each in ("query", "key")
    } <= staying
    assert {"blocks.1.norm2.weight", "blocks.1.mlp.0.bias", "head.3.bias"} <= staying
    assert {
        "text_projection.0.weight",
        "blocks.0.self_attention.project.weight",
        "blocks.1.mlp.2.weight",
        "head.3.weight",
    } <= decaying


def test_of_a_tokenizer_convolutions_decay_and_codes_that_follow_are_left_out():
    model = VQGAN(codebook_size=8, code_width=4, channels=8, multipliers=[1, 1], blocks=1)
    decaying, staying = (names_of(model, group["params"]) for group in groups(model, 0.1))
    assert "quantizer.codes" not in decaying | staying
    assert {"pre.weight", "encoder.layers.0.weight"} <= decaying
    assert {"pre.bias", "encoder.layers.1.norm1.weight"} <= staying
    learned = VQGAN(codebook_size=8, code_width=4, channels=8, multipliers=[1, 1], blocks=1, ema=0.0)
    assert "quantizer.codes" in names_of(learned, groups(learned, 0.1)[1]["params"])


def test_adamw_s_settings_reach_torch():
    made = AdamW(3e-4, [0.8, 0.95], 0.2)(muse())
    assert type(made) is torch.optim.AdamW
    assert [(group["lr"], group["betas"], group["weight_decay"]) for group in made.param_groups] == [
        (3e-4, (0.8, 0.95), 0.2),
        (3e-4, (0.8, 0.95), 0.0),
    ]
    paper = AdamW()(muse()).param_groups[0]
    assert (paper["lr"], paper["betas"], paper["weight_decay"]) == (1e-4, (0.9, 0.96), 0.045)


@pytest.mark.parametrize("optimizer", [AdamW, AdamW8bit, Adafactor, Muon])
def test_lr_is_another_name_of_the_rate(optimizer):
    assert optimizer(lr=3e-4) == optimizer(rate=3e-4) != optimizer()
    default = optimizer().rate
    with pytest.raises(ValueError, match=rf"rate is {default} and lr 0\.1, .* two names of one setting; give one"):
        optimizer(rate=float(default), lr=0.1)
    with pytest.raises(ValueError, match=r"rate 0\.0 must be above 0"):
        optimizer(lr=0.0)


def adafactor_by_hand(weight, gradients, rate, betas, decay, clip):
    """Number by number: Shazeer and Stern's algorithms 4 and 5, with momentum, and the decay of the paper capped."""
    weight, shape = weight.astype(np.float64).copy(), weight.shape
    momentum = np.zeros(shape)
    rows, columns, moment = np.zeros(shape[:-1]), np.zeros(shape[:-2] + shape[-1:]), np.zeros(shape)
    for step, gradient in enumerate(gradients, 1):
        beta = min(betas[1], 1 - step**-0.8)
        square = gradient.astype(np.float64) ** 2 + 1e-30
        update = np.zeros(shape)
        if len(shape) >= 2:
            rows = beta * rows + (1 - beta) * square.mean(-1)
            columns = beta * columns + (1 - beta) * square.mean(-2)
        else:
            moment = beta * moment + (1 - beta) * square
        for place in np.ndindex(shape):
            if len(shape) >= 2:
                row, column = rows[place[:-1]], columns[place[:-2] + place[-1:]]
                estimate = row * column / rows[place[:-2]].mean()
            else:
                estimate = moment[place]
            update[place] = gradient[place] / math.sqrt(estimate)
        update /= max(1, math.sqrt((update**2).mean()) / clip)
        momentum = betas[0] * momentum + (1 - betas[0]) * update
        weight = weight * (1 - rate * decay) - rate * momentum
    return weight


@pytest.mark.parametrize("shape", [(4, 3), (5,), (2, 3, 4), (3, 2, 3, 3), ()])
@pytest.mark.parametrize(("decay", "clip"), [(0.0, 1.0), (0.3, 0.5)])
def test_adafactor_number_by_number(shape, decay, clip):
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(shape, generator=generator))
    start = weight.detach().numpy().copy()
    gradients = [torch.randn(shape, generator=generator) * 10.0**-step for step in range(30)]
    settings = Adafactor(0.02, [0.9, 0.96], decay, clip)
    optimizer = settings(nn.Linear(1, 1))
    optimizer.param_groups.clear()
    optimizer.add_param_group({"params": [weight], "weight_decay": decay})
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    expected = adafactor_by_hand(start, [each.numpy() for each in gradients], 0.02, [0.9, 0.96], decay, clip)
    np.testing.assert_allclose(weight.detach().numpy(), expected, atol=2e-5)


def test_adafactor_keeps_a_row_and_a_column_of_a_matrix():
    model = nn.Linear(50, 70)
    optimizer = Adafactor()(model)
    model(torch.ones(1, 50)).sum().backward()
    optimizer.step()
    state = optimizer.state[model.weight]
    assert (state["rows"].shape, state["columns"].shape, state["momentum"].shape) == ((70,), (50,), (70, 50))
    assert optimizer.state[model.bias]["moment"].shape == (70,)


def test_adafactor_and_gradients_of_zeros():
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    optimizer = Adafactor(weight_decay=0.0)(model)
    (model.weight.sum() * 0 + model.bias.sum()).backward()
    for _ in range(3):
        optimizer.step()
    assert torch.equal(model.weight, before)
    assert model.bias.isfinite().all()


def learn(model, optimizer, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        tokens = torch.randint(0, 12, (4, 2, 3), generator=generator)
        text = TextEmbedding(torch.randn(4, 5, 6, generator=generator), torch.ones(4, 5, dtype=torch.bool))
        optimizer.zero_grad()
        model(tokens, model.condition(text)).logsumexp(-1).mean().backward()
        optimizer.step()


def test_muon_turns_hidden_matrices_and_adamw_all_else():
    model = muse()
    optimizer = Muon(1e-2)(model)
    by_muon = names_of(model, optimizer.muon.param_groups[0]["params"])
    by_adamw = names_of(model, [p for group in optimizer.adamw.param_groups for p in group["params"]])
    assert by_muon | by_adamw == {name for name, _ in model.named_parameters()}
    assert not by_muon & by_adamw
    assert {"blocks.0.self_attention.project.weight", "blocks.1.mlp.2.weight", "head.0.weight"} <= by_muon
    assert {"head.3.weight", "embed.weight", "positions", "norm.weight"} <= by_adamw
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    learn(model, optimizer, 1)
    assert not any(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


def by_adamw(model):
    optimizer = Muon(1e-2)(model)
    return names_of(model, [p for group in optimizer.adamw.param_groups for p in group["params"]])


def test_muon_knows_a_classifier_by_its_place_and_not_by_its_size():
    model = muse(codebook_size=16, mlp=16)  # as of Muse-3B, whose 8192 codes are as many as its MLP is wide
    assert {name for name in by_adamw(model) if name.endswith(".weight") and "norm" not in name} >= {"head.3.weight"}
    assert not {name for name in by_adamw(model) if "mlp.0.weight" in name}
    critic = Critic(8, [2, 3], text_width=6, width=8, layers=1, heads=2, mlp=16)
    assert "head.3.weight" in by_adamw(critic) and critic.head.classifier.out_features == 1
    codes = VQGAN(codebook_size=8, code_width=4, channels=8, multipliers=[1], blocks=1, quantizer="projected").quantizer
    assert codes.classifier is codes.project


def test_muon_s_settings_reach_torch():
    optimizer = Muon(2e-3, 0.9, [0.8, 0.95], 0.1)(muse())
    muon, decays, stays = optimizer.param_groups
    assert (muon["lr"], muon["momentum"], muon["weight_decay"]) == (2e-3, 0.9, 0.1)
    assert muon["adjust_lr_fn"] == "match_rms_adamw"
    assert (decays["lr"], decays["betas"], decays["weight_decay"]) == (2e-3, (0.8, 0.95), 0.1)
    assert stays["weight_decay"] == 0.0


def muon_by_hand(weight, gradients, rate, momentum, decay):
    """Jordan et al. (2024): Nesterov's momentum, five steps of Newton and Schulz; scaled as Liu et al. (2025)."""
    weight, buffer = weight.astype(np.float64).copy(), np.zeros(weight.shape)
    for gradient in gradients:
        buffer = momentum * buffer + gradient
        turned = gradient + momentum * buffer
        turned = turned / np.linalg.norm(turned)
        for _ in range(5):
            square = turned @ turned.T
            turned = 3.4445 * turned + (-4.775 * square + 2.0315 * square @ square) @ turned
        weight = weight * (1 - rate * decay) - rate * 0.2 * math.sqrt(max(weight.shape)) * turned
    return weight


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_muon_number_by_number(shape):
    torch.manual_seed(0)
    model = nn.Linear(shape[1], shape[0], bias=False)
    start = model.weight.detach().numpy().copy()
    gradients = [torch.randn(shape) * 10.0 ** -(step / 4) for step in range(20)]
    optimizer = Muon(0.02, 0.9, weight_decay=0.3)(model)
    for gradient in gradients:
        model.weight.grad = gradient.clone()
        optimizer.step()
    expected = muon_by_hand(start, [each.double().numpy() for each in gradients], 0.02, 0.9, 0.3)
    error = np.linalg.norm(model.weight.detach().numpy() - expected) / np.linalg.norm(expected - start)
    assert error < 0.02, "torch turns matrices in bfloat16, whose numbers have three digits"


def test_muon_follows_a_changed_rate():
    model = muse()
    optimizer = Muon(1e-2, weight_decay=0.0)(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    learn(model, optimizer, 2)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("settings", [AdamW(1e-2), Adafactor(1e-2), Muon(1e-2)], ids=["adamw", "adafactor", "muon"])
def test_a_state_goes_through_a_checkpoint_bit_for_bit(settings, tmp_path):
    through = muse()
    optimizer = settings(through)
    learn(through, optimizer, 3)
    path = checkpoint.save(tmp_path, 3, {"net": through}, {"net": optimizer}, keep=1)
    stopped = muse()
    fresh = settings(stopped)
    checkpoint.load(path, {"net": stopped}, {"net": fresh})
    learn(through, optimizer, 3, seed=1)
    learn(stopped, fresh, 3, seed=1)
    for (name, one), other in zip(through.named_parameters(), stopped.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_adamw8bit_wants_a_gpu_and_then_its_package(monkeypatch):
    with pytest.raises(UserError, match="adamw8bit computes on a GPU alone, and the model is on cpu; take adamw or"):
        AdamW8bit()(nn.Linear(2, 2))
    monkeypatch.setattr(eightbit, "GPU", "cpu")
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(UserError, match=r"adamw8bit needs .*: pip install 'muse-studio\[adamw8bit\]'"):
        AdamW8bit()(nn.Linear(2, 2))


class Counted(torch.optim.Optimizer):
    """As bitsandbytes' has it: steps counted in an int."""

    def __init__(self, params, lr, betas):
        super().__init__(params, {"lr": lr, "betas": betas})

    def step(self, closure=None):
        for parameter in (p for group in self.param_groups for p in group["params"]):
            state = self.state[parameter]
            state["step"] = state.get("step", 0) + 1


def test_adamw8bit_s_settings_arrive_and_its_count_stays_whole(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "bitsandbytes", types.ModuleType("bitsandbytes"))
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", types.SimpleNamespace(AdamW8bit=Counted))
    monkeypatch.setattr(eightbit, "GPU", "cpu")
    model = muse()
    made = AdamW8bit(3e-4, [0.8, 0.95], 0.2)(model)
    assert [(group["lr"], group["betas"], group["weight_decay"]) for group in made.param_groups] == [
        (3e-4, (0.8, 0.95), 0.2),
        (3e-4, (0.8, 0.95), 0.0),
    ]
    made.step()
    path = checkpoint.save(tmp_path, 1, {"net": model}, {"net": made}, keep=1)
    fresh = AdamW8bit()(model)
    checkpoint.load(path, {"net": model}, {"net": fresh})
    assert {type(state["step"]) for state in fresh.state.values()} == {int}
    assert {state["step"] for state in fresh.state.values()} == {1}


def test_muon_needs_hidden_matrices():
    with pytest.raises(
        UserError, match="muon turns the matrices of hidden linear layers, and LayerNorm has none; take adamw"
    ):
        Muon()(nn.LayerNorm(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdamW(rate=0), r"rate 0 must be above 0, weight_decay 0\.045 0 or more"),
        (lambda: AdamW(weight_decay=-1), "weight_decay -1 0 or more"),
        (lambda: AdamW(betas=[0.9, 1.0]), r"betas \[0\.9, 1\.0\] in 0\.\.1 without 1"),
        (lambda: AdamW(betas=[0.9]), r"betas are \[0\.9\]; give two"),
        (lambda: AdamW8bit(betas=[0.9]), r"betas are \[0\.9\]; give two"),
        (lambda: AdamW8bit(rate=0), r"rate 0 must be above 0"),
        (lambda: Muon(momentum=1.0), "in 0..1 without 1"),
        (lambda: Muon(betas=[0.9]), r"betas are \[0\.9\]; give two"),
        (lambda: Adafactor(betas=[0.9]), r"betas are \[0\.9\]"),
        (lambda: Adafactor(clip=0), "clip is 0; give a root mean square above 0"),
    ],
)
def test_settings_that_can_not_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()
