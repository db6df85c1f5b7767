"""Trains a masked transformer: hide tokens, predict them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from muse_studio import device, loop
from muse_studio.contracts import Dataset, Optimizer, TextEmbedding, TextEncoder
from muse_studio.errors import UserError
from muse_studio.files import open_folder, path_of
from muse_studio.loop import Fit, History
from muse_studio.stage import Stage, check_fit
from muse_training.masking import corrupt, drop_text, hide, mask_tokens, masked_loss
from muse_training.records import Cached, Encoder, stack


class Train:
    """Trains a stage's transformer on a data set, and writes `<stage>.safetensors` into fit.out.

    Mask ratios come from the stage's own schedule (Muse, section 2.6), the loss from hidden tokens alone, and
    `text_dropout` of the captions are dropped, which is what guidance needs (section 2.7: 10%).

    A stage behind another one learns to refine its tokens (section 2.4): those that the tokenizer of the stage before
    makes of the same picture, scaled down.

    stage: which one of `stages`; needed where there are several.
    corruption: the most low-resolution tokens, as a share, that are replaced at random; what a picture loses lies
    between none and this, so that the model forgives the errors of the stage before.
    smoothing: label smoothing (0.1 in MaskGIT).
    cache: a folder where tokens and text states are kept, so that they are computed once; null computes them each time.
    """

    recipe: dict[str, Any]

    def __init__(
        self,
        stages: dict[str, Stage],
        text_encoder: TextEncoder,
        dataset: Dataset,
        fit: Fit,
        optimizer: Optimizer,
        stage: str | None = None,
        text_dropout: float = 0.1,
        corruption: float = 0.0,
        smoothing: float = 0.0,
        cache: str | None = None,
    ) -> None:
        if stage is None and len(stages) == 1:
            stage = next(iter(stages))
        if stage not in stages:
            raise ValueError(f"stage is {stage!r}; say which one to train: {', '.join(stages)}")
        for name, share in (("text_dropout", text_dropout), ("corruption", corruption)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}; it is a share, from 0 to 1")
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing is {smoothing}; it lies in 0..1 without 1")
        check_fit(stages, text_encoder)
        names = list(stages)
        place = names.index(stage)
        self.before = stages[names[place - 1]] if place > 0 else None
        if self.before is None and corruption > 0:
            raise ValueError(f"corruption is {corruption}, but {stage!r} is the first stage and refines no tokens")
        self.name, self.stage, self.text_encoder, self.dataset = stage, stages[stage], text_encoder, dataset
        self.fit, self.optimizer, self.cache = fit, optimizer, cache
        self.text_dropout, self.corruption, self.smoothing = text_dropout, corruption, smoothing
        self.recipe = {}

    def __call__(self, hook: Any) -> History:
        """Train to the end, from the newest checkpoint where there is one."""
        self.fit.folder()
        cache = None if self.cache is None else open_folder(path_of(self.cache), "cache")
        on = device.pick(self.fit.device)
        frozen = [stage.tokenizer for stage in (self.stage, self.before) if stage is not None]
        device.place([*frozen, self.text_encoder, self.stage.transformer], on)
        encoder = Encoder(self.stage, self.before, self.text_encoder, on)
        self._try_out(encoder, loop.first(self.dataset)["image"].shape[-2:])
        data: Any = self.dataset
        if cache is not None:
            data = Cached(cache, self.dataset, encoder, self.recipe.get("dataset"))
        learner = TransformerLearner(self, encoder, on)
        return loop.train(self.fit, learner, data, hook, self.name, self.recipe, stack)

    def _try_out(self, encoder: Encoder, size: Sequence[int]) -> None:
        """UserError where pictures of that size, or the stage's parts, don't fit each other."""
        stage = self.stage
        if tuple(size) != (stage.height, stage.width):
            raise UserError(
                f"the data set's pictures have {'x'.join(map(str, size))} pixels, the stage {self.name!r} has "
                f"{stage.height}x{stage.width}; set both to the same size"
            )
        low = None if self.before is None else self.before.blank(1, encoder.device).clamp(min=0)
        try:
            with torch.no_grad():
                stage.transformer(stage.blank(1, encoder.device), stage.transformer.condition(encoder.text([""]), low))
        except ValueError as error:
            raise UserError(f"the stage {self.name!r} can't be trained: {error}") from error


class TransformerLearner:
    """One step of masked-token training, as the shared loop wants it."""

    def __init__(self, task: Train, encoder: Encoder, on: torch.device) -> None:
        self.task, self.fit, self.encoder, self.device = task, task.fit, encoder, on
        self.model = task.stage.transformer.train()
        self.modules: dict[str, nn.Module] = {"transformer": self.model}
        self.optimizers = {"transformer": task.optimizer(self.model)}
        self.score = torch.compile(self._score) if self.fit.compile else self._score

    def step(self, batch: dict[str, Any], step: int) -> Mapping[str, Tensor]:
        """A batch of pictures and captions, or of tokens and text states."""
        tokens, text, low = self.encoder(batch)
        hidden = mask_tokens(tokens, self.task.stage.schedule, self.fit.generator(step, "mask"))
        text = drop_text(text, self.task.text_dropout, self.fit.generator(step, "text"))
        if low is not None and self.task.corruption > 0:
            codes = self.task.before.tokenizer.codebook_size
            low = corrupt(low, codes, self.task.corruption, self.fit.generator(step, "low"))
        loss, accuracy = self.score(tokens, hidden, text, low)
        norm = self.fit.update(self.optimizers["transformer"], loss)
        return {"loss": loss.detach(), "accuracy": accuracy, "norm": norm}

    def _score(self, tokens: Tensor, hidden: Tensor, text: TextEmbedding, low: Tensor | None) -> tuple[Tensor, Tensor]:
        with self.fit.autocast(self.device):
            logits = self.model(hide(tokens, hidden), self.model.condition(text, low))
        return masked_loss(logits, tokens, hidden, self.task.smoothing)
