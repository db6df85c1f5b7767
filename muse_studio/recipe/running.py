"""What the muse command does, for Python: recipes run and checked, parts listed; objects come back, not text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pluggy

from muse_studio.contracts import NO_RUN, RunContext
from muse_studio.errors import PluginError, Problem, RecipeError, Refused, UserError
from muse_studio.recipe import build, merging
from muse_studio.recipe.build import OBSERVERS, Named, attributed
from muse_studio.recipe.tree import Node
from muse_studio.registry.events import current, run_scope
from muse_studio.registry.parts import Part
from muse_studio.registry.plugins import Registry
from muse_studio.runtime import launch, memory

if TYPE_CHECKING:
    from PIL import Image

    from muse_studio.recipe.reach import Reach

Source: TypeAlias = str | Path | Mapping[str, Any] | Node
Overrides: TypeAlias = Mapping[str, Any] | Iterable[str | Mapping[str, Any]]
Files: TypeAlias = Sequence[str | Path]

FILTERS = ("muse_prompt", "muse_picture")
"""The hook points by which a filter refuses."""


@dataclass
class Prepared:
    """A recipe's task, built and not yet called. Calling this runs it, as `run` does, and gives its result."""

    task: Any
    registry: Registry = field(repr=False)
    context: RunContext = NO_RUN
    observers: Named = field(default_factory=list, repr=False)
    trust: bool = False

    def __call__(self) -> Any:
        """Call the task and tell the observers. UserError where the machine refuses, PluginError for a plugin's bug."""
        hook, of_run = self.registry.hook, {"task": self.task, "context": self.context}
        hook.muse_started(**of_run)
        with launch.trusting(self.trust), attributed(self.registry):
            try:
                with run_scope(hook, self.observers):
                    result = self.task(hook, **self._context())
            except BaseException as error:
                hook.muse_failed(error=error, **of_run)
                if isinstance(error, Exception) and (refusal := memory.refusal(error)) is not None:
                    raise UserError(refusal) from error
                raise
        hook.muse_finished(result=result, **of_run)
        return result

    def _context(self) -> dict[str, RunContext]:
        """The context as the task takes it: none where it has no such argument."""
        return {"context": self.context} if "context" in inspect.signature(self.task).parameters else {}


def run(
    source: Source, overrides: Overrides | None = None, plugins: Files = (), *, trust: bool = False, **settings: Any
) -> Any:
    """Run a recipe, and return its task's result.

        run("generate", {"prompt": "a fox", "stages.base.sampler": MySampler()})
        run("train-emoji-base", {"fit.steps": 100}, dataset=my_dataset, observers=[MyObserver()])

    source: a shipped recipe's name, a YAML file, a picture that carries its recipe, or a dict.
    overrides: `["stages.base.sampler.steps=8"]` or `{"stages.base.sampler.steps": 8}`; later ones win.
    plugins: Python files that are plugins, as `--plugin` takes them.
    trust: obey a picture's recipe in all that it wants, and open addresses of any protocol, as `--trust` does.
    settings: further overrides, of the recipe's top level.

    Where a recipe names a part, an override may be an object that keeps that part's contract. The recipe that a result
    carries then names its class, and can be run again once the object is given again.

    Raises RecipeError with every problem of the recipe, UserError for all else that its user can mend, a full disk and
    a lack of memory among it, PluginError where a plugin is at fault.
    """
    return prepare(source, overrides, plugins, trust=trust, **settings)()


def prepare(
    source: Source, overrides: Overrides | None = None, plugins: Files = (), *, trust: bool = False, **settings: Any
) -> Prepared:
    """A recipe's task, built; arguments and errors as `run` has them.

    Observers are no part of its context: neither of the `recipe` nor of the `plugins`.
    """
    registry = Registry(plugins)
    with launch.trusting(trust), attributed(registry):
        node = merging.load(source, [*merging.overrides(overrides), *merging.overrides(settings)])
        built = build.construct(node, registry)
    observers = [*(current().observers or ()), *built.observers]
    if not launch.is_main():  # of several processes one reports for all, but each asks the filters before it draws
        observers = [each for each in observers if any(hasattr(each[1], hook) for hook in FILTERS)]
    registry.observe(observers)
    context = RunContext(
        {key: each for key, each in node.plain().items() if key != OBSERVERS},
        {part.plugin: registry.versions[part.plugin] for part in built.parts},
        tuple(plugins),
    )
    return Prepared(built.thing, registry, context, observers, trust)


