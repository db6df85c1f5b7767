import signal
import sys
from importlib.metadata import EntryPoint

import pytest

from muse_studio import hookspecs
from muse_studio.contracts import NO_RUN, Sampler, Task, TextEncoder
from muse_studio.errors import PluginError, UserError
from muse_studio.registry.kinds import hook_points, kind_of, kinds
from muse_studio.registry.parts import Part
from muse_studio.registry.plugins import GROUP, Registry

GOOD = """
from muse_studio.hookspecs import hookimpl

@hookimpl
def muse_samplers():
    return {"halton": "json:dumps"}
"""


@pytest.fixture
def installed(write, here, monkeypatch):
    """Offers modules as installed plugins would be: name to source."""
    monkeypatch.syspath_prepend(str(here))

    def installed(**sources):
        for name, source in sources.items():
            write(f"{name}.py", source)
            monkeypatch.delitem(sys.modules, name, raising=False)
        return [EntryPoint(name, name, GROUP) for name in sources]

    return installed


def test_kinds_are_read_off_the_hook_points():
    assert list(kinds())[:3] == ["tokenizer", "quantizer", "text-encoder"]
    assert kinds()["text-encoder"].contract is TextEncoder
    assert (kind_of(Task).name, kind_of(Task).hook) == ("task", "muse_tasks")
    assert kind_of(int) is None
    observers = set(hook_points()) - {kind.hook for kind in kinds().values()}
    told = {"muse_started", "muse_step", "muse_progress", "muse_finished", "muse_failed"}
    assert observers == told | {"muse_prompt", "muse_picture"}


def test_a_plugin_file_offers_parts(registry, toy):
    assert [(part.kind, part.name) for part in registry.parts()] == [
        ("tokenizer", "pixels"),
        ("sampler", "buggy"),
        ("sampler", "fast"),
        ("sampler", "slow"),
        ("task", "draw"),
        ("task", "tell"),
    ]
    fast = registry.find("sampler", "fast")
    assert fast.load()(steps=3).steps == 3
    assert fast.about == "A sampler of few steps."
    assert [str(each) for each in fast.settings.values()] == ["steps: int = 8", "temperature: float = 1.0"]
    assert registry.find("sampler", "toy/fast") == fast
    assert registry.versions["toy"].startswith("sha256:")


def test_settings_are_told_as_a_recipe_writes_them(registry):
    assert ", ".join(map(str, registry.find("task", "draw").settings.values())) == (
        "stages: dict[str, Place], prompt: str | list[str] = '', tokenizer: tokenizer | null = null, "
        "extra: list[sampler] = [], free: dict | null = null, strict: bool = false"
    )
    slow = registry.find("sampler", "slow").settings
    assert slow["steps"].required
    assert str(slow["mode"]) == "mode: 'calm' | 'wild' = 'calm'"
    assert slow["inner"].annotation == Sampler | None


def test_an_unknown_name_is_answered_with_what_is_near_and_available(registry):
    with pytest.raises(UserError) as error:
        registry.find("sampler", "fest")
    assert str(error.value) == ("no sampler is called 'fest'; did you mean 'fast'? available: buggy, fast, slow")
    with pytest.raises(UserError, match="no task is called 'pixels'; available: draw, tell; 'pixels' is a tokenizer"):
        registry.find("task", "pixels")
    with pytest.raises(UserError, match=r"no kind of part is called 'samplers'; did you mean 'sampler'\? kinds: tok"):
        registry.parts("samplers")


