"""Trains a stage's transformer, or its critic, by an objective: what a step hides, asks and pays."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

from torch import nn

from muse_studio.contracts import NO_RUN, Dataset, Objective, Optimizer, RunContext, TextEncoder
from muse_studio.errors import UserError
from muse_studio.nn.lora import KEY
from muse_studio.registry.parts import described
from muse_studio.runtime import device
from muse_studio.runtime.files import path_of
from muse_studio.sampling import abilities
from muse_studio.sampling.arguments import tell_of_micro
from muse_studio.sampling.stage import Stage, check_fit
from muse_studio.training.distributed import World, join
from muse_studio.training.loop import Fit, History, Output, Run, first
from muse_training.adapters import LoRA
from muse_training.data.encoder import (
    MICRO,
    Encoder,
    TrainingBatch,
    blank_batch,
    check_picture_size,
    collate,
    make_encoder,
)
from muse_training.data.pictures import list_unusable
from muse_training.data.shard_writer import ShardWriter
from muse_training.data.storage import StorageFolder
from muse_training.data.tokens import Tokens
from muse_training.learner import CRITIC, Setup, TransformerLearner, try_out
from muse_training.objectives.critic import TokenCritic
from muse_training.objectives.masked import Masked
from muse_training.samples import Samples, Sheets


class Train:
    """Trains a stage's transformer on a data set, and writes `<stage>.safetensors` into fit.out.

    The objective says what is hidden, asked and paid; by default Muse's: mask ratios from the stage's own schedule
    (section 2.6), and the cross-entropy of hidden tokens. `text_dropout` of the captions are dropped, which is what
    guidance needs (section 2.7: 10%).

    A stage behind another one learns to refine its tokens (section 2.4): those that the tokenizer of the stage before
    makes of the same picture, scaled down.

    stage: which one of `stages`; needed where there are several.
    corruption: the most low-resolution tokens, as a share, that are replaced at random; what a picture loses lies
    between none and this, so that the model forgives the errors of the stage before.
    objective: by default `masked`. `token-critic` trains the critic that the stage's sampler asks, to tell what the
    transformer, which stays as it is, draws in the place of hidden tokens; `critic.safetensors` is written then.
    dataset: of pictures, or of tokens that prepare-tokens made, which needs neither tokenizer nor text encoder to run.
    cache: where tokens and text states of pictures are kept, so that they are computed once: a folder, or any address
    of fsspec, which gets one folder more for each data set; null computes them each time.
    adapter: trains a low-rank adapter beside the transformer, which stays as it is; `adapter.safetensors` is written.
    samples: sheets of what the model draws while it learns, in fit.out/samples; null draws none.
    smoothing, critic: former ways to say objective: {use: masked, smoothing: ...}, and objective: token-critic.

    `fit.overfit` leaves out text_dropout, corruption and the objective's smoothing, none of which lets a loss come to
    nothing.
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
        objective: Objective | None = None,
        cache: str | None = None,
        adapter: LoRA | None = None,
        samples: Samples | None = None,
        smoothing: float = 0.0,
        critic: bool = False,
    ) -> None:
        self.name = _chosen(stages, stage)
        _check_shares(text_dropout, corruption)
        objective = _objective(objective, smoothing, critic)
        check_fit(stages, text_encoder)
        self.upto = _up_to(stages, self.name)
        self.stage, before = stages[self.name], [*self.upto.values()][-2:-1]
        _check_corruption(corruption, self.name, refines=bool(before))
        _check_learns(self.stage.transformer)
        self.critic = abilities.learns(objective) == CRITIC
        if self.critic:
            _check_critic(self.stage, self.name, adapter)
        if abilities.needs_pixels(objective) and (cache is not None or isinstance(dataset, Tokens)):
            raise ValueError(
                f"{described(objective)} needs the pictures themselves, of which a cache or a data set of tokens keeps "
                "none; give a data set of pictures, and cache: null"
            )
        if fit.overfit:
            text_dropout = corruption = 0.0
            objective = _without_smoothing(objective)
        low = before[0] if before else None
        self.setup = Setup(fit, optimizer, self.stage, objective, low, text_dropout, corruption, adapter)
        self.text_encoder, self.dataset, self.fit = text_encoder, dataset, fit
        self.cache, self.samples = cache, samples

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> History:
        """Train to the end, from the newest checkpoint where there is one."""
        with join(self.fit.device, self.fit.patience) as world:
            return self.train(hook, world, context.recipe or {})

    def train(self, hook: Any, world: World, recipe: dict[str, Any]) -> History:
        """One process's share of it."""
        self.fit.folder(self._written())
        encoder = make_encoder(dict(list(self.upto.items())[-2:]), self.text_encoder, world.device)
        device.move_to_device([self.stage.transformer, self.stage.sampler, self.setup.objective], world.device)
        data = self._data(encoder, world, recipe)
        if MICRO in first(data):
            tell_of_micro(self.setup.learning)
        sheets = self._sheets(encoder, world, hook)
        output = self._output(recipe)  # before an adapter changes the transformer
        learner = TransformerLearner(self.setup, encoder, world)
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
            try_out(self.setup, seen)
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


def _check_shares(text_dropout: float, corruption: float) -> None:
    for name, share in (("text_dropout", text_dropout), ("corruption", corruption)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}; it is a share, from 0 to 1")


def _objective(given: Objective | None, smoothing: float, critic: bool) -> Objective:
    """What is asked for, by its own setting or by a former one."""
    former = [f"smoothing: {smoothing}"] * (smoothing != 0) + ["critic: true"] * critic
    if not former:
        return Masked() if given is None else given
    if given is not None or len(former) > 1:
        raise ValueError(f"{' and '.join(former)} can't be beside each other or an objective; give objective alone")
    instead = "objective: token-critic" if critic else f"objective: {{use: masked, smoothing: {smoothing}}}"
    warnings.warn(f"{former[0]} is deprecated; write {instead}", DeprecationWarning, stacklevel=3)
    return TokenCritic() if critic else Masked(smoothing)


def _without_smoothing(objective: Objective) -> Objective:
    """The objective with no label smoothing, where it is one that has a setting of it."""
    if dataclasses.is_dataclass(objective) and hasattr(objective, "smoothing"):
        return dataclasses.replace(objective, smoothing=0.0)
    return objective


def _check_corruption(corruption: float, name: str, refines: bool) -> None:
    if corruption > 0 and not refines:
        raise ValueError(f"corruption is {corruption}, but {name!r} is the first stage and refines no tokens")


def _check_critic(stage: Stage, name: str, adapter: LoRA | None) -> None:
    if stage.critic is None:
        raise ValueError(
            f"the objective trains a critic, but the sampler of {name!r} asks none; give it one that does, such as "
            f"stages.{name}.sampler={{use: token-critic, critic: {{use: critic, ...}}}}"
        )
    _check_learns(stage.critic)
    if adapter is not None:
        raise ValueError("adapter is for training the transformer, and the objective trains a critic; leave one out")


def _check_learns(model: Any) -> None:
    if not isinstance(model, nn.Module):
        name = type(model).__name__
        raise ValueError(
            f"{name} can't be trained, as it is no torch.nn.Module; take another one, or draw with it alone"
        )
