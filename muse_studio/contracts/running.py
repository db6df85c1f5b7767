"""What runs, what hears of it, and what reads the weights of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Dialect(Protocol):
    """A layout in which weights are published: tables by which the task `import-weights` makes them ours.

    The part is a function that gives one. `muse_studio.runtime.dialects` has a dataclass for it, and those that it is
    made of. It is data, and opens no file: what must be known of a source, the task reads.

    name: as a recipe writes it. pieces: a `Piece` a file of weights, in the order in which they are read.
    declares: JSON files of the source, by name, and what each must say. copied: `Copied` folders of files kept as they
        are. given: parts that are not imported, their settings by name. further: what makes those tensors of a piece
        that no file has, by its name. former: names by which files of an earlier version of muse_studio are renamed,
        in place of pieces, or None.
    """

    name: str
    pieces: tuple[Any, ...]
    declares: Mapping[str, Mapping[str, Any]]
    copied: tuple[Any, ...]
    given: Mapping[str, Mapping[str, Any]]
    further: Mapping[str, Callable[..., dict[str, Tensor]]]
    former: Any

    def recipes(self, imported: Any, /) -> dict[str, dict[str, Any]]:
        """The recipes of what was imported, an `Imported`, by their files' names; the first one is the model."""


class Observer(Protocol):
    """Hears of a run, and may refuse a prompt or a picture, by methods that are hooks.

    Each is marked by `@hookimpl` and called as its hook point, with those of its arguments that it wants: muse_started,
    muse_step, muse_progress, muse_finished, muse_failed, muse_prompt, muse_picture. It changes nothing
    that it is given.
    """


@dataclass(frozen=True)
class RunContext:
    """What a run is made of: what a task may keep beside what it makes.

    recipe: the resolved recipe, parents and overrides merged in, defaults and observers left out; None where a task is
        called from Python.
    plugins: each plugin that a part was taken of, and its version; None likewise.
    plugin_files: the plugin files of the run, for a task that runs further recipes.
    """

    recipe: dict[str, Any] | None = None
    plugins: dict[str, str] | None = None
    plugin_files: tuple[str | Path, ...] = ()


NO_RUN = RunContext()
"""Of a task that is called from Python, outside of a run."""


class Task(Protocol):
    """What a recipe runs. Its constructor keeps settings and does nothing costly."""

    def __call__(self, hook: Any, context: RunContext = NO_RUN) -> Any:
        """The result is returned to Python, and summed up by the command line.

        hook: pluggy's caller of the observers; None where there are none.
        context: of the run. A task that needs nothing of it may leave this argument out.
        """


# What a part can do beside its contract, each said by one or two attributes that it may leave out. Who uses a part asks
# by the functions of `muse_studio.sampling.abilities`.
