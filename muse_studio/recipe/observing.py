"""A run's observers: those of the environment, for every run, and those that its recipe lists under `observers`.

A run within a run, as a sweep has them, is heard by the outer one's observers too.
"""

from __future__ import annotations

import os
from typing import Any, TypeAlias

from muse_studio.contracts import Observer
from muse_studio.errors import Problem, RecipeError
from muse_studio.recipe.plan import Planner
from muse_studio.recipe.tree import Given, Node, parse
from muse_studio.registry.events import current

OBSERVERS = "observers"
"""The recipe's key, beside the settings of its task: observers by name or as tables, in a list."""

ENVIRONMENT = "MUSE_OBSERVERS"
"""The environment variable for observers of every run: the same list, with or without its brackets."""

Named: TypeAlias = list[tuple[str, Any]]
"""Observers, each with the name by which it was asked for."""


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
