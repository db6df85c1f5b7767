"""aMUSEd drawn by us and by diffusers' AmusedPipeline: time, memory, and time over what the arithmetic alone takes.

python benchmarks/amused.py [--size 256] [--batch 1] [--steps 12] [--precision bfloat16] [--compile] [--folder FOLDER]

Whole pipelines, from the prompt to PIL pictures, with the same weights (random ones, at the published sizes; what they
are does not change the work), prompts, steps, guidance and threads, each in a process of its own, timed in turn;
the ratio is of medians. Both compute exactly: the tests hold their tokens equal at every step. --precision defaults
leaves each to its own choice: diffusers loads float32, ours takes what the machine is fast at. --compile sets that of
our stage; the warm-up then compiles.

The floor is our pipeline's FLOPs, counted, over the rate at which the machine multiplies large matrices of the same
type in the same run. --folder keeps the weights for the next run; they take 2.9 GB, and the import as much again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from timing import MATRIX, flops, product
from turns import Side, alternate, serve

PROMPTS = [
    "a photo of a red apple",
    "a watercolour of a lighthouse at dusk",
    "an old man with a dog on a beach",
    "a bowl of soup, seen from above",
    "a steam train in the snow",
    "two cats asleep on a sofa",
    "a city of glass in the year 3000",
    "a green dragon reading a book",
]

PRODUCTS = 16
"""Of large matrices in a row: the first one or two after a pause are slower, alone would make the floor too high."""


def publish(folder: Path, size: int) -> None:
    """Random weights of the published sizes, as diffusers writes them, and what our import makes of them."""
    import diffusers
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    from muse_studio import run

    torch.manual_seed(0)
    halved = size == 512
    transformer = diffusers.UVit2DModel(sample_size=size // 16, downsample=halved, upsample=halved)
    vqvae = diffusers.VQModel(
        act_fn="silu",
        block_out_channels=(128, 256, 256, 512, 768),
        down_block_types=("DownEncoderBlock2D",) * 5,
        up_block_types=("UpDecoderBlock2D",) * 5,
        layers_per_block=2,
        latent_channels=64,
        num_vq_embeddings=8192,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
        force_upcast=True,
    )
    text = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        projection_dim=768,
    )
    letters = sorted(ByteLevel.alphabet())
    ends = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: place for place, word in enumerate([*letters, *(f"{letter}</w>" for letter in letters), *ends])}
    pipe = diffusers.AmusedPipeline(
        vqvae,
        CLIPTokenizer(vocabulary, [], model_max_length=77),
        CLIPTextModelWithProjection(text),
        transformer,
        diffusers.AmusedScheduler(mask_token_id=transformer.config.vocab_size - 1),
    )
    pipe.save_pretrained(folder / "diffusers")
    del pipe, transformer, vqvae
    run("import-weights", {"source": str(folder / "diffusers"), "format": "amused", "out": str(folder / "ours")})


def theirs(folder: Path, precision: str, compile: bool, prompts: list[str], steps: int) -> None:
    """The worker of diffusers."""
    import diffusers

    dtype = {"dtype": torch.bfloat16} if precision == "bfloat16" else {}
    pipe = diffusers.AmusedPipeline.from_pretrained(folder / "diffusers", **dtype)
    pipe.set_progress_bar_config(disable=True)
    serve({"draw": lambda: pipe(prompts, num_inference_steps=steps)}, reported=f"diffusers {diffusers.__version__}")


def pipeline(
    folder: Path, precision: str, compile: bool, prompts: list[str], steps: int
) -> tuple[Callable[[], Any], torch.dtype]:
    """Our whole pipeline as a call, and what it computes in."""
    from muse_studio.images.pixels import to_images
    from muse_studio.recipe.build import build
    from muse_studio.recipe.merging import load
    from muse_studio.registry.plugins import Registry
    from muse_studio.runtime.device import computes_in_bfloat16
    from muse_studio.sampling.cascade import decode, make_ready, sample

    device = torch.device("cpu")
    stage: dict[str, Any] = {"compile": compile, "sampler": {"steps": steps}}
    recipe: dict[str, Any] = {"extends": str(folder / "ours/generate.yaml"), "stages": {"base": stage}}
    if precision != "defaults":
        stage["precision"] = precision
        recipe["text_encoder"] = {"dtype": precision}  # diffusers loads all its parts in one type
    task = build(load(recipe), Registry())
    make_ready(task.stages, task.text_encoder, device)
    base = task.stages["base"]

    def draw() -> Any:
        with torch.inference_mode():
            text = task.text_encoder(prompts)
        finished = sample(task.stages, text, torch.Generator().manual_seed(0), watch=lambda *reported: None)
        return to_images(decode(base, finished["base"]))

    halves = computes_in_bfloat16(base.precision, device)
    return draw, torch.bfloat16 if halves else torch.float32


def ours(folder: Path, precision: str, compile: bool, prompts: list[str], steps: int) -> None:
    """The worker of muse_studio."""
    draw, dtype = pipeline(folder, precision, compile, prompts, steps)
    serve({"draw": draw}, reported=f"muse_studio in {str(dtype).removeprefix('torch.')}")


def floor(folder: Path, precision: str, compile: bool, prompts: list[str], steps: int) -> None:
    """The worker of the floor: what our pipeline multiplies, not compiled, and how fast large matrices are."""
    draw, dtype = pipeline(folder, precision, False, prompts, steps)
    matrix = product(dtype, torch.device("cpu"))

    def matrices() -> None:
        for _ in range(PRODUCTS):
            matrix()

    serve({"matrices": matrices}, flops=flops(draw))


@click.command()
@click.option("--size", type=click.Choice(["256", "512"]), default="256")
@click.option("--batch", default=1)
@click.option("--steps", default=12)
@click.option("--precision", type=click.Choice(["float32", "bfloat16", "defaults"]), default="bfloat16")
@click.option("--compile/--no-compile", default=False, help="ours, by the stage's setting")
@click.option("--repeats", default=3)
@click.option("--folder", type=click.Path(path_type=Path), help="keeps the weights; a temporary one by default")
@click.option("--side", type=click.Choice(["ours", "theirs", "floor"]), hidden=True)
def main(
    size: str,
    batch: int,
    steps: int,
    precision: str,
    compile: bool,
    repeats: int,
    folder: Path | None,
    side: str | None,
) -> None:
    """Print both pipelines' times and peaks, their ratio, and the time over the floor."""
    prompts = [PROMPTS[number % len(PROMPTS)] for number in range(batch)]
    if side is not None:
        assert folder is not None  # given with every side
        {"ours": ours, "theirs": theirs, "floor": floor}[side](folder, precision, compile, prompts, steps)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(folder or temporary) / size
        if not (folder / "ours").is_dir():
            publish(folder, int(size))
        given = ["--size", size, "--batch", batch, "--steps", steps, "--precision", precision, "--folder", folder]
        given += ["--compile"] * compile
        mine, other, least = (Side("amused.py", [*given, "--side", name]) for name in ("ours", "theirs", "floor"))
        alternate([(mine, "draw"), (other, "draw"), (least, "matrices")], repeats)
        rate = PRODUCTS * 2 * MATRIX**3 / least.median("matrices")
        seconds = least.facts["flops"] / rate
        least.close()
        print(f"aMUSEd {size}, batch {batch}, {steps} steps, {precision}{', ours compiled' * compile}")
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; matrices at {rate / 1e12:.3f} TFLOP/s")
        for each in (mine, other):
            print(f"{each.facts['told']}: {each.median('draw'):.2f} s, peak {each.peak / 2**30:.2f} GiB")
            each.close()
        print(f"{other.median('draw') / mine.median('draw'):.2f} x diffusers' speed, ", end="")
        print(f"{mine.peak / other.peak:.2f} x its memory, ", end="")
        print(f"{mine.median('draw') / seconds:.2f} x the floor of {seconds:.2f} s")


if __name__ == "__main__":
    main()
