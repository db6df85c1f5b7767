"""A plugin in a file, small enough to see through, and recipes in a folder of their own."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from muse_studio.registry.plugins import Registry

TOY = '''
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from muse_studio.contracts import RunContext, Sampler, Task, Tokenizer
from muse_studio.hookspecs import hookimpl


@dataclass
class Fast:
    """A sampler of few steps."""

    steps: int = 8
    temperature: float = 1.0

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; give at least 1")

    def __call__(self, predict, tokens, schedule, generator):
        yield tokens


class Slow:
    """A sampler of many steps."""

    def __init__(self, steps: int, mode: Literal["calm", "wild"] = "calm", inner: Sampler | None = None):
        self.steps, self.mode, self.inner = steps, mode, inner

    def __call__(self, predict, tokens, schedule, generator):
        yield tokens


class Pixels:
    """A tokenizer that reads a file."""

    codebook_size = 4

    def __init__(self, weights: str | None = None):
        if weights:
            raise FileNotFoundError(f"no weights at {weights}")

    def grid_shape(self, height, width):
        return height, width

    def encode(self, images):
        return images

    def decode(self, tokens):
        return tokens


class Bug:
    def __init__(self):
        raise ZeroDivisionError("division by zero")


@dataclass
class Place:
    """A dataclass that is no part."""

    sampler: Sampler
    size: int | list[int] = 8

    def __post_init__(self):
        if self.size == 13:
            raise ValueError("this size brings bad luck")


@dataclass
class Draw:
    """Draw nothing."""

    stages: dict[str, Place]
    prompt: str | list[str] = ""
    tokenizer: Tokenizer | None = None
    extra: list[Sampler] = field(default_factory=list)
    free: dict | None = None
    strict: bool = False

    def __call__(self, hook, context):
        hook.muse_step(stage="base", step=1, steps=1, tokens=None, loss=None, image=None, numbers=None)
        return Drawn(self, context)


@dataclass
class Drawn:
    task: Draw
    context: RunContext

    def summary(self) -> str:
        return f"drew {self.task.prompt!r}"


def tell(words: dict) -> Task:
    """A task that is a function."""
    return lambda hook: words


@hookimpl
def muse_samplers():
    return {"fast": f"{__name__}:Fast", "slow": Slow, "buggy": Bug}


@hookimpl
def muse_tokenizers():
    return {"pixels": Pixels}


@hookimpl
def muse_tasks():
    return {"draw": Draw, "tell": tell}
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a test works in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(here: Path) -> Callable[[str, str], Path]:
    """Writes an indented text to a file below the test's folder."""

    def write(name: str, text: str) -> Path:
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


@pytest.fixture
def toy(write: Callable[[str, str], Path]) -> Path:
    return write("toy.py", TOY)


@pytest.fixture
def registry(toy: Path) -> Registry:
    """The toy plugin alone."""
    return Registry([toy], entries=())
