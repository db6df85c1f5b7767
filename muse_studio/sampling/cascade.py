"""From prompts to pixels: the stages in their order, each given the tokens of the one before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from muse_studio.contracts import RunContext, TextEmbedding, TextEncoder
from muse_studio.recipe import merging
from muse_studio.recipe.build import attributed, construct
from muse_studio.recipe.running import installed
from muse_studio.recipe.tree import Node
from muse_studio.registry.events import current
from muse_studio.registry.plugins import Registry
from muse_studio.runtime import memory
from muse_studio.runtime.device import choose_device, keep_freed_memory, move_to_device
from muse_studio.runtime.launch import trusting
from muse_studio.sampling.noise import Rows
from muse_studio.sampling.stage import Stage, check_fit

Watch = Callable[[str, int, int, Tensor], None]
"""Called after each step: the stage's name, the step from 1, of how many, and the tokens int64[B, h, w]."""


@dataclass(repr=False)
class Cascade:
    """What pictures are drawn with, as a model's recipe has it: stages, the first one first, and a text encoder.

    Each stage is bound to the text encoder and to the stage before it, see `Stage.bound`. ValueError where the parts
    don't fit.

    recipe: the resolved one, None where it was made of parts.
    hook: pluggy's caller of the observers and filters that came with it; of a model made of parts, of the run that goes
        on, else of all that are installed.
    plugins: the plugins that its parts are of, each with its version.
    """

    stages: dict[str, Stage]
    text_encoder: TextEncoder
    recipe: dict[str, Any] | None = field(default=None, init=False)
    _hook: Any = field(default=None, init=False)
    plugins: dict[str, str] | None = field(default=None, init=False)
    _registry: Registry | None = field(default=None, init=False)
    _files: Sequence[str | Path] = field(default=(), init=False)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"), init=False)

    def __post_init__(self) -> None:
        check_fit(self.stages, self.text_encoder)
        bound: dict[str, Stage] = {}
        before = None
        for name, stage in self.stages.items():
            bound[name] = before = stage.bound(self.text_encoder, before)
        self.stages = bound

    @classmethod
    def of_run(
        cls, stages: dict[str, Stage], text_encoder: TextEncoder, device: str, hook: Any, context: RunContext
    ) -> Self:
        """The model of a task that runs: ready to draw, with the run's recipe and plugins; it asks and tells `hook`."""
        model = cls(stages, text_encoder).on(device)
        model.recipe, model.plugins, model._files = context.recipe, context.plugins, context.plugin_files
        model.hook = hook
        return model

    def on(self, device: str = "auto") -> Self:
        """The same model, moved to a device and ready to draw. UserError where that is missing or has no room."""
        self.device = choose_device(device)
        make_ready(self.stages, self.text_encoder, self.device)
        return self

    @property
    def last(self) -> Stage:
        """The stage that makes the picture."""
        return list(self.stages.values())[-1]

    @property
    def registry(self) -> Registry:
        """All parts that there are: those its recipe was built from, or, of a model made of parts, all installed."""
        if self._registry is None:
            self._registry = Registry(self._files)
        return self._registry

    @property
    def hook(self) -> Any:
        """Whom to ask and tell; never None, or a filter would be passed by."""
        if self._hook is None and current().hook is None:
            self._hook = installed()
        return self._hook or current().hook

    @hook.setter
    def hook(self, hook: Any) -> None:
        self._hook = hook

    @contextmanager
    def naming_faults(self) -> Iterator[None]:
        """Around what the model does: a bug of a third party's plugin is raised as the PluginError that names it."""
        try:
            yield
        except Exception as error:
            with attributed(self.registry):
                raise error


Made = TypeVar("Made", bound=Cascade)


