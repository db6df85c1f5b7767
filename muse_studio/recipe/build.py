"""Nodes to objects, by the signatures of what they name; every problem reported at once.

A run's observers are those of the environment, for every run, and those that its recipe lists. A run within a run, as a
sweep has them, is heard by the outer one's too.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

from muse_studio.contracts import Observer, Task
from muse_studio.errors import NotFetched, Problem, RecipeError, SettingError, UserError, words_of
from muse_studio.recipe.plan import BROKEN, Call, Planner
from muse_studio.recipe.tree import Given, Node, parse
from muse_studio.registry.conforming import check_made
from muse_studio.registry.events import current
from muse_studio.registry.kinds import Kind, kind_named
from muse_studio.registry.parts import Part, settings
from muse_studio.registry.plugins import Registry
from muse_studio.runtime import launch, memory

OBSERVERS = "observers"
"""The recipe's key, beside the settings of its task: observers by name or as tables, in a list."""

ENVIRONMENT = "MUSE_OBSERVERS"
"""The environment variable for observers of every run: the same list, with or without its brackets."""

Named: TypeAlias = list[tuple[str, Any]]
"""Observers, each with the name by which it was asked for."""

MODULES, DEEPEST = 20_000, 2_000
"""Modules of torch in one part, far more than any has; and layers, of which each has ten modules or more."""
_DEPTH = "layer|block|depth"
"""How a setting that counts layers is called."""


@dataclass
class Built:
    """What a recipe says, built. `parts`: all that it took part in it. `observers`: the run's, each with its name."""

    thing: Any
    parts: list[Part]
    observers: Named


def check(node: Node, registry: Registry, expect: type | None = None) -> list[Problem]:
    """Every problem of a recipe; none where it can be built. PluginError where a plugin is at fault.

    expect: the contract of the whole; by default a task, or what the recipe names where that is another kind of part.
    Parts are made too, so that their own checks run, but on torch's meta device, where tensors hold no memory.
    """
    expect = expect or _kind_named_by(node, registry)
    node, watching = split_observers(node)
    planner = Planner(registry)
    maker = _Maker(registry, _looking)
    maker.make([planner.value(expect, node, ""), *plan_observers(watching, planner)])
    return planner.problems + maker.problems


def planned(node: Node, registry: Registry) -> list[Any]:
    """The plans of a recipe that `check` finds no problem in, and of its observers."""
    expect = _kind_named_by(node, registry)
    node, watching = split_observers(node)
    planner = Planner(registry)
    return [planner.value(expect, node, ""), *plan_observers(watching, planner)]


def build(node: Node, registry: Registry, expect: type = Task) -> Any:
    """The object that a recipe says, made by calling its parts from the leaves up.

    Raises RecipeError with every problem at once, PluginError where a plugin is at fault.
    """
    return construct(node, registry, expect).thing


def construct(node: Node, registry: Registry, expect: type = Task) -> Built:
    """As `build`, and says which parts were used. Nothing is made for real while a problem is known."""
    node, watching = split_observers(node)
    planner, listener = Planner(registry), Planner(registry)
    plan, plans = planner.value(expect, node, ""), plan_observers(watching, listener)
    problems = planner.problems + listener.problems
    maker = _Maker(registry, _looking if problems else _sown)
    thing, *observers = [maker.make(each) for each in (plan, *plans)]
    if problems := problems + maker.problems:
        raise RecipeError(problems) from maker.cause
    return Built(thing, planner.used, list(zip(map(name_of, watching), observers, strict=True)))


def make_observers(registry: Registry) -> Named:
    """The environment's observers, made, each with its name; RecipeError with every problem."""
    _, watching = split_observers(Node({}, ""))
    planner, maker = Planner(registry), _Maker(registry, _sown)
    made = [maker.make(each) for each in plan_observers(watching, planner)]
    if problems := planner.problems + maker.problems:
        raise RecipeError(problems) from maker.cause
    return list(zip(map(name_of, watching), made, strict=True))


