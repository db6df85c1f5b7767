"""Whether a change of the code leaves pictures and trainings as they were, bit for bit.

python benchmarks/unchanged.py write before.json      # with the code as it was
python benchmarks/unchanged.py compare before.json    # with the code as it is now: 1 where anything differs

It draws, edits, prepares, trains and measures by the `muse` command of the environment that it runs in, and by nothing
else of the project, so that modules and what is in them may have other places and names before and after. Of pictures
the pixels are hashed, of weights each tensor and not its name, of a log its numbers. Time, paths and metadata do not
count. Every picture and caption that it needs, it makes itself; no hub is asked.

Both runs belong onto one machine, as another processor or torch rounds otherwise; `compare` says so where they differ.
Each group of runs has a process of its own with THREADS threads, one group at a time. --only names groups, such as
"edits,adapter", and has `write` replace their hashes in the file alone; --keep leaves all files in a folder, to be
looked at.

What is not looked at: the GPU, several processes, torch.compile, what is fetched from a hub, Canvas.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import platform
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir, nullcontext, redirect_stderr, redirect_stdout
from importlib.metadata import entry_points, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageSequence

ATTENTION = "blocks.*.self_attention.*"
"""The self-attention of the transformer `muse`, as an adapter's targets name it: the one setting that names layers, and
so the one that follows them when they are renamed."""

THREADS = "2"

STEPS = 5

PROMPT = "a red apple, noto style"
GREEN = "a green apple, noto style"

COLOURS = {"red": (214, 48, 49), "green": (39, 174, 96), "blue": (41, 98, 255), "yellow": (241, 196, 15)}
SHAPES = ("circle", "square", "triangle", "ring", "cross", "stripes")


class Case(NamedTuple):
    """One call of `muse`. name: the folder that it writes to, below that of its group."""

    name: str
    arguments: list[str]


def draw(name: str, *overrides: str, recipe: str = "base.yaml", prompt: str = PROMPT) -> Case:
    """One picture, or several; by default of the first stage alone, in few steps, which are quickly drawn."""
    return Case(name, ["run", recipe, f"prompt={prompt}", f"out={name}", "device=cpu", *overrides])


def edit(name: str, recipe: str, *overrides: str) -> Case:
    """A changed picture of the folder `given`."""
    return Case(name, ["run", recipe, f"prompt={GREEN}", f"out={name}", "device=cpu", *overrides])


def train(name: str, recipe: str, *overrides: str, steps: int = STEPS) -> Case:
    """A few steps of a training, each of them logged."""
    fit = {"out": name, "steps": steps, "batch": 8, "warmup": 1, "log_every": 1, "checkpoint_every": 3, "device": "cpu"}
    return Case(name, ["run", recipe, *(f"fit.{key}={value}" for key, value in fit.items()), *overrides])


def setting(path: str, value: Any) -> str:
    """An override of a value that is more than a word; JSON is YAML."""
    return f"{path}={json.dumps(value)}"


# Where cases come from: a function a group, in which later cases may use what earlier ones have written.


def drawings() -> list[Case]:
    """Both stages, as `generate` has them, and all that is asked of a drawing but its sampler."""
    two = [f"a tram, noto style{end}" for end in ("", " on the left")]
    cases = [
        draw("steps", "stages.base.sampler.steps=16"),
        draw("seeds", "seed=11", "count=4"),
        draw("none", prompt='""'),
        draw("negative", "negative=brown"),
        draw("batch", "count=5", "batch=3"),
        draw("batch-negative", "count=3", "batch=3", "negative=green"),
        draw("bfloat16", "stages.base.precision=bfloat16"),
        draw("shown", "animate=true", "previews=true"),
        draw("prompts", setting("prompt", two)),
    ]
    both = [
        draw("generate", "count=2"),
        draw("both-negative", "negative=brown", "stages.superres.guidance.scale=2", "seed=5"),
        draw("both-batch", "count=3", "batch=3", "seed=3"),
        draw("both-bfloat16", "stages.superres={precision: bfloat16, tile: 8, sampler: {steps: 2}}"),
        draw("both-tiles", "stages.superres.tile=8"),
        draw("both-shown", "animate=true", "previews=true", "seed=8"),
        draw("autonat"),
        draw("again"),
    ]
    others = {"generate": "generate", "autonat": "autonat"}
    others["again"] = "generate/a-red-apple-noto-style.png"  # a picture is a recipe too
    return cases + [Case(case.name, ["run", others.get(case.name, "both.yaml"), *case.arguments[2:]]) for case in both]


def samplers() -> list[Case]:
    """Each sampler with its settings, at the first stage; some at the second too."""
    critic = {"use": "critic", "codebook_size": 4096, "grid": [8, 8], "text_width": 384, "width": 64, "layers": 2}
    scorer = {"use": "token-critic", "steps": 8, "critic": critic | {"heads": 4, "mlp": 96}}
    low = {"low_codebook_size": 4096, "low_grid": [8, 8], "low_layers": 1, "block": 4}
    refiner = scorer | {"critic": critic | low | {"use": "critic-superres", "grid": [16, 16], "heads": 4, "mlp": 96}}
    chosen: dict[str, dict[str, Any]] = {
        "confidence-greedy": {"use": "confidence", "steps": 8, "temperature": 0, "sampling_temperature": 0},
        "confidence-ranges": {"use": "confidence", "steps": 8, "temperature": [4, 1], "sampling_temperature": [1, 0.5]},
        "confidence-top-k": {"use": "confidence", "steps": 8, "top_k": 5},
        "confidence-top-p": {"use": "confidence", "steps": 8, "top_p": 0.8},
        "amused": {"use": "amused", "steps": 8},
        "amused-of": {"use": "amused", "steps": 6, "of": 9},
        "gumbel": {"use": "gumbel", "steps": 8},
        "gumbel-codes": {"use": "gumbel", "steps": 8, "sampling_temperature": 0.7},
        "random": {"use": "random", "steps": 8},
        "halton": {"use": "halton", "steps": 8},
        "halton-roll": {"use": "halton", "steps": 8, "roll": True, "sampling_temperature": [1, 0.83]},
        "remdm-cap": {"use": "remdm", "steps": 8},
        "remdm-rescale": {"use": "remdm", "steps": 8, "strategy": "rescale", "eta": 0.3},
        "remdm-conf": {"use": "remdm", "steps": 8, "strategy": "conf", "eta": 1.0},
        "remdm-loop": {"use": "remdm", "steps": 12, "strategy": "loop", "eta": 0.2},
        "corrector": {"use": "predictor-corrector", "steps": 8},
        "corrector-noise": {"use": "predictor-corrector", "steps": 8, "eta": 2.0, "temperature": 1.0},
        "critic": scorer,
    }
    cases = [draw(name, setting("stages.base.sampler", table)) for name, table in chosen.items()]
    cases += [
        draw(f"batch-{name}", setting("stages.base.sampler", chosen[name]), "count=3", "batch=3")
        for name in ("halton-roll", "remdm-conf", "critic")
    ]
    later = {name: chosen[name] for name in ("gumbel", "halton", "remdm-cap", "corrector")} | {"critic": refiner}
    return cases + [
        draw(f"both-{name}", setting("stages.superres.sampler", table | {"steps": 4}), recipe="both.yaml")
        for name, table in later.items()
    ]


def curves() -> list[Case]:
    """Each mask schedule with another kind of guidance, and each feature cache."""
    schedules: dict[str, Any] = {
        name: name for name in ("arccos", "cosine", "cubic", "exp", "linear", "log", "sigmoid", "sqrt", "square")
    } | {
        "polynomial": {"use": "polynomial", "exponent": 1.5},
        "steps": {"use": "steps", "ratios": [0.95, 0.88, 0.75, 0.41, 0.26, 0]},
    }
    guidances: dict[str, Any] = {
        "none": "none",
        "scale-0": {"use": "cfg", "scale": 0.0},
        "scale-4": {"use": "cfg", "scale": 4.0},
        "constant": {"use": "cfg", "scale": 2.0, "schedule": "constant"},
        "cosine": {"use": "cfg", "scale": 3.0, "schedule": "cosine"},
        "power-cosine": {"use": "cfg", "scale": 4.0, "schedule": "power-cosine", "power": 3.0},
        "scales": {"use": "cfg", "scales": [0, 0, 1.5, 3]},
        "interval": {"use": "cfg", "scale": 3.0, "begin": 0.3, "end": 0.8},
        "rescale": {"use": "cfg", "scale": 4.0, "rescale": 0.7},
        "weight-0": {"use": "cfg", "scale": 3.0, "negative_weight": 0},
        "weight-2": {"use": "cfg", "scale": 3.0, "negative_weight": 2.0},
    }
    caches: dict[str, dict[str, Any]] = {
        "changed": {"by": "changed"},
        "context": {"by": "context", "share": 0.5},
        "max-logit": {"by": "max-logit", "every": 4},
        "halves": {"by": "changed", "guidance": False, "layers": 2},
        "full": {"by": "context", "every": 2, "full": 3},
        "exact": {"every": 1},
    }
    cases = [
        draw(f"{one}-{other}", setting("stages.base", {"schedule": schedule, "guidance": guidance}), "negative=brown")
        for (one, schedule), (other, guidance) in zip(schedules.items(), guidances.items(), strict=True)
    ]
    cases += [draw(f"cache-{name}", setting("stages.base.cache", table)) for name, table in caches.items()]
    changed, context = (setting("stages.base.cache", caches[name]) for name in ("changed", "context"))
    return [
        *cases,
        draw("weight-2-alone", setting("stages.base.guidance", guidances["weight-2"])),
        draw("cache-bfloat16", changed, "stages.base.precision=bfloat16", "negative=brown"),
        draw("cache-batch", changed, "count=3", "batch=3"),
        draw("cache-corrector", changed, "stages.base.sampler={use: predictor-corrector, steps: 8}"),
        draw("cache-both", changed.replace("base", "superres"), recipe="both.yaml"),
        draw("cache-both-context", context.replace("base", "superres"), recipe="both.yaml"),
    ]


def edits() -> list[Case]:
    """The four recipes that change a picture."""
    round_, wide, grey = (f"picture=given/{name}.png" for name in ("round", "wide", "grey"))
    return [
        edit("inpaint", "inpaint", round_, "region=30,0,70,40", "count=2"),
        edit("inpaint-mask", "inpaint", round_, "region=given/mask.png", "negative=brown", "dilate=0", "feather=5"),
        edit("inpaint-several", "inpaint", wide, setting("region", ["0,0,40,40", "100,50,30,30"]), "previews=true"),
        edit("inpaint-halton", "inpaint", grey, "region=10,10,60,60", "stages.base.sampler={use: halton, steps: 6}"),
        edit("outpaint", "outpaint", round_, "extend.right=96", "seed=3"),
        edit("outpaint-round", "outpaint", grey, "extend={left: 20, right: 0, top: 30, bottom: 10}", "dilate=2"),
        edit("mask-free", "edit-mask-free", round_, "editor.iterations=16", "every=8", "previews=true"),
        edit("mask-free-negative", "edit-mask-free", wide, "editor.iterations=8", "negative=a red apple", "seed=2"),
        edit(
            "mask-free-region", "edit-mask-free", round_, "editor={iterations: 6, fraction: 0.3}", "region=0,0,64,128"
        ),
        edit("variations", "variations", round_, "count=3"),
        edit("variations-strong", "variations", grey, "count=1", "editor.strength=0.9"),
        edit("variations-0", "variations", round_, "count=1", "editor.strength=0"),
        edit("variations-cache", "variations", round_, "count=1", "stages.base.cache={by: changed}"),
    ]


def transformers() -> list[Case]:
    """The first stage's transformer, small, from tokens made beforehand and from pictures; and the shipped one."""
    tokens = setting("dataset", {"use": "tokens", "path": "tokens"})
    folder = setting("dataset", {"use": "folder", "path": "pictures", "size": 64})
    small = [f"stages.base.transformer.{key}={value}" for key, value in dict(width=64, layers=2, heads=2).items()]
    plain = ["fit.precision=float32", "fit.dtype=float32"]
    prepare = ["run", "prepare-tokens", "dataset.path=pictures", "workers=0", "shard=10", "device=cpu"]
    adamw, adafactor = "optimizer={use: adamw, rate: 3e-3}", "optimizer={use: adafactor, rate: 1e-2}"
    average = ["checkpoints=adamw", "out=average/average.safetensors"]
    measured = {"psnr": "psnr", "ssim": "ssim", "frechet": "frechet"}
    measure = ["n=6", "batch=3", "out=evaluate", "device=cpu", setting("reconstruction_metrics", measured)]
    return [
        Case("tokens", [*prepare, "out=tokens"]),
        Case("tokens-int8", [*prepare, "out=tokens-int8", "states=int8"]),
        train("muon", "train-emoji-base", tokens, "cache=null", *small),
        train("adamw", "train-emoji-base", folder, "cache=cache", adamw, *small, *plain, "fit.accumulate=2"),
        Case("average", ["run", "average", *average]),
        train("ema", "train-emoji-base", folder, "cache=null", adamw, *small, *plain, "fit.ema=0.9", "smoothing=0.1"),
        train("int8", "train-emoji-base", "dataset={use: tokens, path: tokens-int8}", "cache=null", *small, *plain),
        train("adafactor", "train-emoji-base", tokens, "cache=null", adafactor, *small, *plain, checkpointing("base")),
        train("samples", "train-emoji-base", folder, "cache=null", *small, "samples={every: 3}", "fit.seed=4"),
        train("overfit", "overfit-emoji-base", folder, *small),
        train("resumed", "train-emoji-base", tokens, "cache=null", *small, "fit.ema=0.9", steps=3),
        train("resumed", "train-emoji-base", tokens, "cache=null", *small, "fit.ema=0.9"),
        train("shipped", "further.yaml", tokens, *plain, adamw, "fit.batch=4"),
        Case("evaluate", ["run", "measured.yaml", *measure, folder]),
    ]


