"""Nodes to objects, by the signatures of what they name; every problem reported at once."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from muse_studio.contracts import Task
from muse_studio.errors import PluginError, Problem, RecipeError, UserError, error_message
from muse_studio.recipe.observing import Named, name_of, plan_observers, split_observers
from muse_studio.recipe.plan import BROKEN, Call, Planner
from muse_studio.recipe.tree import Node
from muse_studio.registry.kinds import kind_named
from muse_studio.registry.parts import Part
from muse_studio.registry.plugins import Registry
from muse_studio.runtime import gpu_watch, memory


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
    maker = _Maker(_meta)
    maker.make([planner.value(expect, node, ""), *plan_observers(watching, planner)])
    return planner.problems + maker.problems


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
    maker = _Maker(_meta if problems else _sown)
    thing, *observers = [maker.make(each) for each in (plan, *plans)]
    if problems := problems + maker.problems:
        raise RecipeError(problems) from maker.cause
    return Built(thing, planner.used, list(zip(map(name_of, watching), observers, strict=True)))


def _kind_named_by(node: Node, registry: Registry) -> type:
    """The contract that a recipe's `use` means: Task, unless the name is one of another kind alone."""
    named = node.value.get("use") if isinstance(node.value, dict) else None
    name = named.value if named else None
    offering = {part.kind for part in registry.parts() if name in (part.name, part.full_name)}
    return Task if len(offering) != 1 else kind_named(offering.pop()).contract


def _meta() -> AbstractContextManager[Any]:
    """Tensors without memory, where a part has imported torch; else there are none to make."""
    torch = sys.modules.get("torch")
    return nullcontext() if torch is None else torch.device("meta")


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


def _check_memory(plan: Call, arguments: dict[str, Any]) -> None:
    """UserError where a part's weights don't fit the machine, told by making it without memory first."""
    torch = sys.modules.get("torch")
    if torch is None or not (isinstance(plan.target, type) and issubclass(plan.target, torch.nn.Module)):
        return
    try:
        with _meta(), torch.random.fork_rng(devices=[]):
            need = memory.weigh(plan.target(**arguments))
    except Exception:  # whatever it is, making it in earnest raises it again, where it is told
        return
    memory.check(need, "its weights take", "choose smaller sizes, or a machine with more")


class _Maker:
    """Makes what was planned, and goes on past a part that refuses, to hear of the others."""

    def __init__(self, context: Callable[[], AbstractContextManager[Any]]) -> None:
        self.context = context
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
        return self.call(plan) if isinstance(plan, Call) else plan

    def call(self, plan: Call) -> Any:
        """Call one part. What it refuses is the recipe's problem; any other exception is the plugin's."""
        arguments = self.make(plan.arguments)
        if arguments is BROKEN or plan.broken:
            return BROKEN
        held = gpu_watch.held()
        try:
            if self.context is _sown:
                _check_memory(plan, arguments)
            with self.context():
                made = plan.target(**arguments)
        except Exception as error:
            message = memory.refusal(error)
            if message is None and not isinstance(error, ValueError | TypeError | OSError | UserError):
                raise PluginError(f"{plan.what} broke while it was made: {error_message(error)}") from error
            self.cause = self.cause or error
            self.problems.append(plan.refusal(error, message or str(error) or type(error).__name__))
            return BROKEN
        if plan.contract is not None:
            _check_made(made, plan.contract, plan.what)
        if taken := gpu_watch.taken(held):
            warnings.warn(f"{plan.what} {taken} when it is made; it should do so when it is called", stacklevel=2)
        return made


def _check_made(made: Any, contract: type, what: str) -> None:
    """PluginError where what a part's target gave has not the methods of its contract, such as None."""
    promised = [name for name, each in vars(contract).items() if inspect.isfunction(each) and name != "__init__"]
    missing = [name for name in promised if not callable(getattr(made, name, None))]
    if missing:
        lacks = f"it has no {' and no '.join(missing)}"
        raise PluginError(f"{what} gave {type(made).__name__}, which is no {contract.__name__}: {lacks}")
