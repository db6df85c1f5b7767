"""A plugin that fails is named, with its distribution and the reason, where it matters; all else works.

Each is installed as a distribution of its own, beside a good one.
"""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from processes import environment

HOOKIMPL = "from muse_studio import hookimpl\n"
ODD = (
    HOOKIMPL
    + """
class Dots:
    steps = 1
    def __call__(self, predict, tokens, schedule, generator):
        yield tokens

@hookimpl
def muse_samplers():
    return {"dots": Dots}
"""
)
GOOD = (
    HOOKIMPL
    + """
from muse_studio.contracts import Sampler

class Plain:
    steps = 1
    def __call__(self, predict, tokens, schedule, generator):
        yield tokens

def fill(sampler: Sampler):
    return lambda hook: {"by": type(sampler).__name__}

@hookimpl
def muse_samplers():
    return {"plain": Plain}

@hookimpl
def muse_tasks():
    return {"fill": fill}
"""
)
LOADS_TORCH = "import torch\n"
FAKE_TORCH = """
from types import SimpleNamespace

def module(begun=False, bytes=0):
    state = SimpleNamespace(begun=begun, bytes=bytes)
    def take(size):
        state.begun, state.bytes = True, state.bytes + size
    return SimpleNamespace(is_initialized=lambda: state.begun, memory_allocated=lambda: state.bytes, take=take)

cuda = module()
"""


@pytest.fixture
def installed(here, monkeypatch):
    """Installs a module as a distribution `NAME` of that version, with a plugin of the same name."""
    monkeypatch.syspath_prepend(str(here))
    made = []

    def installed(name, source, version="2.0", plugin=None):
        (here / f"{name}_module.py").write_text(source, encoding="utf-8")
        info = here / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        entry = f"[muse_studio]\n{plugin or name} = {name}_module\n"
        (info / "entry_points.txt").write_text(entry, encoding="utf-8")
        importlib.invalidate_caches()
        made.append(f"{name}_module")

    installed("good", GOOD)
    (here / "good.yaml").write_text("use: fill\nsampler: plain\n", encoding="utf-8")
    (here / "needs.yaml").write_text("use: fill\nsampler: dots\n", encoding="utf-8")
    yield installed
    for module in made:
        sys.modules.pop(module, None)


@pytest.fixture
def muse(muse, monkeypatch):
    """Runs the command under these environment variables; gives its exit code, and what it printed on both streams."""

    def under(*arguments, **environment):
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            return muse(*arguments)

    return under


