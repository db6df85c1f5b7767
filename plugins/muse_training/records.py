"""What the training of a masked transformer reads: tokens and text, computed on the fly or kept in a cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from muse_studio.contracts import TextEmbedding, TextEncoder, Tokenizer
from muse_training.store import Store, fingerprint

BATCH = 128
"""Records encoded at a time while a cache is built."""

PROBES = 32
"""Records by which a cache knows again what it was made of."""


def stack(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Records to a batch: tensors stacked, all else in lists."""
    batch = {name: [record[name] for record in records] for name in records[0]}
    return {name: torch.stack(each) if isinstance(each[0], Tensor) else each for name, each in batch.items()}


class Encoder:
    """Pictures and captions to tokens and text states, by frozen parts."""

    def __init__(self, tokenizer: Tokenizer, text_encoder: TextEncoder, device: torch.device) -> None:
        self.tokenizer, self.text_encoder, self.device = tokenizer, text_encoder, device

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """uint8[B, 3, H, W] to int64[B, h, w]."""
        return self.tokenizer.encode(images.to(self.device).float() / 255)

    @torch.no_grad()
    def text(self, captions: list[str]) -> TextEmbedding:
        """B captions to their embedding, on the device."""
        return self.text_encoder(captions).to(self.device)

    def __call__(self, batch: dict[str, Any]) -> tuple[Tensor, TextEmbedding]:
        """A batch of either kind to tokens and text."""
        if "tokens" not in batch:
            return self.tokens(batch["image"]), self.text(batch["caption"])
        pooled = batch["pooled"].to(self.device) if "pooled" in batch else None
        text = TextEmbedding(batch["states"].to(self.device).float(), batch["mask"].to(self.device), pooled)
        return batch["tokens"].to(self.device).long(), text


class Cached(Dataset):
    """A data set's tokens and text states, made once and kept in `folder`; nothing is read from the data set later.

    settings: what the recipe says of the data set. With some records, what the frozen parts make of them, and the
    tokenizer's weights, it names the store: another data set or another tokenizer gets another one.
    """

    def __init__(self, folder: Path, dataset: Any, encoder: Encoder, settings: Any = None) -> None:
        self.length = len(dataset)
        probe = stack([dataset[place * (self.length - 1) // (PROBES - 1)] for place in range(PROBES)])
        words, frozen = encoder.text(probe["caption"]), encoder.tokenizer
        common = (self.length, repr(settings))
        weights = [frozen] if isinstance(frozen, nn.Module) else []
        pictures = fingerprint(*common, probe["image"], encoder.tokens(probe["image"]), *weights)
        sentences = fingerprint(*common, probe["caption"], words.states, words.mask)

        def compute(make: Callable[[dict[str, Any]], dict[str, Tensor]]) -> Callable[[int, int], dict[str, Tensor]]:
            def shard(start: int, stop: int) -> dict[str, Tensor]:
                parts = [
                    make(stack([dataset[i] for i in range(first, min(first + BATCH, stop))]))
                    for first in range(start, stop, BATCH)
                ]
                return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

            return shard

        def text(batch: dict[str, Any]) -> dict[str, Tensor]:
            found = encoder.text(batch["caption"])
            kept = {"states": found.states.bfloat16(), "mask": found.mask}
            return kept if found.pooled is None else kept | {"pooled": found.pooled}

        self.tokens = Store(
            folder / f"tokens-{pictures}",
            self.length,
            compute(lambda batch: {"tokens": encoder.tokens(batch["image"]).int()}),
        )
        self.text = Store(folder / f"text-{sentences}", self.length, compute(text))
        self.tokens.build("encoding pictures")
        self.text.build("encoding captions")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.tokens[index] | self.text[index]
