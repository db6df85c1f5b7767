"""Guidance: how the logits with the prompt and those without it become one (Muse, section 2.7)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from muse_studio.contracts import TextEmbedding


@dataclass(frozen=True)
class CFG:
    """Classifier-free guidance: (1 + t) * l_c - t * l_u, l_c with the prompt, l_u with the negative prompt or none.

    Muse's t: 0 is no guidance at all, where diffusers and others write s = 1 + t, and 1 for none. A step whose t is
    0 asks the transformer once instead of twice. In float32, as the difference is amplified by t.

    scale: t, or what t grows to.
    schedule: "linear" lets t grow with progress, as Muse does, so that early steps keep their variety. Samplers give
        the step's (i + 1) / T as progress: the last step has the whole scale, the first scale / T. "constant" has t
        = scale throughout.
    """

    scale: float = 3.0
    schedule: Literal["constant", "linear"] = "linear"

    def __post_init__(self) -> None:
        if not 0 <= self.scale < math.inf:
            raise ValueError(f"scale is {self.scale}; give 0 (no guidance) or more")
        if self.schedule not in ("constant", "linear"):
            raise ValueError(f"schedule is {self.schedule!r}; give 'constant' or 'linear'")

    def __call__(
        self,
        ask: Callable[..., tuple[Tensor, ...]],
        text: TextEmbedding,
        negative: TextEmbedding,
        progress: float,
    ) -> Tensor:
        """Logits float[B, h, w, K] for the prompts `text`, led away from `negative`; both come in one batched ask."""
        t = self.scale * progress if self.schedule == "linear" else self.scale
        if t == 0:
            return ask(text)[0]
        prompted, unprompted = ask(text, negative)
        return (1 + t) * prompted.float() - t * unprompted.float()


@dataclass(frozen=True)
class NoGuidance:
    """The prompt's own logits: one forward a step; a negative prompt has no effect."""

    def __call__(
        self,
        ask: Callable[..., tuple[Tensor, ...]],
        text: TextEmbedding,
        negative: TextEmbedding,
        progress: float,
    ) -> Tensor:
        """Logits float[B, h, w, K] for the prompts `text`."""
        return ask(text)[0]
