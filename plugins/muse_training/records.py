"""What the training of a masked transformer reads: tokens and text, computed on the fly or kept in a cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from muse_studio.contracts import TextEmbedding, TextEncoder, Tokenizer
from muse_studio.stage import Stage
from muse_training.store import Store, fingerprint

BATCH = 128
"""Records encoded at a time while a cache is built."""

PROBES = 32
"""Records by which a cache knows again what it was made of."""


def stack(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Records to a batch: tensors stacked, all else in lists."""
    batch = {name: [record[name] for record in records] for name in records[0]}
    return {name: torch.stack(each) if isinstance(each[0], Tensor) else each for name, each in batch.items()}


class Seen(NamedTuple):
    """A batch as a masked transformer is trained on it: tokens int64[B, h, w], text, and low-resolution tokens."""

    tokens: Tensor
    text: TextEmbedding
    low: Tensor | None


class Encoder:
    """Pictures and captions to tokens and text states, by the frozen parts of a stage and of the stage before it."""

    def __init__(self, stage: Stage, before: Stage | None, text_encoder: TextEncoder, device: torch.device) -> None:
        self.stage, self.before, self.text_encoder, self.device = stage, before, text_encoder, device

    def tokens(self, images: Tensor) -> Tensor:
        """uint8[B, 3, H, W] to the stage's tokens int64[B, h, w]."""
        return self._encode(self.stage.tokenizer, images)

    def low(self, images: Tensor) -> Tensor:
        """uint8[B, 3, H, W], scaled down, to the tokens of the stage before, int64[B, h', w']."""
        return self._encode(self.before.tokenizer, self.before.resize(images))

    @torch.no_grad()
    def _encode(self, tokenizer: Tokenizer, images: Tensor) -> Tensor:
        return tokenizer.encode(images.to(self.device).float() / 255)

    @torch.no_grad()
    def text(self, captions: list[str]) -> TextEmbedding:
        """B captions to their embedding, on the device."""
        return self.text_encoder(captions).to(self.device)

    def __call__(self, batch: dict[str, Any]) -> Seen:
        """A batch of either kind."""
        if "tokens" not in batch:
            low = None if self.before is None else self.low(batch["image"])
            return Seen(self.tokens(batch["image"]), self.text(batch["caption"]), low)
        there = {name: tensor.to(self.device) for name, tensor in batch.items()}
        text = TextEmbedding(there["states"].float(), there["mask"], there.get("pooled"))
        low = there["low"].long() if "low" in there else None
        return Seen(there["tokens"].long(), text, low)


class Cached(Dataset):
    """A data set's tokens and text states, made once and kept in `folder`; nothing is read from the data set later.

    settings: what the recipe says of the data set. With some records, what the frozen parts make of them, and a
    tokenizer's weights, it names each store: another data set or another tokenizer gets another one.
    """

    def __init__(self, folder: Path, dataset: Any, encoder: Encoder, settings: Any = None) -> None:
        self.length = len(dataset)
        probe = stack([dataset[place * (self.length - 1) // (PROBES - 1)] for place in range(PROBES)])
        common = (self.length, repr(settings))

        def store(kind: str, what: str, make: Callable[[dict[str, Any]], dict[str, Tensor]], *by: object) -> Store:
            def shard(start: int, stop: int) -> dict[str, Tensor]:
                parts = [
                    make(stack([dataset[i] for i in range(first, min(first + BATCH, stop))]))
                    for first in range(start, stop, BATCH)
                ]
                return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

            made = make(probe)
            name = fingerprint(*common, *(made[key] for key in sorted(made)), *by)
            built = Store(folder / f"{kind}-{name}", self.length, shard)
            built.build(what)
            return built

        def tokens(kind: str, what: str, encode: Callable[[Tensor], Tensor], stage: Stage) -> Store:
            weights = [stage.tokenizer] if isinstance(stage.tokenizer, nn.Module) else []
            return store(kind, what, lambda batch: {kind: encode(batch["image"]).int()}, probe["image"], *weights)

        def text(batch: dict[str, Any]) -> dict[str, Tensor]:
            found = encoder.text(batch["caption"])
            kept = {"states": found.states.bfloat16(), "mask": found.mask}
            return kept if found.pooled is None else kept | {"pooled": found.pooled}

        self.stores = [tokens("tokens", "encoding pictures", encoder.tokens, encoder.stage)]
        if encoder.before is not None:
            self.stores.append(tokens("low", "encoding small pictures", encoder.low, encoder.before))
        self.stores.append(store("text", "encoding captions", text, probe["caption"]))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: tensor for store in self.stores for name, tensor in store[index].items()}
