"""A model without training that draws in milliseconds, for a part to be seen at work among others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from muse_studio.contracts import TextEncoder
from muse_studio.sampling import cascade
from muse_studio.sampling.stage import Stage
from muse_studio.testing.fakes import (
    FakeGuidance,
    FakeSampler,
    FakeSchedule,
    FakeTextEncoder,
    FakeTokenizer,
    FakeTransformer,
)
from muse_studio.testing.recording import RecordingObserver


def tiny_stage(size: int | list[int] = 16, seed: int = 0, **parts: Any) -> Stage:
    """One resolution of fakes, a grid of size / 4; `seed` draws the transformer's weights, `parts` replace fakes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = FakeTransformer()
    fakes: dict[str, Any] = {
        "tokenizer": FakeTokenizer(),
        "transformer": transformer,
        "schedule": FakeSchedule(),
        "sampler": FakeSampler(),
        "guidance": FakeGuidance(),
    }
    return Stage(**fakes | parts, size=size)


@dataclass
class TinyModel:
    """Two stages, 16 and 32 pixels square, and a text encoder: what the tasks take as `stages` and `text_encoder`."""

    stages: dict[str, Stage] = field(default_factory=lambda: {"base": tiny_stage(16, 0), "superres": tiny_stage(32, 1)})
    text_encoder: TextEncoder = field(default_factory=FakeTextEncoder)

    def with_parts(self, stage: str = "base", **parts: Any) -> TinyModel:
        """The same model but for these parts of one stage: `with_parts(sampler=MySampler())`."""
        return TinyModel(self.stages | {stage: replace(self.stages[stage], **parts)}, self.text_encoder)

    def draw(self, *prompts: str, seed: int = 0, observer: RecordingObserver | None = None) -> Tensor:
        """B prompts to pictures float32[B, 3, 32, 32] in 0..1; the observer hears every step."""

        def watch(stage: str, step: int, steps: int, tokens: Tensor) -> None:
            cascade.report_step(observer, stage, step, steps, tokens)

        cascade.make_ready(self.stages, self.text_encoder, torch.device("cpu"))
        generator = torch.Generator().manual_seed(seed)
        finished = cascade.sample(self.stages, self.text_encoder(list(prompts)), generator, watch=watch)
        last = list(self.stages)[-1]
        return cascade.decode(self.stages[last], finished[last])
