"""A model with other settings of its stages, by the very same weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from muse_studio.contracts import Editor
from muse_studio.errors import Problem, RecipeError, near
from muse_studio.recipe import merging
from muse_studio.recipe.build import check, construct_settings
from muse_studio.recipe.tree import Node, from_plain
from muse_studio.registry.events import run_scope
from muse_studio.registry.kinds import kind_named
from muse_studio.runtime.device import move_to_device
from muse_studio.sampling.arguments import described
from muse_studio.sampling.stage import Stage

if TYPE_CHECKING:
    from muse_studio.sampling.cascade import Cascade


@dataclass
class Changed:
    """Stages of which some have other parts, the recipe that says so, and the plugins that were used for it."""

    stages: dict[str, Stage]
    recipe: dict[str, Any] | None
    plugins: dict[str, str]


def changed(model: Cascade, stages: Mapping[str, Any], what: str = "using") -> Changed:
    """A model's stages, each table of `stages` merged over its own as in a recipe; a part may be an object.

    what: what errors call the changes. Raises RecipeError with every problem, TypeError where one is no table.
    """
    made, parts, recipe = dict(model.stages), dict(model.plugins or {}), model.recipe
    registry = model.registry
    for name, changes in stages.items():
        if name not in model.stages:
            message = f"the model has no stage {name!r};{near(name, model.stages)} it has: {', '.join(model.stages)}"
            raise RecipeError([Problem(f"{what}({name})", "stages", message)])
        if not isinstance(changes, Mapping):
            raise TypeError(f"{name}: expected a table of the stage's settings, got {described(changes)}")
        whole = merging.load(_stage_table(model.recipe, name), merging.overrides(changes))
        named = {key.partition(".")[0] for key in changes}
        settings, used = construct_settings(Stage, whole, named, registry, f"stages.{name}")
        move_to_device(settings, model.device)
        for part in settings.values():
            for_drawing(part)
        try:
            _check_precision(name, model.stages[name], settings)
            made[name] = replace(made[name], **settings)
            made[name].cast = model.stages[name].cast and "transformer" not in settings
        except ValueError as error:
            raise RecipeError([Problem(f"{what}({name})", f"stages.{name}", str(error))]) from error
        parts |= {part.plugin: registry.versions[part.plugin] for part in used}
        if recipe is not None:
            recipe = recipe | {"stages": recipe["stages"] | {name: whole.plain()}}
    return Changed(made, recipe, parts)


def editor_of(model: Cascade, editor: Any) -> Editor:
    """An editor: the name of one, a table as in a recipe, or an object. RecipeError where it is none."""
    table = from_plain({"editor": editor}, "edit", objects=True)
    made: Editor = construct_settings(_Editing, table, ["editor"], model.registry, "")[0]["editor"]
    return made


def part_problems(model: Cascade, kind: str, part: Node) -> list[Problem]:
    """Every problem of a part of that kind, in the words of `muse check`.

    It is made without memory, and nothing is fetched for it. The model's own observers stay as they are.
    """
    with run_scope(model.hook):
        return check(part, model.registry, kind_named(kind).contract)


def for_drawing(part: Any) -> None:
    """Switch dropout off."""
    for each in (part, getattr(part, "critic", None)):
        if isinstance(each, nn.Module):
            each.eval()


@dataclass
class _Editing:
    """What `edit` takes as in a recipe."""

    editor: Editor


def _stage_table(recipe: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """A stage's settings in a recipe; none where there is no recipe."""
    return {} if recipe is None else dict(recipe["stages"][name])


def _check_precision(name: str, stage: Stage, settings: Mapping[str, Any]) -> None:
    if stage.cast and "precision" in settings and "transformer" not in settings:
        raise ValueError("precision: the weights are loaded in bfloat16; load the model with another precision")