@pytest.fixture
def process(here):
    """As `muse`, with a stand-in for torch, in a process of its own, which has imported nothing."""

    def process(*arguments, **variables):
        answer = subprocess.run(
            [sys.executable, "-m", "muse_studio", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment([str(here)], **variables),
        )
        assert "Traceback" not in answer.stderr
        return answer.returncode, answer.stdout, answer.stderr

    (here / "torch.py").write_text(FAKE_TORCH, encoding="utf-8")
    return process


FAILING = {
    "raises at import": ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero ({here}/odd_module.py:2)"),
    "exits at import": ("raise SystemExit('bye')\n", "SystemExit: bye ({here}/odd_module.py:1)"),
    "is no Python": ("def f(:\n", "SyntaxError: invalid syntax ({here}/odd_module.py:1)"),
    "lacks a package": ("import nowhere\n", "ModuleNotFoundError: No module named 'nowhere' ({here}/odd_module.py:1)"),
    "misspells a hook": (
        ODD.replace("muse_samplers", "muse_smaplers"),
        "there is no hook 'muse_smaplers'; did you mean 'muse_samplers'? hooks: muse_tokenizers, ",
    ),
    "forgets hookimpl": (
        ODD.replace("@hookimpl\n", ""),
        "muse_samplers has no @hookimpl above it, so it would not be seen; add it",
    ),
    "needs a newer API": (
        f'requires_api = ">=2.3"\n{ODD}',
        "it needs plugin API >=2.3, and this muse_studio has 1.3; upgrade muse-studio",
    ),
    "needs an older API": (
        f'requires_api = ">=0.2,<1"\n{ODD}',
        "it needs plugin API >=0.2,<1, and this muse_studio has 1.3; upgrade the plugin",
    ),
    "imports what a newer API has": (
        f'requires_api = "~=1.4"\nfrom muse_studio import upscaler\n{ODD}',
        "it needs plugin API ~=1.4, and this muse_studio has 1.3; upgrade muse-studio",
    ),
    "fills a hook of a newer API": (
        'requires_api = ">=1.4"\n' + ODD.replace("muse_samplers", "muse_upscalers"),
        "it needs plugin API >=1.4, and this muse_studio has 1.3; upgrade muse-studio",
    ),
    "asks for no known API": (f"requires_api = 2\n{ODD}", "its requires_api is 2; write it like '>=1,<2'"),
    "gives a list": (
        ODD.replace('{"dots": Dots}', '["dots"]'),
        "muse_samplers gave ['dots']; it must return a dict of name to part",
    ),
    "gives a number for a part": (
        ODD.replace(': Dots}', ": 7}"),
        "muse_samplers offers 'dots' as 7; give a callable, or \"module:attribute\"",
    ),
    "exits in its hook": (
        ODD.replace('{"dots": Dots}', "exit('bye')"),
        "muse_samplers raised SystemExit: bye (",
    ),
    "raises when it is looked at": (
        f"class Odd:\n    @property\n    def requires_api(self):\n        1 / 0\nimport sys\n{ODD}\n"
        "sys.modules[__name__] = Odd()\n",
        "ZeroDivisionError: division by zero ({here}/odd_module.py:4)",
    ),
    "raises in its hook": (
        ODD.replace('{"dots": Dots}', "1 / 0"),
        "muse_samplers raised ZeroDivisionError: division by zero ({here}/odd_module.py:10)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILING)
def test_a_plugin_that_fails_is_named_and_all_else_works(case, installed, muse, here):
    source, reason = FAILING[case]
    reason = reason.format(here=here)
    installed("odd", source)
    code, out, err = muse("parts", "sampler")
    assert (code, err) == (0, "")
    assert "could not be loaded:\n  odd: " + reason in out and ", in odd 2.0\n" in out
    assert ["plain", "good"] in [line.split() for line in out.splitlines()]
    assert muse("run", "good.yaml") == (0, "{'by': 'Plain'}\n", "")
    code, out, err = muse("run", "needs.yaml")
    assert (code, out) == (2, "")
    assert err.startswith("needs.yaml:2  sampler — no sampler is called 'dots'; ")
    assert f"plugin odd could not be loaded and may have it: {reason}" in err and err.endswith(", in odd 2.0\n")


def test_a_part_whose_name_is_taken_is_told_where_a_recipe_must_choose(installed, muse):
    installed("odd", ODD.replace('"dots"', '"plain"'))
    code, out, err = muse("parts", "sampler")
    assert (code, err) == (0, "")
    assert out.endswith(
        "offered by several plugins, so that a recipe must say whose:\n  sampler: good/plain or odd/plain\n"
    )
    assert muse("run", "good.yaml") == (
        2,
        "",
        "good.yaml:2  sampler — 2 plugins offer a sampler 'plain'; say whose you want: 'good/plain' or 'odd/plain', "
        "or leave one out by MUSE_WITHOUT\n",
    )
    assert muse("run", "good.yaml", "sampler=odd/plain")[:2] == (0, "{'by': 'Dots'}\n")
    assert muse("run", "good.yaml", MUSE_WITHOUT="odd") == (0, "{'by': 'Plain'}\n", "")


def test_a_plugin_that_is_called_like_another_is_set_aside_and_never_ours(installed, muse):
    installed("another", ODD, plugin="muse_sampling")  # its distribution's name stands before ours
    code, out, _ = muse("parts", "sampler")
    assert code == 0
    assert "muse_sampling: there is another plugin called 'muse_sampling'; rename one of them, in another 2.0\n" in out
    assert ["confidence", "muse_sampling"] in [line.split() for line in out.splitlines()]
    assert "dots" not in out


def test_a_part_that_can_not_be_imported_is_the_plugins_fault(installed, muse):
    installed("odd", ODD.replace("Dots}", '"odd_module:Dotz"}'))
    assert muse("run", "good.yaml")[0] == 0
    code, out, err = muse("run", "needs.yaml")
    assert (code, out) == (1, "")
    assert err.startswith("error in a plugin: plugin odd offers sampler 'dots' as odd_module:Dotz, which can't be imp")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (
            "lambda: None",
            "it gave NoneType, which is no Sampler: it has no __call__; promised: Sampler.__call__(pred",
        ),
        ("dict", "it gave dict, which is no Sampler: it has no __call__; promised: Sampler.__call__(predict, "),
    ],
)
def test_a_part_of_the_wrong_type_is_the_plugins_fault(target, told, installed, muse):
    installed("odd", ODD.replace('{"dots": Dots}', f'{{"dots": lambda: ({target})()}}'))
    code, out, err = muse("run", "needs.yaml")
    assert (code, out) == (1, "")
    assert err.startswith("error in a plugin: sampler 'dots' of plugin odd, ")
    assert f"odd_module.py:10: {told}" in err and err.endswith("\nMUSE_TRACEBACK=1 shows the whole traceback\n")


def test_an_observer_that_raises_is_told_once_and_the_run_goes_on(installed, muse):
    observing = "\n@hookimpl\ndef muse_step(step):\n    1 / 0\n\n@hookimpl\ndef muse_finished(result):\n    print(1)\n"
    installed("odd", ODD + observing)
    stepping = GOOD.replace(
        'return lambda hook: {"by": type(sampler).__name__}',
        "return lambda hook: [hook.muse_step(stage='a', step=step, steps=2, tokens=None, loss=None, image=None, "
        "numbers=None) for step in (1, 2)] and {}",
    )
    installed("stepping", stepping.replace('"plain"', '"stepped"').replace('"fill"', '"step"'))
    code, out, err = muse("run", "good.yaml", "use=step", "sampler=plain")
    assert (code, out) == (0, "1\n{}\n")
    assert err.startswith("warning: plugin odd's muse_step raised ZeroDivisionError: division by zero (")
    assert err.endswith("odd_module.py:14); the run goes on, and it is not called again\n")
    assert err.count("warning") == 1


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        ("1 / 0", 1, "error in a plugin: plugin odd's muse_started raised ZeroDivisionError: division by zero ("),
        ("raise UserError('not this prompt')", 2, "error: not this prompt\n"),
    ],
)
def test_an_observer_can_stop_a_run_before_it_begins(raised, code, told, installed, muse):
    source = f"from muse_studio import UserError\n{ODD}\n@hookimpl\ndef muse_started(task):\n    {raised}\n"
    installed("odd", source)
    answer = muse("run", "good.yaml")
    assert answer[:2] == (code, "") and answer[2].startswith(told)
    assert code == 2 or "; MUSE_WITHOUT=odd runs without it\n" in answer[2]


