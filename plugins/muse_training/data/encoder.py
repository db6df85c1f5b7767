"""Pictures and captions to what a masked transformer is trained on, tokens and text states; and how these are kept."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from muse_studio import contracts
from muse_studio.contracts import TextEmbedding, TextEncoder
from muse_studio.errors import UserError
from muse_studio.runtime.device import move_to_device, put_rows
from muse_studio.sampling.stage import Stage

States = Literal["bfloat16", "int8"]
"""How text states are kept: int8 has one scale, a float32, a text position."""

TOKENS = "tokens."
"""Before a stage's name: what its tokens are called in a record."""

MICRO = "micro"
"""What a record's micro-conditions are called, float32[5] as `contracts.MICRO` has them."""


def collate(records: list[dict[str, Any]] | dict[str, Any]) -> dict[str, Any]:
    """Records to a batch: tensors stacked, all else in lists. What a data set gives as a batch stays as it is."""
    if isinstance(records, dict):
        return records
    batch = {name: [record[name] for record in records] for name in records[0]}
    return {name: torch.stack(each) if isinstance(each[0], Tensor) else each for name, each in batch.items()}


class TrainingBatch(NamedTuple):
    """A batch as a masked transformer is trained on it: tokens int64[B, h, w], text, and low-resolution tokens."""

    tokens: Tensor
    text: TextEmbedding
    low: Tensor | None


class Encoder:
    """Pictures and captions to tokens and text states, by the frozen parts of stages, the first of them the lowest.

    What is trained is the last one; the low-resolution tokens are those of the one before it, of the picture scaled
    down.
    """

    def __init__(self, stages: dict[str, Stage], text_encoder: TextEncoder, device: torch.device) -> None:
        self.stages, self.text_encoder, self.device = stages, text_encoder, device

    @torch.no_grad()
    def tokens(self, images: Tensor) -> dict[str, Tensor]:
        """uint8[B, 3, H, W] to each stage's tokens int64[B, h, w] of the picture in that stage's size."""
        return {
            name: stage.tokenizer.encode(put_rows(stage.resize(images), self.device).float() / 255)
            for name, stage in self.stages.items()
        }

    @torch.no_grad()
    def text(self, captions: list[str]) -> TextEmbedding:
        """B captions to their embedding, on the device."""
        return self.text_encoder(captions).to(self.device)

    def pack(self, batch: dict[str, Any], states: States) -> dict[str, Tensor]:
        """A batch of pictures and captions as it is kept, on the CPU: tokens, states, mask, scale, pooled, micro."""
        text = self.text(batch["caption"])
        kept = {
            TOKENS + name: _smallest_integers(grid, self.stages[name])
            for name, grid in self.tokens(batch["image"]).items()
        }
        kept |= pack_states(text.states, states) | {"mask": text.mask}
        kept |= {} if text.pooled is None else {"pooled": text.pooled}
        kept |= {MICRO: batch[MICRO]} if MICRO in batch else {}
        return {name: tensor.cpu() for name, tensor in kept.items()}

    def __call__(self, batch: dict[str, Any]) -> TrainingBatch:
        """A batch of either kind."""
        if "image" in batch:
            tokens, text = self.tokens(batch["image"]), self.text(batch["caption"])
            if MICRO in batch:
                text = text._replace(micro=put_rows(batch[MICRO], self.device))
        else:
            moved = {name: put_rows(tensor, self.device) for name, tensor in batch.items()}
            tokens = {name: moved[TOKENS + name].long() for name in self.stages}
            text = TextEmbedding(unpack_states(moved), moved["mask"], moved.get("pooled"), moved.get(MICRO))
        *before, last = tokens.values()
        return TrainingBatch(last, text, before[-1] if before else None)


def make_encoder(stages: dict[str, Stage], text_encoder: TextEncoder, device: torch.device) -> Encoder:
    """The stages' tokenizers and the text encoder, moved to a device, as what encodes."""
    move_to_device([*(stage.tokenizer for stage in stages.values()), text_encoder], device)
    return Encoder(stages, text_encoder, device)


def blank_batch(stage: Stage, micro: bool = False) -> dict[str, Any]:
    """A batch of one black picture of a stage's size, captioned, with micro-conditions or not: to try parts out on."""
    batch = {"image": torch.zeros(1, 3, stage.height, stage.width, dtype=torch.uint8), "caption": ["a"]}
    return batch | ({MICRO: torch.full((1, len(contracts.MICRO)), torch.nan)} if micro else {})


def check_picture_size(image: Tensor, name: str, stage: Stage) -> None:
    """UserError where pictures such as this one, uint8[3, H, W], are not of the stage's size."""
    if image.shape[-2:] != (stage.height, stage.width):
        raise UserError(
            f"the data set's pictures have {'x'.join(map(str, image.shape[-2:]))} pixels, the stage {name!r} has "
            f"{stage.height}x{stage.width}; set both to the same size"
        )


def pack_states(states: Tensor, kind: States) -> dict[str, Tensor]:
    """Text states float[B, T, D] as they are kept: `states` of that type, and for int8 `scale` float32[B, T].

    A position's scale is its largest number over 127, so that none is off by more than half of it.
    """
    if kind == "bfloat16":
        return {"states": states.bfloat16()}
    scale = states.float().abs().amax(-1) / 127
    return {"states": (states / scale.clamp(min=1e-30).unsqueeze(-1)).round().to(torch.int8), "scale": scale}


def unpack_states(kept: dict[str, Tensor]) -> Tensor:
    """float32[B, T, D] again."""
    states = kept["states"].float()
    return states * kept["scale"].unsqueeze(-1) if "scale" in kept else states


def _smallest_integers(tokens: Tensor, stage: Stage) -> Tensor:
    return tokens.to(torch.int16 if stage.tokenizer.codebook_size <= 2**15 else torch.int32)
