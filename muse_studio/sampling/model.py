"""A model for Python: pictures in memory, every step of one, other samplers with the same weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image
from torch import Tensor, nn

from muse_studio.contracts import TextEmbedding
from muse_studio.errors import Problem, RecipeError, UserError
from muse_studio.images.naming import check_prompt
from muse_studio.images.pixels import from_image, to_images
from muse_studio.recipe import merging
from muse_studio.recipe.build import OBSERVERS, attributed, construct, kinds_named_by
from muse_studio.recipe.running import ask_picture, ask_prompts
from muse_studio.recipe.tree import Node, from_plain
from muse_studio.registry.events import ProgressBar
from muse_studio.registry.kinds import kind_named
from muse_studio.registry.plugins import Registry
from muse_studio.runtime.device import choose_device, move_to_device
from muse_studio.runtime.launch import trusting
from muse_studio.sampling.arguments import check_seed, check_words
from muse_studio.sampling.cascade import Cascade, build_cascade, count_steps, decode, sample_steps
from muse_studio.sampling.drawn import Picture, Step, cloned, opened, written
from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.sampling.editing.region import Region, as_region
from muse_studio.sampling.editing.session import EditSession
from muse_studio.sampling.editing.windows import Layout
from muse_studio.sampling.stage import Stage
from muse_studio.sampling.variants import changed, editor_of, for_drawing


class Model(Cascade):
    """A model as its recipe says it, to be had by `load`: `stages` by name, the first one first, and `text_encoder`.

    `draw` and `edit` give pictures in memory; `muse_studio.run` writes files. Filters are asked as in a run.
    """

    @overload
    def draw(self, prompt: str, *, negative: str = "", seed: int = 0) -> Picture: ...  # type: ignore[overload-overlap]

    @overload
    def draw(self, prompt: Sequence[str], *, negative: str = "", seed: int = 0) -> list[Picture]: ...

    def draw(self, prompt: str | Sequence[str], *, negative: str = "", seed: int = 0) -> Picture | list[Picture]:
        """The picture that `muse generate PROMPT seed=N` writes, to the pixel; seed 0 where none is given.

        prompt: a list gives a list of pictures, each as if it were drawn alone. negative: what to move away from.
        Raises UserError where a filter refuses a prompt or the picture.
        """
        several = isinstance(prompt, list | tuple)
        prompts: list[str] = list(prompt) if several else [prompt]  # type: ignore[list-item]
        self._check(prompts, negative, seed)
        drawn = []
        with self.naming_faults(), ProgressBar(len(prompts) * count_steps(self.stages)) as bar:
            for each in prompts:
                tokens = {}
                for name, _, _, grid in self._steps(each, negative, seed):
                    tokens[name] = grid
                    bar.advance(name)
                image = to_images(decode(self.last, tokens[list(self.stages)[-1]]))[0]
                ask_picture(self.hook, image, each, seed)
                recipe = self._recipe("generate", prompt=each, negative=negative, seed=seed, count=1)
                drawn.append(Picture(image, cloned(tokens), each, seed, recipe, self.plugins))
        return drawn if several else drawn[0]

    def steps(self, prompt: str, *, negative: str = "", seed: int = 0) -> Iterator[Step]:
        """Every step of the picture that `draw` gives, as it is made; the last one's tokens are the picture's."""
        self._check([prompt], negative, seed)
        return (
            Step(name, step, steps, tokens.clone(), self, (prompt, seed))
            for name, step, steps, tokens in self._steps(prompt, negative, seed)
        )

    def using(self, **stages: Mapping[str, Any]) -> Model:
        """This model with other settings of its stages, by the very same weights; it stays itself as it is.

            model.using(base={"sampler": {"use": "halton", "steps": 24}, "guidance": {"scale": 2.0}})
            model.using(base={"sampler": MySampler()})

        A stage's table is merged over its own as in a recipe; a part may be an object. Raises RecipeError with every
        problem.
        """
        made = changed(self, stages)
        try:
            model = Model(made.stages, self.text_encoder)
        except ValueError as error:
            raise RecipeError([Problem("using", "", str(error))]) from error
        model.recipe, model.hook, model._registry, model.device = made.recipe, self._hook, self._registry, self.device
        model.plugins = None if self.plugins is None else made.plugins
        return model

    def edit(
        self,
        picture: Picture | Image.Image | str | Path,
        region: Region | None = None,
        prompt: str = "",
        *,
        negative: str = "",
        seed: int = 0,
        editor: Any = "inpaint",
        dilate: int = 1,
        feather: int | None = None,
    ) -> Picture:
        """The picture that `muse run inpaint` writes: new pixels in the region alone, and a feather around it.

        region: a box (x, y, w, h) in pixels, "x,y,w,h", a mask bool[H, W], or a list of boxes; None is all of it.
        editor: the name of one, a table as in a recipe, or an object. dilate, feather: as the task `edit` has them.
        Raises UserError where a filter refuses the prompt or the picture, or a file can't be read.
        """
        self._check([prompt], negative, seed)
        image, address = opened(picture)
        pixels = from_image(image)
        area = as_region(region, image.height, image.width) if region is not None else torch.ones(pixels.shape[1:]) > 0
        layout = Layout.of(self.stages, (image.height, image.width))
        width = max(1, min(image.size) // 32) if feather is None else feather
        session = EditSession(self.stages, layout, pixels, area, self.device, dilate=dilate, feather=width)
        change = editor_of(self, editor)
        generator = torch.Generator().manual_seed(seed)
        with self.naming_faults(), ProgressBar(session.count(change)) as bar:

            def watch(stage: str, step: int, steps: int, tokens: Tensor) -> None:
                bar.advance(stage)

            text, away = self._texts(prompt, negative)
            *_, first = session.edit(change, text, generator, negative=away, watch=watch)
            tokens = session.finish(first, text, generator, negative=away, watch=watch)
        edited = to_images(session.paste(tokens)[None])[0]
        ask_picture(self.hook, edited, prompt, seed)
        asked = {
            "editor": from_plain(editor, "edit", objects=True).plain(),
            "picture": address,
            "region": written(region),
        }
        given = {key: from_plain(each, "edit", objects=True).plain() for key, each in asked.items()}
        more = {"prompt": prompt, "negative": negative, "dilate": dilate, "feather": feather, "seed": seed, "count": 1}
        recipe = self._recipe("edit", **given, **more)
        return Picture(edited, cloned(tokens), prompt, seed, recipe, self.plugins, edited=True)

    def canvas(self, seed: int = 0, dilate: int = 1) -> Canvas:
        """A blank canvas, see `Canvas`."""
        return Canvas.of(self, seed, dilate)

    def __repr__(self) -> str:
        lines = [f"Model on {self.device}: {_counted(self.text_encoder)} read the prompt"]
        for name, stage in list(self.stages.items())[:SHOWN]:
            (rows, columns), codes = stage.grid, stage.tokenizer.codebook_size
            lines.append(f"  {name}: {stage.width}x{stage.height} pixels, {columns}x{rows} tokens of {codes:,} codes")
            lines.append(f"    {_counted(stage.transformer)}, {_counted(stage.tokenizer)}, {_sampling(stage)}")
        hidden = len(self.stages) - SHOWN
        return "\n".join([*lines, f"  and {hidden} more stages"] if hidden > 0 else lines)

    def _check(self, prompts: list[str], negative: str, seed: int) -> None:
        """TypeError or ValueError where these can't be; Refused where a filter refuses a prompt."""
        for prompt in prompts:
            check_words(prompt)
            check_prompt(prompt)
        check_words(negative, "negative")
        check_prompt(negative)
        check_seed(seed)
        ask_prompts(self.hook, prompts)

    @torch.inference_mode()
    def _texts(self, prompt: str, negative: str) -> tuple[TextEmbedding, TextEmbedding | None]:
        text = self.text_encoder([prompt]).to(self.device)
        return text, self.text_encoder([negative]).to(self.device) if negative else None

    def _steps(self, prompt: str, negative: str, seed: int) -> Iterator[tuple[str, int, int, Tensor]]:
        with self.naming_faults():
            text, away = self._texts(prompt, negative)
            yield from sample_steps(self.stages, text, torch.Generator().manual_seed(seed), negative=away)

    def _recipe(self, use: str, **settings: Any) -> dict[str, Any] | None:
        """What a task draws the same with."""
        if self.recipe is None:
            return None
        return {"use": use, **{key: each for key, each in self.recipe.items() if key != OBSERVERS}, **settings}