def checkpointing(stage: str) -> str:
    """The override that computes layers twice instead of keeping them."""
    return f"stages.{stage}.transformer.checkpointing=true"


def refining() -> list[Case]:
    """The second stage's transformer, small, and the shipped one."""
    folder = {"use": "folder", "path": "pictures", "size": 128}
    data = setting("dataset", folder)
    variants = setting("dataset", {"use": "augmented", "dataset": folder, "variants": 2, "flip": True})
    sizes = dict(width=64, layers=2, low_layers=1, heads=2)
    small = [f"stages.superres.transformer.{key}={value}" for key, value in sizes.items()]
    small += ["fit.compile=false", "cache=cache"]
    plain = ["fit.precision=float32", "fit.dtype=float32", "optimizer={use: adamw, rate: 3e-3}"]
    return [
        train("muon", "train-emoji-superres", data, *small),
        train("variants", "train-emoji-superres", variants, *small, *plain, "samples={every: 5}"),
        train("resumed", "train-emoji-superres", data, *small, *plain, "fit.ema=0.9", steps=3),
        train("resumed", "train-emoji-superres", data, *small, *plain, "fit.ema=0.9"),
        train("twice", "train-emoji-superres", data, *small, *plain, checkpointing("superres")),
        train("shipped", "further-superres.yaml", data, *plain, "cache=cache", "fit.batch=2"),
    ]


