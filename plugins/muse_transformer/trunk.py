"""What Muse's two transformers share: blocks over a masked grid that look at a memory, and a head over the codebook."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.contracts import Conditioning
from muse_studio.nn.checks import check_grid, check_heads
from muse_studio.nn.layers import layer_list, run_layer
from muse_studio.sampling.feature_cache import Visit, gather_places
from muse_transformer.attention import CrossAttention, SelfAttention
from muse_transformer.cached import revisit


def mlp(width: int, hidden: int) -> nn.Sequential:
    """float[..., width] to float[..., width] through a wider layer."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Block(nn.Module):
    """Self-attention, cross-attention, MLP, each normalised before and added (Muse, section 2.3)."""

    entrances = ("remember",)

    def __init__(self, width: int, heads: int, hidden: int, look: SelfAttention) -> None:
        super().__init__()
        self.norm1, self.look = nn.LayerNorm(width), look
        self.norm2, self.read = nn.LayerNorm(width), CrossAttention(width, heads)
        self.norm3 = nn.LayerNorm(width)
        self.think = mlp(width, hidden)

    def remember(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """float[B, M, width] to what the cross-attention looks at: keys and values float[B, heads, M, d]."""
        return self.read.remember(memory)

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """float[B, N, width] with the memory's keys and values float[B, heads, M, d] and mask bool[B, M].

        The memory may be of the first rows alone, and M may be 0: the other rows have nothing to look at.
        """
        return self.after(x, self.look(self.norm1(x)), key, value, mask)

    def after(self, x: Tensor, seen: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """float[B, n, width], and what its places saw of the grid, to what the block makes of them; memory as above."""
        x = x + seen
        rows = len(key) if key.shape[2] else 0
        if rows == len(x):
            x = x + self.read(self.norm2(x), key, value, mask)
        elif rows:
            first, rest = x[:rows], x[rows:]
            x = torch.cat([first + self.read(self.norm2(first), key, value, mask), rest])
        return x + self.think(self.norm3(x))


class Trunk(nn.Module):
    """A masked transformer less its memory, which `condition` of a subclass makes: learned 2-D positions, an MLP head.

    look: makes the self-attention of one block. outputs: logits a place, one for each code where it is None.
    """

    entrances = ("condition",)
    outputs: int | None = None
    placewise = True

    def __init__(
        self,
        codebook_size: int,
        grid: list[int],
        text_width: int,
        width: int,
        layers: int,
        heads: int,
        hidden: int,
        checkpointing: bool,
        look: Callable[[], SelfAttention],
    ) -> None:
        super().__init__()
        self.codebook_size, self.text_width, self.checkpointing = codebook_size, text_width, checkpointing
        self.grid = tuple(grid)
        self.embed = nn.Embedding(codebook_size + 1, width)  # the last row stands for MASK
        self.positions = nn.Parameter(torch.empty(*self.grid, width))
        self.read_text = nn.Sequential(nn.Linear(text_width, width), nn.LayerNorm(width))
        self.blocks = layer_list(Block(width, heads, hidden, look()) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, self.outputs or codebook_size)
        )

    def start(self) -> None:
        """Normal weights of 0.02 (MaskGIT), and what writes into the residual stream scaled down by depth (GPT-2)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.positions, std=0.02)
        for block in self.blocks:
            for writer in (block.look.out, block.read.out, block.think[2]):
                nn.init.normal_(writer.get_parameter("weight"), std=0.02 / (3 * len(self.blocks)) ** 0.5)

    def remember(self, memory: Tensor, mask: Tensor) -> Conditioning:
        """float[B, M, width], bool[B, M] to the mask and every block's keys and values float[B, heads, M, d]."""
        return (mask, *(tensor for block in self.blocks for tensor in block.remember(memory)))

    def join(self, conditionings: Sequence[Conditioning]) -> Conditioning:
        """What `remember` gave for several texts, of B rows each, as one batch; those with the longest memory first.

        A shorter memory is padded in front, where a longer one has its text. One of no length adds no rows.
        """
        seeing = [each for each in conditionings if each[0].shape[1]] or conditionings[:1]
        longest = max(mask.shape[1] for mask, *_ in seeing)
        padded = []
        for mask, *memories in seeing:
            missing = longest - mask.shape[1]
            padded.append([F.pad(mask, (missing, 0)), *(F.pad(each, (0, 0, missing, 0)) for each in memories)])
        return tuple(torch.cat(tensors) for tensors in zip(*padded, strict=True))

    def forward(self, tokens: Tensor, conditioning: Conditioning, places: Tensor | None = None) -> Tensor:
        """int64[B, h, w], MASK where unknown, to logits float[B, h, w, K], K being `outputs` where that is set.

        places: int64[B, n] of each grid in reading order, to have their logits alone, float[B, n, K].
        """
        check_grid(tokens, self.grid)
        mask, *memories = conditioning
        x = (look_up(self.embed, tokens) + self.positions).flatten(1, 2)
        for block, key, value in zip(self.blocks, memories[::2], memories[1::2], strict=True):
            x = self.run(block, x, key, value, mask)
        if places is not None:
            return self.head(self.norm(gather_places(x, places)))
        return self.head(self.norm(x)).unflatten(1, self.grid)

    def revisit(self, tokens: Tensor, conditioning: Conditioning, visit: Visit) -> tuple[Tensor, list[Tensor]]:
        """Logits as `forward` gives them, computed in part, and what to keep (see `feature_cache.Revisiting`)."""
        mask, *memories = conditioning
        x = (look_up(self.embed, tokens) + self.positions).flatten(1, 2)
        logits, kept = revisit(self, x, memories, mask, visit)
        return logits.unflatten(1, self.grid), kept

    def run(self, block: nn.Module, *given: Tensor) -> Tensor:
        """One block; with `checkpointing`, computed again in the backward pass instead of kept."""
        return run_layer(block, *given, checkpointing=self.checkpointing)


def look_up(embed: nn.Embedding, tokens: Tensor) -> Tensor:
    """int64[B, h, w] to float[B, h, w, width]; MASK is the table's last row."""
    return embed(torch.where(tokens < 0, embed.num_embeddings - 1, tokens))


def check_sizes(width: int, heads: int, grids: dict[str, list[int]], **sizes: int) -> None:
    """ValueError, naming the setting, where a size is below 1, a grid is no pair, or heads don't divide the width."""
    if min(width, heads, *sizes.values()) < 1:
        raise ValueError(f"width, heads, {', '.join(sizes)} must be 1 or more")
    for name, grid in grids.items():
        if len(grid) != 2 or min(grid) < 1:
            raise ValueError(f"{name} is {grid}; give its two sides in tokens, [height, width], each 1 or more")
    check_heads({"heads": heads, "width": width})
