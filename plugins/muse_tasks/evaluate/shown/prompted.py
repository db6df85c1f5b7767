"""Pictures drawn for captions of their own, beside the real ones: compositions, and phrases that no caption is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor

from muse_studio.contracts import Dataset, TextEncoder
from muse_studio.errors import UserError
from muse_studio.images.pixels import to_bytes, to_images
from muse_studio.images.sheets import Section, Tile
from muse_studio.registry.events import ProgressBar
from muse_studio.sampling.cascade import count_steps, decode, sample
from muse_studio.sampling.stage import Stage
from muse_tasks.evaluate.records import stream
from muse_tasks.evaluate.shown.composition import Composing, by_kind, is_right
from muse_tasks.evaluate.shown.recognition import DRAWN, REAL, Judge, ranks, shares
from muse_tasks.generate.batching import batched, encode
from muse_tasks.generate.reporting import report_to

Found = tuple[dict[str, Any], Section]
"""The numbers of a measure, and its part of the contact sheet."""
COMPOSITION, FREE_WORDS = "composition", "free_words"
"""What metrics.json calls the two."""


class Phrase(TypedDict):
    """A phrase that no caption is.

    caption: the phrase. things: the names that count as right. image: uint8[3, H, W], a real picture of one of them.
    """

    caption: str
    things: list[str]
    image: Tensor


@runtime_checkable
class Phrased(Protocol):
    """What a data set offers for free words to be measured on."""

    def phrases(self, seed: int) -> Sequence[Phrase]:
        """Phrases that are never trained on, always the same ones, each with a real picture that the seed draws."""


@dataclass
class Prompted:
    """Draws pictures for captions by all stages, batch by batch, and measures the last one's.

    seed: each measure draws by a stream of its own. shown: pictures of each measure on the contact sheet.
    hook: of the observers.
    """

    stages: dict[str, Stage]
    text_encoder: TextEncoder
    judge: Judge
    device: torch.device
    seed: int
    batch: int
    shown: int
    hook: Any

    def compositions(self, dataset: Dataset, n: int) -> Found:
        """The share of n canvases of each kind that are as they should be, real ones and drawn ones."""
        assert isinstance(dataset, Composing)  # check_offers has seen to that
        cases = dataset.compositions(n, self.seed)
        real, drawn = self._pictures(cases), self._draw([case["caption"] for case in cases], COMPOSITION)
        verdicts = {
            what: [is_right(case, image, self.judge) for case, image in zip(cases, images, strict=True)]
            for what, images in ((REAL, real), (DRAWN, drawn))
        }
        marks = ["right" if right else "wrong" for right in verdicts[DRAWN]]
        found = {what: by_kind(cases, each) for what, each in verdicts.items()}
        return {"n": n, **found}, self._section("compositions", cases, real, drawn, marks)

    def free_words(self, dataset: Dataset) -> Found:
        """How often what is drawn for a phrase is recognised as something that the phrase means."""
        assert isinstance(dataset, Phrased)
        phrases = dataset.phrases(self.seed)
        real, drawn = self._pictures(phrases), self._draw([phrase["caption"] for phrase in phrases], FREE_WORDS)
        right = [phrase["things"] for phrase in phrases]
        places = {what: self._ranks(images, right) for what, images in ((REAL, real), (DRAWN, drawn))}
        marks = [f"place {place + 1}" for place in places[DRAWN].tolist()]
        found = {what: shares(each) for what, each in places.items()}
        return {"n": len(phrases), **found}, self._section("free words", phrases, real, drawn, marks)

    def _ranks(self, images: Tensor, right: Sequence[Sequence[str]]) -> Tensor:
        parts = zip(images.split(self.batch), batched(right, self.batch), strict=True)
        return torch.cat([ranks(self.judge, some, things) for some, things in parts])

    def _pictures(self, cases: Sequence[Any]) -> Tensor:
        """The real pictures in the last stage's size, uint8[N, 3, H, W]."""
        last = list(self.stages.values())[-1]
        return torch.stack([last.resize(case["image"]) for case in cases])

    def _draw(self, captions: Sequence[str], purpose: str) -> Tensor:
        """The last stage's pictures, uint8[N, 3, H, W]."""
        name, last = list(self.stages.items())[-1]
        drawing, drawn = stream(self.seed, purpose, "draw"), []
        with ProgressBar(-(-len(captions) // self.batch) * count_steps(self.stages)) as bar:
            watch = report_to(self.hook, bar, purpose.replace("_", " "))
            for some in batched(captions, self.batch):
                finished = sample(self.stages, encode(self.text_encoder, some, self.device), drawing, watch=watch)
                drawn.append(to_bytes(decode(last, finished[name])).cpu())
        return torch.cat(drawn)

    def _section(self, title: str, cases: Sequence[Any], real: Tensor, drawn: Tensor, marks: Sequence[str]) -> Section:
        shown = [to_images(images[: self.shown]) for images in (real, drawn)]
        tiles = [
            Tile(list(pair), f"{case['caption']} ({mark})")
            for *pair, case, mark in zip(*shown, cases[: self.shown], marks[: self.shown], strict=True)
        ]
        return Section(title, tiles, [REAL, DRAWN])


def check_offers(dataset: Dataset, compositions: int, phrases: bool) -> None:
    """UserError where a data set lacks what is to be measured on it."""
    for wanted, offer, what, cure in (
        (compositions > 0, Composing, "canvases of which everything is known", "compositions=0"),
        (phrases, Phrased, "phrases that no caption is", "phrases=false"),
    ):
        if wanted and not isinstance(dataset, offer):
            raise UserError(f"dataset: it has no {what}; give one that has, such as dataset.use=emoji, or {cure}")
