"""aMUSEd's transformer: a U-ViT over the token grid, told of the text as a whole and of the picture's size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_amused.blocks import Block, ConvBlock, Norm
from muse_amused.cached import revisit
from muse_studio.contracts import Conditioning, TextEmbedding
from muse_studio.nn.layers import Head, check_grid, check_heads, check_sizes, layer_list, refuse_low, run_layer
from muse_studio.nn.lora import Adapter, load_or_start
from muse_studio.sampling.feature_cache import Visit, gather_places, scatter_places

KEYS = 16
"""The text is filled up, unseen, to a multiple of so many positions: on a CPU, attention to CLIP's 77 takes twice as
long as attention to 80, in bfloat16 and in float32."""


class Amused(nn.Module):
    """aMUSEd's masked transformer (Patil et al., 2024, section 3.2), after the U-ViT of Hoogeboom et al. (2023).

    Convolutions that look at the text lead down to a transformer and up again. Every layer of it is scaled and shifted
    by one vector a picture, made of the pooled text and of five numbers (SDXL's micro-conditioning): width, height,
    crop's corner, aesthetic score. All that text and numbers decide is computed once per picture, by `condition`.

    aMUSEd's unprompted half is the empty sentence as its text encoder has it, which is no null condition: a text whose
    mask is all False is replaced by the buffers `empty_states` and `empty_pooled`, zeros until weights fill them.

    The default is aMUSEd 256. aMUSEd 512 has grid [32, 32] and halved true.

    codebook_size: K. vocabulary: rows of the table of tokens; the last one stands for MASK, and those between are idle.
    grid: [h, w]. stride: pixels a token; grid and stride tell the transformer the picture's size.
    crop, aesthetic: the other numbers, as every picture has them; aMUSEd was trained on scores of 0 to 10. A text that
    brings micro-conditions, as those of a data set do, has its own in their place.
    text_width, text_positions, pooled_width: D, T and P of the text encoder; T is that of the empty sentence alone.
    channels, conv_blocks, conv_heads: of the convolutions, as many blocks down as up. token_width: of the table.
    width, layers, heads, mlp: of the transformer. frequencies: sines and cosines that each of the five becomes.
    halved: the transformer sees the grid at half its resolution.
    checkpointing: computes each layer again in the backward pass, for less memory at the price of time.
    weights: an address of safetensors to start from. adapters: what is added to them, each `{weights, scale}`.
    """

    entrances = ("condition",)
    former_names = "muse_amused.former:FORMER"
    low_grid = None
    placewise = True
    takes_micro = True
    empty_states: Tensor
    empty_pooled: Tensor

    def __init__(
        self,
        codebook_size: int = 8192,
        vocabulary: int = 8256,
        grid: list[int] | None = None,
        stride: int = 16,
        crop: list[int] | None = None,
        aesthetic: float = 6.0,
        text_width: int = 768,
        text_positions: int = 77,
        pooled_width: int = 768,
        token_width: int = 768,
        channels: int = 768,
        conv_blocks: int = 3,
        conv_heads: int = 12,
        width: int = 1024,
        layers: int = 22,
        heads: int = 16,
        mlp: int = 2816,
        frequencies: int = 256,
        halved: bool = False,
        checkpointing: bool = False,
        weights: str | None = None,
        adapters: list[Adapter] | None = None,
    ) -> None:
        super().__init__()
        grid, crop = grid or [16, 16], crop or [0, 0]
        sizes = {"codebook_size": codebook_size, "stride": stride, "text_width": text_width, "channels": channels}
        sizes |= {"text_positions": text_positions, "pooled_width": pooled_width, "token_width": token_width}
        sizes |= {"width": width}
        sizes |= {"conv_blocks": conv_blocks, "layers": layers, "mlp": mlp, "heads": heads, "conv_heads": conv_heads}
        _check(sizes, grid, crop, vocabulary, frequencies, halved)
        self.codebook_size, self.text_width, self.checkpointing = codebook_size, text_width, checkpointing
        self.grid, self.stride, self.frequencies = tuple(grid), stride, frequencies
        self.crop, self.aesthetic = tuple(crop), aesthetic
        self.embed = nn.Embedding(vocabulary, token_width)
        self.norm_embed = Norm(token_width)
        self.into_channels = nn.Linear(token_width, channels, bias=False)
        self.text_projection, self.norm_text = nn.Linear(text_width, width, bias=False), Norm(width)
        self.condition_embedding = nn.Sequential(
            nn.Linear(pooled_width + 5 * frequencies, width, bias=False), nn.SiLU(), nn.Linear(width, width, bias=False)
        )
        self.norm_shrink = Norm(channels) if halved else None
        self.shrink = nn.Conv2d(channels, channels, 2, stride=2, bias=False) if halved else None
        self.down = layer_list(ConvBlock(channels, width, conv_heads) for _ in range(conv_blocks))
        self.norm_into, self.into = Norm(channels), nn.Linear(channels, width, bias=False)
        self.blocks = layer_list(Block(width, heads, mlp) for _ in range(layers))
        self.norm_from, self.out_of = Norm(width), nn.Linear(width, channels, bias=False)
        self.up = layer_list(ConvBlock(channels, width, conv_heads) for _ in range(conv_blocks))
        self.norm_grow = Norm(channels) if halved else None
        self.grow = nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False) if halved else None
        self.head = Head(
            nn.Linear(channels, token_width, bias=False),
            Norm(token_width),
            nn.Linear(token_width, codebook_size, bias=False),
        )
        self.register_buffer("empty_states", torch.zeros(text_positions, text_width))
        self.register_buffer("empty_pooled", torch.zeros(pooled_width))
        load_or_start(self, weights, adapters, self.start)

    def start(self) -> None:
        """Random weights: normal ones of 0.02."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)

    def condition(self, text: TextEmbedding, low: Tensor | None = None) -> Conditioning:
        """The text's mask bool[B, T], then what each block remembers; `low` is not for a base model."""
        refuse_low(low, "amused")
        states, mask, pooled = self.spoken(text)
        seen = self.norm_text(self.text_projection(states))
        numbers = waves(self.numbers(text.micro, pooled), self.frequencies).flatten(1)
        vector = self.condition_embedding(torch.cat([pooled, numbers.to(pooled.dtype)], 1))
        return (mask, *(tensor for block in self._all() for tensor in block.remember(seen, vector)))

    def spoken(self, text: TextEmbedding) -> tuple[Tensor, Tensor, Tensor]:
        """The text's states, mask and pooled vector, each row that says nothing replaced by the empty sentence.

        ValueError where it has no pooled vector.
        """
        text = text.to(self.empty_states.dtype)
        if text.pooled is None:
            raise ValueError(
                "the transformer 'amused' needs a pooled text vector, which this text encoder does not give; "
                "choose text encoder 'clip'"
            )
        states, mask, pooled = text.states, text.mask, text.pooled
        some, own = mask.any(-1), len(self.empty_states)
        length = -(-max(states.shape[1], own) // KEYS) * KEYS
        states = F.pad(states, (0, 0, 0, length - states.shape[1]))
        mask = F.pad(mask, (0, length - mask.shape[1]))
        empty = F.pad(self.empty_states, (0, 0, 0, length - own))
        there = torch.arange(length, device=mask.device) < own
        return (
            torch.where(some[:, None, None], states, empty),
            torch.where(some[:, None], mask, there),
            torch.where(some[:, None], pooled, self.empty_pooled),
        )

    def numbers(self, micro: Tensor | None, rows: Tensor) -> Tensor:
        """The five numbers of B pictures, float32[B, 5]: width, height, the crop's corner, aesthetic score.

        micro: what is known of them, NaN where nothing is; rows: a tensor of B rows.
        """
        height, width = (side * self.stride for side in self.grid)
        usual = torch.tensor([width, height, *self.crop, self.aesthetic], dtype=torch.float32, device=rows.device)
        usual = usual.expand(len(rows), -1)
        return usual if micro is None else torch.where(micro.isnan(), usual, micro)

    def forward(self, tokens: Tensor, conditioning: Conditioning, places: Tensor | None = None) -> Tensor:
        """int64[B, h, w], MASK where unknown, to logits float[B, h, w, K].

        places: int64[B, n] of each grid in reading order, to have their logits alone, float[B, n, K].
        """
        check_grid(tokens, self.grid)
        mask, *memories = conditioning
        rest = iter(memories)
        x = self._enter(tokens, mask, rest)
        flat = self.into(self.norm_into(x)).flatten(1, 2)
        for block in self.blocks:
            flat = self._run(block, flat, mask, rest)
        return self._leave(flat, x, mask, rest, places)

    def revisit(self, tokens: Tensor, conditioning: Conditioning, visit: Visit) -> tuple[Tensor, list[Tensor]]:
        """Logits as `forward` gives them, computed in part, and what to keep (see `feature_cache.Revisiting`).

        The convolutions, an eighth of the whole, are computed everywhere.
        """
        mask, *memories = conditioning
        rest = iter(memories)
        x = self._enter(tokens, mask, rest)
        flat = self.into(self.norm_into(x)).flatten(1, 2)
        flat, kept = revisit(self.blocks, flat, x.shape[1:3], mask, rest, visit)
        logits = self._leave(flat, x, mask, rest, visit.wanted)
        if visit.wanted is None:
            return logits, kept
        whole = logits.new_zeros(len(tokens), tokens[0].numel(), logits.shape[-1])
        scatter_places(whole, visit.wanted, logits)
        return whole.unflatten(1, self.grid), kept

    def _enter(self, tokens: Tensor, mask: Tensor, rest: Iterator[Tensor]) -> Tensor:
        """int64[B, h, w] through the convolutions down: float[B, h', w', channels], the grid of the layers."""
        x = self.embed(torch.where(tokens < 0, self.embed.num_embeddings - 1, tokens))
        x = self.into_channels(self.norm_embed(x))
        if self.shrink is not None and self.norm_shrink is not None:
            x = channels_last(self.shrink(channels_first(self.norm_shrink(x))))
        for block in self.down:
            x = self._run(block, x, mask, rest)
        return x

    def _leave(self, flat: Tensor, like: Tensor, mask: Tensor, rest: Iterator[Tensor], places: Tensor | None) -> Tensor:
        """float[B, h' * w', width] through the convolutions up to logits; `like` is what `_enter` gave."""
        x = self.out_of(self.norm_from(flat)).view_as(like)
        for block in self.up:
            x = self._run(block, x, mask, rest)
        if self.grow is not None and self.norm_grow is not None:
            x = channels_last(self.grow(channels_first(self.norm_grow(x))))
        if places is not None:
            x = gather_places(x.flatten(1, 2), places)
        return self.head(x)

    def _all(self) -> Iterator[Block | ConvBlock]:
        """The blocks in the order in which they act."""
        yield from self.down
        yield from self.blocks
        yield from self.up

    def _run(self, block: Block | ConvBlock, x: Tensor, mask: Tensor, rest: Iterator[Tensor]) -> Tensor:
        """One block with its own memories, the next of the rest."""
        return run_layer(block, x, mask, *islice(rest, block.memories), checkpointing=self.checkpointing)


def channels_first(x: Tensor) -> Tensor:
    """float[B, h, w, C] to float[B, C, h, w]; no number moves."""
    return x.permute(0, 3, 1, 2)


def channels_last(x: Tensor) -> Tensor:
    """float[B, C, h, w] to float[B, h, w, C]; blocks flatten the grid, so it is laid out so."""
    return x.permute(0, 2, 3, 1).contiguous()


def waves(numbers: Tensor, count: int) -> Tensor:
    """float32[..., N] to float32[..., N, count]: cosines, then sines, of wavelengths from 2 pi to 10,000 times that."""
    half = count // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32, device=numbers.device) / half)
    angles = numbers[..., None] * rates
    return torch.cat([angles.cos(), angles.sin()], -1)


def _check(
    sizes: dict[str, int], grid: list[int], crop: list[int], vocabulary: int, frequencies: int, halved: bool
) -> None:
    """ValueError, naming the setting, where a size can't be."""
    check_sizes(sizes, grid)
    if vocabulary <= sizes["codebook_size"]:
        raise ValueError(
            f"vocabulary is {vocabulary}; it must be more than codebook_size, its last row stands for MASK"
        )
    if len(crop) != 2 or min(crop) < 0:
        raise ValueError(f"crop is {crop}; give two numbers, each 0 or more")
    if halved and any(side % 2 for side in grid):
        raise ValueError(f"grid is {grid}, which can't be halved; give even sides, or set halved to false")
    if frequencies < 2 or frequencies % 2:
        raise ValueError(f"frequencies is {frequencies}; give an even number, 2 or more")
    check_heads(sizes)
    check_heads(sizes, "conv_heads", "channels")
