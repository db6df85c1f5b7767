"""Measures of an edited picture: how near a refilled hole comes, and what of an edit's truth came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_tasks.evaluate.edit_cases import EditCase

FIELDS = 4
"""A hole's coarse colours are the means of 4 x 4 fields."""
COARSE = 16
"""Things are told apart by the mean colours of 16 x 16 fields of the picture, as in retrieval."""
DIFFERS = 8
"""Of 255: by how much some channel of a pixel must differ for the pixel to be of the part that an edit changes."""

Corner = tuple[int, int]


def draw_corners(count: int, height: int, width: int, generator: torch.Generator) -> list[Corner]:
    """Top left corners of `count` holes of half the height and half the width, each place equally likely."""
    tops = torch.randint(height - height // 2 + 1, (count,), generator=generator).tolist()
    lefts = torch.randint(width - width // 2 + 1, (count,), generator=generator).tolist()
    return list(zip(tops, lefts, strict=True))


def holes(corners: Sequence[Corner], height: int, width: int) -> Tensor:
    """bool[B, H, W], True in each one's hole."""
    region = torch.zeros(len(corners), height, width, dtype=torch.bool)
    for each, (top, left) in zip(region, corners, strict=True):
        each[top : top + height // 2, left : left + width // 2] = True
    return region


def hole_errors(real: Tensor, other: Tensor, corners: Sequence[Corner]) -> dict[str, Tensor]:
    """Mean squared errors within the holes of two uint8[B, 3, H, W], RGB in 0..1: float64[B] each.

    "pixels": pixel by pixel. "colours": of the mean colours of 4 x 4 fields of the hole.
    """
    height, width = real.shape[2] // 2, real.shape[3] // 2
    pairs = []
    for pictures in (real, other):
        cut = [
            picture[:, top : top + height, left : left + width]
            for picture, (top, left) in zip(pictures, corners, strict=True)
        ]
        pairs.append(torch.stack(cut).double() / 255)
    fields = [F.adaptive_avg_pool2d(cut, FIELDS) for cut in pairs]
    return {
        name: (one - two).square().flatten(1).mean(1)
        for name, (one, two) in {"pixels": pairs, "colours": fields}.items()
    }


@dataclass(frozen=True)
class Verdict:
    """What came out of one edit.

    moved: in the part to change, the result is nearer to the truth after than to the picture before.
    found: there, it is nearer to the truth after than to all else: before, and the case's other candidates.
    kept: in the rest, no other case's picture is nearer to the result than the case's own picture before.
    """

    kind: str
    moved: bool
    found: bool
    kept: bool

    @property
    def changed(self) -> bool:
        """Whether the wanted attribute came: an object must be the one that is found, a colour may be between two."""
        return self.found if self.kind == "object" else self.moved

    @property
    def both(self) -> bool:
        """Whether the edit did what was asked, and nothing else."""
        return self.changed and self.kept


def judge(cases: Sequence[EditCase], results: Tensor) -> list[Verdict]:
    """uint8[B, 3, H, W], one a case, against what each should be."""
    befores = torch.stack([case["before"] for case in cases])
    verdicts = []
    for place, (case, result) in enumerate(zip(cases, results, strict=True)):
        part = changing(case)
        candidates = torch.cat([case["after"][None], case["before"][None], case["others"]])
        after, before, *others = _part_errors(case["kind"], result, candidates, part).tolist()
        rest = _masked_error(result, befores, ~part)
        verdicts.append(
            Verdict(
                kind=case["kind"],
                moved=after < before,
                found=after < min([before, *others]),
                kept=bool(rest[place] <= rest.min()),
            )
        )
    return verdicts


def changing(case: EditCase) -> Tensor:
    """bool[H, W]: the part that the edit is to change, where before and after differ by more than 8 of 255 levels."""
    return (case["before"].int() - case["after"].int()).abs().amax(0) > DIFFERS


def _part_errors(kind: str, result: Tensor, candidates: Tensor, part: Tensor) -> Tensor:
    """float64[C]: how far a result is from each candidate in a part: objects by fields, all else by mean colour."""
    if kind == "object":
        pooled = [F.adaptive_avg_pool2d(each.double(), COARSE) for each in (part[None], result, candidates)]
        weight, result, candidates = pooled
        errors = (candidates - result).square().mean(1)
        return (errors * weight).sum((1, 2)) / weight.sum().clamp(min=1e-9)
    means = [pictures.double()[..., part].mean(-1) for pictures in (result, candidates)]
    return (means[1] - means[0]).square().mean(-1)


def _masked_error(result: Tensor, others: Tensor, where: Tensor) -> Tensor:
    """float64[C]: the mean squared error of uint8[3, H, W] and each of uint8[C, 3, H, W] where bool[H, W] says."""
    errors = (others.double() - result.double()).square().mean(1)
    return (errors * where).sum((1, 2)) / where.sum().clamp(min=1)
