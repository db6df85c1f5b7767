import json
import os
import subprocess
import sys

import pytest
import torch

from muse_studio.contracts import Sampler
from muse_studio.errors import PluginError, RecipeError
from muse_studio.recipe.build import build, check
from muse_studio.recipe.merging import load, overrides
from muse_studio.registry.plugins import Registry
from muse_studio.runtime.files import name_problem


@pytest.fixture
def told(registry, write):
    """The problems of a recipe text, one a line."""

    def told(text, *changes, expect=None):
        write("bad.yaml", text)
        return [str(problem) for problem in check(load("bad.yaml", overrides(changes)), registry, expect)]

    return told


@pytest.fixture
def made(registry):
    """What a recipe as a dict builds."""
    return lambda data, **named: build(load(data), registry, **named)


def test_nested_parts_are_built(made):
    slow = {"use": "toy/slow", "steps": 3, "mode": "wild", "inner": "fast"}
    task = made(
        {
            "use": "draw",
            "stages": {"base": {"sampler": "fast", "size": [8, 16]}, "high": {"sampler": slow}},
            "tokenizer": "pixels",
            "extra": ["fast", {"use": "fast", "temperature": 2}],
            "free": {"a": [1, {"b": None}]},
        }
    )
    assert type(task).__name__ == "Draw"
    assert (task.stages["base"].sampler.steps, task.stages["base"].size) == (8, [8, 16])
    high = task.stages["high"].sampler
    assert (high.steps, high.mode, high.inner.steps, task.stages["high"].size) == (3, "wild", 8, 8)
    assert task.tokenizer.codebook_size == 4
    assert [each.temperature for each in task.extra] == [1.0, 2.0]
    assert type(task.extra[1].temperature) is float
    assert task.free == {"a": [1, {"b": None}]}
    assert (task.prompt, task.strict) == ("", False)


def test_a_part_may_be_a_function_and_the_whole_need_not_be_a_task(made):
    assert made({"use": "tell", "words": {"a": 1}})(None) == {"a": 1}
    assert made({"use": "fast", "steps": 2}, expect=Sampler).steps == 2


def test_every_problem_is_told_at_once_with_its_line(told):
    text = """\
    use: draw
    promt: a cat
    strict: no
    tokenizer: pixel
    stages:
      base:
        size: large
        sampler:
          use: fast
          stpes: 4
          temperature: warm
      high: {sampler: {use: slow, mode: wilt}}
      low: {size: 8}
    extra: fast
    """
    takes = (
        "stages: dict[str, Place], prompt: str | list[str] = '', tokenizer: tokenizer | null = null, "
        "extra: list[sampler] = [], free: dict | null = null, strict: bool = false"
    )
    assert told(text) == [
        f"bad.yaml:2  promt — task 'draw' has no 'promt'; did you mean 'prompt'? it takes: {takes}",
        "bad.yaml:3  strict — expected bool, got text 'no'",
        "bad.yaml:4  tokenizer — no tokenizer is called 'pixel'; did you mean 'pixels'? available: pixels",
        "bad.yaml:7  stages.base.size — expected int | list[int], got text 'large'; write it in brackets, as in [1, 2]",
        "bad.yaml:10  stages.base.sampler.stpes — sampler 'fast' has no 'stpes'; did you mean 'steps'? "
        "it takes: steps: int = 8, temperature: float = 1.0",
        "bad.yaml:11  stages.base.sampler.temperature — expected float, got text 'warm'",
        "bad.yaml:12  stages.high.sampler.mode — expected 'calm' | 'wild', got text 'wilt'; did you mean 'wild'?",
        "bad.yaml:12  stages.high.sampler — sampler 'slow' needs 'steps'; it takes: steps: int, "
        "mode: 'calm' | 'wild' = 'calm', inner: sampler | null = null",
        "bad.yaml:13  stages.low — Place needs 'sampler'; it takes: sampler: sampler, size: int | list[int] = 8",
        "bad.yaml:14  extra — expected list[sampler], got text 'fast'; write it in brackets, as in [1, 2]",
    ]


