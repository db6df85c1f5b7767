"""Imports of published weights by a dialect's name, as a recipe gives it."""

from __future__ import annotations

from typing import Any

from muse_weights.task import ImportWeights

import muse_studio


def dialect(name: str) -> Any:
    """The dialect of that name."""
    return muse_studio.parts("dialect", name)[0].load()()


def importing(source: str, format: str, *given: Any, **settings: Any) -> ImportWeights:
    """The task, with the dialect of that name."""
    return ImportWeights(source, dialect(format), *given, **settings)
