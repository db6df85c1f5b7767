"""Muse's own sizes: each recipe builds, has the parameters that its layers make, and says the paper's figures."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import muse_studio
from muse_studio.recipe.merging import load
from muse_studio.registry.plugins import Registry

RECIPES = Path(__file__).parents[2] / "recipes"
CODES, TEXT, WIDTH_632M = 8192, 4096, {"width": 1280, "layers": 24, "heads": 20, "mlp": 5120}


def dense(into: int, out: int) -> int:
    return into * out + out


def norm(width: int) -> int:
    return 2 * width


def mlp(width: int, hidden: int) -> int:
    return dense(width, hidden) + dense(hidden, width)


def attention(width: int, heads: int) -> int:
    """Four matrices without bias, and a gain for queries and one for keys, shared by the heads."""
    return 4 * width**2 + 2 * (width // heads)


def grid(width: int, places: int) -> int:
    """A table of codes and MASK, and positions."""
    return (CODES + 1) * width + places * width


def muse(width: int, layers: int, heads: int, hidden: int, places: int = 16 * 16) -> int:
    """Section 2.3: layers of self-attention, cross-attention and MLP between the grid, the text and the head."""
    layer = 2 * attention(width, heads) + mlp(width, hidden) + 3 * norm(width)
    text = dense(TEXT, width) + norm(width)
    head = norm(width) + dense(width, width) + norm(width) + dense(width, CODES)
    return grid(width, places) + text + layers * layer + head


def superres(width: int, layers: int, heads: int, hidden: int, low_layers: int) -> int:
    """Section 2.4: as the base model over a larger grid, and an encoder of the smaller one."""
    low = attention(width, heads) + mlp(width, hidden) + 2 * norm(width)
    encoder = grid(width, 16 * 16) + low_layers * low + norm(width)
    return muse(width, layers, heads, hidden, 64 * 64) + encoder


def conv(into: int, out: int, side: int = 3) -> int:
    return side**2 * into * out + out


def residual(into: int, out: int) -> int:
    shortcut = 0 if into == out else conv(into, out, 1)
    return norm(into) + conv(into, out) + norm(out) + conv(out, out) + shortcut


def vqgan(channels: list[int], blocks: int, decoder: list[int], decoder_blocks: int, code: int = 256) -> int:
    """Encoder and decoder by the channels at each resolution, the largest first; the codebook; two 1x1 convolutions."""
    total = CODES * code + 2 * conv(code, code, 1)
    total += conv(3, channels[0]) + sum(conv(each, each) for each in channels[:-1])
    for before, now in zip([channels[0], *channels], channels, strict=False):
        total += residual(before, now) + (blocks - 1) * residual(now, now)
    total += 2 * residual(channels[-1], channels[-1]) + norm(channels[-1]) + conv(channels[-1], code)
    rising = decoder[::-1]
    total += conv(code, rising[0]) + 2 * residual(rising[0], rising[0]) + sum(conv(each, each) for each in rising[:-1])
    for before, now in zip([rising[0], *rising], rising, strict=False):
        total += residual(before, now) + (decoder_blocks - 1) * residual(now, now)
    return total + norm(rising[-1]) + conv(rising[-1], 3)


def table(recipe: str, path: str = "") -> Any:
    """What a recipe says at a path, its parents merged in."""
    found = load(recipe).plain()
    for key in path.split(".") if path else []:
        found = found[key]
    return found


def parameters(kind: str, settings: dict[str, Any]) -> int:
    """How many parameters a part has, made on the meta device."""
    made = Registry().find(kind, settings["use"]).load()
    with torch.device("meta"):
        part = made(**{key: value for key, value in settings.items() if key != "use"})
    assert all(tensor.is_meta for tensor in part.state_dict().values())
    return sum(parameter.numel() for parameter in part.parameters())


F16, F8 = [128, 128, 256, 256, 512], [128, 256, 256, 512]
LARGER = {"decoder_channels": 256, "decoder_blocks": 4}


@pytest.mark.parametrize(
    ("recipe", "path", "more", "expected", "millions"),
    [
        ("models/muse-3b", "stages.base.transformer", {}, muse(2048, 48, 32, 8192), 3269),
        ("models/muse-632m", "stages.base.transformer", {}, muse(1280, 24, 20, 5120), 658),
        ("models/superres", "stages.superres.transformer", {}, superres(1024, 32, 16, 4096, 16), 774),
        ("models/superres", "stages.superres.transformer", {"low_layers": 8}, superres(1024, 32, 16, 4096, 8), 673),
        ("models/vqgan-f16", "", {}, vqgan(F16, 2, F16, 2), 59),
        ("models/vqgan-f8", "", {}, vqgan(F8, 2, F8, 2), 57),
        ("models/vqgan-f16", "", LARGER, vqgan(F16, 2, [2 * each for each in F16], 4), 210),
        ("models/vqgan-f8", "", LARGER, vqgan(F8, 2, [2 * each for each in F8], 4), 204),
    ],
)
def test_a_model_has_the_parameters_that_its_layers_make(recipe, path, more, expected, millions):
    kind = "transformer" if path else "tokenizer"
    assert parameters(kind, table(recipe, path) | more) == expected
    assert round(expected / 1e6) == millions


@pytest.mark.parametrize(
    ("recipe", "counted"),
    [
        ("models/muse-3b", f"{muse(2048, 48, 32, 8192) / 1e9:.2f}B parameters"),
        ("models/muse-632m", f"{muse(1280, 24, 20, 5120) / 1e6:.0f}M parameters"),
        ("models/superres", f"{superres(1024, 32, 16, 4096, 16) / 1e6:.0f}M parameters"),
        ("models/superres", f"low_layers: 8 makes {superres(1024, 32, 16, 4096, 8) / 1e6:.0f}M"),
        ("models/vqgan-f16", f"{vqgan(F16, 2, F16, 2) / 1e6:.1f}M parameters"),
        ("models/vqgan-f8", f"{vqgan(F8, 2, F8, 2) / 1e6:.1f}M parameters"),
    ],
)
def test_a_recipe_s_header_says_that_count(recipe, counted):
    assert counted in (RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8")


def test_the_counts_are_those_of_the_paper():
    assert muse(2048, 48, 32, 8192) == pytest.approx(3.0e9, rel=0.1)  # "3B"; its own sizes make 9% more
    assert muse(1280, 24, 20, 5120) == pytest.approx(632e6, rel=0.05)
    assert superres(1024, 32, 16, 4096, 16) == pytest.approx(772e6, rel=0.01)  # counted from table 6
    assert superres(1024, 32, 16, 4096, 8) == pytest.approx(671e6, rel=0.01)  # from figure 4


ADAFACTOR = {"use": "adafactor", "rate": 1e-4, "betas": [0.9, 0.96], "weight_decay": 0.045}
MASKED = {"batch": 512, "decay": "cosine", "warmup": 5000, "checkpoint_every": 5000, "ema": None}
SAMPLED = {"schedule": "cosine", "guidance": {"use": "cfg", "scale": 4.0, "schedule": "linear"}}
TABLES = {
    "table 4": ("train-muse-base", {"optimizer": ADAFACTOR, "fit": MASKED | {"steps": 1_500_000}, "text_dropout": 0.1}),
    "table 6": ("train-muse-superres", {"optimizer": ADAFACTOR, "fit": MASKED | {"steps": 1_000_000}}),
    "base": ("models/superres", {"stages": {"base": SAMPLED | {"size": 256, "sampler": {"steps": 24}}}}),
    "superres": ("models/superres", {"stages": {"superres": SAMPLED | {"size": 512, "sampler": {"steps": 8}}}}),
    "text": ("models/muse-3b", {"text_encoder": {"use": "t5", "width": TEXT}}),
    "average": ("average", {"decay": 0.7}),
} | {
    f"table 5, {name}": (
        f"train-vqgan-{name}",
        {
            "optimizer": {"rate": 1e-4, "betas": [0.9, 0.99], "weight_decay": 1e-4},
            "fit": {"batch": 256, "decay": "cosine", "warmup": 10_000, "steps": 1_000_000},
            "perceptual": {"weight": 0.05},
            "adversarial": {"weight": 0.1, "rate": 1e-4},
            "tokenizer": {"codebook_size": CODES},
            "dataset": {"size": size},
        },
    )
    for name, size in (("f16", 256), ("f8", 512))
}


@pytest.mark.parametrize("name", TABLES)
def test_a_recipe_says_the_paper_s_figures(name):
    recipe, figures = TABLES[name]
    message = table(recipe)
    assert {key: _narrowed(message[key], figures[key]) for key in figures} == figures


def _narrowed(message: Any, figures: Any) -> Any:
    """Of a table, what the paper's has too."""
    if not isinstance(figures, dict):
        return message
    return {key: _narrowed(message[key], figures[key]) for key in figures}