def test_what_parts_refuse_is_told_beside_what_the_recipe_gets_wrong(told):
    text = """\
    use: draw
    stages:
      a: {sampler: {use: fast, steps: 0}, size: 13}
      b: {sampler: fast, size: 13}
    tokenizer:
      use: pixels
      weights: gone.safetensors
    strict: maybe
    """
    assert told(text) == [
        "bad.yaml:8  strict — expected bool, got text 'maybe'",
        "bad.yaml:3  stages.a.sampler.steps — steps is 0; give at least 1",
        "bad.yaml:4  stages.b — Place: this size brings bad luck",
        "bad.yaml:7  tokenizer.weights — no weights at gone.safetensors",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("strict: 1", "expected bool, got the number 1"),
        ("prompt: 2024", 'expected str | list[str], got the number 2024; in quotes it is text: "2024"'),
        ("prompt: null", 'expected str | list[str], got nothing (null); write "" for empty text'),
        ("prompt: {a: 1}", "expected str | list[str], got a table"),
        ("prompt: [a, 1]", 'prompt[1] — expected str, got the number 1; in quotes it is text: "1"'),
        ("free: [1]", "expected dict | null, got a list"),
        ("tokenizer: 3", "expected tokenizer | null, got the number 3"),
        ("tokenizer: {weights: a}", "this table must say by 'use' which tokenizer it is; available: pixels"),
        (
            "tokenizer: {use: 3}",
            "tokenizer.use — expected the name of a tokenizer, got the number 3; available: pixels",
        ),
        ("tokenizer: {use: x}", "tokenizer.use — no tokenizer is called 'x'; available: pixels"),
        ("extra: [fast, fst]", "extra[1] — no sampler is called 'fst'; did you mean 'fast'?"),
        ("extra: [[fast]]", "extra[0] — expected sampler, got a list"),
        ("extra: [{use: fast, steps: 8.0}]", "extra[0].steps — expected int, got the number 8.0; write 8"),
        ("extra: [{use: fast, steps: 8.5}]", "extra[0].steps — expected int, got the number 8.5"),
        ("extra: [{use: fast, steps: true}]", "extra[0].steps — expected int, got true"),
        ("extra: [{use: fast, temperature: false}]", "extra[0].temperature — expected float, got false"),
        ("extra: [{use: fast, temperature: 1" + "0" * 400 + "}]", "expected float, got a number of 401 digits"),
        ("extra: [{use: slow, steps: 1, mode: true}]", "extra[0].mode — expected 'calm' | 'wild', got true"),
        ("extra: {use: fast}", "extra — expected list[sampler], got a table"),
    ],
)
def test_a_wrong_value_is_told_with_what_was_expected_and_got(told, line, message):
    (problem,) = told(f"use: draw\nstages: {{}}\n{line}\n")
    assert problem.startswith("bad.yaml:3  ")
    assert message in problem


def test_an_override_is_told_as_such(told):
    assert told("use: draw\nstages: {a: {sampler: fast}}", "stages.a.sampler.stpes=4") == [
        "override 'stages.a.sampler.stpes=4'  stages.a.sampler.stpes — sampler 'fast' has no 'stpes'; did you mean "
        "'steps'? it takes: steps: int = 8, temperature: float = 1.0"
    ]


def test_the_root_must_name_a_task(told):
    assert told("prompt: a") == [
        "bad.yaml:1  this table must say by 'use' which task it is; available: draw, tell. "
        "A recipe without it is for others to extend"
    ]
    assert told("use: drew") == [
        "bad.yaml:1  use — no task is called 'drew'; did you mean 'draw'? available: draw, tell"
    ]


def test_a_recipe_for_another_part_is_checked_as_that(told, registry):
    assert told("use: fast\nsteps: 3") == []
    assert told("use: fast\nsteps: three") == ["bad.yaml:2  steps — expected int, got text 'three'"]
    with pytest.raises(RecipeError, match="no task is called 'fast'; available: draw, tell; 'fast' is a sampler"):
        build(load({"use": "fast"}), registry)


def test_a_part_without_settings_says_so(told):
    (problem,) = told("use: draw\nstages: {a: {sampler: {use: buggy, x: 1}}}")
    assert problem.endswith("sampler 'buggy' has no 'x'; it takes: no settings")


