"""Parts and their settings as JSON, and settings that a client gives: checked, as YAML, as code."""

from __future__ import annotations

from typing import Any

from muse_studio.registry.plugins import Registry
from muse_studio.sampling.cascade import Cascade


def parts(registry: Registry, kind: str) -> list[dict[str, Any]]:
    """Every part of a kind, with its settings."""
    raise NotImplementedError


def check_values(settings: Any, param: str = "settings") -> None:
    """BadSetting where a client's settings name a place, an address or a path."""
    raise NotImplementedError


def problems(model: Cascade, settings: Any) -> list[dict[str, str]]:
    """The words of `muse check`, each with the dotted path of its field."""
    raise NotImplementedError
