"""One step of masked-token training, on one device or shared by many processes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from muse_studio.contracts import Batch, Lots, Objective, Optimizer, TextEmbedding, Transformer
from muse_studio.errors import UserError
from muse_studio.nn.lora import KEY
from muse_studio.registry.parts import described
from muse_studio.runtime import device
from muse_studio.runtime.device import put_rows
from muse_studio.sampling.abilities import learns, needs_layer, needs_pixels, takes_micro
from muse_studio.sampling.masking import corrupt, corruption, drop_text, keep_text
from muse_studio.sampling.stage import Stage
from muse_studio.training.distributed import World
from muse_studio.training.fit import Fit
from muse_studio.training.learner import Learner
from muse_studio.training.order import key_of
from muse_studio.training.parallel import distribute, layers_of, optimizer_step
from muse_training.adapters import LoRA
from muse_training.data.encoder import Encoder, TrainingBatch, collate

CRITIC = "critic"
"""What the trained weights' file of a critic is called, and the critic in a checkpoint."""


@dataclass(frozen=True)
class Setup:
    """What is trained, and how: the settings of `train` that a step needs, checked.

    stage: whose transformer, or critic, learns; either is an nn.Module. before: the stage whose tokens it refines, None
    for the first.
    """

    fit: Fit
    optimizer: Optimizer
    stage: Stage
    objective: Objective
    before: Stage | None = None
    text_dropout: float = 0.0
    corruption: float = 0.0
    adapter: LoRA | None = None

    @property
    def learning(self) -> Transformer:
        """What of the stage learns: its critic, where the objective says so, or else its transformer."""
        critic = learns(self.objective) == CRITIC and self.stage.critic
        return critic or self.stage.transformer


class Asked:
    """The model that learns, as `contracts.Learning` has it: within one forward pass, for one batch."""

    states: Tensor

    def __init__(self, network: Transformer, other: Transformer | None, batch: Batch, layer: int | None) -> None:
        self._network, self._batch, self._layer = network, batch, layer
        self.other = None if other is None else Asked(other, None, batch, None)

    def __call__(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] with MASK to logits float[B, h, w, K]."""
        text, low = self._batch.text, self._batch.low
        if self._layer is None:
            return self._network(tokens, self._network.condition(text, low))
        with _heard(self._network, self._layer) as states:
            logits = self._network(tokens, self._network.condition(text, low))
        cells = getattr(self._network, "cells", tuple(tokens.shape[1:]))
        self.states = states[0][:, -math.prod(cells) :].unflatten(1, cells)
        return logits


@contextmanager
def _heard(network: Transformer, layer: int) -> Iterator[list[Tensor]]:
    """What one layer gives within, float[B, n, D] each time that it is called."""
    assert isinstance(network, nn.Module)  # as it learns
    heard = list[Tensor]()
    handle = layers_of(network)[layer].register_forward_hook(lambda module, given, made: heard.append(made))
    try:
        yield heard
    finally:
        handle.remove()


class Step(nn.Module):
    """A model and what it pays as one forward pass, which is what processes that share it must call.

    other: the network that stays as it is, where one is needed.
    """

    model: Transformer
    other: Transformer | None

    def __init__(self, model: Transformer, objective: Objective, other: Transformer | None = None) -> None:
        super().__init__()
        self.model, self.objective, self.other = model, objective, other
        self.layer = needs_layer(objective)
        if self.layer is not None:
            assert isinstance(model, nn.Module)  # as it learns
            count = len(layers_of(model))
            if not -count <= self.layer < count:
                wanted = f"{described(objective)} wants the states of layer {self.layer}"
                raise ValueError(f"{wanted}, and the transformer has {count} layers")

    def forward(
        self,
        tokens: Tensor,
        text: TextEmbedding,
        low: Tensor | None,
        hidden: Tensor,
        noise: Mapping[str, Tensor],
        scale: Tensor,
        pictures: int,
        pixels: Tensor | None = None,
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss and the figures of a `Batch` of these."""
        batch = Batch(tokens, text, low, hidden, noise, scale, pictures, pixels)
        return self.objective(batch, Asked(self.model, self.other, batch, self.layer))


def try_out(setup: Setup, seen: TrainingBatch) -> None:
    """Ask and pay once, for one picture, with nothing learned; ValueError where objective and stage don't fit."""
    stage, on = setup.stage, seen.tokens.device
    lots = setup.objective.draw(1, stage.grid, stage.schedule, lambda name: setup.fit.generator(0, name))
    hidden, noise = put_rows(lots.hidden, on), {name: put_rows(each, on) for name, each in lots.noise.items()}
    pixels = torch.zeros(1, 3, stage.height, stage.width, device=on) if needs_pixels(setup.objective) else None
    critic = learns(setup.objective) == CRITIC
    model, other = (stage.critic, stage.transformer) if critic else (stage.transformer, None)
    assert isinstance(model, nn.Module)  # the task refuses all else
    with torch.no_grad():
        Step(model, setup.objective, other)(
            seen.tokens, seen.text, seen.low, hidden, noise, torch.ones((), device=on), 1, pixels
        )


