"""Trains a masked transformer: hide tokens, predict them; or a critic, to tell what was predicted."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from muse_studio.contracts import MASK, NO_RUN, Dataset, Optimizer, RunContext, TextEncoder
from muse_studio.errors import UserError
from muse_studio.nn.lora import KEY
from muse_studio.runtime import device
from muse_studio.sampling.stage import Stage, check_fit
from muse_studio.training import loop
from muse_studio.training.distributed import World, join
from muse_studio.training.loop import Fit, History
from muse_training.adapters import LoRA
from muse_training.critic import CRITIC, CriticLearner
from muse_training.data.pictures import named
from muse_training.data.prepare import encoder_of
from muse_training.data.records import Seen, stack
from muse_training.data.shards import Builder, blank, check_size
from muse_training.data.store import Store
from muse_training.data.tokens import Tokens
from muse_training.learner import TransformerLearner
from muse_training.samples import Samples, Sheets


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
    dataset: of pictures, or of tokens that prepare-tokens made, which needs neither tokenizer nor text encoder to run.
    cache: where tokens and text states of pictures are kept, so that they are computed once: a folder, or any address
    of fsspec, which gets one folder more for each data set; null computes them each time.
    adapter: trains a low-rank adapter beside the transformer, which stays as it is; `adapter.safetensors` is written.
    critic: trains the critic that the stage's sampler asks, to tell what the transformer, which stays as it is, draws
    in the place of hidden tokens (Token-Critic, algorithm 1); `critic.safetensors` is written.
    samples: sheets of what the model draws while it learns, in fit.out/samples; null draws none.

    `fit.overfit` leaves out text_dropout, corruption and smoothing, none of which lets a loss come to nothing.
    """

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
        adapter: LoRA | None = None,
        critic: bool = False,
        samples: Samples | None = None,
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
        self.upto = {each: stages[each] for each in names[: place + 1]}
        if self.before is None and corruption > 0:
            raise ValueError(f"corruption is {corruption}, but {stage!r} is the first stage and refines no tokens")
        if critic and stages[stage].critic is None:
            raise ValueError(
                f"critic is true, but the sampler of {stage!r} asks none; give it one that does, such as "
                f"stages.{stage}.sampler={{use: token-critic, critic: {{use: critic, ...}}}}"
            )
        transformer = stages[stage].transformer
        if not isinstance(transformer, nn.Module):
            raise ValueError(_no_module(transformer))
        if critic and not isinstance(stages[stage].critic, nn.Module):
            raise ValueError(_no_module(stages[stage].critic))
        if critic and (adapter is not None or smoothing > 0):
            raise ValueError("adapter and smoothing are for training the transformer; leave them out, or critic")
        self.transformer = transformer
        self.name, self.stage, self.text_encoder, self.dataset = stage, stages[stage], text_encoder, dataset
        self.fit, self.optimizer, self.cache, self.adapter, self.samples = fit, optimizer, cache, adapter, samples
        self.critic = critic
        shares = (0.0, 0.0, 0.0) if fit.overfit else (text_dropout, corruption, smoothing)
        self.text_dropout, self.corruption, self.smoothing = shares

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> History:
        """Train to the end, from the newest checkpoint where there is one."""
        with join(self.fit.device, self.fit.patience) as world:
            return self.train(hook, world, context.recipe or {})

    def train(self, hook: Any, world: World, recipe: dict[str, Any]) -> History:
        """One process's share of it."""
        folder = self.fit.folder()
        pair = dict(list(self.upto.items())[-2:])
        encoder = encoder_of(pair, self.text_encoder, world.device)
        device.move_to_device([self.stage.transformer, self.stage.sampler], world.device)
        data: Any = self.dataset
        if isinstance(data, Tokens):
            data.check(encoder, recipe)
            self._try_out(encoder(stack([loop.first(data)])))
        else:
            self._try_out(encoder(blank(self.stage)))
            if self.cache is not None:
                data = self._cached(Store(self.cache), world, recipe)
            else:
                check_size(loop.first(data)["image"], self.name, self.stage)
        after = None
        if self.samples is not None:
            after = Sheets(self.samples, encoder, self.dataset, folder / "samples", self.fit.steps, world.is_main, hook)
        name, settings = self.name, recipe
        if self.adapter is not None:
            name, settings = KEY, settings | {KEY: self.adapter.settings(self.transformer)}
        if self.critic:
            name = CRITIC
        learner = (CriticLearner if self.critic else TransformerLearner)(self, encoder, world)
        return loop.train(self.fit, learner, data, hook, name, settings, stack, after=after)

    def _cached(self, folder: Store, world: World, recipe: dict[str, Any]) -> Tokens:
        """The data set's tokens, of this stage and all before it, made where they are not in the folder yet."""
        encoder = encoder_of(self.upto, self.text_encoder, world.device)
        builder = Builder(self.dataset, encoder, recipe.get("dataset"))
        store = Store(folder.join(builder.made_of))

        def build() -> None:
            folder.prove_writable("cache")
            index, left_out = builder.build(store, self.fit.workers, recipe)
            if left_out:
                message = f"{index.left_out} pictures left out, listed in {store}:\n  {named(left_out)}"
                warnings.warn(message, stacklevel=2)

        world.on_main(build)
        return Tokens(store.address)

    def _try_out(self, seen: Seen) -> None:
        """UserError where the stage's parts don't fit each other."""
        try:
            with torch.no_grad():
                transformer = self.stage.transformer
                transformer(torch.full_like(seen.tokens, MASK), transformer.condition(seen.text, seen.low))
        except ValueError as error:
            raise UserError(f"the stage {self.name!r} can't be trained: {error}") from error


def _no_module(model: Any) -> str:
    name = type(model).__name__
    return f"{name} can't be trained, as it is no torch.nn.Module; take another one, or draw with it alone"