def tokenizers() -> list[Case]:
    """Each quantizer and each loss of a tokenizer's training, and a larger decoder."""
    data = setting("dataset", {"use": "folder", "path": "pictures", "size": 32})
    larger = setting("dataset", {"use": "folder", "path": "pictures", "size": 64})
    fakes = {"start": 0, "channels": 8, "levels": 2}
    plain = ["fit.precision=float32", "fit.dtype=float32", "entropy=0.1"]
    r1 = fakes | {"loss": "hinge", "regulariser": "r1", "strength": 1.0}
    sizes = {"use": "vqgan", "codebook_size": 64, "code_width": 8, "channels": 16, "multipliers": [1, 2], "blocks": 1}
    sizes |= {"decoder_blocks": 2, "patch": 2, "quantizer": {"use": "vq", "revive_after": 2}, "weights": None}
    kinds: dict[str, dict[str, Any]] = {
        "gradient": {"quantizer": {"use": "vq", "revive_after": 2, "ema": 0.0, "cosine": False}},
        "lfq": {"quantizer": "lfq"},
        "fsq": {"quantizer": {"use": "fsq", "levels": [8, 8]}},
        "projected": {"quantizer": "projected"},
        "attention": {"attention": True, "latent_width": 24, "patch": 1},
        "maskgit": {"maskgit": True, "signed": False, "code_width": 16, "patch": 1},
    }

    def one(name: str, *overrides: str, steps: int = STEPS, **more: Any) -> Case:
        return train(
            name, "train-emoji-tokenizer", data, setting("tokenizer", sizes | more), *plain, *overrides, steps=steps
        )

    fooled, deeper = setting("adversarial", fakes), setting("tokenizer", sizes | {"decoder_blocks": 3})
    source = ["source=adversarial/tokenizer.safetensors", *plain[:2]]
    return [
        one("adversarial", fooled),
        one("adversarial-r1", setting("adversarial", r1), "fit.ema=0.9", "fit.accumulate=2"),
        one("bfloat16", "fit.precision=bfloat16", "fit.dtype=float16", fooled),
        one("perceptual", "perceptual={network: network, weight: 0.05}"),
        one("resumed", fooled, "fit.ema=0.9", steps=3),
        one("resumed", fooled, "fit.ema=0.9"),
        *(one(name, **more) for name, more in kinds.items()),
        train("decoder", "finetune-emoji-decoder", data, deeper, *source),
        train("decoder-fooled", "finetune-emoji-decoder", data, deeper, *source, fooled, "fit.ema=0.9"),
        train("decoder-shipped", "finetune-emoji-decoder", larger, "fit.batch=4", "fit.precision=float32"),
    ]


