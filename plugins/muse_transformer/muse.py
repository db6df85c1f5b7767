"""Muse's base model: a masked transformer over the token grid, looking at the text by cross-attention."""

from __future__ import annotations

from torch import Tensor

from muse_studio.contracts import Conditioning, TextEmbedding
from muse_studio.nn.layers import refuse_low
from muse_studio.nn.lora import Adapter, load_or_start
from muse_transformer.attention import SelfAttention
from muse_transformer.options import Options
from muse_transformer.trunk import Trunk, check_sizes


class MuseTransformer(Trunk):
    """The base masked transformer (Muse, section 2.3): learned 2-D positions, an MLP head over the codebook.

    Muse's 3B has layers 48, width 2048, mlp 8192. The paper leaves open the heads and the norm: here layers are
    normalised before they act, and queries and keys per head, which trains without spikes.

    codebook_size: K, the tokenizer's. grid: [h, w], the tokens of a picture. text_width: D of the text encoder.
    mlp: width of the hidden layer, 4 x width by default.
    checkpointing: computes each layer again in the backward pass, for less memory at the price of time.
    options: what is no part of Muse's: rotary positions, gated MLPs, dropout and more, all off by default.
    weights: an address of safetensors to start from. adapters: what is added to them, each `{weights, scale}`.
    """

    name, low_grid = "muse", None

    def __init__(
        self,
        codebook_size: int = 8192,
        grid: list[int] | None = None,
        text_width: int = 4096,
        width: int = 2048,
        layers: int = 48,
        heads: int = 16,
        mlp: int | None = None,
        checkpointing: bool = False,
        weights: str | None = None,
        adapters: list[Adapter] | None = None,
        options: Options | None = None,
    ) -> None:
        grid, options = grid or [16, 16], options or Options()
        hidden = 4 * width if mlp is None else mlp
        check_sizes(
            width, heads, {"grid": grid}, codebook_size=codebook_size, text_width=text_width, layers=layers, mlp=hidden
        )

        options.check(width, heads, (grid[0], grid[1]))
        rotation = options.rotation((grid[0], grid[1]), width // heads)

        def self_attention() -> SelfAttention:
            return SelfAttention(width, heads, rotation)

        super().__init__(
            codebook_size, grid, text_width, width, layers, heads, hidden, checkpointing, self_attention, options
        )
        load_or_start(self, weights, adapters, self.start)

    def condition(self, text: TextEmbedding, low: Tensor | None = None) -> Conditioning:
        """The text's mask, then every layer's keys and values float[B, heads, T, d], and a sketch where there is one.

        `low` is not for a base model.
        """
        refuse_low(low, self.name)
        states = text.states.to(self.positions.dtype)
        return self.look(self.text_projection(states), text.mask, text)