def test_a_plugin_that_raises_at_import_is_set_aside_and_named_when_something_is_missing(installed):
    registry = Registry(entries=installed(good=GOOD, broken="x = 1\nraise RuntimeError('out of cheese')\n"))
    assert [part.name for part in registry.parts()] == ["halton"]
    assert registry.failed["broken"].startswith("RuntimeError: out of cheese (")
    assert registry.failed["broken"].endswith("broken.py:2)")
    with pytest.raises(UserError, match="plugin broken could not be loaded and may have it: RuntimeError: out"):
        registry.find("sampler", "confidence")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def f(:", "SyntaxError: "),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = 1", "it fills no hook; mark a function such as muse_tokenizers by @hookimpl"),
        ("def muse_samplers():\n    return {}", "muse_samplers has no @hookimpl above it, so it would not be seen"),
        (GOOD + "def muse_editors():\n    return {}", "muse_editors has no @hookimpl above it"),
        (
            GOOD.replace("muse_samplers", "muse_sampler"),
            "there is no hook 'muse_sampler'; did you mean 'muse_samplers'?",
        ),
        (
            GOOD.replace("samplers()", "samplers(model)"),
            "Argument(s) {'model'} are declared in the hookimpl but can not",
        ),
        (
            GOOD.replace('{"halton": "json:dumps"}', "['halton']"),
            "muse_samplers gave ['halton']; it must return a dict",
        ),
        (
            GOOD.replace('{"halton": "json:dumps"}', "1 / 0"),
            "muse_samplers raised ZeroDivisionError: division by zero (",
        ),
        (
            GOOD.replace('"halton"', '"Halton Steps"'),
            "names a part 'Halton Steps'; write lower case, with words joined",
        ),
        (GOOD.replace('"json:dumps"', '"json.dumps"'), "offers 'halton' as 'json.dumps'; write \"module:attribute\""),
        (GOOD.replace('"json:dumps"', "7"), "offers 'halton' as 7; give a callable"),
    ],
)
def test_a_plugin_that_does_not_keep_the_rules_is_set_aside_whole(installed, source, reason):
    registry = Registry(entries=installed(good=GOOD, odd=source))
    assert reason in registry.failed["odd"]
    assert [part.plugin for part in registry.parts()] == ["good"]
    assert list(registry.versions) == ["good"]


def test_a_plugin_set_aside_observes_nothing(installed):
    listening = GOOD.replace("return", "1 / 0; return") + "@hookimpl\ndef muse_started(task):\n    task.append(1)\n"
    heard = []
    registry = Registry(entries=installed(odd=listening))
    registry.hook.muse_started(task=heard, context=NO_RUN)
    assert (heard, list(registry.failed)) == ([], ["odd"])


def test_a_name_that_two_plugins_offer_is_an_error_that_says_how_to_choose(installed):
    registry = Registry(entries=installed(one=GOOD, two=GOOD))
    with pytest.raises(UserError) as error:
        registry.find("sampler", "halton")
    assert str(error.value) == (
        "2 plugins offer a sampler 'halton'; say whose you want: 'one/halton' or 'two/halton', "
        "or leave one out by MUSE_WITHOUT"
    )
    assert registry.find("sampler", "two/halton").plugin == "two"


def test_two_plugins_of_one_name(installed):
    registry = Registry(entries=[*installed(one=GOOD), *installed(one=GOOD)])
    assert registry.failed == {"one": "there is another plugin called 'one'; rename one of them"}
    assert len(registry.parts()) == 1


def test_muse_without_leaves_plugins_out(installed, monkeypatch):
    monkeypatch.setenv("MUSE_WITHOUT", "one, twoo")
    with pytest.warns(UserWarning, match="MUSE_WITHOUT names 'twoo', which is no plugin; did you mean 'two'?"):
        registry = Registry(entries=installed(one=GOOD, two=GOOD.replace("halton", "other")))
    assert [part.name for part in registry.parts()] == ["other"]
    with pytest.raises(UserError, match="left out by MUSE_WITHOUT: one"):
        registry.find("sampler", "halton")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nowhere_at_all:Thing", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("json:Thing", "AttributeError: module 'json' has no attribute 'Thing'"),
        ("json:__name__", "which is no class or function"),
    ],
)
def test_a_target_that_leads_nowhere_is_the_plugins_fault(installed, target, reason):
    registry = Registry(entries=installed(odd=GOOD.replace("json:dumps", target)))
    with pytest.raises(PluginError) as error:
        registry.find("sampler", "halton").load()
    assert str(error.value).startswith(f"plugin odd offers sampler 'halton' as {target}, which ")
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        ("**settings", "takes **settings, where a misspelt key would pass unseen"),
        ("*sizes: int", "takes *sizes: int, where a misspelt key would pass unseen"),
        ("steps: int, /", "takes steps: int, where a misspelt key would pass unseen"),
        ("steps=3", "has a setting 'steps' without annotation; give its type"),
        ("steps: complex = 1j", "has a setting 'steps' of type complex, which no recipe can give"),
        ("steps: dict[int, str]", "has a setting 'steps' of type dict[int, str], which no recipe can give"),
        ("steps: 'Tensor'", "has an annotation that can't be resolved (name 'Tensor' is not defined)"),
    ],
)
def test_a_signature_that_is_no_schema_is_the_plugins_fault(installed, signature, reason):
    source = f"from muse_studio.hookspecs import hookimpl\n\ndef make({signature}): ...\n\n"
    source += "@hookimpl\ndef muse_samplers():\n    return {'odd': make}\n"
    registry = Registry(entries=installed(odd=source))
    with pytest.raises(PluginError) as error:
        _ = registry.find("sampler", "odd").settings
    assert str(error.value).startswith("sampler 'odd' of plugin odd ")
    assert reason in str(error.value)