def test_the_averaged_run_is_the_trained_one_and_keeps_its_checkpoints():
    fit = table("train-muse-base", "fit")
    assert table("average", "checkpoints") == fit["out"] and fit["keep"] == 20


@pytest.mark.parametrize("recipe", ["models/superres", "train-muse-superres"])
def test_the_smaller_base_model_fits_before_super_resolution(recipe):
    task = {} if recipe.startswith("train") else {"use": "generate", "prompt": "a red apple"}
    smaller = {"extends": recipe, "stages": {"base": {"transformer": WIDTH_632M}}} | task
    assert [str(problem) for problem in muse_studio.check(smaller)] == []
    assert table("models/muse-632m", "stages.base.transformer") == table(
        "models/muse-3b", "stages.base.transformer"
    ) | (WIDTH_632M)


STEP = """
import json, resource, sys, torch
from muse_studio.contracts import MASK, TextEmbedding
from muse_transformer.muse import MuseTransformer

settings = json.loads(sys.argv[1])
model = MuseTransformer(**settings).train()
tokens = torch.randint(settings["codebook_size"], (1, *settings["grid"]))
states = torch.randn(1, 64, settings["text_width"])
text = TextEmbedding(states, torch.ones(1, 64, dtype=torch.bool))
with torch.autocast("cpu", torch.bfloat16):
    logits = model(torch.full_like(tokens, MASK), model.condition(text))
loss = torch.nn.functional.cross_entropy(logits.flatten(0, 2).float(), tokens.flatten())
loss.backward()
kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
print(json.dumps({
    "loss": loss.item(),
    "logits": str(logits.dtype),
    "learning": sum(p.numel() for p in model.parameters() if p.grad is not None and p.grad.isfinite().all()),
    "gib": kilobytes / 2**20,
}))
"""
"""One forward and backward as training has it: float32 weights, bfloat16 arithmetic, one picture all masked."""


def one_step(settings: dict[str, Any]) -> dict[str, Any]:
    """What STEP says, run in a process of its own, whose peak memory is its own too."""
    done = subprocess.run(
        [sys.executable, "-c", STEP, json.dumps(settings)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=3600,
        env=os.environ | {"OMP_NUM_THREADS": str(os.cpu_count())},  # it takes minutes, and is the last to end
    )
    return json.loads(done.stdout)


@pytest.mark.slow  # writes 2.5 GiB of random weights and computes on them: a minute or more, and some 8 GiB
def test_the_632m_model_takes_a_step_in_24_gib():
    pytest.importorskip("resource")
    settings = table("models/muse-632m", "stages.base.transformer")
    told = one_step({key: value for key, value in settings.items() if key != "use"})
    print(f"peak memory {told['gib']:.1f} GiB, loss {told['loss']:.3f}")
    assert told["learning"] == muse(1280, 24, 20, 5120)
    assert told["logits"] == "torch.bfloat16"
    assert told["loss"] == pytest.approx(math.log(CODES), rel=0.1)
    assert told["gib"] < 20