def test_an_exception_that_is_no_refusal_is_the_plugins_fault(made):
    with pytest.raises(PluginError) as error:
        made({"use": "draw", "stages": {"a": {"sampler": "buggy"}}})
    assert str(error.value).startswith("sampler 'buggy' of plugin toy, ")
    assert str(error.value).endswith("toy.py:57: broke while it was made: ZeroDivisionError: division by zero")
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_a_refusal_keeps_its_cause(made):
    with pytest.raises(RecipeError) as error:
        made({"use": "fast", "steps": 0}, expect=Sampler)
    assert isinstance(error.value.__cause__, ValueError)
    assert [str(problem) for problem in error.value.problems] == ["recipe  steps — steps is 0; give at least 1"]


PICKY = """
from muse_studio import SettingError, hookimpl

class Picky:
    def __init__(self, first: str = "", second: int = 1, plain: bool = False):
        if plain:
            raise ValueError("second thoughts, and no setting named")
        raise SettingError("first" if second else "third", "of both, second included, the first is at fault")

@hookimpl
def muse_optimizers():
    return {"picky": Picky}
"""


def test_an_exception_that_names_a_setting_is_placed_there_whatever_its_words(write):
    registry = Registry([write("picky.py", PICKY)])

    def problem(**given):
        (found,) = check(load({"use": "picky"} | given), registry)
        return found.path, found.message

    message = "of both, second included, the first is at fault"
    assert problem(first="a", second=2) == ("first", message)
    assert problem(second=2) == ("", f"optimizer 'picky' of plugin picky: {message}"), "its default is at fault"
    assert problem(first="a", second=0)[0] == "", "there is no such setting"
    assert problem(second=2, plain=True)[0] == "second", "a plain ValueError is placed by its first word"


NET = """
import torch
from muse_studio.hookspecs import hookimpl

class Net(torch.nn.Module):
    made = []
    codebook_size = text_width = 8
    def __init__(self, width: int = 4):
        super().__init__()
        self.layer = torch.nn.Linear(width, width)
        Net.made.append(self.layer.weight.device.type)
    def condition(self, text, low=None):
        return ()
    def forward(self, tokens, conditioning):
        return self.layer(tokens)

@hookimpl
def muse_transformers():
    return {"net": Net}

@hookimpl
def muse_tasks():
    return {"fit": fit}

from muse_studio.contracts import Transformer
def fit(model: Transformer, steps: int = 1):
    return lambda hook: model
"""


def test_checking_makes_parts_on_the_meta_device_and_building_does_not(write):
    registry = Registry([write("net.py", NET)], entries=())
    net = registry.find("transformer", "net").load()
    node = load({"use": "fit", "model": {"use": "net", "width": 100_000}})
    assert check(node, registry) == []  # 40 GB, were it real
    assert net.made == ["meta"]
    bad = load({"use": "fit", "model": {"use": "net", "width": 100_000}, "steps": "x"})
    with pytest.raises(RecipeError, match="expected int, got text 'x'"):
        build(bad, registry)
    assert net.made == ["meta", "meta"]
    assert build(load({"use": "fit", "model": "net"}), registry)(None).layer.weight.device == torch.device("cpu")


def test_parts_start_from_the_same_random_weights_each_time_and_leave_the_callers_alone(write):
    registry = Registry([write("net.py", NET)], entries=())
    state = torch.random.get_rng_state()
    first, second = (build(load({"use": "fit", "model": "net"}), registry)(None).layer.weight for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_checking_parts_without_torch_loads_none(toy):
    program = (
        "import sys; from muse_studio import check\n"
        "recipe = {'use': 'draw', 'stages': {'a': {'sampler': 'fast'}}}\n"
        "print(check(recipe, plugins=['toy.py']), 'torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert answer.stdout.split() == ["[]", "False"]


@pytest.mark.parametrize("name", ["../../../OUTSIDE", "", "a/b", "a\\b", "..", "nul", "x\0y", "n" * 300])
def test_a_name_that_could_be_no_file_s_is_refused_at_its_line(told, name):
    text = f"use: draw\nstages:\n  {json.dumps(name)}: {{sampler: fast}}\ntokenizer: pixels\n"
    (problem,) = told(text)
    assert problem.startswith("bad.yaml:3  stages — the name ")
    assert problem.endswith(f" {name_problem(name)}, and files are called by it; give another")
    assert len(problem) < 200
    assert not told(text.replace(json.dumps(name), "base"))
