import json
import os
import subprocess
import sys

import pytest
from processes import environment

import muse_studio
from muse_studio import check, parts, run
from muse_studio.cli.commands import OVERRIDE, main
from muse_studio.errors import RecipeError
from muse_studio.recipe import running

STAGES = "stages: {a: {sampler: {use: fast, steps: 2}}}"


@pytest.fixture
def muse(toy, capfd):
    """Runs the command with the toy plugin; gives its exit code, and what it printed on both streams."""

    def muse(command, *arguments):
        code = main([command, "--plugin", str(toy), *arguments])
        return code, *capfd.readouterr()

    return muse


@pytest.fixture
def draw(write):
    return write("own.yaml", f"use: draw\n{STAGES}\n")


def test_run_prints_what_the_result_says(muse, draw):
    assert muse("run", "own.yaml", "prompt=a cat") == (0, "drew 'a cat'\n", "")
    assert muse("run", "own.yaml", "use=tell", "words={a: [1, no]}") == (0, "{'a': [1, 'no']}\n", "")


def test_run_tells_every_problem_and_exits_with_2(muse, draw):
    code, out, err = muse("run", "own.yaml", "promt=a cat", "strict=1")
    assert (code, out) == (2, "")
    promt, strict = err.splitlines()
    assert promt.startswith("override 'promt=a cat'  promt — task 'draw' has no 'promt'; did you mean 'prompt'?")
    assert strict == "override 'strict=1'  strict — expected bool, got the number 1"


def test_check(muse, draw):
    assert muse("check", "own.yaml") == (0, "own.yaml: no problem found\n", "")
    code, out, err = muse("check", "own.yaml", "stages.a.sampler.steps=0", "x=1")
    assert (code, out) == (2, "")
    assert err.splitlines()[0].startswith("override 'x=1'  x — task 'draw' has no 'x'; it takes: stages: ")
    assert err.splitlines()[1] == (
        "override 'stages.a.sampler.steps=0'  stages.a.sampler.steps — steps is 0; give at least 1"
    )


def test_show_is_a_recipe_to_save(muse, write, draw):
    write("child.yaml", "extends: own.yaml\nprompt: 'no'")
    code, out, _ = muse("show", "child.yaml", "stages.a.sampler.temperature=1e-4")
    assert code == 0
    assert out == (
        "use: draw\nstages:\n  a:\n    sampler:\n      use: fast\n      steps: 2\n      temperature: 0.0001\n"
        "prompt: no\n"
    )
    write("saved.yaml", out)
    assert muse("show", "saved.yaml") == (0, out, "")


def test_parts(muse):
    code, out, _ = muse("parts", "sampler")
    lines = out.splitlines()
    assert (code, lines[0]) == (
        0,
        "sampler: Samplers: how a masked grid is filled, step by step (`contracts.Sampler`).",
    )
    assert ["fast", "toy"] in [line.split() for line in lines]
    assert muse("parts", "sampler", "fast") == (
        0,
        "sampler 'fast', from plugin toy\n\nA sampler of few steps.\n\nsettings:\n"
        "  steps: int = 8\n  temperature: float = 1.0\n",
        "",
    )
    assert muse("parts", "sampler", "buggy")[1].endswith("(no docstring)\n\nsettings:\n  none\n")
    everything = muse("parts")[1]
    assert "task: Tasks: what a recipe can run" in everything
    assert ["draw", "toy"] in [line.split() for line in everything.splitlines()]
    assert muse("parts", "smpler") == (
        2,
        "",
        "error: no kind of part is called 'smpler'; did you mean 'sampler'? kinds: tokenizer, quantizer, text-encoder, "
        "transformer, schedule, guidance, sampler, editor, dataset, optimizer, objective, metric, dialect, observer, "
        "task\n",
    )


def test_parts_tells_what_is_left_out(muse, monkeypatch):
    monkeypatch.setenv("MUSE_WITHOUT", "muse_sampling")
    assert muse("parts")[1].endswith("\nleft out by MUSE_WITHOUT: muse_sampling\n")