def adapter() -> list[Case]:
    """Adapters of the shipped transformer, and what is drawn with them."""
    data = setting("dataset", {"use": "folder", "path": "pictures", "size": 64})
    style = ["train-emoji-style", data, "cache=cache", "fit.batch=4", "fit.precision=float32"]
    aimed = setting("adapter", {"rank": 4, "alpha": 8, "targets": [ATTENTION], "dropout": 0.1})

    def using(*adapters: tuple[str, float]) -> str:
        tables = [{"weights": f"{run}/adapter.safetensors", "scale": scale} for run, scale in adapters]
        return setting("stages.base.transformer.adapters", tables)

    return [
        train("all", *style),
        train("attention", *style, aimed),
        train("resumed", *style, "fit.ema=0.9", steps=3),
        train("resumed", *style, "fit.ema=0.9"),
        draw("drawn", using(("all", 1.0)), "stages.base.sampler.steps=8"),
        draw("drawn-half", using(("all", 0.5))),
        draw("drawn-both", using(("all", 5.0), ("attention", -5.0)), "stages.base.cache={by: changed}"),
        draw("drawn-refined", using(("resumed", 20.0)), recipe="both.yaml"),
    ]


def critic() -> list[Case]:
    """Critics of both stages, and what is drawn with the first one's."""
    data = setting("dataset", {"use": "folder", "path": "pictures", "size": 64})
    larger = setting("dataset", {"use": "folder", "path": "pictures", "size": 128})
    run = ["train-emoji-critic", data, "cache=cache", "fit.precision=float32"]
    weights = "stages.base.sampler.critic.weights=plain/critic.safetensors"
    return [
        train("muon", *run),
        train("plain", *run, "fit.dtype=float32", "optimizer={use: adamw, rate: 1e-2}"),
        train("resumed", *run, "fit.ema=0.9", steps=3),
        train("resumed", *run, "fit.ema=0.9"),
        train("superres", "critic-superres.yaml", larger, "cache=cache", "optimizer={use: adamw, rate: 1e-2}"),
        draw("drawn", weights, "stages.base.sampler.steps=8", recipe="critic.yaml"),
        draw("drawn-batch", weights, "count=3", "batch=3", "stages.base.sampler.steps=4", recipe="critic.yaml"),
    ]


