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
from muse_studio.runtime.files import path_of
from muse_studio.sampling.stage import Stage, check_fit
from muse_studio.training.distributed import World, join
from muse_studio.training.loop import Fit, History, Output, Run, first
from muse_training.adapters import LoRA
from muse_training.critic import CRITIC, CriticLearner
from muse_training.data.encoder import Encoder, TrainingBatch, blank_batch, check_picture_size, collate, make_encoder
from muse_training.data.pictures import list_unusable
from muse_training.data.shard_writer import ShardWriter
from muse_training.data.storage import StorageFolder
from muse_training.data.tokens import Tokens
from muse_training.learner import Setup, TransformerLearner
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
        self.name = _chosen(stages, stage)
        _check_shares(text_dropout, corruption, smoothing)
        check_fit(stages, text_encoder)
        self.upto = _up_to(stages, self.name)
        self.stage, before = stages[self.name], [*self.upto.values()][-2:-1]
        _check_corruption(corruption, self.name, refines=bool(before))
        _check_learns(self.stage.transformer)
        if critic:
            _check_critic(self.stage, self.name, adapter, smoothing)
        if fit.overfit:
            text_dropout = corruption = smoothing = 0.0
        shares = (text_dropout, corruption, smoothing)
        self.setup = Setup(fit, optimizer, self.stage, before[0] if before else None, *shares, adapter)
        self.text_encoder, self.dataset, self.fit = text_encoder, dataset, fit
        self.cache, self.critic, self.samples = cache, critic, samples

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> History:
        """Train to the end, from the newest checkpoint where there is one."""
        with join(self.fit.device, self.fit.patience) as world:
            return self.train(hook, world, context.recipe or {})

    def train(self, hook: Any, world: World, recipe: dict[str, Any]) -> History:
        """One process's share of it."""
        self.fit.folder(self._written())
        encoder = make_encoder(dict(list(self.upto.items())[-2:]), self.text_encoder, world.device)
        device.move_to_device([self.stage.transformer, self.stage.sampler], world.device)
        data = self._data(encoder, world, recipe)
        sheets = self._sheets(encoder, world, hook)
        output = self._output(recipe)  # before an adapter changes the transformer
        learner = (CriticLearner if self.critic else TransformerLearner)(self.setup, encoder, world)
        return Run(self.fit, learner, data, hook, output, after=sheets).train()

    def _data(self, encoder: Encoder, world: World, recipe: dict[str, Any]) -> Dataset:
        """What is trained on, tried out first: pictures, or tokens of them."""
        if isinstance(self.dataset, Tokens):
            self.dataset.check(encoder, recipe)
            self._try_out(encoder(collate([first(self.dataset)])))
            return self.dataset
        self._try_out(encoder(blank_batch(self.stage)))
        if self.cache is not None:
            return self._cached(StorageFolder(self.cache), world, recipe)
        check_picture_size(first(self.dataset)["image"], self.name, self.stage)
        return self.dataset

    def _sheets(self, encoder: Encoder, world: World, hook: Any) -> Sheets | None:
        """What draws samples, where they are wanted."""
        if self.samples is None:
            return None
        folder = path_of(self.fit.out) / "samples"
        return Sheets(self.samples, encoder, self.dataset, folder, self.fit.steps, world.is_main, hook)

    def _written(self) -> str:
        """The name of the file that is written."""
        if self.critic:
            return CRITIC
        return self.name if self.setup.adapter is None else KEY

    def _output(self, recipe: dict[str, Any]) -> Output:
        """The file that is written."""
        if self.setup.adapter is None:
            return Output(self._written(), recipe)
        transformer = self.stage.transformer
        assert isinstance(transformer, nn.Module)  # the constructor refuses all else
        return Output(KEY, recipe | {KEY: self.setup.adapter.settings(transformer)})

    def _cached(self, folder: StorageFolder, world: World, recipe: dict[str, Any]) -> Tokens:
        """The data set's tokens, of this stage and all before it, made where they are not in the folder yet."""
        encoder = make_encoder(self.upto, self.text_encoder, world.device)
        writer = ShardWriter(self.dataset, encoder, recipe.get("dataset"))
        store = StorageFolder(folder.join(writer.made_of))

        def build() -> None:
            folder.prove_writable("cache")
            index, left_out, told = writer.write(store, self.fit.workers, recipe)
            if left_out:
                message = f"{index.left_out} pictures left out, listed in {store}:\n  {list_unusable(left_out)}"
                warnings.warn(message, stacklevel=2)
            if told is not None and (told.unused or told.mixed()):
                warnings.warn("\n".join(told.lines(f", listed in {store}")), stacklevel=2)

        world.on_main(build)
        return Tokens(store.address)

    def _try_out(self, seen: TrainingBatch) -> None:
        """UserError where the stage's parts don't fit each other."""
        try:
            with torch.no_grad():
                transformer = self.stage.transformer
                transformer(torch.full_like(seen.tokens, MASK), transformer.condition(seen.text, seen.low))
        except ValueError as error:
            raise UserError(f"the stage {self.name!r} can't be trained: {error}") from error


def _chosen(stages: dict[str, Stage], stage: str | None) -> str:
    """The name of the stage that is trained: the one there is, where none is named."""
    if stage is None and len(stages) == 1:
        return next(iter(stages))
    if stage is None or stage not in stages:
        raise ValueError(f"stage is {stage!r}; say which one to train: {', '.join(stages)}")
    return stage


def _up_to(stages: dict[str, Stage], name: str) -> dict[str, Stage]:
    """The stages as far as that one."""
    names = list(stages)
    return {each: stages[each] for each in names[: names.index(name) + 1]}


def _check_shares(text_dropout: float, corruption: float, smoothing: float) -> None:
    for name, share in (("text_dropout", text_dropout), ("corruption", corruption)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}; it is a share, from 0 to 1")
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}; it lies in 0..1 without 1")


def _check_corruption(corruption: float, name: str, refines: bool) -> None:
    if corruption > 0 and not refines:
        raise ValueError(f"corruption is {corruption}, but {name!r} is the first stage and refines no tokens")


def _check_critic(stage: Stage, name: str, adapter: LoRA | None, smoothing: float) -> None:
    if stage.critic is None:
        raise ValueError(
            f"critic is true, but the sampler of {name!r} asks none; give it one that does, such as "
            f"stages.{name}.sampler={{use: token-critic, critic: {{use: critic, ...}}}}"
        )
    _check_learns(stage.critic)
    if adapter is not None or smoothing > 0:
        raise ValueError("adapter and smoothing are for training the transformer; leave them out, or critic")


def _check_learns(model: Any) -> None:
    if not isinstance(model, nn.Module):
        name = type(model).__name__
        raise ValueError(
            f"{name} can't be trained, as it is no torch.nn.Module; take another one, or draw with it alone"
        )
