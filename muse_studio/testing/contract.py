"""What every part promises, whatever its kind: plain annotated settings, and a constructor that does nothing costly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from muse_studio.errors import PluginError
from muse_studio.registry.parts import settings
from muse_studio.runtime import memory
from muse_studio.testing.promise import ANNOTATED, CHEAP, DOCUMENTED, promise


class Contract:
    """The base of all contract tests: a subclass, whose name starts with `Test`, says how to make the part."""

    def make(self) -> Any:
        """A small, new part, made as a recipe makes it: by keyword. Every test calls this, some more than once."""
        raise NotImplementedError(f"{type(self).__name__} must define make(self), which returns a new, small part")

    def target(self) -> Callable[..., Any]:
        """What the plugin's hook names: the part's class, or the function that makes it (then override this)."""
        return type(self.make())

    @promise(ANNOTATED)
    def test_its_settings_can_be_given_by_a_recipe_and_checked(self) -> None:
        check_settings(self.target())

    @promise(CHEAP)
    def test_its_constructor_is_cheap(self) -> None:
        with _no_gpu():
            self.make()  # the modules that it imports are imported now: their caches may be written, not by its doing
            with _nothing_costly():
                self.make()

    @promise(DOCUMENTED)
    def test_it_says_what_it_is(self) -> None:
        target = self.target()
        documented = target.__doc__ or ""  # not inspect.getdoc, which would show a parent's
        # A dataclass without one shows its signature.
        own = documented.strip() and not documented.startswith(f"{target.__name__}(")
        assert own, f"{_name(target)} has no docstring, which `muse parts` shows; give it one"


def check_settings(target: Callable[..., Any]) -> None:
    """AssertionError where a setting of `target` is not one that a recipe can give and `muse check` can check.

    Settings are keyword arguments with an annotation: int, float, str, bool, Literal, list, dict, X | None, a Protocol
    of contracts (another part), or a dataclass (a table). Never **kwargs: they would swallow a misspelt key.
    """
    try:
        settings(target, _name(target))
    except PluginError as problem:
        raise AssertionError(str(problem)) from problem


@contextlib.contextmanager
def _nothing_costly() -> Iterator[None]:
    """AssertionError, at the line that does it, where the body writes a file, calls a server or starts a process."""

    def reading(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if set(mode) & set("wax+"):
            _refuse(f"writes {file}")()
        return opened(file, mode, *args, **kwargs)

    opened = open
    with (
        mock.patch("builtins.open", reading),
        mock.patch("io.open", reading),
        mock.patch("os.mkdir", _refuse("makes a folder")),
        mock.patch("socket.socket.connect", _refuse("calls a server")),
        mock.patch("subprocess.Popen.__init__", _refuse("starts a process")),
    ):
        yield


@contextlib.contextmanager
def _no_gpu() -> Iterator[None]:
    """AssertionError, at the line that does it, where the body begins to use a GPU, or keeps memory of one in use."""
    held, begins = memory.held(), _refuse("begins to use a GPU")
    with mock.patch("torch.cuda._lazy_init", begins), mock.patch("torch.xpu._lazy_init", begins):
        yield
    if taken := memory.taken(held):
        _refuse(taken)()


def _refuse(what: str) -> Callable[..., None]:
    def refused(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"a constructor may keep settings and build modules, but it {what}; do that when called")

    return refused


def _name(target: Callable[..., Any]) -> str:
    return getattr(target, "__qualname__", repr(target))
