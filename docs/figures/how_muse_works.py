"""Draws the figures of docs/how-muse-works.md with the embedded model: python docs/figures/how_muse_works.py."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import resvg_py
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from muse_studio.contracts import MASK, TextEmbedding
from muse_studio.images.pixels import to_bytes, to_images
from muse_studio.recipe.running import prepare
from muse_studio.sampling.cascade import decode, make_ready
from muse_studio.sampling.previews import previews
from muse_studio.sampling.stage import Predictor, Stage

FOLDER = Path(__file__).parents[1] / "pictures"
PROMPT, SEED = "a red apple, noto style", 1
BOAT = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><rect width="64" height="64" fill="#fff"/>
<path d="M33 6v36h22z" fill="#f6c445"/><path d="M30 12v30H10z" fill="#e8743b"/>
<path d="M6 45h52l-8 12H14z" fill="#7a4a2b"/><path d="M0 57h64v7H0z" fill="#4aa3df"/></svg>"""
"""A drawing that the tokenizer has not seen."""


class Model:
    """The embedded model's two stages, ready on the CPU."""

    def __init__(self) -> None:
        task = prepare("generate", {"prompt": PROMPT}).task
        self.stages: dict[str, Stage] = task.stages
        self.text_encoder = task.text_encoder
        self.device = torch.device("cpu")
        make_ready(self.stages, self.text_encoder, self.device)
        self.base, self.superres = self.stages.values()

    def text(self, prompt: str) -> TextEmbedding:
        """The embedding of one prompt."""
        with torch.inference_mode():
            return self.text_encoder([prompt])

    def steps(self, prompt: str, seed: int = SEED) -> list[Tensor]:
        """Every step of the base stage, int64[1, h, w]."""
        return list(self.base.sample(self.text(prompt), torch.Generator().manual_seed(seed)))