def test_a_plugin_that_takes_hold_of_a_gpu_is_named_by_every_command(installed, process):
    installed("odd", f"import torch\ntorch.cuda.take(3 << 20)\n{ODD}")
    told = (
        "plugin odd, odd 2.0, begins to use cuda and keeps 3.0 MiB there as soon as it is loaded; its parts should do "
        "so when they are called; MUSE_WITHOUT=odd leaves it out"
    )
    code, out, err = process("parts", "sampler", "-v")
    assert (code, err) == (0, f"warning: {told}\n")
    assert ["dots", "odd"] in [line.split() for line in out.splitlines()]
    assert ", for it imports torch; it begins to use cuda and keeps 3.0 MiB there\n" in out
    assert process("parts", "sampler", MUSE_WITHOUT="odd")[2] == ""


def test_a_plugin_that_takes_hold_of_a_gpu_and_fails_says_both(installed, process):
    installed("odd", "import torch\ntorch.cuda.take(0)\n1 / 0\n")
    out = process("parts", "sampler")[1]
    assert "odd_module.py:3); and it begins to use cuda, in odd 2.0\n" in out


def test_a_plugin_that_is_slow_to_load_is_named_where_one_looks(installed, process):
    installed("odd", LOADS_TORCH + ODD)
    installed("second", LOADS_TORCH + ODD.replace('"dots"', '"others"'))  # it finds torch there already
    code, out, err = process("parts", "sampler", "--verbose")
    assert (code, err) == (0, "")
    plugins = {line.split()[0]: line for line in out.partition("\nplugins:\n")[2].splitlines()}
    assert plugins["odd"].endswith(" ms, for it imports torch")
    assert [name for name, line in plugins.items() if "imports" in line] == ["odd"]
    assert plugins["good"].split()[1:4] == ["good", "2.0,", "loaded"]
    assert "plugins:" not in process("parts", "sampler")[1]