def test_parts_tells_what_could_not_be_loaded(here, write, capfd):
    """A real installed plugin that raises, in a process of its own."""
    write("broken_plugin.py", "\n\nraise RuntimeError('out of cheese')\n")
    write("broken-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    write("broken-1.0.dist-info/entry_points.txt", "[muse_studio]\nbroken = broken_plugin\n")
    answer = muse_process(["parts"], path=[str(here)])
    assert answer.returncode == 0
    assert "could not be loaded:\n  broken: RuntimeError: out of cheese (" in answer.stdout
    assert "broken_plugin.py:3)" in answer.stdout


class TestGenerate:
    @pytest.fixture
    def given(self, monkeypatch):
        """What `muse generate` would run."""
        calls = []
        monkeypatch.setattr(running, "run", lambda *call: calls.append(call))

        def given(*arguments):
            assert main(["generate", *arguments]) == 0
            return calls.pop()

        return given

    def test_prompts_and_overrides(self, given):
        assert given("a cat", "count=4", "no", "stages.base.sampler.steps=8") == (
            "generate",
            [{"prompt": ["a cat", "no"]}, "count=4", "stages.base.sampler.steps=8"],
            (),
        )

    def test_behind_two_dashes_all_are_prompts(self, given):
        assert given("count=2", "--", "a=b", "--help")[1] == [{"prompt": ["a=b", "--help"]}, "count=2"]

    def test_what_looks_like_a_prompt_is_one(self, given):
        for prompt in ["2 + 2 = 4", "x = y", "a cat, size=large", "=", "🍎=red", ""]:
            assert not OVERRIDE.match(prompt)
            assert given(prompt)[1] == [{"prompt": [prompt]}]

    def test_plugins_and_a_prompt_as_an_override(self, given):
        assert given("prompt=[a, b]", "--plugin", "x.py") == ("generate", ["prompt=[a, b]"], ("x.py",))

    def test_no_prompt_is_a_mistake(self, capfd):
        assert main(["generate", "count=3"]) == 2
        assert 'Say what to draw, as in: muse generate "a red apple"' in capfd.readouterr().err


class TestMistakes:
    def test_of_the_user(self, muse, here):
        code, out, err = muse("run", "gone.yaml")
        assert (code, out) == (2, "")
        assert err.startswith("error: there is no recipe 'gone.yaml', neither as a file (gone.yaml) nor among those")
        assert muse("run", "generate", "steps")[2].startswith("error: 'steps' is no override; write key.path=value")
        assert main(["run"]) == 2
        assert main(["rnu"]) == 2
        assert main(["run", "generate", "--plugin", "gone.py"]) == 2

    def test_of_the_user_wherever_a_task_finds_them(self, write, capfd):
        assert self.run_raising(write, "from muse_studio import UserError; raise UserError('no disk')") == 2
        assert capfd.readouterr().err == "error: no disk\n"

    def test_of_a_plugin(self, muse, write):
        write("own.yaml", "use: draw\nstages: {a: {sampler: buggy}}")
        code, out, err = muse("run", "own.yaml")
        assert (code, out) == (1, "")
        assert err.startswith("error in a plugin: sampler 'buggy' of plugin toy, ")
        assert "toy.py:57: broke while it was made: ZeroDivisionError: division by zero\n" in err
        assert err.endswith("\nMUSE_TRACEBACK=1 shows the whole traceback\n")

    def test_of_a_plugin_s_task(self, write, capfd, monkeypatch):
        assert self.run_raising(write, "1 / 0") == 1
        err = capfd.readouterr().err
        assert err.startswith("error in a plugin: task 'fall' of plugin raising, ")
        assert "raising.py:5: ZeroDivisionError: division by zero; promised: Task.__call__(hook, context): " in err
        assert err.endswith("\nMUSE_TRACEBACK=1 shows the whole traceback\n")
        monkeypatch.setenv("MUSE_TRACEBACK", "1")
        assert self.run_raising(write, "1 / 0") == 1
        assert "Traceback (most recent call last):" in capfd.readouterr().err

    def test_an_interrupt(self, write, capfd):
        assert self.run_raising(write, "raise KeyboardInterrupt") == 130
        assert capfd.readouterr().err == "interrupted\n"

    def test_a_broken_pipe_that_is_not_ours_is_not_hushed(self, write, capfd):
        assert self.run_raising(write, "raise BrokenPipeError(32, 'Broken pipe')") == 1
        assert "raising.py:5: BrokenPipeError: [Errno 32] Broken pipe; promised: " in capfd.readouterr().err

    def test_warnings_are_one_line(self, write, capfd):
        assert self.run_raising(write, "import warnings; warnings.warn('the prompt\\n is long')") == 0
        assert capfd.readouterr().err == "warning: the prompt is long\n"

    def test_other_warnings_are_as_ever(self, write):
        with pytest.warns(DeprecationWarning, match="old"):
            assert self.run_raising(write, "import warnings; warnings.warn('old', DeprecationWarning)") == 0

    def run_raising(self, write, statement):
        write(
            "raising.py",
            f"from muse_studio.hookspecs import hookimpl\n\ndef fall():\n    def task(hook):\n        {statement}\n"
            "    return task\n\n@hookimpl\ndef muse_tasks():\n    return {'fall': fall}\n",
        )
        write("fall.yaml", "use: fall")
        return main(["run", "fall.yaml", "--plugin", "raising.py"])


class TestPython:
    def test_run_returns_the_result(self, toy, draw):
        drawn = run("own.yaml", ["prompt=a cat"], plugins=[toy])
        assert drawn.task.prompt == "a cat"
        drawn = run({"use": "draw", "stages": {}}, {"prompt": "no", "stages.b.sampler": "fast"}, [toy])
        assert (drawn.task.prompt, drawn.task.stages["b"].sampler.steps) == ("no", 8)

    def test_a_task_that_takes_the_context_has_its_recipe_and_plugins(self, toy, draw, write):
        write("child.yaml", "extends: own.yaml")
        context = run("child.yaml", ["prompt=a cat"], [toy]).context
        assert context.recipe == {
            "use": "draw",
            "stages": {"a": {"sampler": {"use": "fast", "steps": 2}}},
            "prompt": "a cat",
        }
        assert list(context.plugins) == ["toy"]
        assert context.plugins["toy"].startswith("sha256:")
        assert context.plugin_files == (toy,)

    def test_a_task_that_takes_the_hook_alone_goes_without_the_context(self, write):
        source = (
            "from dataclasses import dataclass\nfrom muse_studio.hookspecs import hookimpl\n"
            "@dataclass(frozen=True, slots=True)\nclass Still:\n    x: int = 1\n"
            "    def __call__(self, hook):\n        return {'x': self.x}\n"
            "@hookimpl\ndef muse_tasks():\n    return {'still': Still}\n"
        )
        assert run({"use": "still"}, plugins=[write("still.py", source)]) == {"x": 1}

    def test_observers_hear_of_the_start_the_steps_and_the_end(self, toy, draw, write):
        source = (
            "from muse_studio.hookspecs import hookimpl\nheard = []\n"
            "@hookimpl\ndef muse_started(context):\n    heard.append(('started', context.recipe['use']))\n"
            "@hookimpl\ndef muse_step(step, steps):\n    heard.append((step, steps))\n"
            "@hookimpl\ndef muse_finished(task, result):\n    heard.append(result.summary())\n"
        )
        run("own.yaml", plugins=[toy, write("listener.py", source)])
        module = next(each for name, each in sys.modules.items() if name.startswith("muse_plugin_listener"))
        assert module.heard == [("started", "draw"), (1, 1), "drew ''"]

    def test_run_raises_every_problem(self, toy, draw):
        with pytest.raises(RecipeError) as error:
            run("own.yaml", {"x": 1, "y": 2}, [toy])
        assert [problem.path for problem in error.value.problems] == ["x", "y"]
        assert error.value.problems[0].place == "override 'x'"

    def test_check_returns_problems(self, toy, draw, write):
        assert check("own.yaml", plugins=[toy]) == []
        (problem,) = check("own.yaml", {"stages.a.sampler.steps": 0}, [toy])
        assert (problem.path, problem.message) == ("stages.a.sampler.steps", "steps is 0; give at least 1")
        write("twice.yaml", "a: 1\na: 2")
        (problem,) = check("twice.yaml")
        assert problem.place == "twice.yaml:2"

    def test_parts_returns_parts(self, toy):
        assert {"draw", "generate"} <= {part.name for part in parts("task", plugins=[toy])}
        (fast,) = parts("sampler", "fast", [toy])
        assert fast.settings["steps"].default == 8
        assert [part.kind for part in parts(name="pixels", plugins=[toy])] == ["tokenizer"]
        assert {part.kind for part in parts()} >= {"task", "sampler"}

    def test_the_package_says_what_it_has(self):
        assert set(muse_studio.__all__) <= set(dir(muse_studio))
        assert all(getattr(muse_studio, name) is not None for name in muse_studio.__all__)
        with pytest.raises(AttributeError, match="module 'muse_studio' has no attribute 'chek'"):
            _ = muse_studio.chek


def muse_process(arguments, path=()):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "muse_studio", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment(path),
    )


