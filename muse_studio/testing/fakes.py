"""Tiny parts that do their job in the plainest way, to test other parts with."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from muse_studio.contracts import MASK, Conditioning, MaskSchedule, Predict, TextEmbedding

WIDTH = 8
"""The text width D of the fakes."""


def embedding(batch: int = 2, positions: int = 5, width: int = WIDTH, seed: int = 0) -> TextEmbedding:
    """A TextEmbedding of random states float[B, T, D] and pooled float[B, D]; the last position is padding."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, positions, dtype=torch.bool)
    mask[:, -1] = False
    states = torch.randn(batch, positions, width, generator=generator)
    return TextEmbedding(states, mask, states.mean(1))


class FakeTokenizer:
    """A token is the mean colour of 4 x 4 pixels, each channel in 0..3: 64 codes, and no training."""

    codebook_size = 64
    stride = 4

    def grid_shape(self, height: int, width: int) -> tuple[int, int]:
        """The token grid of a picture; ValueError where a side is no multiple of 4."""
        if min(height, width) < 1 or height % self.stride or width % self.stride:
            raise ValueError(f"a picture of {height} x {width} pixels does not fit; make each side a multiple of 4")
        return height // self.stride, width // self.stride

    def encode(self, images: Tensor) -> Tensor:
        """float32[B, 3, H, W] to int64[B, h, w]."""
        red, green, blue = (functional.avg_pool2d(images, self.stride) * 3).round().long().clamp(0, 3).unbind(1)
        return (red * 4 + green) * 4 + blue

    def decode(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float32[B, 3, H, W]; ValueError where a token is MASK."""
        if (tokens == MASK).any():
            raise ValueError(f"{int((tokens == MASK).sum())} tokens are MASK; sample them before decoding")
        colours = torch.stack([tokens // 16, tokens // 4 % 4, tokens % 4], 1) / 3
        return functional.interpolate(colours, scale_factor=float(self.stride))


class FakeTextEncoder:
    """A position is one word, its state drawn from the word's checksum; at most 8 words count."""

    width = WIDTH
    positions = 8

    def __call__(self, prompts: list[str]) -> TextEmbedding:
        """B prompts to float[B, 8, 8]; an empty prompt's mask is all False."""
        states = torch.zeros(len(prompts), self.positions, self.width)
        mask = torch.zeros(len(prompts), self.positions, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            for place, word in enumerate(prompt.split()[: self.positions]):
                generator = torch.Generator().manual_seed(zlib.crc32(word.encode()))
                states[row, place] = torch.randn(self.width, generator=generator)
                mask[row, place] = True
        return TextEmbedding(states, mask, states.mean(1))


class FakeTransformer(nn.Module):
    """A table of logits for each token, plus a projection of the mean text state, and of the mean low token."""

    def __init__(self, *, codebook_size: int = 64, text_width: int = WIDTH) -> None:
        super().__init__()
        self.codebook_size, self.text_width = codebook_size, text_width
        self.table = nn.Embedding(codebook_size + 1, codebook_size)  # the last row is MASK's
        self.text = nn.Linear(text_width, codebook_size, bias=False)
        self.low = nn.Embedding(codebook_size, codebook_size)

    def condition(self, text: TextEmbedding, low: Tensor | None = None) -> Conditioning:
        """The bias float[B, K] that text and low-resolution tokens give to every place."""
        counts = text.mask.unsqueeze(-1)
        bias = self.text((text.states * counts).sum(1) / counts.sum(1).clamp(min=1))
        if low is not None:
            known = (low != MASK).unsqueeze(-1)
            bias = bias + (self.low(low.clamp(min=0)) * known).mean((1, 2))
        return (bias,)

    def forward(self, tokens: Tensor, conditioning: Conditioning) -> Tensor:
        """int64[B, h, w] with MASK to logits float[B, h, w, K]."""
        known = torch.where(tokens == MASK, self.codebook_size, tokens)
        return self.table(known) + conditioning[0][:, None, None]


class FakePredict:
    """Logits float[B, h, w, K] fixed beforehand, for a sampler to ask; it notes the grids and the progress it saw."""

    def __init__(self, logits: Tensor, text: TextEmbedding | None = None, low: Tensor | None = None) -> None:
        self.logits, self.low = logits, low
        self.text = embedding(logits.shape[0]) if text is None else text
        self.asked: list[tuple[Tensor, float]] = []

    def __call__(self, tokens: Tensor, progress: float) -> Tensor:
        """The same logits for any tokens int64[B, h, w]."""
        self.asked.append((tokens.clone(), progress))
        return self.logits.clone()


class FakeSchedule:
    """1 - progress."""

    def __call__(self, progress: Tensor) -> Tensor:
        """float[...] to float[...]."""
        return 1 - progress


class FakeGuidance:
    """Muse's (section 2.7) at a constant scale t = 2."""

    def __call__(
        self, ask: Callable[..., tuple[Tensor, ...]], text: TextEmbedding, negative: TextEmbedding, progress: float
    ) -> Tensor:
        """Logits float[B, h, w, K] of both texts to guided ones."""
        prompted, unprompted = ask(text, negative)
        return 3 * prompted - 2 * unprompted


class FakeSampler:
    """Places in an order drawn beforehand, each filled by a draw from its logits."""

    def __init__(self, *, steps: int = 6) -> None:
        self.steps = steps

    def __call__(
        self, predict: Predict, tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] with MASK; yields `steps` grids."""
        order = torch.rand(tokens.shape, generator=generator)
        for step in range(1, self.steps + 1):
            chances = predict(tokens, (step - 1) / self.steps).softmax(-1)
            drawn = torch.multinomial(chances.flatten(0, -2), 1, generator=generator).view(tokens.shape)
            now = (tokens == MASK) & (order >= schedule(torch.tensor(step / self.steps)))
            tokens = torch.where(now, drawn, tokens)
            yield tokens


class FakeEditor:
    """Inpainting: mask the region, fill it again."""

    def __call__(
        self,
        tokens: Tensor,
        region: Tensor,
        resample: Callable[[Tensor], Iterator[Tensor]],
        generator: torch.Generator,
    ) -> Iterator[Tensor]:
        """int64[B, h, w] and bool[B, h, w]; yields what resampling yields."""
        yield from resample(torch.where(region, MASK, tokens))


class FakeDataset:
    """Plain grey pictures uint8[3, size, size], each captioned with its shade, which is its index."""

    def __init__(self, *, count: int = 3, size: int = 8) -> None:
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The record of an index in 0..count-1; IndexError beyond."""
        if not 0 <= index < self.count:
            raise IndexError(f"there are {self.count} records, asked for {index}")
        return {"image": torch.full((3, self.size, self.size), index, dtype=torch.uint8), "caption": f"grey {index}"}