def show(axes: Axes, picture: Image.Image | Tensor, title: str = "") -> None:
    """A picture, or uint8[3, H, W], pixel by pixel, without ticks."""
    pixels = np.asarray(picture) if isinstance(picture, Image.Image) else picture.permute(1, 2, 0).numpy()
    axes.imshow(pixels, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def seen(stage: Stage, tokens: Tensor, finished: Tensor) -> Tensor:
    """A partly masked grid as a picture uint8[3, H, W]: masked cells are grey."""
    return next(iter(previews(stage, [tokens, finished])))[0]


def save(figure: Figure, name: str) -> None:
    """Write a figure beside the others, and say where."""
    figure.savefig(FOLDER / name, dpi=100)
    print(FOLDER / name)


def tokens(model: Model) -> None:
    """A picture, its tokens, and what the decoder makes of them."""
    png = resvg_py.svg_to_bytes(svg_string=BOAT, width=128, height=128)
    boat = Image.open(io.BytesIO(bytes(png))).convert("RGB")
    images = torch.from_numpy(np.array(boat)).permute(2, 0, 1)[None] / 255
    stage = model.superres
    with torch.inference_mode():
        grid = stage.tokenizer.encode(images)
    figure = Figure((9.6, 3.3), layout="constrained")
    whole, codes, back = figure.subplots(1, 3)
    show(whole, boat, "128 x 128 pixels")
    codes.imshow(grid[0].numpy() % 40, cmap="tab20", alpha=0.45)
    for (row, column), code in np.ndenumerate(grid[0].numpy()):
        codes.text(column, row, str(code), ha="center", va="center", fontsize=4.6)
    codes.set(xticks=[], yticks=[])
    codes.set_title(f"16 x 16 tokens, each one of {stage.tokenizer.codebook_size} codes", fontsize=9)
    show(back, to_images(decode(stage, grid))[0], "what the decoder makes of them")
    save(figure, "how-tokens.png")


def masked(model: Model) -> None:
    """The same tokens with more and more of them masked, and what the transformer thinks of all masked ones at once."""
    stage, text = model.base, model.text(PROMPT)
    finished = model.steps(PROMPT)[-1]
    order = torch.rand(finished.shape, generator=torch.Generator().manual_seed(0))
    predict = Predictor(stage, text, None, None)
    figure = Figure((9.6, 4.0), layout="constrained")
    shares = (0.25, 0.5, 0.75, 1.0)
    for column, share in enumerate(shares):
        given = torch.where(order < share, MASK, finished)
        guess = torch.where(given == MASK, predict(given, 1 - share).argmax(-1), given)
        show(figure.add_subplot(2, len(shares), column + 1), seen(stage, given, finished), f"{share:.0%} masked")
        below = figure.add_subplot(2, len(shares), len(shares) + column + 1)
        show(below, to_images(decode(stage, guess))[0], "the likeliest codes, all at once")
    save(figure, "how-masked.png")


def decoding(model: Model) -> None:
    """Some steps of parallel decoding, and how sure the transformer is of the likeliest code at each place."""
    stage, text = model.base, model.text(PROMPT)
    grids = [stage.blank(1), *model.steps(PROMPT)]
    count = len(grids) - 1
    predict = Predictor(stage, text, None, None)
    chosen = [step for step in (1, 2, 4, 8, 12, 16) if step <= count]
    figure = Figure((9.6, 3.6), layout="constrained")
    for column, step in enumerate(chosen):
        sure = predict(grids[step - 1], step / count).softmax(-1).amax(-1)[0]
        open_places = (grids[step - 1][0] == MASK).numpy()
        above = figure.add_subplot(2, len(chosen), column + 1)
        drawn = above.imshow(np.ma.masked_where(~open_places, sure.numpy()), cmap="viridis", vmin=0, vmax=1)
        above.set_facecolor("#dddddd")
        above.set(xticks=[], yticks=[])
        above.set_title(f"before step {step}", fontsize=9)
        picture = seen(stage, grids[step], grids[-1])
        known = int((grids[step] != MASK).sum())
        show(figure.add_subplot(2, len(chosen), len(chosen) + column + 1), picture, f"then {known} known")
    figure.colorbar(drawn, ax=figure.axes, shrink=0.5, label="probability of the likeliest code")
    save(figure, "how-decoding.png")


def guidance(model: Model) -> None:
    """The same seeds at several guidance scales."""
    prompts = ("an owl, noto style", "a green dragon, fluent style")
    scales = (0.0, 1.0, 3.0, 6.0, 12.0)
    figure = Figure((9.6, 4.2), layout="constrained")
    usual = model.base.guidance
    for row, prompt in enumerate(prompts):
        for column, scale in enumerate(scales):
            model.base.guidance = replace(usual, scale=scale)
            picture = to_images(decode(model.base, model.steps(prompt)[-1]))[0]
            axes = figure.add_subplot(len(prompts), len(scales), row * len(scales) + column + 1)
            show(axes, picture, f"t = {scale:g}" if row == 0 else "")
            if column == 0:
                axes.set_ylabel(prompt, fontsize=8)
    model.base.guidance = usual
    save(figure, "how-guidance.png")


def stages(model: Model) -> None:
    """The base stage's picture, enlarged, and refined by the second stage."""
    prompts = (PROMPT, "a sailboat, twemoji style", "a cat, fluent 3d style")
    figure = Figure((9.6, 6.4), layout="constrained")
    for column, prompt in enumerate(prompts):
        low = model.steps(prompt)[-1]
        generator = torch.Generator().manual_seed(SEED)
        *_, high = model.superres.sample(model.text(prompt), generator, low=low)
        small = to_images(decode(model.base, low))[0]
        rows = {
            f"{prompt}\nbase stage, 64 x 64": small,
            "enlarged, bicubic": small.resize((128, 128), Image.Resampling.BICUBIC),
            "second stage, 128 x 128": to_bytes(decode(model.superres, high))[0],
        }
        for row, (title, picture) in enumerate(rows.items()):
            show(figure.add_subplot(3, len(prompts), row * len(prompts) + column + 1), picture, title)
    save(figure, "how-stages.png")


if __name__ == "__main__":
    embedded = Model()
    for draw in (tokens, masked, decoding, guidance, stages):
        draw(embedded)