class TestStarting:
    """What is imported, seen in `sys.modules` of a process of its own."""

    def loaded(self, statement):
        names = ["torch", "transformers", "diffusers", "yaml", "pluggy", "fsspec", "numpy", "PIL", "rich"]
        program = f"{statement}\nimport sys, json; print(json.dumps([n for n in {names} if n in sys.modules]))"
        answer = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment()
        )
        return json.loads(answer.stdout.splitlines()[-1])

    def test_help_loads_nothing(self):
        assert self.loaded("from muse_studio.cli import main; assert main(['--help']) == 0") == []
        assert self.loaded("from muse_studio.cli import main; assert main(['generate', '--help']) == 0") == []
        assert self.loaded("import muse_studio") == []

    def test_a_list_of_parts_loads_pluggy_alone(self):
        assert self.loaded("from muse_studio.cli import main; assert main(['parts']) == 0") == ["pluggy"]
        assert self.loaded("from muse_studio.cli import main; assert main(['parts', 'task']) == 0") == ["pluggy"]

    def test_show_loads_no_torch(self):
        assert "torch" not in self.loaded("from muse_studio.cli import main; assert main(['show', 'generate']) == 0")

    def test_version(self):
        answer = muse_process(["--version"])
        assert (answer.returncode, answer.stdout.startswith("muse, version ")) == (0, True)

    def test_a_closed_pipe_is_silent(self):
        command = [sys.executable, "-m", "muse_studio", "parts"]
        reader, writer = os.pipe()
        os.close(reader)
        answer = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, env=environment())
        os.close(writer)
        assert (answer.returncode, answer.stderr) == (141, b"")
