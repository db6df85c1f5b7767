"""What docs/plugin-api.md promises to plugins is written down here: a change of it is a change of `muse_studio.API`."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import muse_studio
from muse_studio import contracts, testing
from muse_studio.registry.kinds import hook_points
from muse_studio.stage import Stage

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "plugin-api.md").read_text(encoding="utf-8")
HOOKS = {
    "muse_tokenizers": [],
    "muse_quantizers": [],
    "muse_text_encoders": [],
    "muse_transformers": [],
    "muse_schedules": [],
    "muse_guidances": [],
    "muse_samplers": [],
    "muse_editors": [],
    "muse_datasets": [],
    "muse_optimizers": [],
    "muse_objectives": [],
    "muse_metrics": [],
    "muse_dialects": [],
    "muse_observers": [],
    "muse_tasks": [],
    "muse_started": ["task", "context"],
    "muse_step": ["stage", "step", "steps", "tokens", "loss", "image", "numbers"],
    "muse_progress": ["label", "done", "total", "over"],
    "muse_finished": ["task", "result", "context"],
    "muse_failed": ["task", "error", "context"],
    "muse_prompt": ["prompt"],
    "muse_picture": ["image", "prompt"],
}
METHODS = {
    "Tokenizer": {"grid_shape": ["height", "width"], "encode": ["images"], "decode": ["tokens"]},
    "Codebook": {"lookup": ["tokens"], "tokens": ["latents"], "__call__": ["latents", "entropy"]},
    "Quantizer": {"__call__": ["size", "width"]},
    "Reconstructing": {"reconstruct": ["images", "entropy"]},
    "TextEncoder": {"__call__": ["prompts"]},
    "Transformer": {"condition": ["text", "low"], "__call__": ["tokens", "conditioning"]},
    "MaskSchedule": {"__call__": ["progress"]},
    "Guidance": {"__call__": ["ask", "text", "negative", "progress"]},
    "Joining": {"join": ["conditionings"]},
    "Predict": {"__call__": ["tokens", "progress"]},
    "Sampler": {"__call__": ["predict", "tokens", "schedule", "generator"]},
    "Editor": {"__call__": ["tokens", "region", "resample", "generator"]},
    "Dataset": {"__len__": [], "__getitem__": ["index"]},
    "Optimizer": {"__call__": ["model"]},
    "Learning": {"__call__": ["tokens"]},
    "Objective": {"draw": ["count", "grid", "schedule", "chance"], "__call__": ["batch", "model"]},
    "Metric": {"reset": [], "update": ["real", "generated", "prompts"], "compute": []},
    "Dialect": {"recipes": ["imported"]},
    "Observer": {},
    "Task": {"__call__": ["hook", "context"]},
}


PROMISED = {
    module: set(re.findall(r"`(\w+)`", names))
    for module, names in re.findall(r"^\| `(muse_studio[\w.]*)` \| (.*) \|$", DOCUMENT, re.MULTILINE)
}
"""The modules that a plugin may import, and the names that the page singles out of each."""

WRITTEN_FOR_PLUGINS = {
    "templates": sorted((ROOT / "muse_studio" / "cli" / "templates").rglob("*.py.tmpl")),
    "examples": sorted((ROOT / "examples").rglob("*.py")),
    "lessons": sorted((ROOT / "docs" / "lessons").glob("*.ipynb")),
    "pages": [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))],
}


def code_of(path: Path) -> Iterator[str]:
    """The Python that a file shows: itself, a notebook's cells, or the blocks of a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        yield from ("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    elif path.suffix == ".md":
        yield from re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    else:
        yield text


def imports(code: str) -> Iterator[tuple[str, str]]:
    """The modules of muse_studio that code imports, and which name of each, "" for the module itself."""
    for module, names in re.findall(r"^\s*from (muse_studio[\w.]*) import \(?([^)\n#]*)", code, re.MULTILINE):
        for name in (each.split()[0] for each in names.split(",") if each.strip()):
            below = f"{module}.{name}"  # a module, as in `from muse_studio import testing`
            yield (below, "") if below in PROMISED else (module, name)
    yield from ((module, "") for module in re.findall(r"^\s*import (muse_studio[\w.]*)", code, re.MULTILINE))


def taken(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_version_is_the_documented_one():
    assert muse_studio.API == "1.3"
    assert f"now **{muse_studio.API}**" in DOCUMENT


def test_the_hook_points_are_those_of_this_version():
    assert {name: taken(hook) for name, hook in hook_points().items()} == HOOKS


def test_the_contracts_are_those_of_this_version():
    for name, methods in METHODS.items():
        promised = vars(getattr(contracts, name))
        assert {method: taken(promised[method]) for method in methods} == methods
        written = {key for key, each in promised.items() if inspect.isfunction(each)} - {"__init__", "__subclasshook__"}
        assert written == set(methods), name


def test_what_can_be_imported_is_there():
    assert {"API", "UserError", "hookimpl", "run", "check", "parts"} <= set(muse_studio.__all__)
    assert all(hasattr(muse_studio, name) for name in muse_studio.__all__)
    assert all(hasattr(testing, name) for name in testing.__all__)
    for method in ("sample", "blank", "condition", "logits", "encode", "loss"):
        assert f"`{method}`" in DOCUMENT and callable(getattr(Stage, method))


def test_plugins_are_shown_what_is_promised_and_nothing_else():
    used: dict[str, set[str]] = {}
    for kind, paths in WRITTEN_FOR_PLUGINS.items():
        found = [each for path in paths for code in code_of(path) for each in imports(code)]
        assert found, f"no {kind} imports muse_studio"
        for module, name in found:
            used.setdefault(module, set()).add(name)
    assert used.keys() == PROMISED.keys()
    whole = {"muse_studio", "muse_studio.contracts", "muse_studio.hookspecs", "muse_studio.testing"}
    beyond = {module: names - PROMISED[module] - {""} for module, names in used.items() if module not in whole}
    assert not {module: names for module, names in beyond.items() if names}


def test_what_is_promised_is_there():
    for module, names in PROMISED.items():
        there = import_module(module)
        assert not {name for name in names if not (hasattr(there, name) or hasattr(Stage, name))}
