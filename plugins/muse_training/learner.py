"""One step of masked-token training, on one device or shared by many processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from muse_studio import device
from muse_studio.adapters import KEY
from muse_studio.contracts import TextEmbedding
from muse_studio.device import put_rows
from muse_studio.parallel import descend, layers_of, spread
from muse_studio.team import Team
from muse_training.masking import corrupt, corruption, drop_text, hide, keep_text, mask_tokens, masked_loss
from muse_training.records import Encoder, Seen

if TYPE_CHECKING:
    from muse_training.train import Train

BUCKETS = 4
"""Accuracy is told for so many equal ranges of the share of tokens that are hidden."""


class Objective(nn.Module):
    """A transformer and its loss as one forward pass, which is what processes that share it must call."""

    def __init__(self, transformer: nn.Module, smoothing: float) -> None:
        super().__init__()
        self.transformer, self.smoothing = transformer, smoothing

    def forward(self, tokens: Tensor, hidden: Tensor, text: TextEmbedding, low: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sums of `masked_loss` for int64[B, h, w] of which bool[B, h, w] are hidden."""
        logits = self.transformer(hide(tokens, hidden), self.transformer.condition(text, low))
        return masked_loss(logits, tokens, hidden, self.smoothing)


class TransformerLearner:
    """One step of masked-token training, as the shared loop wants it.

    All that is drawn by lot is drawn for the whole step in every process, on the host, and each takes its rows. The
    loss is divided by the hidden tokens of the whole step: how many processes share it, and in how many parts they
    work through it, changes nothing.
    """

    def __init__(self, task: Train, encoder: Encoder, team: Team) -> None:
        self.task, self.fit, self.encoder, self.team = task, task.fit, encoder, team
        transformer = self.model = task.stage.transformer.train()
        if task.adapter is not None:
            self.model = task.adapter.attach(transformer, self.fit.generator(0, "adapter"))
        self.modules: dict[str, nn.Module] = {"transformer" if task.adapter is None else KEY: self.model}
        self.tokens_per_record = math.prod(task.stage.grid)
        settings = device.compile_settings(team.device)
        if self.fit.compile == "blocks":
            for layer in layers_of(transformer):
                layer.compile(**settings)
        self.objective = spread(Objective(transformer, task.smoothing), team, self.fit.parallel)
        self.optimizers = {"transformer": task.optimizer(self.model)}
        self.score = torch.compile(self.objective, **settings) if self.fit.compile is True else self.objective

    def step(self, batch: dict[str, Any], step: int) -> Mapping[str, Tensor]:
        """This process's rows: pictures and captions, or tokens and text states."""
        seen = self.encoder(batch)
        rows, count, on = self.team.rows(self.fit.batch), self.fit.batch, self.team.device
        masks = mask_tokens(count, seen.tokens.shape[1:], self.task.stage.schedule, self.fit.generator(step, "mask"))
        kept = keep_text(count, self.task.text_dropout, self.fit.generator(step, "text"))
        low = seen.low
        if low is not None and self.task.corruption > 0:
            codes, most = self.task.before.tokenizer.codebook_size, self.task.corruption
            by = corruption(count, low.shape[1:], codes, most, self.fit.generator(step, "low"))
            low = corrupt(low, put_rows(by[rows], on))
        seen = Seen(seen.tokens, drop_text(seen.text, put_rows(kept[rows], on)), low)
        scale = self.team.size / masks.sum().to(on)
        right: list[Tensor] = []

        def loss_of(part: tuple[Seen, Tensor]) -> Tensor:
            (tokens, text, low), hidden = part
            with self.fit.autocast(on):
                summed, guessed = self.score(tokens, hidden, text, low)
            right.append(guessed)
            return summed * scale

        parts = self._parts(seen, put_rows(masks[rows], on))
        loss, norm = descend(self.optimizers["transformer"], parts, loss_of, self.objective, self.fit.clip)
        return {"loss": loss, "accuracy": torch.cat(right).sum() * scale, "norm": norm} | self._by_share(right, masks)

    def _parts(self, seen: Seen, hidden: Tensor) -> list[tuple[Seen, Tensor]]:
        """This process's rows in `fit.accumulate` equal parts."""
        tensors = (seen.tokens, *seen.text, seen.low, hidden)
        cut = [[None] * self.fit.accumulate if t is None else t.chunk(self.fit.accumulate) for t in tensors]
        return [(Seen(tokens, TextEmbedding(*text), low), mask) for tokens, *text, low, mask in zip(*cut, strict=True)]

    def _by_share(self, right: list[Tensor], masks: Tensor) -> dict[str, Tensor]:
        """Accuracy where few tokens are hidden, and where many are; NaN for a range that no row of the step is in."""
        hidden = masks.flatten(1).sum(-1)
        bucket = (hidden / masks[0].numel() * BUCKETS).ceil().long() - 1
        member = torch.arange(BUCKETS).unsqueeze(-1) == bucket
        totals = (member * hidden).sum(-1).to(self.team.device)
        mine = put_rows(member[:, self.team.rows(len(masks))].t().contiguous(), self.team.device)
        shares = (torch.cat(right).unsqueeze(-1) * mine).sum(0) * self.team.size / totals
        names = [f"accuracy {100 * n // BUCKETS}-{100 * (n + 1) // BUCKETS}%" for n in range(BUCKETS)]
        return dict(zip(names, shares.unbind(), strict=True))
