"""Tokens of a Muse base model sampled by us and by muse-maskgit-pytorch, in one run.

python benchmarks/maskgit.py --environment FOLDER [--batch 1] [--steps 18]

The same width, layers, heads, codes, grid, text, steps and guidance, in float32, as the rival's attention fails in
bfloat16; the weights are random, and each one's own, as its layers are. FOLDER is a virtual environment of the rival's
own, made by these lines, which leave out torchvision:

    python -m venv FOLDER
    FOLDER/bin/pip install torch==2.13.0 transformers einops beartype ema-pytorch accelerate sentencepiece
    FOLDER/bin/pip install loguru einx frozendict torch-einops-utils
    FOLDER/bin/pip install --no-deps muse-maskgit-pytorch==0.3.5 memory-efficient-attention-pytorch \\
        vector-quantize-pytorch
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import torch
from turns import Side, alternate, serve


def ours(sizes: dict[str, Any]) -> None:
    """The worker of muse_studio."""
    from muse_studio.contracts import Guidance, MaskSchedule, Sampler, TextEmbedding, Tokenizer, Transformer
    from muse_studio.recipe.build import build
    from muse_studio.recipe.merging import load
    from muse_studio.registry.plugins import Registry
    from muse_studio.stage import Stage

    torch.manual_seed(0)
    registry = Registry()

    def part(contract: Any, **settings: Any) -> Any:
        return build(load(settings), registry, contract)

    transformer = part(
        Transformer,
        use="muse",
        codebook_size=sizes["codes"],
        grid=[sizes["side"]] * 2,
        text_width=sizes["text_width"],
        width=sizes["width"],
        layers=sizes["layers"],
        heads=sizes["heads"],
    ).eval()
    kept = -(-sizes["codes"] // 10)  # the rival's top_k: a tenth of the codes
    stage = Stage(
        part(Tokenizer, use="vqgan", codebook_size=sizes["codes"], channels=32, multipliers=[1] * 5),
        transformer,
        part(MaskSchedule, use="cosine"),
        part(Sampler, use="confidence", steps=sizes["steps"], top_k=kept),
        part(Guidance, use="cfg", scale=2.0, schedule="constant"),
        size=sizes["side"] * 16,
    )
    shape = (sizes["batch"], sizes["text_length"], sizes["text_width"])
    text = TextEmbedding(torch.randn(shape), torch.ones(shape[:2], dtype=torch.bool), None)

    def draw() -> None:
        with torch.inference_mode():
            *_, _last = stage.sample(text, torch.Generator().manual_seed(0))

    count = sum(parameter.numel() for parameter in transformer.parameters())
    serve({"draw": draw}, reported="muse_studio", parameters=count)


@click.command()
@click.option("--environment", type=click.Path(path_type=Path, exists=True), help="the rival's virtual environment")
@click.option("--batch", default=1)
@click.option("--steps", default=18)
@click.option("--width", default=1024)
@click.option("--layers", default=8)
@click.option("--heads", default=16)
@click.option("--side", default=16, help="tokens of the grid, a side")
@click.option("--repeats", default=3)
@click.option("--worker", hidden=True)
def main(environment: Path | None, repeats: int, worker: str | None, **sizes: Any) -> None:
    """Print both times, peaks and their ratio."""
    if worker is not None:
        ours(json.loads(worker))
        return
    if environment is None:
        raise click.UsageError("give --environment; the head of this file says how to make one")
    sizes |= {"codes": 8192, "text_width": 768, "text_length": 77}
    reported = json.dumps(sizes)
    mine = Side("maskgit.py", ["--worker", reported])
    other = Side("rival_maskgit.py", [reported], python=str(environment / "bin/python"))
    alternate([(mine, "draw"), (other, "draw")], repeats)
    print(f"{sizes}; torch {torch.__version__}, {torch.get_num_threads()} threads")
    for each in (mine, other):
        print(f"{each.facts['told']}: {each.facts['parameters'] / 1e6:.1f}M parameters, ", end="")
        print(f"{each.median('draw'):.2f} s, peak {each.peak / 2**30:.2f} GiB")
        each.close()
    print(f"{other.median('draw') / mine.median('draw'):.2f} x its speed, {mine.peak / other.peak:.2f} x its memory")


if __name__ == "__main__":
    main()