def models() -> list[Case]:
    """Every other transformer and tokenizer, tiny: each transformer is trained a little, and then draws."""
    data = setting("dataset", {"use": "folder", "path": "classes", "size": 32})
    fit = ["optimizer={use: adamw, rate: 1e-2}", "text_dropout=0.3"]
    cases = []
    for name in NETWORKS:
        weights = f"stages.base.transformer.weights={name}/base.safetensors"
        prompt = "'3'" if "classes" in NETWORKS[name] else PROMPT
        cases += [
            train(name, f"{name}.yaml", "use=train", data, *fit),
            draw(f"{name}-drawn", "use=generate", weights, recipe=f"{name}.yaml", prompt=prompt),
        ]
    bfloat16 = ["stages.base.precision=bfloat16", "stages.base.transformer.weights=amused/base.safetensors"]
    cases += [
        draw("amused-cache", "use=generate", *bfloat16, "stages.base.cache={by: changed}", recipe="amused.yaml"),
        draw("amused-batch", "use=generate", *bfloat16, "count=3", "batch=3", "negative=blue", recipe="amused.yaml"),
        train("adapter", "halton-maskgit.yaml", "use=train", data, *fit, "adapter={rank: 2, targets: ['*']}"),
    ]
    for name in TOKENIZERS:
        cases.append(draw(f"tokens-{name}", "use=generate", recipe=f"tokens-{name}.yaml"))
    return cases


NETWORKS: dict[str, dict[str, Any]] = {
    "muse": {"text_width": 384, "width": 32, "layers": 2, "heads": 2},
    "amused": {"vocabulary": 70, "stride": 8, "pooled_width": 384, "text_positions": 16, "halved": False},
    "amused-halved": {"vocabulary": 70, "stride": 8, "pooled_width": 384, "text_positions": 16, "halved": True},
    "uvit": {"text_width": 384, "text_positions": 16, "width": 32, "layers": 3, "heads": 2, "mlp": 64},
    "uvit-class": {"classes": 6, "width": 32, "layers": 3, "heads": 2, "mlp": 64},
    "maskgit": {"classes": 6, "width": 32, "layers": 2, "heads": 2, "mlp": 64},
    "halton-maskgit": {"classes": 6, "width": 32, "layers": 2, "heads": 2, "mlp": 64},
}
"""Transformers over 4x4 tokens of 64 codes, by the names of cases; `use` is the name, if none is given."""

