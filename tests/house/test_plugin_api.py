"""What docs/plugin-api.md promises to plugins is written down here: a change of it is a change of `muse_studio.API`."""

from __future__ import annotations

import inspect
from pathlib import Path

import muse_studio
from muse_studio import contracts, testing
from muse_studio.registry.kinds import hook_points
from muse_studio.stage import Stage

DOCUMENT = (Path(__file__).parents[2] / "docs" / "plugin-api.md").read_text(encoding="utf-8")
HOOKS = {
    "muse_tokenizers": [],
    "muse_text_encoders": [],
    "muse_transformers": [],
    "muse_schedules": [],
    "muse_guidances": [],
    "muse_samplers": [],
    "muse_editors": [],
    "muse_datasets": [],
    "muse_optimizers": [],
    "muse_metrics": [],
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
    "TextEncoder": {"__call__": ["prompts"]},
    "Transformer": {"condition": ["text", "low"], "__call__": ["tokens", "conditioning"]},
    "MaskSchedule": {"__call__": ["progress"]},
    "Guidance": {"__call__": ["ask", "text", "negative", "progress"]},
    "Predict": {"__call__": ["tokens", "progress"]},
    "Sampler": {"__call__": ["predict", "tokens", "schedule", "generator"]},
    "Editor": {"__call__": ["tokens", "region", "resample", "generator"]},
    "Dataset": {"__len__": [], "__getitem__": ["index"]},
    "Optimizer": {"__call__": ["model"]},
    "Metric": {"reset": [], "update": ["real", "generated", "prompts"], "compute": []},
    "Observer": {},
    "Task": {"__call__": ["hook", "context"]},
}


def taken(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_version_is_the_documented_one():
    assert muse_studio.API == "1.2"
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