def listeners() -> Any:
    """pluggy's caller of a run's plugins and observers; outside of one, of those installed and of the environment."""
    return installed() if (hook := current().hook) is None else hook


def installed() -> Any:
    """As `listeners` outside of a run, whatever goes on. RecipeError for a mistake in the environment's observers."""
    registry = Registry()
    registry.observe(build.make_observers(registry))
    return registry.hook


def ask_prompts(hook: Any, prompts: Sequence[str]) -> None:
    """Refused, naming the first prompt that a filter refuses.

    hook: pluggy's caller of the filters, as a task is given it; None asks `listeners`, so that no way to a picture goes
    past the filters that there are. Negative prompts are not for asking: they say what is not wanted.
    """
    for number, prompt in enumerate(prompts, 1):
        for name, reason in _reasons(hook, "muse_prompt", prompt=prompt):
            which = f"the prompt {prompt!r}" if len(prompts) == 1 else f"prompt {number} of {len(prompts)}, {prompt!r},"
            raise Refused(f"{which} is refused by the filter {name}: {reason}; nothing was drawn")


def ask_picture(hook: Any, image: Image.Image, prompt: str, seed: int) -> None:
    """Refused where a filter refuses a picture that is about to be written or given; `hook` as in `ask_prompts`."""
    for name, reason in _reasons(hook, "muse_picture", image=image, prompt=prompt):
        raise Refused(
            f"the picture of {prompt!r}, seed {seed}, is refused by the filter {name}: {reason}; it was not written"
        )


def _reasons(hook: Any, name: str, **given: Any) -> Iterator[tuple[str, str]]:
    """Who refuses, and why. A filter that breaks raises: what can't be asked about is not let through."""
    for who, ask in _asked(listeners() if hook is None else hook, name):
        reason = ask(**given)
        if reason is None:
            continue
        if not isinstance(reason, str) or not reason.strip():
            raise PluginError(f"filter {who}: {name} gave {reason!r}; give a reason as text, or None")
        yield who, reason


def _asked(hook: Any, name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Who fills the hook, by name; an observer that stands for all of them is asked itself."""
    caller = getattr(hook, name, None)
    if isinstance(caller, pluggy.HookCaller):
        for filled in caller.get_hookimpls():
            yield filled.plugin_name, partial(_answer, filled)
    elif caller is not None:
        yield type(hook).__name__, caller


def _answer(filled: pluggy.HookImpl, **given: Any) -> Any:
    """What one plugin says, given those of the arguments that it asks for."""
    return filled.function(*(given[name] for name in filled.argnames))


def check(
    source: Source, overrides: Overrides | None = None, plugins: Files = (), *, trust: bool = False
) -> list[Problem]:
    """Every problem of a recipe, none where it can be run; a recipe for a part alone is checked as that part.

    Nothing is fetched for it, and what hangs on something that is not here yet is not checked, unless `trust` is given.
    Raises UserError where there is no such recipe or plugin file, PluginError where a plugin is at fault.
    """
    registry = Registry(plugins)
    with launch.trusting(trust):
        try:
            node = merging.load(source, merging.overrides(overrides))
        except RecipeError as error:
            return error.problems
        with attributed(registry):
            return build.check(node, registry)


def reaches(
    source: Source, overrides: Overrides | None = None, plugins: Files = (), *, trust: bool = False
) -> list[Reach]:
    """What a recipe without a problem would write, read and fetch, as far as its settings say. Errors as `check`'s."""
    from muse_studio.recipe.reach import reach  # what nobody needs who runs a recipe

    with launch.trusting(trust):
        registry = Registry(plugins)
        node = merging.load(source, merging.overrides(overrides))
        return list(reach(build.planned(node, registry)))


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