def test_a_trace_says_which_hooks_were_called_of_whom_with_what(installed, muse, here):
    installed("odd", ODD + "\n@hookimpl\ndef muse_finished(task, result):\n    pass\n")
    installed("broken", "1 / 0")
    code, out, err = muse("run", "good.yaml", MUSE_TRACE="1")
    assert (code, out) == (0, "{'by': 'Plain'}\n")
    lines = [line.split("  ") for line in err.splitlines()]
    assert {line[0].split()[0] for line in lines} == {"trace"}
    told = [line[1:3] for line in lines]
    assert ["odd", "muse_samplers() -> {dots}"] in told
    assert ["good", "muse_tasks() -> {fill}"] in told
    assert ["odd", "loaded from odd_module"] in told
    assert any(whose == "broken" and call.startswith("set aside: ZeroDivisionError") for whose, call in told)
    assert ["odd", "muse_finished(task=function, result={by})"] in told
    assert all(line[-1].endswith(" ms") for line in lines)
    assert muse("run", "good.yaml", MUSE_TRACE="trace.txt") == (0, "{'by': 'Plain'}\n", "")
    assert len((here / "trace.txt").read_text(encoding="utf-8").splitlines()) == len(lines)
    assert muse("run", "good.yaml", MUSE_TRACE="0")[2] == ""


def test_a_trace_that_can_not_be_written_is_the_users_mistake(installed, muse):
    assert muse("parts", MUSE_TRACE="none/trace.txt") == (
        2,
        "",
        "error: MUSE_TRACE is 'none/trace.txt', which can't be written: No such file or directory; give 1 or a file\n",
    )


def test_plugins_are_left_out_by_name(installed, muse):
    installed("odd", ODD)
    assert muse("run", "needs.yaml")[:2] == (0, "{'by': 'Dots'}\n")
    code, out, err = muse("run", "needs.yaml", MUSE_WITHOUT="odd, god")
    assert (code, out) == (2, "")
    assert err.startswith("warning: MUSE_WITHOUT names 'god', which is no plugin; did you mean 'good'? plugins: ")
    assert err.endswith("; left out by MUSE_WITHOUT: odd\n")
    assert muse("parts", "sampler", MUSE_WITHOUT="odd")[1].endswith("\nleft out by MUSE_WITHOUT: odd\n")


def test_a_plugin_file_is_held_to_the_same(here, installed, muse):
    (here / "mine.py").write_text(f'requires_api = ">=3"\n{ODD}', encoding="utf-8")
    needs = "it needs plugin API >=3, and this muse_studio has 1.3; upgrade muse-studio\n"
    assert muse("run", "needs.yaml", "--plugin", "mine.py") == (2, "", f"error: --plugin mine.py: {needs}")
    (here / "mine.py").write_text('requires_api = ">=3"\n1 / 0\n', encoding="utf-8")
    assert muse("run", "needs.yaml", "--plugin", "mine.py") == (2, "", f"error: --plugin mine.py: {needs}")
    (here / "mine.py").write_text(f'requires_api = "~=1.0"\n{ODD}', encoding="utf-8")
    assert muse("run", "needs.yaml", "--plugin", "mine.py") == (0, "{'by': 'Dots'}\n", "")
