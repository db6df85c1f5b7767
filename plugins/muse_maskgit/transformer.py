"""MaskGIT's transformer: BERT over one row of tokens, a class in front of the grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from muse_maskgit.blocks import GELU, Block, Norm
from muse_studio.contracts import Conditioning, TextEmbedding
from muse_studio.nn.classes import class_weights
from muse_studio.nn.layers import Head, check_grid, check_heads, check_sizes, refuse_low, run_layer, tied_logits
from muse_studio.nn.lora import Adapter, load_or_start
from muse_studio.sampling.feature_cache import gather_places


class MaskGIT(nn.Module):
    """The class-conditional masked transformer of Chang et al. (2022), section 3.2, as its published code computes it.

    One table has a row for each code, then one for each class, then one for MASK. A class is a token in front of the
    grid; the head compares each place with the table's rows and adds a bias a row. Of its logits those of codes count.

    The text is a class, as the text encoder `class` gives it: states float[B, T, classes] (`muse_studio.nn.classes`).
    The published models were always told of a class, and their paper has neither guidance nor a picture of anything.
    Here a text whose mask is all False has MASK in the class's place, which stands for "not known" everywhere else.
    The published weights have never seen it there, so draw with guidance `none`; a model that is trained here with
    prompts dropped learns it, and may be guided.

    The default is MaskGIT 256, of 172.5M parameters. MaskGIT 512 has grid [32, 32].

    codebook_size: K. classes: how many, which is the text's width. grid: [h, w], which it is made for alone.
    width, layers, heads, mlp: the paper says 8 heads, its code and weights have 16.
    checkpointing: computes each layer again in the backward pass, for less memory at the price of time.
    weights: an address of safetensors to start from. adapters: what is added to them, each `{weights, scale}`.
    """

    entrances = ("condition",)
    former_names = "muse_maskgit.former:FORMER"
    low_grid = None
    placewise = True

    def __init__(
        self,
        codebook_size: int = 1024,
        classes: int = 1000,
        grid: list[int] | None = None,
        width: int = 768,
        layers: int = 24,
        heads: int = 16,
        mlp: int = 3072,
        checkpointing: bool = False,
        weights: str | None = None,
        adapters: list[Adapter] | None = None,
    ) -> None:
        super().__init__()
        grid = grid or [16, 16]
        sizes = {"codebook_size": codebook_size, "classes": classes, "width": width, "layers": layers, "heads": heads}
        check_sizes(sizes | {"mlp": mlp}, grid)
        check_heads(sizes)
        self.codebook_size, self.text_width, self.checkpointing = codebook_size, classes, checkpointing
        self.grid = tuple(grid)
        self.embed = nn.Embedding(codebook_size + classes + 1, width)
        self.positions = nn.Parameter(torch.empty(1 + grid[0] * grid[1], width))
        self.norm = Norm(width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp) for _ in range(layers))
        self.head = Head(nn.Linear(width, width), GELU(), Norm(width))
        self.bias = nn.Parameter(torch.zeros(codebook_size + classes + 1))
        load_or_start(self, weights, adapters, self.start)

    def start(self) -> None:
        """Random weights as theirs."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.positions, std=0.02, a=-0.04, b=0.04)

    def condition(self, text: TextEmbedding, low: Tensor | None = None) -> Conditioning:
        """The token in front, float[B, width], less its position; `low` is not for a base model."""
        refuse_low(low, "maskgit")
        asked, some = class_weights(text)
        _, rows, unknown = self.embed.weight.split([self.codebook_size, self.text_width, 1])
        return (torch.where(some, asked.to(rows.dtype) @ rows, unknown),)

    def forward(self, tokens: Tensor, conditioning: Conditioning, places: Tensor | None = None) -> Tensor:
        """int64[B, h, w], MASK where unknown, to logits float[B, h, w, K].

        places: int64[B, n] of each grid in reading order, to have their logits alone, float[B, n, K].
        """
        check_grid(tokens, self.grid)
        (front,) = conditioning
        known = self.embed(torch.where(tokens < 0, self.embed.num_embeddings - 1, tokens)).flatten(1, 2)
        x = self.norm(torch.cat([front[:, None].to(known.dtype), known], 1) + self.positions)
        for block in self.blocks:
            x = run_layer(block, x, checkpointing=self.checkpointing)
        x, codes = x[:, 1:], self.codebook_size
        x = x if places is None else gather_places(x, places)
        logits = tied_logits(self.head(x), self.embed.weight[:codes], self.bias[:codes])
        return logits.unflatten(1, self.grid) if places is None else logits