def construct_settings(
    target: type, node: Node, names: Collection[str], registry: Registry, path: str
) -> tuple[dict[str, Any], list[Part]]:
    """Of a dataclass, the settings of these names as a node has them, made; and the parts that they took.

    Raises RecipeError as `construct` does.
    """
    assert isinstance(node.value, dict)
    planner, maker = Planner(registry), _Maker(registry, _sown)
    given = {key: each for key, each in node.value.items() if key in names}
    plans = planner.settings(settings(target, target.__name__), given, path, target.__name__)
    made = {} if planner.problems else {key: maker.make(each) for key, each in plans.items()}
    if problems := planner.problems + maker.problems:
        raise RecipeError(problems) from maker.cause
    return made, planner.used


def kinds_named_by(node: Node, registry: Registry) -> list[Kind]:
    """The kinds that have a part by the name that a recipe's `use` is."""
    named = node.value.get("use") if isinstance(node.value, dict) else None
    name = named.value if named else None
    offering = {part.kind for part in registry.parts() if name in (part.name, part.full_name)}
    return [kind_named(each) for each in sorted(offering)]


def _kind_named_by(node: Node, registry: Registry) -> type:
    """The contract that a recipe's `use` means: Task, unless the name is one of another kind alone."""
    offering = kinds_named_by(node, registry)
    return Task if len(offering) != 1 else offering[0].contract


@contextmanager
def attributed(registry: Registry, making: Part | None = None) -> Iterator[None]:
    """Within it, an exception that is a plugin's fault is raised as the PluginError that it is, the first its cause.

    making: the part whose constructor is called.
    """
    try:
        yield
    except Exception as error:
        from muse_studio.registry.faults import fault_of  # what nobody needs who makes no mistake

        if (fault := fault_of(error, registry, making)) is not None:
            raise fault from error
        raise


def _meta() -> AbstractContextManager[Any]:
    """Tensors without memory, where a part has imported torch; else there are none to make."""
    torch = sys.modules.get("torch")
    return nullcontext() if torch is None else torch.device("meta")


@contextmanager
def _looking() -> Iterator[None]:
    """As a recipe is checked: nothing takes memory, and nothing is fetched."""
    with launch.fetching_nothing(), _meta():
        yield


@contextmanager
def _sown() -> Iterator[None]:
    """Random numbers that are the same each time: a recipe that trains twice starts twice from the same weights."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        yield


@contextmanager
def _counted(arguments: dict[str, Any]) -> Iterator[None]:
    """Within it, more than `MODULES` modules are a ValueError, before they fill the time and the memory there is."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    for name, each in arguments.items():
        if type(each) is int and each > DEEPEST and re.search(_DEPTH, name):
            raise _too_many(arguments)
    count = 0

    def hear(*_: Any) -> None:
        nonlocal count
        count += 1
        if count > MODULES:
            raise _too_many(arguments)

    handle = torch.nn.modules.module.register_module_module_registration_hook(hear)
    try:
        yield
    finally:
        handle.remove()


def _too_many(arguments: dict[str, Any]) -> ValueError:
    """What is told of more than `MODULES` modules, at the setting that most likely asks for them."""
    told = f"more than {MODULES:,} modules of torch would be made"
    numbers = {name: each for name, each in arguments.items() if type(each) is int}
    deep = {name: each for name, each in numbers.items() if re.search(_DEPTH, name)}
    if not (numbers := deep or numbers):
        return ValueError(f"{told}; choose smaller sizes")
    name = max(numbers, key=lambda each: numbers[each])
    return SettingError(name, f"{name} is {numbers[name]}: {told}; give a smaller one")


def _check_memory(plan: Call, arguments: dict[str, Any]) -> None:
    """UserError where a part's weights don't fit the machine, told by making it without memory first."""
    torch = sys.modules.get("torch")
    if torch is None or not (isinstance(plan.target, type) and issubclass(plan.target, torch.nn.Module)):
        return
    try:
        with _meta(), torch.random.fork_rng(devices=[]), _counted(arguments):
            need = memory.weigh(plan.target(**arguments))
    except SettingError:  # nothing is to be made of what is refused
        raise
    except Exception:  # whatever it is, making it in earnest raises it again, where it is told
        return
    memory.check(need, "its weights take", "choose smaller sizes, or a machine with more")


def _not_fetched(error: BaseException | None) -> bool:
    """Whether an error came of it that nothing may be fetched."""
    return error is not None and (isinstance(error, NotFetched) or _not_fetched(error.__cause__))