def test_a_signature_is_read_where_it_was_written(installed):
    """Annotations of a parent in another module; a Protocol as parent; a return type for type checkers alone."""
    base = "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import Literal\n"
    base += "@dataclass\nclass Base:\n    mode: Literal['a'] = 'a'\n"
    odd = """
    from __future__ import annotations
    from dataclasses import dataclass
    from typing import TYPE_CHECKING
    from base_of_odd import Base
    from muse_studio.contracts import Sampler
    from muse_studio.hookspecs import hookimpl
    if TYPE_CHECKING:
        from torch import Tensor

    @dataclass
    class Child(Base):
        steps: int = 1

    class Bare(Sampler):
        def __call__(self): ...

    def make(steps: int = 2) -> Tensor: ...

    @hookimpl
    def muse_samplers():
        return {"child": Child, "bare": Bare, "made": make}
    """
    installed(base_of_odd=base)
    registry = Registry(entries=installed(odd=odd))
    assert registry.failed == {}
    told = {part.name: [str(each) for each in part.settings.values()] for part in registry.parts()}
    assert told == {"bare": [], "child": ["mode: 'a' = 'a'", "steps: int = 1"], "made": ["steps: int = 2"]}


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("gone.py", None, "--plugin gone.py: there is no such file"),
        ("odd.txt", GOOD, "--plugin odd.txt: this is no Python file; its name must end in .py"),
        ("odd.py", "x = (", "--plugin odd.py: it can't be run: SyntaxError: '(' was never closed ("),
        ("odd.py", "1 / 0", "--plugin odd.py: it can't be run: ZeroDivisionError: division by zero ("),
        ("odd.py", "x = 1", "--plugin odd.py: it fills no hook"),
        ("odd.py", GOOD.replace("muse_samplers", "muse_smaplers"), "did you mean 'muse_samplers'?"),
    ],
)
def test_a_plugin_file_that_is_none_is_the_users_mistake(write, name, source, reason):
    if source is not None:
        write(name, source)
    before = set(sys.modules)
    with pytest.raises(UserError) as error:
        Registry([name], entries=())
    assert reason in str(error.value)
    assert not any(module.startswith("muse_plugin_odd") for module in set(sys.modules) - before)


def test_a_plugin_file_may_have_any_name_and_is_run_anew_each_time(write):
    write("my plugin-2.py", GOOD)
    assert Registry(["my plugin-2.py"], entries=()).find("sampler", "halton").plugin == "my plugin-2"
    write("my plugin-2.py", GOOD.replace("halton", "sobol"))
    assert [part.name for part in Registry(["my plugin-2.py"], entries=()).parts()] == ["sobol"]


def test_a_plugin_file_may_not_take_an_installed_plugins_name(write, installed):
    write("elsewhere/one.py", GOOD)
    with pytest.raises(
        UserError, match=r"--plugin elsewhere/one\.py: there is another plugin called 'one'; rename one"
    ):
        Registry(["elsewhere/one.py"], entries=installed(one=GOOD))


def test_observers_hear(write):
    write("ear.py", GOOD + "heard = []\n@hookimpl\ndef muse_finished(result):\n    heard.append(result)\n")
    registry = Registry(["ear.py"], entries=())
    registry.hook.muse_finished(task=None, result=7, context=NO_RUN)
    module = next(module for name, module in sys.modules.items() if name.startswith("muse_plugin_ear_"))
    assert module.heard == [7]


def test_the_default_plugins_register_by_the_same_door():
    registry = Registry()
    assert registry.failed == {}
    assert {"task", "sampler", "tokenizer"} <= {part.kind for part in registry.parts()}
    assert hookspecs.PROJECT == GROUP


def test_a_ctrl_c_waits_until_a_part_is_imported(installed):
    installed(slow="import signal\nsignal.raise_signal(signal.SIGINT)\n\nclass Sampler:\n    pass\n")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            Part("sampler", "slow", "others", "slow:Sampler").load()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert hasattr(sys.modules["slow"], "Sampler")
