"""The guidance weaker: away from a weaker model (Karras et al., 2024), within an interval (Kynkäänniemi, 2024)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from muse_studio.contracts import Question, TextEmbedding, Transformer
from torch import Tensor


@dataclass(frozen=True)
class Weaker:
    """(1 + scale) times the model's logits, less scale times those of `model`, from progress `begin` to `end`.

    model: a transformer of the same codes, grid and text width, such as an early checkpoint of the stage's.
    """

    model: Transformer
    scale: float = 1.5
    begin: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if self.scale < 0 or not 0 <= self.begin <= self.end <= 1:
            raise ValueError("scale is 0 or more, and begin and end are shares in this order, from 0 to 1")

    def __call__(
        self,
        ask: Callable[..., tuple[Tensor, ...]],
        text: TextEmbedding,
        negative: TextEmbedding,
        progress: float,
    ) -> Tensor:
        """Logits float[B, h, w, K] for the prompts; outside of the interval the weaker model is not asked."""
        if not self.begin <= progress <= self.end:
            return ask(text)[0]
        strong, weak = ask(text, Question(text, model=self.model))
        return (1 + self.scale) * strong - self.scale * weak