class TransformerLearner(Learner):
    """One step of masked-token training, as the shared loop wants it.

    All that is drawn by lot is drawn for the whole step in every process, on the host, and each takes its rows. The
    loss is a mean over the whole step: how many processes share it, and in how many parts they work through it, changes
    nothing.
    """

    def __init__(self, setup: Setup, encoder: Encoder, world: World) -> None:
        self.setup, self.fit, self.encoder, self.world = setup, setup.fit, encoder, world
        self.tokens_per_record, self.collate = math.prod(setup.stage.grid), collate
        self.modules, step = self._prepare()
        self.model, *beside = self.modules.values()
        settings = device.compile_settings(world.device)
        if self.fit.compile == "blocks":
            for layer in layers_of(step):
                layer.compile(**settings)
        self.shared = distribute(step, world, self.fit.parallel)
        trained = nn.ModuleList([self.model, *beside]) if beside else self.model
        self.optimizers = {"transformer": setup.optimizer(trained)}
        self.drops = any(isinstance(each, nn.Dropout) and each.p > 0 for each in step.modules())
        self.score = torch.compile(self.shared, **settings) if self.fit.compile is True else self.shared

    def _prepare(self) -> tuple[dict[str, nn.Module], Step]:
        """What is trained, by its name in a checkpoint, the model that is shipped first, and what makes its loss."""
        stage, objective = self.setup.stage, self.setup.objective
        transformer, critic = stage.transformer, stage.critic
        assert isinstance(transformer, nn.Module)  # the task refuses all else
        learned: dict[str, nn.Module] = {"objective": objective} if isinstance(objective, nn.Module) else {}
        if learns(objective) == CRITIC:
            assert isinstance(critic, nn.Module)
            return {CRITIC: critic, **learned}, Step(
                critic.train(), objective, transformer.eval().requires_grad_(False)
            )
        step = Step(transformer.train(), objective)
        if self.setup.adapter is None:
            return {"transformer": transformer, **learned}, step
        return {KEY: self.setup.adapter.attach(transformer, self.fit.generator(0, "adapter")), **learned}, step

    def step(self, batch: dict[str, Any], step: int) -> Mapping[str, Tensor]:
        """This process's rows: pictures and captions, or tokens and text states."""
        rows, count, on = self.world.rows(self.fit.batch), self.fit.batch, self.world.device
        parts, size = self.fit.accumulate, self.world.size
        stage = self.setup.stage
        lots = self.setup.objective.draw(count, stage.grid, stage.schedule, lambda name: self.fit.generator(step, name))
        seen = self._seen(batch, count, rows, step)
        drawn = Lots(put_rows(lots.hidden[rows], on), None, {k: put_rows(v[rows], on) for k, v in lots.noise.items()})
        weight = count if lots.weight is None else lots.weight.sum().to(on)
        scale = torch.as_tensor(size * parts / weight, device=on)
        pixels = self._pixels(batch)
        told: list[Mapping[str, Tensor]] = []
        if self.drops:  # by what decides all other noise, so that a resumed run drops the same
            torch.manual_seed(key_of(self.fit.seed, step, f"dropout {self.world.rank}") >> 1)

        def loss_of(part: tuple[Any, ...]) -> Tensor:
            tokens, low, hidden, pictures, noise, *text = part
            with self.fit.autocast(on):
                loss, figures = self.score(
                    tokens, TextEmbedding(*text), low, hidden, noise, scale, count, pixels=pictures
                )
            told.append({name: each.detach() for name, each in figures.items()})
            return loss / parts

        cut = _cut([seen.tokens, seen.low, drawn.hidden, pixels, drawn.noise, *seen.text], parts)
        loss, norm = optimizer_step(self.optimizers["transformer"], cut, loss_of, self.shared, self.fit.clip)
        figures = {name: torch.stack([each[name] for each in told]).mean() for name in told[0]}
        first = {name: figures.pop(name) for name in ("accuracy",) if name in figures}
        return {"loss": loss, **first, "norm": norm, **figures}

    def _seen(self, batch: dict[str, Any], count: int, rows: slice, step: int) -> TrainingBatch:
        """The tokens and texts of a batch, those texts dropped and low-resolution tokens replaced that are to be."""
        seen, on, before = self.encoder(batch), self.world.device, self.setup.before
        kept = keep_text(count, self.setup.text_dropout, self.fit.generator(step, "text"))
        low = seen.low
        if low is not None and before is not None and self.setup.corruption > 0:
            codes, most = before.tokenizer.codebook_size, self.setup.corruption
            by = corruption(count, low.shape[1:], codes, most, self.fit.generator(step, "low"))
            low = corrupt(low, put_rows(by[rows], on))
        text = seen.text if takes_micro(self.setup.learning) else seen.text._replace(micro=None)
        return TrainingBatch(seen.tokens, drop_text(text, put_rows(kept[rows], on)), low)

    def _pixels(self, batch: dict[str, Any]) -> Tensor | None:
        """The pictures of a batch in the stage's size, float32[B, 3, H, W], where the objective needs them."""
        if not needs_pixels(self.setup.objective):
            return None
        if "image" not in batch:
            raise UserError(
                f"{described(self.setup.objective)} needs the pictures, and the data set holds their tokens alone; "
                "give a data set of pictures, and cache: null"
            )
        return put_rows(self.setup.stage.resize(batch["image"]), self.world.device).float() / 255


def _cut(values: Sequence[Any], parts: int) -> list[tuple[Any, ...]]:
    """Tensors, tables of such, and None, in so many equal parts of their rows."""

    def cut(value: Any) -> Sequence[Any]:
        if value is None:
            return [None] * parts
        if isinstance(value, Mapping):
            chunks = {name: each.chunk(parts) for name, each in value.items()}
            return [{name: each[part] for name, each in chunks.items()} for part in range(parts)]
        return value.chunk(parts)

    return list(zip(*map(cut, values), strict=True))