SHOWN = 4
"""Stages that a model's repr tells of, on two lines each."""


def load(
    source: str | Path | Mapping[str, Any] = "models/emoji",
    overrides: Any = None,
    plugins: Sequence[str | Path] = (),
    device: str = "auto",
    kind: str | None = None,
    trust: bool = False,
) -> Any:
    """A model, or a part alone, on a device and ready to be used.

        model = load("models/emoji")                    # a Model
        tokenizer = load("models/emoji-tokenizer")      # a part: this recipe holds one
        sampler = load({"use": "halton", "steps": 8})

    source: a recipe, as `muse_studio.run` takes them; overrides, plugins and trust likewise. One whose `use` names a
    part, of any kind, gives that part, a network without dropout; all others are a `Model`'s. kind: of the part, such
    as "sampler", where its name is of several kinds.

    Raises RecipeError with every problem of the recipe, UserError where the device is missing or the kind is unclear.
    """
    with trusting(trust):
        return _loaded(merging.load(source, merging.overrides(overrides)), Registry(plugins), device, kind)


def _loaded(node: Node, registry: Registry, device: str, kind: str | None) -> Any:
    assert isinstance(node.value, dict)  # merging refuses all else
    if "use" not in node.value and kind is None:
        return build_cascade(Model, node, registry, device)
    contract = kind_named(kind).contract if kind is not None else _contract(node, registry)
    with attributed(registry):
        part = construct(node, registry, contract).thing
    move_to_device(part, choose_device(device))
    for_drawing(part)
    return part


def _contract(node: Node, registry: Registry) -> type:
    found = kinds_named_by(node, registry)
    if len(found) > 1:
        names = " and ".join(each.with_article for each in found)
        name = node.plain()["use"]
        raise UserError(f"{name!r} is the name of {names}; say which by kind, such as kind={found[0].name!r}")
    return found[0].contract if found else kind_named("task").contract  # whose problem is then told


def _counted(part: Any) -> str:
    name = type(part).__name__
    if not isinstance(part, nn.Module):
        return name
    count = sum(each.numel() for each in part.parameters())
    return f"{name} ({count / 1e6:.1f}M)"


def _sampling(stage: Stage) -> str:
    return f"{type(stage.sampler).__name__} of {stage.sampler.steps} steps"
