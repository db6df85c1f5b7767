"""What the muse command does, for Python: recipes run and checked, parts listed; objects come back, not text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from muse_studio.errors import Problem, RecipeError, UserError
from muse_studio.recipe import build, merging
from muse_studio.recipe.observing import OBSERVERS, Named
from muse_studio.registry.parts import Part
from muse_studio.registry.plugins import Registry
from muse_studio.registry.scope import current, run_scope
from muse_studio.runtime import launch, memory

Source: TypeAlias = str | Path | Mapping[str, Any]
Overrides: TypeAlias = Mapping[str, Any] | Iterable[str | Mapping[str, Any]]
Files: TypeAlias = Sequence[str | Path]


@dataclass
class Prepared:
    """A recipe's task, built and not yet called. Calling this runs it, as `run` does, and gives its result."""

    task: Any
    registry: Registry = field(repr=False)
    observers: Named = field(default_factory=list, repr=False)

    def __call__(self) -> Any:
        """Call the task and tell the observers. Raises UserError where the machine refuses."""
        hook = self.registry.hook
        hook.muse_started(task=self.task)
        try:
            with run_scope(hook, self.observers):
                result = self.task(hook)
        except BaseException as error:
            hook.muse_failed(task=self.task, error=error)
            if not isinstance(error, Exception) or (refusal := memory.refusal(error)) is None:
                raise
            raise UserError(refusal) from error
        hook.muse_finished(task=self.task, result=result)
        return result


def run(source: Source, overrides: Overrides | None = None, plugins: Files = ()) -> Any:
    """Run a recipe, and return its task's result.

    source: a shipped recipe's name, a YAML file, a picture that carries its recipe, or a dict.
    overrides: `["stages.base.sampler.steps=8"]` or `{"stages.base.sampler.steps": 8}`; later ones win.
    plugins: Python files that are plugins, as `--plugin` takes them.

    Raises RecipeError with every problem of the recipe, UserError for all else that its user can mend, a full disk and
    a lack of memory among it, PluginError where a plugin is at fault.
    """
    return prepare(source, overrides, plugins)()


def prepare(source: Source, overrides: Overrides | None = None, plugins: Files = ()) -> Prepared:
    """A recipe's task, built; arguments and errors as `run` has them.

    The task is given three attributes, which it may keep beside what it makes: `recipe`, a dict of the resolved recipe
    (parents and overrides merged in, defaults left out); `plugins`, a dict from each plugin that it took part of to its
    version; and `plugin_files`, the `plugins` of this call, for a task that runs further recipes. A task that takes no
    attributes goes without. Observers are no part of it: neither in its `recipe` nor in its `plugins`.
    """
    registry = Registry(plugins)
    node = merging.load(source, merging.overrides(overrides))
    built = build.construct(node, registry)
    task = built.thing
    # Of several processes one reports for all.
    observers = [*(current().observers or ()), *built.observers] if launch.is_main() else []
    registry.observe(observers)
    with contextlib.suppress(AttributeError, TypeError):  # frozen or with slots; Python 3.11 says TypeError of both
        task.recipe = {key: each for key, each in node.plain().items() if key != OBSERVERS}
        task.plugins = {part.plugin: registry.versions[part.plugin] for part in built.parts}
        task.plugin_files = tuple(plugins)
    return Prepared(task, registry, observers)


def check(source: Source, overrides: Overrides | None = None, plugins: Files = ()) -> list[Problem]:
    """Every problem of a recipe, none where it can be run; a recipe for a part alone is checked as that part.

    Raises UserError where there is no such recipe or plugin file, PluginError where a plugin is at fault.
    """
    registry = Registry(plugins)
    try:
        node = merging.load(source, merging.overrides(overrides))
    except RecipeError as error:
        return error.problems
    return build.check(node, registry)


def parts(kind: str | None = None, name: str | None = None, plugins: Files = ()) -> list[Part]:
    """The parts there are: all, those of one kind ("sampler"), or the one of that kind and name.

    Each has `.kind`, `.name`, `.plugin`, and, importing it, `.about`, `.settings` and `.load()`. Raises UserError
    where there is no such kind or part.
    """
    registry = Registry(plugins)
    if name is None:
        return registry.parts(kind)
    if kind is None:
        return [part for part in registry.parts() if part.name == name]
    return [registry.find(kind, name)]