for each in ("amused", "amused-halved"):
    NETWORKS[each] |= {"use": "amused", "text_width": 384, "token_width": 32, "channels": 32, "conv_blocks": 1}
    NETWORKS[each] |= {"conv_heads": 2, "width": 32, "layers": 2, "heads": 2, "mlp": 64, "frequencies": 8}

TINY = {"use": "vqgan", "codebook_size": 64, "code_width": 8, "channels": 16, "multipliers": [1, 2], "blocks": 1}
TINY |= {"patch": 4}

TOKENIZERS: dict[str, dict[str, Any]] = {
    "vq": TINY,
    "lfq": TINY | {"quantizer": "lfq"},
    "fsq": TINY | {"quantizer": "fsq", "levels": [4, 4, 4]},
    "projected": TINY | {"quantizer": "projected"},
    "attention": TINY | {"attention": True, "latent_width": 24},
    "maskgit": TINY | {"maskgit": True, "signed": False, "code_width": 32},
    "magvit2": {"use": "magvit2", "bits": 6, "channels": 32, "multipliers": [1, 1, 2, 2], "blocks": 1},
}
"""Tokenizers of 64 codes of 8x8 pixels."""

GROUPS: dict[str, Callable[[], list[Case]]] = {
    make.__name__: make
    for make in (drawings, samplers, curves, edits, transformers, refining, tokenizers, adapter, critic, models)
}


# What the cases are given: pictures, recipes, and a network to perceive with.


def provide() -> None:
    """Write all of it into the working folder; the same bytes each time."""
    for number in range(24):
        colour, shape = list(COLOURS)[number % 4], SHAPES[number % 6]
        size = [(96, 96), (128, 128), (150, 110)][number % 3]
        picture = paint(shape, COLOURS[colour], size, number)
        save(picture, f"pictures/{number:02d}-{colour}-{shape}.png", f"a {colour} {shape}, paper style")
        save(picture, f"classes/{number:02d}.png", str(number % 6))
    save(paint("circle", COLOURS["red"], (128, 128), 1), "given/round.png")
    save(paint("triangle", COLOURS["blue"], (190, 120), 2), "given/wide.png")
    save(paint("cross", COLOURS["green"], (90, 100), 3).convert("L"), "given/grey.png")
    mask = Image.new("L", (128, 128))
    ImageDraw.Draw(mask).ellipse((30, 20, 90, 70), fill=255)
    save(mask, "given/mask.png")
    Path("classes.txt").write_text("\n".join("abcdef"), encoding="utf-8")  # training tries out the prompt "a"
    for name, table in recipes().items():
        Path(f"{name}.yaml").write_text(json.dumps(table), encoding="utf-8")


def paint(shape: str, colour: tuple[int, int, int], size: tuple[int, int], number: int) -> Image.Image:
    """A shape on white, a little elsewhere for each number, by whole pixels."""
    picture = Image.new("RGB", size, "white")
    pen, (width, height) = ImageDraw.Draw(picture), size
    left, top = width // 6 + number % 7, height // 6 + number % 5
    right, bottom = width - width // 5, height - height // 6
    match shape:
        case "circle":
            pen.ellipse((left, top, right, bottom), fill=colour)
        case "square":
            pen.rectangle((left, top, right, bottom), fill=colour, outline="black", width=3)
        case "triangle":
            pen.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=colour)
        case "ring":
            pen.ellipse((left, top, right, bottom), outline=colour, width=12)
        case "cross":
            pen.line((left, top, right, bottom), fill=colour, width=14)
            pen.line((left, bottom, right, top), fill=colour, width=14)
        case _:
            for x in range(left, right, 16):
                pen.rectangle((x, top, x + 7, bottom), fill=colour)
    return picture


