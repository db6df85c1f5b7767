"""Proves that a plugin's entry module loads nothing heavy, by importing it in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable

from muse_studio.registry.loading import HEAVY

_PROBE = "import importlib, json, sys; importlib.import_module(sys.argv[1]); print(json.dumps(sorted(sys.modules)))"


def loaded(module: str) -> list[str]:
    """The names of all modules that importing `module` loads in a fresh Python; AssertionError where it fails."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    probe = [sys.executable, "-c", _PROBE, module]
    answer = subprocess.run(probe, capture_output=True, text=True, env=environment, check=False)
    assert answer.returncode == 0, f"{module} cannot be imported by itself:\n{answer.stderr.strip()}"
    return json.loads(answer.stdout.splitlines()[-1])


def check_light(module: str, heavy: Iterable[str] = HEAVY) -> None:
    """AssertionError where importing `module` (an entry module such as "my_plugin.plugin") loads any of `heavy`.

    It looks in `sys.modules` of a fresh process: a stop-watch would say something else on every machine.
    """
    found = sorted(set(loaded(module)).intersection(heavy))
    assert not found, (
        f"importing {module} loads {', '.join(found)}, so `muse parts` would wait for it; "
        'import hookimpl alone there, and return "module:attribute" strings instead of the parts themselves'
    )
