"""Quantizers compared: the embedded tokenizer's recipe with each, for some steps, then codes in use and PSNR.

python benchmarks/quantizers.py [--steps 2000] [--only simvq] [--out runs/quantizers] [setting=value ...]

Each trains the same small network on the same pictures of 64 pixels in the same order, and is then measured on 1,024
pictures of each split, or all: the share of 4,096 codes that occur in the tokens of both, their perplexity, and the
PSNR. A training that was stopped goes on; one that is finished is measured again at once. Settings are those of
`muse run`, such as fit.batch=16, and go to all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import torch
from muse_tasks.evaluate.measures import count_codes, perplexity, usage
from timing import machine

import muse_studio as ms
from muse_studio.images.pixels import psnr, to_bytes

PLAIN = {"use": "vq", "cosine": False, "ema": 0.0, "revive_after": 0, "gradient": "straight"}
"""The codebook of van den Oord et al. (2017), learned by gradient, with nothing against its collapse."""
EMBEDDED = {"use": "vq", "cosine": True, "ema": 0.99, "revive_after": 40, "gradient": "straight"}
EVEN = {"entropy": 0.1}
"""The entropy loss that LFQ and IBQ were published with, by MaskGIT's weight; MAGVIT-v2's temperature goes with it."""
QUANTIZERS: dict[str, Any] = {
    "vq, as embedded": EMBEDDED,
    "vq, as embedded, rotation": EMBEDDED | {"gradient": "rotation"},
    "vq by gradient": PLAIN,
    "vq by gradient, rotation": PLAIN | {"gradient": "rotation"},
    "vq by moving average": PLAIN | {"ema": 0.99},
    "simvq": "simvq",
    "ibq": "ibq",
    "ibq, entropy": "ibq",
    "lfq": "lfq",
    "lfq, entropy": {"use": "lfq", "temperature": 0.01, "group": 4},
    "fsq": {"use": "fsq", "levels": [8, 8, 8, 8]},
    "projected": "projected",
}
"""Each row's name, and its quantizer."""

AT_ONCE, MOST = 64, 1024
"""Pictures measured at a time, and of each split, drawn by lot, the same for all."""


def trained(quantizer: Any, more: dict[str, Any], folder: Path, steps: int, settings: tuple[str, ...]) -> Any:
    """The tokenizer that the recipe trains with a quantizer, and with more settings of its row."""
    changes = {"tokenizer.quantizer": quantizer, "fit.steps": steps, "fit.out": str(folder), **more}
    ms.run("train-emoji-tokenizer", [changes, *settings])
    kept = {"decoder_blocks": 2, "quantizer": quantizer, "weights": str(folder / "tokenizer.safetensors")}
    return ms.load({"extends": "models/emoji-tokenizer"} | kept, kind="tokenizer")


@torch.inference_mode()
def measured(tokenizer: Any) -> dict[str, float]:
    """The share of codes in use, their perplexity, and PSNR in dB by split."""
    dataset = ms.load({"use": "emoji", "size": 64}, kind="dataset")
    counts, found = torch.zeros(tokenizer.codebook_size, dtype=torch.int64), {}
    for split in ("seen", "held-out"):
        records, errors = dataset.evaluation(split), []
        chosen = torch.randperm(len(records), generator=torch.Generator().manual_seed(0))[:MOST]
        for numbers in chosen.split(AT_ONCE):
            images = torch.stack([records[number]["image"] for number in numbers.tolist()])
            tokens = tokenizer.encode(images.float() / 255)
            counts += count_codes(tokens, tokenizer.codebook_size)
            errors.append(psnr(images.double(), to_bytes(tokenizer.decode(tokens)).double(), 255))
        found[split] = float(torch.cat(errors).mean())
    return {"codes": usage(counts), "perplexity": perplexity(counts)} | found


@click.command()
@click.option("--steps", default=2000, show_default=True)
@click.option("--only", multiple=True, help="A row by its name.")
@click.option("--out", default="runs/quantizers", show_default=True)
@click.argument("settings", nargs=-1)
def main(steps: int, only: tuple[str, ...], out: str, settings: tuple[str, ...]) -> None:
    """Train with each quantizer, and print a table."""
    if strange := set(only) - set(QUANTIZERS):
        raise click.BadParameter(f"{', '.join(strange)} is no row; there are: {'; '.join(QUANTIZERS)}")
    click.echo(f"{steps} steps, {machine(torch.device('cpu'))}")
    click.echo("| quantizer | codes in use | perplexity | PSNR seen, dB | held out |")
    click.echo("| --- | ---: | ---: | ---: | ---: |")
    for name in only or QUANTIZERS:
        folder = Path(out) / name.replace(", ", "-").replace(" ", "-")
        more = EVEN if name.endswith(", entropy") else {}
        found = measured(trained(QUANTIZERS[name], more, folder, steps, settings))
        numbers = f"{found['codes']:.1%} | {found['perplexity']:.0f} | {found['seen']:.2f} | {found['held-out']:.2f}"
        click.echo(f"| {name} | {numbers} |")


if __name__ == "__main__":
    main()