def save(picture: Image.Image, name: str, caption: str | None = None) -> None:
    """Write a picture, and its caption beside it."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")


def recipes() -> dict[str, dict[str, Any]]:
    """Recipes by the names of their files, where none that is shipped will do."""
    extra = {"use": "critic-superres", "codebook_size": 4096, "grid": [16, 16], "low_codebook_size": 4096}
    extra |= {"low_grid": [8, 8], "low_layers": 1, "block": 4, "text_width": 384, "width": 64, "layers": 2, "heads": 2}
    scorer = {"use": "token-critic", "steps": 4, "critic": extra | {"weights": None}}
    made: dict[str, dict[str, Any]] = {
        "base": {"extends": "models/emoji-base", "use": "generate", "stages": {"base": {"sampler": {"steps": 6}}}},
        "both": {"extends": "generate"},
        "critic": {"extends": "models/emoji-critic", "use": "generate"},
        "measured": {"extends": "models/emoji", "use": "evaluate"},
        "further": {"extends": "models/emoji-base", "use": "train"},
        "further-superres": {"extends": "models/emoji", "use": "train", "stage": "superres", "corruption": 0.2},
        "critic-superres": {"extends": "models/emoji", "use": "train", "stage": "superres", "critic": True},
    }
    few = {"base": {"sampler": {"steps": 5}}, "superres": {"sampler": {"steps": 4}}}
    made["both"]["stages"] = made["measured"]["stages"] = few
    made["critic-superres"]["stages"] = {"superres": {"sampler": scorer}}
    made |= {name: tiny({"use": name} | network, TINY) for name, network in NETWORKS.items()}
    plain = {"use": "muse"} | NETWORKS["muse"]
    return made | {f"tokens-{name}": tiny(plain, tokenizer) for name, tokenizer in TOKENIZERS.items()}


def tiny(network: dict[str, Any], tokenizer: dict[str, Any]) -> dict[str, Any]:
    """A model of one stage of 32 pixels, for `train` and for `generate`, as `use` says."""
    text = (
        {"use": "class", "classes": 6, "names": "classes.txt"}
        if "classes" in network
        else {"use": "minilm", "length": 16}
    )
    stage = {
        "size": 32,
        "tokenizer": tokenizer,
        "transformer": {"codebook_size": 64, "grid": [4, 4]} | network,
        "schedule": "cosine",
        "sampler": {"use": "confidence", "steps": 5},
        "guidance": {"use": "cfg", "scale": 2.0},
    }
    return {"text_encoder": text, "stages": {"base": stage}}


def provide_network() -> None:
    """A tiny vision network with random weights, for the perceptual loss."""
    import torch
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    with redirect_stderr(io.StringIO()):  # it shows a bar
        ResNetModel(ResNetConfig(**sizes)).save_pretrained("network")


# What is hashed.


def hashes(folder: Path) -> dict[str, str]:
    """All that a case has written, by the file's path below its folder."""
    found: dict[str, str] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix in (".png", ".webp") and path.name != "loss.png":  # whose curves show seconds as well
            found[name] = hash_picture(path)
        elif path.suffix == ".safetensors" and "checkpoints" not in path.parts:
            found[name] = hash_tensors(path)
        elif path.name == "log.csv":
            found |= hash_log(path)
        elif path.name == "metrics.json":
            found[name] = hash_numbers(path)
    for step in sorted(folder.glob("checkpoints/step-*")):  # the files in it are named after modules
        found[f"checkpoints/{step.name}"] = hash_tensors(*step.glob("*.safetensors"))
    return found


def hash_picture(path: Path) -> str:
    """Of the pixels, RGB, of every frame."""
    digest, frames = hashlib.sha256(), 0
    with Image.open(path) as picture:
        for frame in ImageSequence.Iterator(picture):
            digest.update(f"{frame.size};".encode())
            digest.update(frame.convert("RGB").tobytes())
            frames += 1
    return f"{digest.hexdigest()} of {frames} frames"


def hash_tensors(*paths: Path) -> str:
    """Of all tensors of safetensors files, whatever they are called."""
    each = sorted(digest for path in paths for digest in tensor_digests(path))
    return f"{hashlib.sha256(''.join(each).encode()).hexdigest()} of {len(each)} tensors"


def tensor_digests(path: Path) -> Iterator[str]:
    """A digest a tensor, of its type, shape and bytes; the file's layout is read here, which no torch can change."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    body = memoryview(data)[8 + length :]
    for name, tensor in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            digest = hashlib.sha256(f"{tensor['dtype']} {tensor['shape']};".encode())
            digest.update(body[begin:end])
            yield digest.hexdigest()


def hash_log(path: Path) -> dict[str, str]:
    """Of a training's losses, and of all its numbers but the time."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [[(key, value) for key, value in row.items() if key != "seconds"] for row in csv.DictReader(file)]
    losses = [value for row in rows for key, value in row if key == "loss"]
    said = f"of {len(losses)} steps, the last {losses[-1]}"
    return {"loss": f"{digest_of(losses)} {said}", "log": f"{digest_of(sorted(map(sorted, rows)))} {said}"}


def hash_numbers(path: Path) -> str:
    """Of an evaluation's scores, but those of time."""
    numbers = list(walk(json.loads(path.read_text(encoding="utf-8"))))
    return f"{digest_of(numbers)} of {len(numbers)} numbers"