class _Maker:
    """Makes what was planned, and goes on past a part that refuses, to hear of the others."""

    def __init__(self, registry: Registry, context: Callable[[], AbstractContextManager[Any]]) -> None:
        self.registry, self.context = registry, context
        self.problems: list[Problem] = []
        self.cause: Exception | None = None

    def make(self, plan: Any) -> Any:
        """A plan's value, BROKEN where any of it can't be made."""
        if isinstance(plan, list):
            made = [self.make(each) for each in plan]
            return BROKEN if any(each is BROKEN for each in made) else made
        if isinstance(plan, dict):
            table = {key: self.make(each) for key, each in plan.items()}
            return BROKEN if any(each is BROKEN for each in table.values()) else table
        if isinstance(plan, Given):
            return plan.thing
        return self.call(plan) if isinstance(plan, Call) else plan

    def call(self, plan: Call) -> Any:
        """Call one part. What it refuses is the recipe's problem; any other exception is its author's."""
        arguments = self.make(plan.arguments)
        if arguments is BROKEN or plan.broken:
            return BROKEN
        held = memory.held()
        try:
            if self.context is _sown:
                _check_memory(plan, arguments)
            made = self._called(plan.target, arguments)
        except Exception as error:
            if self.context is _looking and _not_fetched(error):
                return BROKEN
            message = memory.refusal(error)
            if message is None:
                self._raise_fault(error, plan)
            self.cause = self.cause or error
            self.problems.append(plan.refusal(error, message or words_of(error)))
            return BROKEN
        if taken := memory.taken(held):
            warnings.warn(f"{plan.what} {taken} when it is made; it should do so when it is called", stacklevel=2)
        if plan.part is None or plan.contract is None:
            return made
        with attributed(self.registry, plan.part):
            check_made(made, plan.contract, plan.what, plan.target)
        if not self.registry.is_foreign(plan.part.plugin):
            return made
        from muse_studio.registry.checked import checked  # what none of the default parts needs

        return checked(made, plan.part, plan.contract)

    def _called(self, target: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """The target called; while looking, without weights that are not here yet."""
        with self.context(), _counted(arguments):
            try:
                return target(**arguments)
            except Exception as error:
                if not (self.context is _looking and _not_fetched(error) and arguments.get("weights")):
                    raise
            return target(**arguments | {"weights": None})

    def _raise_fault(self, error: Exception, plan: Call) -> None:
        """Raise what is no refusal of the recipe's settings: a bug, as the PluginError that it is, or as it came."""
        from muse_studio.registry.faults import fault_of, refuses

        refused = isinstance(error, ValueError | OSError | UserError)
        fault = None if refused else fault_of(error, self.registry, plan.part)
        if refused or (isinstance(error, TypeError) and (fault is None or refuses(error))):
            return
        if fault is None:
            raise error
        raise fault from error


def split_observers(node: Node) -> tuple[Node, list[Node]]:
    """A recipe without its observers, and these, those of the environment first, where they don't hear already.

    RecipeError where either is no list.
    """
    found = _of_environment() if current().observers is None else []
    if not isinstance(node.value, dict) or OBSERVERS not in node.value:
        return node, found
    listed = node.value[OBSERVERS]
    rest = Node({key: each for key, each in node.value.items() if key != OBSERVERS}, node.place)
    return rest, found + _entries(listed, listed.place)


def plan_observers(observers: list[Node], planner: Planner) -> list[Any]:
    """A plan for each of them; what is wrong is among the planner's problems."""
    return [planner.value(Observer, each, f"{OBSERVERS}[{index}]") for index, each in enumerate(observers)]


def name_of(observer: Node) -> str:
    """The name by which an observer is asked for; its class's where it was given as an object."""
    if isinstance(observer.value, Given):
        return type(observer.value.thing).__name__
    named = observer.value["use"] if isinstance(observer.value, dict) else observer
    return str(named.value)


def _of_environment() -> list[Node]:
    text = os.environ.get(ENVIRONMENT, "").strip()
    text = text if text.startswith("[") else f"[{text}]"
    return _entries(parse(text, ENVIRONMENT, override=True), ENVIRONMENT)


def _entries(node: Node | None, place: str) -> list[Node]:
    if node is None or not isinstance(node.value, list):
        message = "expected a list of observers, such as [preview] or [{use: preview, seconds: 10}]"
        raise RecipeError([Problem(place, OBSERVERS, message)])
    return node.value
