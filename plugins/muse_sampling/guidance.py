"""Guidance: how the logits with the prompt and those without it become one (Muse, section 2.7, and later work)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import numpy as np
from torch import Tensor

from muse_studio.contracts import Question, TextEmbedding, Transformer

Growth = Literal["constant", "linear", "cosine", "power-cosine"]


@dataclass(frozen=True)
class Strength:
    """How strong guidance is at each step: t, of which 0 is none at all; its settings are as `CFG` has them."""

    scale: float = 3.0
    schedule: Growth = "linear"
    power: float | None = None
    scales: list[float] | None = None
    begin: float = 0.0
    end: float = 1.0
    placewise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.scale < math.inf:
            raise ValueError(f"scale is {self.scale}; give 0 (no guidance) or more")
        if self.schedule not in get_args(Growth):
            raise ValueError(f"schedule is {self.schedule!r}; give one of {', '.join(map(repr, get_args(Growth)))}")
        if self.power is None and self.schedule == "power-cosine":
            raise ValueError("schedule is 'power-cosine', which needs a power; give one, such as power: 3")
        if self.power is not None and self.schedule != "power-cosine":
            raise ValueError(f"power is {self.power}, which schedule 'power-cosine' alone has; leave it out, or null")
        if self.power is not None and not 0 < self.power < math.inf:
            raise ValueError(f"power is {self.power}; give more than 0")
        if self.scales is not None:
            _check_scales(self.scales)
        if not 0 <= self.begin <= self.end <= 1:
            raise ValueError(f"begin is {self.begin}, end is {self.end}; give 0 <= begin <= end <= 1")

    def strength(self, progress: float) -> float:
        """t at a progress in 0..1."""
        if not self.begin <= progress <= self.end:
            return 0.0
        if self.scales is not None:
            count = len(self.scales)
            return float(np.interp(progress, [(step + 1) / count for step in range(count)], self.scales))
        match self.schedule:
            case "constant":
                return self.scale
            case "linear":
                return self.scale * progress
            case _:
                return self.scale * (1 - math.cos(math.pi * progress ** (self.power or 1))) / 2


@dataclass(frozen=True)
class CFG(Strength):
    """Classifier-free guidance: (1 + t) * l_c - t * l_u, l_c with the prompt, l_u with the negative prompt or none.

    Muse's t: 0 is no guidance at all, where diffusers and others write s = 1 + t, and 1 for none. A step whose t is
    0 asks the transformer once instead of twice. In float32, as the difference is amplified by t.

    scale: t, or what t grows to.
    schedule: how t grows with the progress r. Samplers give the step's (i + 1) / T as r, so that the last step has the
        whole scale. "constant": scale throughout. "linear": scale * r, as Muse does, so that early steps keep their
        variety. "cosine": scale * (1 - cos(pi r)) / 2, slow at both ends. "power-cosine": scale * (1 - cos(pi r^power))
        / 2 (MDT, Gao et al. 2023), as MaskBit and TiTok sample; both count r from i / T, and TiTok's scale is 1 + t.
    power: of power-cosine alone; MaskBit's recipes have 2.5 to 3.
    scales: t of each step in place of scale and schedule, as a search finds them (AutoNAT, Ni et al. 2024); a sampler
        of another number of steps goes along straight lines between them.
    begin, end: t is 0 where r < begin or r > end, and one forward is paid (Kynkäänniemi et al. 2024: guidance does harm
        early and is hardly needed late). eMIGM's best, 0.1 to 0.3 of its time 1 - r, is begin 0.7, end 0.9.
    negative_weight: n in l_c + t * ((l_c - l_0) - n * (l_neg - l_0)), l_0 without any prompt: how hard to lead away
        from the negative prompt (the NOT of Liu et al. 2022, "Compositional visual generation"). 1 is Muse's rule, in
        which l_0 falls away, 0 leaves the negative prompt out. Others ask for three texts, in one batch, or for two
        where there is no negative prompt.
    rescale: the share phi of logits whose standard deviation over the codes is brought back to that of l_c, against
        oversaturation (Lin et al. 2023, section 3.4, there over the latents). Each place's likeliest code stays so.

    ValueError where a setting can't be.
    """

    negative_weight: float = 1.0
    rescale: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.negative_weight < math.inf:
            raise ValueError(f"negative_weight is {self.negative_weight}; give 0 (no negative prompt) or more")
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"rescale is {self.rescale}; give a share from 0 to 1")

    def __call__(
        self,
        ask: Callable[..., tuple[Tensor, ...]],
        text: TextEmbedding,
        negative: TextEmbedding,
        progress: float,
    ) -> Tensor:
        """Logits float[B, h, w, K] for the prompts `text`, led away from `negative`; all come in one batched ask."""
        t = self.strength(progress)
        if t == 0:
            return ask(text)[0]
        prompted, unprompted = self._logits(ask, text, negative)
        guided = ((1 + t) * prompted).sub_(unprompted, alpha=t)
        if self.rescale == 0:
            return guided
        spread = prompted.std(-1, correction=0, keepdim=True) / guided.std(-1, correction=0, keepdim=True).clamp(1e-6)
        return guided * (1 - self.rescale + self.rescale * spread)

    def _logits(
        self, ask: Callable[..., tuple[Tensor, ...]], text: TextEmbedding, negative: TextEmbedding
    ) -> tuple[Tensor, Tensor]:
        """float32 logits of the prompt, and of what to lead away from: l_0 + n * (l_neg - l_0)."""
        if self.negative_weight in (0, 1):
            prompted, negated = ask(text, negative if self.negative_weight else None)
            return prompted.float(), negated.float()
        prompted, negated, nothing = (logits.float() for logits in ask(text, negative, None))
        return prompted, nothing + self.negative_weight * (negated - nothing)


@dataclass(frozen=True)
class AutoGuidance(Strength):
    """Autoguidance (Karras et al., 2024, 2406.02507): (1 + t) * l_c - t * l_w, l_w a weaker model's for the prompt too.

    What the weaker model gets wrong more often is led away from, and the prompt is not what is exaggerated, so that
    variety stays. The negative prompt has no effect. A step whose t is 0 asks the transformer alone.

    model: a transformer of the same codes, grid and text width that is worse in the same way: a smaller one, or an
        early checkpoint of this one, such as {use: muse, weights: runs/base/checkpoints/step-0001000/transformer...}.
    scale, schedule, power, scales, begin, end: as of `cfg`.
    """

    model: Transformer = field(kw_only=True)

    def __call__(
        self,
        ask: Callable[..., tuple[Tensor, ...]],
        text: TextEmbedding,
        negative: TextEmbedding,
        progress: float,
    ) -> Tensor:
        """Logits float[B, h, w, K] for the prompts `text`, led away from what the weaker model says of them."""
        t = self.strength(progress)
        if t == 0:
            return ask(text)[0]
        strong, weak = (logits.float() for logits in ask(text, Question(text, self.model)))
        return ((1 + t) * strong).sub_(weak, alpha=t)


@dataclass(frozen=True)
class NoGuidance:
    """The prompt's own logits: one forward a step; a negative prompt has no effect."""

    placewise: ClassVar[bool] = True

    def __call__(
        self,
        ask: Callable[..., tuple[Tensor, ...]],
        text: TextEmbedding,
        negative: TextEmbedding,
        progress: float,
    ) -> Tensor:
        """Logits float[B, h, w, K] for the prompts `text`."""
        return ask(text)[0]


def _check_scales(scales: list[float]) -> None:
    if not scales:
        raise ValueError("scales is empty; give t for each step, or null for scale and schedule")
    for number, scale in enumerate(scales, start=1):
        if not 0 <= scale < math.inf:
            raise ValueError(f"scales: entry {number} of {len(scales)} is {scale}; give 0 (no guidance) or more")