def walk(table: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Every number in nested tables with the path to it; seconds are left out."""
    if isinstance(table, dict | list):
        for key, value in table.items() if isinstance(table, dict) else enumerate(table):
            if "seconds" not in str(key):
                yield from walk(value, f"{place}/{key}")
    elif isinstance(table, int | float):
        yield place, table


def digest_of(said: Any) -> str:
    """Of what JSON can hold."""
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


# The runs.


def run_group(group: str, folder: Path) -> dict[str, str]:
    """All cases of a group, in a folder of its own; the process must be one of its own too."""
    (command,) = entry_points(group="console_scripts", name="muse")
    muse = command.load()
    found: dict[str, str] = {}
    (folder / group).mkdir(parents=True)
    with chdir(folder / group):
        provide()
        if group == "tokenizers":
            provide_network()
        for case in GROUPS[group]():
            said = call(muse, case)
            results = hashes(Path(case.name)) | said
            found |= {f"{group}/{case.name}/{name}": value for name, value in results.items()}
    return found


def call(muse: Callable[[list[str]], int], case: Case) -> dict[str, str]:
    """Run one case; what it printed of its steps or its records, or why it failed."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = muse(case.arguments)
    if code:
        return {"failed": " / ".join(err.getvalue().strip().splitlines()[-3:])}
    lines = [line for line in out.getvalue().splitlines() if " steps: " in line or " bytes a record " in line]
    return {"printed": " / ".join(lines)} if lines else {}


def measure(groups: list[str], folder: Path) -> dict[str, str]:
    """The hashes of these groups, each made in a fresh process, one after the other."""
    found: dict[str, str] = {}
    for group in groups:
        begun = time.perf_counter()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            made = pool.submit(run_group, group, folder).result()
        found |= made
        print(f"{group}: {len(made)} hashes, {time.perf_counter() - begun:.0f} s", flush=True)
    return found


def machine() -> dict[str, str]:
    """What hashes may depend on beside the code."""
    processor = platform.processor() or platform.machine()
    if (told := Path("/proc/cpuinfo")).is_file():
        names = [line.partition(":")[2].strip() for line in told.read_text().splitlines() if "model name" in line]
        processor = next(iter(names), processor)
    return {"processor": processor, "torch": version("torch"), "pillow": version("pillow"), "threads": THREADS}


def prepare_environment() -> None:
    """What processes started from now on inherit."""
    for name in ("MUSE_OBSERVERS", "MUSE_TRACE", "MUSE_TRACEBACK", "MUSE_WITHOUT"):
        os.environ.pop(name, None)
    os.environ |= {"OMP_NUM_THREADS": THREADS, "MKL_NUM_THREADS": THREADS, "HF_HUB_OFFLINE": "1", "MUSE_CACHE": "cache"}
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # or threads that wait take the time of others, where there are others


def tell_differences(before: dict[str, str], now: dict[str, str]) -> int:
    """Print what is not the same in both; how much that is."""
    different = [name for name in before | now if before.get(name) != now.get(name)]
    for name in different:
        print(f"differs: {name}\n  was {before.get(name, 'not there')}\n  is  {now.get(name, 'not there')}")
    return len(different)


def main() -> int:
    """Write or compare, as told; the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=["write", "compare"])
    options.add_argument("file", type=Path)
    options.add_argument("--only", default=",".join(GROUPS), help="groups, with commas between: %(default)s")
    options.add_argument("--keep", type=Path, help="a folder for all files, not there yet; by default they are deleted")
    asked = options.parse_args()
    groups = asked.only.split(",")
    if unknown := set(groups) - set(GROUPS):
        options.error(f"no such group: {', '.join(sorted(unknown))}")
    prepare_environment()
    here = {"machine": machine(), "hashes": {}}
    before = here if asked.what == "write" and not asked.file.exists() else json.loads(asked.file.read_text("utf-8"))
    if before["machine"] != here["machine"]:
        print(f"another machine: {asked.file} is of {before['machine']}, this is {here['machine']}")
    with tempfile.TemporaryDirectory() if asked.keep is None else nullcontext(asked.keep) as folder:
        now = measure(groups, Path(folder).resolve())
    failed = {name: why for name, why in now.items() if name.endswith("/failed")}
    for name, why in failed.items():
        print(f"{name}: {why}")
    of_groups = {name: value for name, value in before["hashes"].items() if name.partition("/")[0] in groups}
    if asked.what == "write":
        here["hashes"] = {name: value for name, value in before["hashes"].items() if name not in of_groups} | now
        asked.file.write_text(json.dumps(here, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{len(now)} hashes written, {len(failed)} runs failed")
        return int(bool(failed))
    different = tell_differences(of_groups, now)
    print(f"{len(now)} hashes, {different} differ")
    return int(bool(different or failed))


if __name__ == "__main__":
    sys.exit(main())