def open_cascade(
    of: type[Made],
    recipe: str | Path | Mapping[str, Any],
    overrides: Any = None,
    plugins: Sequence[str | Path] = (),
    device: str = "auto",
    trust: bool = False,
) -> Made:
    """A model's recipe as a Cascade, or a class that extends it, on a device and ready to draw.

    Raises RecipeError with every problem of the recipe, UserError where the device is missing.
    """
    with trusting(trust):
        return build_cascade(of, merging.load(recipe, merging.overrides(overrides)), Registry(plugins), device)


def build_cascade(of: type[Made], node: Node, registry: Registry, device: str = "auto") -> Made:
    """As `open_cascade`, of a recipe that is read already."""
    built = construct(node, registry, of)
    registry.observe(built.observers)
    made: Made = built.thing
    made.on(device)
    made.recipe, made.hook, made._registry = node.plain(), registry.hook, registry
    made.plugins = {part.plugin: registry.versions[part.plugin] for part in built.parts}
    return made


def make_ready(stages: dict[str, Stage], text_encoder: TextEncoder, device: torch.device) -> None:
    """Move every part to the device, switch dropout off, and let each stage settle into its precision.

    Raises UserError, before anything is moved, where the device has no room for the weights and for one picture.
    """
    need = memory.weigh([stages, text_encoder], device) + max(map(one_picture, stages.values()), default=0)
    cure = "choose precision: bfloat16, smaller sizes, or another device"
    memory.check(need, "the weights and one picture take at least", cure, device)
    move_to_device(stages, device)
    move_to_device(text_encoder, device)
    for stage in stages.values():
        stage.settle(device)
        for part in (stage.tokenizer, *stage.models().values()):
            if isinstance(part, torch.nn.Module):
                part.eval()
    if device.type == "cpu":
        keep_freed_memory()


def one_picture(stage: Stage) -> int:
    """Bytes that a step of sampling one picture takes at least: float32 logits, the guided, and of both halves."""
    return 3 * 4 * math.prod(stage.grid) * stage.tokenizer.codebook_size


def count_steps(stages: dict[str, Stage]) -> int:
    """How many sampling steps one batch takes through all stages."""
    return sum(stage.sampler.steps for stage in stages.values())


@torch.inference_mode()
def sample_steps(
    stages: dict[str, Stage],
    text: TextEmbedding,
    generator: torch.Generator | Rows,
    *,
    negative: TextEmbedding | None = None,
) -> Iterator[tuple[str, int, int, Tensor]]:
    """What `sample` watches: the stage's name, the step from 1, of how many, and the tokens int64[B, h, w]."""
    low = None
    for name, stage in stages.items():
        steps = stage.sampler.steps
        for step, tokens in enumerate(stage.sample(text, generator, negative=negative, low=low), start=1):
            yield name, step, steps, tokens
        low = tokens


@torch.inference_mode()
def sample(
    stages: dict[str, Stage],
    text: TextEmbedding,
    generator: torch.Generator | Rows,
    *,
    negative: TextEmbedding | None = None,
    watch: Watch,
) -> dict[str, Tensor]:
    """B prompts to each stage's finished tokens int64[B, h, w] (Muse, section 2.1).

    A stage refines the tokens of the one before it; the last one's are the picture's.

    One generator serves all stages and all B rows, in order: the same generator and the same B give the same pictures.
    Of `Rows`, one a picture, each serves its own through all stages, as if it were drawn alone.
    """
    finished: dict[str, Tensor] = {}
    for name, step, steps, tokens in sample_steps(stages, text, generator, negative=negative):
        watch(name, step, steps, tokens)
        finished[name] = tokens
    return finished


@torch.inference_mode()
def decode(stage: Stage, tokens: Tensor) -> Tensor:
    """int64[B, h, w] to pictures float32[B, 3, H, W] in 0..1."""
    return stage.decode(tokens)


def report_step(hook: Any, stage: str, step: int, steps: int, tokens: Tensor) -> None:
    """One step to the observers; a task that is called from Python may have none (`hook` is None)."""
    if hook is not None:
        hook.muse_step(stage=stage, step=step, steps=steps, tokens=tokens, loss=None, image=None, numbers=None)
