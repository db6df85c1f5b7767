"""What a model makes of real pictures: through each tokenizer, token by token, and refined from smaller ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_studio.contracts import MASK, TextEmbedding
from muse_studio.images.pixels import psnr, to_bytes
from muse_studio.sampling.cascade import decode
from muse_studio.sampling.stage import Stage
from muse_tasks.evaluate.measures import count_codes, predict_masked
from muse_tasks.evaluate.records import Record
from muse_tasks.evaluate.retrieval import features
from muse_tasks.evaluate.shown import recognition
from muse_tasks.evaluate.totals import Totals

RIGHT, ANOTHER, NONE = "right", "another", "none"
"""Which low-resolution tokens a stage is given: the picture's own, another picture's, or none that is known."""

REFINED = ("refined", "enlarged", "enlarged_real")
"""What is held against a real picture: the one drawn from the smaller one's tokens, and the smaller one enlarged,
as its tokens give it and as it really is."""


@dataclass
class Real:
    """Measures batches of real pictures, stage after stage, each given the real tokens of the one before.

    noise, drawing: generators of the masked places, and of the tokens that are sampled.
    """

    stages: dict[str, Stage]
    ratios: list[float]
    noise: torch.Generator
    drawing: torch.Generator
    device: torch.device

    @torch.inference_mode()
    def measure(self, totals: Totals, records: list[Record], text: TextEmbedding) -> Tensor:
        """One batch, whose captions are `text`, into the totals; returns it, uint8, as the last tokenizer gives it."""
        low: Tensor | None = None
        smaller: dict[str, Tensor] = {}
        for name, stage in self.stages.items():
            images = torch.stack([stage.resize(record["image"]) for record in records])
            tokens = stage.tokenizer.encode((images.float() / 255).to(self.device))
            again = to_bytes(decode(stage, tokens)).cpu()
            totals.psnr[name, "tokenizer"].append(psnr(images.double(), again.double(), 255))
            totals.codes[name] += count_codes(tokens.cpu(), stage.tokenizer.codebook_size)
            totals.features[name, "reconstructed"].append(features(again))
            totals.recognised.add(name, recognition.REAL, images, records)
            totals.recognised.add(name, recognition.TOKENIZER, again, records)
            self._predict(totals, name, tokens, text, low)
            if low is not None:
                refined = self._refine(totals, name, images, text, low)
                totals.recognised.add(name, recognition.REFINED, refined, records)
            for what, pictures in smaller.items():
                totals.psnr[name, what].append(psnr(images.double(), enlarge(pictures, stage).double(), 255))
            low, smaller = tokens, {"enlarged": again, "enlarged_real": images}
        return again

    def _predict(self, totals: Totals, name: str, tokens: Tensor, text: TextEmbedding, low: Tensor | None) -> None:
        """Accuracy and cross-entropy of masked tokens, also given wrong low-resolution tokens and none."""
        stage, order = self.stages[name], torch.rand(tokens.shape[0], tokens[0].numel(), generator=self.noise)
        given = {RIGHT: low}
        if low is not None:
            given[NONE] = torch.full_like(low, MASK)
            if len(low) > 1:
                given[ANOTHER] = low.roll(1, 0)
        for which, each in given.items():
            conditioning = stage.condition(text, each)
            for ratio in self.ratios:
                right, loss = predict_masked(stage, tokens, conditioning, ratio, order)
                totals.loss[name, ratio, which].append(loss.flatten().cpu())
                if which == RIGHT:
                    totals.right[name, ratio].append(right.flatten().cpu())

    def _refine(self, totals: Totals, name: str, images: Tensor, text: TextEmbedding, low: Tensor) -> Tensor:
        """The picture uint8 that the stage draws from the real low-resolution tokens, held against the real picture."""
        stage = self.stages[name]
        *_, tokens = stage.sample(text, self.drawing, low=low)
        refined = to_bytes(decode(stage, tokens)).cpu()
        totals.psnr[name, "refined"].append(psnr(images.double(), refined.double(), 255))
        return refined


def enlarge(pictures: Tensor, stage: Stage) -> Tensor:
    """uint8[B, 3, h, w] to uint8[B, 3, H, W] of the stage's size: bicubic, what a refined picture must beat."""
    larger = F.interpolate(pictures.float(), (stage.height, stage.width), mode="bicubic", align_corners=False)
    return larger.round().clamp(0, 255).byte()
