"""Makes a contract's test a promise, whose failure says what was promised, what happened, and where; and refusals."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch

KNOWN_STAYS = "what is known stays"
SEED_DECIDES = "the seed decides, and nothing else"
UNCHANGED = "inputs are not changed"
SHAPES = "shapes, dtypes and ranges are those of the contract"
CHEAP = "the constructor is cheap"
ANNOTATED = "every setting is annotated, and can be given by a recipe"
LIGHT = "the entry module is light"
ALONE = "a row of a batch knows nothing of the others"
REFUSED = "what can't be right is refused, by an error that says why"
DOCUMENTED = "it says what it is"

_OURS = Path(__file__).parent
_LIBRARIES = (Path(torch.__file__).parent, Path(sysconfig.get_path("stdlib")))
_PACKAGES = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
"""Where installed packages are, a part among them: it lies below the standard library, and is none of it."""


class BrokenPromise(AssertionError):
    """What a contract's test raises. promise, happened, where: the three lines of its message."""

    def __init__(self, promise: str, happened: str, where: str) -> None:
        self.promise, self.happened, self.where = promise, happened, where
        super().__init__(f"\n  promised: {promise}\n  happened: {happened}\n  where:    {where}")


class Noticed(AssertionError):
    """A promise that is broken at a known place, the file:line of the part's code."""

    def __init__(self, message: str, place: str | None) -> None:
        self.place = place
        super().__init__(message)


def promise(what: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Mark a contract's test as the promise `what`, which its failures then tell of."""

    def mark(test: Callable[[Any], None]) -> Callable[[Any], None]:
        @functools.wraps(test)
        def kept(self: Any) -> None:
            try:
                test(self)
            except (BrokenPromise, NotImplementedError):  # told already; or there is nothing to examine
                raise
            except Exception as error:
                reported = isinstance(error, AssertionError)
                happened = str(error) if reported else f"{type(error).__name__}: {error}"
                raise BrokenPromise(what, happened, _where(error, self)) from error

        kept.promise = what  # type: ignore[attr-defined]  # Contract finds it there
        return kept

    return mark


@contextlib.contextmanager
def refuses(error: type[Exception], what: str) -> Iterator[None]:
    """AssertionError unless the body raises `error` with a message that says something."""
    try:
        yield
    except error as refusal:
        assert str(refusal).strip(), f"{what}: {error.__name__} has no message; say what was expected and what was got"
    else:
        raise AssertionError(f"{what} went through; it must raise {error.__name__}")


def promises(contract: type) -> dict[str, str]:
    """What a contract promises, by the name of the test that examines it."""
    tests = {name: getattr(contract, name) for name in dir(contract) if name.startswith("test_")}
    return {name: test.promise for name, test in tests.items() if hasattr(test, "promise")}


def calling(frame: FrameType | None) -> str | None:
    """The file:line of the part's code that this call comes from, None where it comes from none."""
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(_OURS) and frame.f_code.co_name == "kept":
            return None  # from here on outwards, it is the tests that call
        if _is_of_a_part(file):
            return f"{file}:{frame.f_lineno}, in {frame.f_code.co_name}"
        frame = frame.f_back
    return None


def _where(error: BaseException, examined: Any) -> str:
    frames = traceback.walk_tb(error.__traceback__)
    places = [f"{each.f_code.co_filename}:{line}, in {each.f_code.co_name}" for each, line in _of_parts(frames)]
    known = getattr(error, "place", None) or (places[-1] if places else None)
    return known or _definition(examined)


def _of_parts(frames: Iterable[tuple[FrameType, int]]) -> Iterator[tuple[FrameType, int]]:
    return ((frame, line) for frame, line in frames if _is_of_a_part(Path(frame.f_code.co_filename)))


def _is_of_a_part(file: Path) -> bool:
    if not file.is_absolute() or file.is_relative_to(_OURS):  # "<string>", "<frozen importlib>"
        return False
    if file.is_relative_to(_LIBRARIES[0]):
        return False
    return not file.is_relative_to(_LIBRARIES[1]) or any(map(file.is_relative_to, _PACKAGES))


def _definition(examined: Any) -> str:
    """Where the part is written that a test examines, for a promise that is not broken at any one line."""
    with contextlib.suppress(Exception):  # the part may not be there at all: then the test itself has said so
        target = inspect.unwrap(examined.target())
        name = getattr(target, "__qualname__", repr(target))
        with contextlib.suppress(OSError, TypeError):
            return f"{inspect.getsourcefile(target)}:{inspect.getsourcelines(target)[1]}, in {name}"
        return f"in {name}"
    return f"in what {type(examined).__name__} examines"
