"""What Muse's two transformers share: blocks over a masked grid that look at a memory, and a head over the codebook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.contracts import Conditioning, TextEmbedding
from muse_studio.nn.layers import Exact, Head, check_grid, check_heads, layer_list, merge_heads, run_layer
from muse_studio.sampling.feature_cache import Visit, gather_places, moved, scatter_places
from muse_transformer.attention import CrossAttention, SelfAttention
from muse_transformer.options import MaskRatio, Options, fold_cells, unfold_cells

if TYPE_CHECKING:  # loaded where a transformer has one
    from muse_transformer.sketch import Sketch, Sketched

Remembering: TypeAlias = "list[tuple[Block, Tensor, Tensor]]"
"""Blocks, each with its keys and values of the memory, float[B, heads, M, d]."""


class Block(nn.Module):
    """Self-attention, cross-attention, MLP, each normalised before and added (Muse, section 2.3)."""

    entrances = ("remember",)

    def __init__(self, width: int, heads: int, hidden: int, self_attention: SelfAttention, options: Options) -> None:
        super().__init__()
        self.norm1, self.self_attention = nn.LayerNorm(width), self_attention
        self.norm2, self.cross_attention = nn.LayerNorm(width), CrossAttention(width, heads)
        self.norm3 = nn.LayerNorm(width)
        self.mlp, self.drop = options.mlp(width, hidden), options.drop()

    def remember(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """float[B, M, width] to what the cross-attention looks at: keys and values float[B, heads, M, d]."""
        return self.cross_attention.remember(memory)

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """float[B, N, width] with the memory's keys and values float[B, heads, M, d] and mask bool[B, M].

        The memory may be of the first rows alone, and M may be 0: the other rows have nothing to look at.
        """
        return self.after(x, self.self_attention(self.norm1(x)), key, value, mask)

    def after(self, x: Tensor, seen: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """float[B, n, width], and what its places saw of the grid, to what the block makes of them; memory as above."""
        x = x + self.drop(seen)
        rows = len(key) if key.shape[2] else 0
        if rows == len(x):
            x = x + self.drop(self.cross_attention(self.norm2(x), key, value, mask))
        elif rows:
            first, rest = x[:rows], x[rows:]
            first = first + self.drop(self.cross_attention(self.norm2(first), key, value, mask))
            x = torch.cat([first, rest])
        return x + self.drop(self.mlp(self.norm3(x)))


class Trunk(nn.Module):
    """A masked transformer less its memory, which `condition` of a subclass makes: learned 2-D positions, an MLP head.

    self_attention: makes the self-attention of one block. cells: how many positions the grid has along both sides,
    which its tokens share where they are folded. outputs: logits a place, one for each code where it is None.
    """

    entrances = ("condition",)
    former_names = "muse_transformer.dialect:FORMER"
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
        self_attention: Callable[[], SelfAttention],
        options: Options,
    ) -> None:
        super().__init__()
        self.codebook_size, self.text_width, self.checkpointing = codebook_size, text_width, checkpointing
        self.grid, self.options = (grid[0], grid[1]), options
        self.cells = options.cells(self.grid)
        self.embed = nn.Embedding(codebook_size + 1, width // options.fold**2)  # the last row stands for MASK
        self.positions = nn.Parameter(torch.empty(*self.cells, width))
        self.text_projection = Exact(nn.Linear(text_width, width), nn.LayerNorm(width))
        self.blocks = layer_list(Block(width, heads, hidden, self_attention(), options) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = Head(
            nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, self.outputs or codebook_size)
        )
        self.mask_ratio = MaskRatio(width) if options.mask_ratio else None
        self.registers = nn.Parameter(torch.empty(options.registers, width)) if options.registers else None
        self.unfold = nn.Linear(width, options.fold**2 * width) if options.fold > 1 else None
        self.sketch = self._sketch(text_width, width)
        if options.registers or options.fold > 1:  # a position is then no token: see feature_cache.Revisiting
            self.revisit = None  # type: ignore[assignment,method-assign]

    def _sketch(self, text_width: int, width: int) -> Sketch | None:
        if self.options.sketch is None:
            return None
        if self.outputs is not None:
            raise ValueError("options.sketch guesses codes, of which a critic draws none; leave it out")
        from muse_transformer.sketch import Sketch

        return Sketch(self.options.sketch, self.codebook_size, text_width, self.cells, self.options.fold, width)

    def start(self) -> None:
        """Normal weights of 0.02 (MaskGIT), and what writes into the residual stream scaled down by depth (GPT-2)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        for learned in (self.positions, self.registers):
            if learned is not None:
                nn.init.normal_(learned, std=0.02)
        if self.sketch is not None:
            self.sketch.start()
        for block in self.blocks:
            for writer in (block.self_attention.out, block.cross_attention.out, block.mlp[-1]):
                nn.init.normal_(writer.get_parameter("weight"), std=0.02 / (3 * len(self.blocks)) ** 0.5)

    def remember(self, memory: Tensor, mask: Tensor) -> Conditioning:
        """float[B, M, width], bool[B, M] to the mask and every block's keys and values float[B, heads, M, d]."""
        return (mask, *(tensor for block in self.blocks for tensor in block.remember(memory)))

    def look(self, memory: Tensor, mask: Tensor, text: TextEmbedding) -> Conditioning:
        """What `remember` gives, and behind it a sketch of the text, where there is one."""
        kept = self.remember(memory, mask)
        return kept if self.sketch is None else (*kept, *self.sketch(text.states, text.mask))

    def join(self, conditionings: Sequence[Conditioning]) -> Conditioning:
        """What `remember` gave for several texts, of B rows each, as one batch; those with the longest memory first.

        A shorter memory is padded in front, where a longer one has its text. One of no length adds no rows.
        """
        seeing = [each for each in conditionings if each[0].shape[1]] or conditionings[:1]
        longest = max(mask.shape[1] for mask, *_ in seeing)
        padded = []
        for each in seeing:
            mask, memories, sketched = self._parts(each)
            missing = longest - mask.shape[1]
            grown = [F.pad(memory, (0, 0, missing, 0)) for memory in memories]
            padded.append([F.pad(mask, (missing, 0)), *grown, *(sketched or ())])
        return tuple(torch.cat(tensors) for tensors in zip(*padded, strict=True))

    def forward(self, tokens: Tensor, conditioning: Conditioning, places: Tensor | None = None) -> Tensor:
        """int64[B, h, w], MASK where unknown, to logits float[B, h, w, K], K being `outputs` where that is set.

        places: int64[B, n] of each grid in reading order, to have their logits alone, float[B, n, K].
        """
        check_grid(tokens, self.grid)
        mask, memories, sketched = self._parts(conditioning)
        x = self._enter(tokens, sketched)
        if self.registers is not None:
            x = torch.cat([self.registers.expand(len(x), -1, -1).to(x.dtype), x], 1)
        for block, key, value in zip(self.blocks, memories[::2], memories[1::2], strict=True):
            x = self.run(block, x, key, value, mask)
        x = x[:, self.options.registers :]
        if self.unfold is not None:
            each = self.unfold(self.norm(x)).unflatten(1, self.cells)
            x = unfold_cells(each, self.options.fold).flatten(1, 2)
        if places is not None:
            x = gather_places(x, places)
        logits = self._ask(x, sketched, places)
        return logits if places is not None else logits.unflatten(1, self.grid)

    def _ask(self, x: Tensor, sketched: Sketched | None, places: Tensor | None) -> Tensor:
        """The logits of every place, or of those int64[B, n] that x is of: the head's, and what a sketch adds."""
        x = x if self.unfold is not None else self.norm(x)
        logits: Tensor = self.head(x)
        if self.sketch is None or sketched is None:
            return logits
        vectors = sketched.vectors
        if places is not None:
            vectors = gather_places(vectors, places[: len(vectors)])
        return logits + self.sketch.favour(x, vectors, sketched.firm)

    def _parts(self, conditioning: Conditioning) -> tuple[Tensor, Sequence[Tensor], Sketched | None]:
        """The memory's mask, every block's keys and values, and the sketch, where there is one."""
        mask, *others = conditioning
        memories, sketched = others[: 2 * len(self.blocks)], others[2 * len(self.blocks) :]
        return mask, memories, None if self.sketch is None else self.sketch.given(sketched)

    def _enter(self, tokens: Tensor, sketched: Sketched | None) -> Tensor:
        """int64[B, h, w] to a vector for each position, float[B, N, width]; a sketch may be of the first rows alone."""
        x = look_up(self.embed, tokens)
        if self.options.fold > 1:
            x = fold_cells(x, self.options.fold)
        x = (x + self.positions).flatten(1, 2)
        if sketched is not None:
            x = x + F.pad(sketched.entered, (0, 0, 0, 0, 0, len(x) - len(sketched.entered)))
        return x if self.mask_ratio is None else x + self.mask_ratio(tokens)

    def revisit(self, tokens: Tensor, conditioning: Conditioning, visit: Visit) -> tuple[Tensor, list[Tensor]]:
        """Logits as `forward` gives them, computed in part, and what to keep (see `feature_cache.Revisiting`).

        Kept are features behind the first `everywhere` blocks float[B, N, width], each later block's keys and values of
        its self-attention float[B, heads, N, d], and the logits float[B, N, K].
        """
        mask, memories, sketched = self._parts(conditioning)
        x = self._enter(tokens, sketched)
        blocks = list(zip(self.blocks, memories[::2], memories[1::2], strict=True))
        for block, key, value in blocks[: visit.everywhere]:
            x = block(x, key, value, mask)
        later = blocks[visit.everywhere :]
        if visit.kept is None:
            kept = self._visit_all(x, later, mask, sketched, visit.wanted)
        else:
            kept = self._visit_some(x, later, mask, sketched, visit)
        return kept[-1].unflatten(1, self.grid), kept

    def _visit_all(
        self, x: Tensor, blocks: Remembering, mask: Tensor, sketched: Sketched | None, wanted: Tensor | None
    ) -> list[Tensor]:
        """Every place computed anew; logits of the `wanted` ones alone, where not all are."""
        kept = [x]
        for block, key, value in blocks:
            attention = block.self_attention
            query, *seen = attention.divide(block.norm1(x))
            x = block.after(x, attention.out(merge_heads(attention.mix(query, *seen))), key, value, mask)
            kept += seen
        if wanted is None:
            return [*kept, self._ask(x, sketched, None)]
        part = self._ask(gather_places(x, wanted), sketched, wanted)
        logits = part.new_zeros(*x.shape[:2], part.shape[-1])
        scatter_places(logits, wanted, part)
        return [*kept, logits]

    def _visit_some(
        self, x: Tensor, blocks: Remembering, mask: Tensor, sketched: Sketched | None, visit: Visit
    ) -> list[Tensor]:
        """Some places computed anew; they look at the others as those were left."""
        assert visit.kept is not None
        first, *seen, logits = visit.kept
        places = visit.choose(moved(x, first).unflatten(1, self.grid))
        x = gather_places(x, places)
        scatter_places(first, places, x)
        for (block, key, value), keys, values in zip(blocks, seen[::2], seen[1::2], strict=True):
            attention = block.self_attention
            query, *new = attention.divide(block.norm1(x), places)
            for old, part in zip((keys, values), new, strict=True):
                scatter_places(old.transpose(1, 2), places, part.transpose(1, 2))
            mixed = attention.mix_at(query, keys, values, places)
            x = block.after(x, attention.out(merge_heads(mixed)), key, value, mask)
        scatter_places(logits, places, self._ask(x, sketched, places))
        return visit.kept

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
