"""Observers come from the recipe and the environment, are checked like all else, and leave no trace in what is made."""

import pytest

from muse_studio import check, run
from muse_studio.cli import main
from muse_studio.errors import PluginError, RecipeError
from muse_studio.recipe.running import prepare

EARS = '''
from muse_studio import run
from muse_studio.hookspecs import hookimpl

HEARD = []


class Ear:
    """Hears."""

    def __init__(self, name: str = "ear"):
        if name == "deaf":
            raise ValueError("name is deaf; it must hear")
        self.name = name

    @hookimpl
    def muse_started(self, task):
        HEARD.append((self.name, "started"))

    @hookimpl
    def muse_step(self, step):
        HEARD.append((self.name, step))

    @hookimpl
    def muse_finished(self, context):
        HEARD.append((self.name, "finished", sorted(context.recipe), sorted(context.plugins)))

    @hookimpl
    def muse_failed(self, error):
        HEARD.append((self.name, "failed", str(error)))


class Misspelt:
    """Has a hook that there is not."""

    @hookimpl
    def muse_stpe(self, step):
        """Never called."""


class Mute:
    """Has none."""


class Steps:
    """Tells of a step, and may break."""

    def __init__(self, wrong: bool = False):
        self.wrong = wrong

    def __call__(self, hook):
        told = dict.fromkeys(["tokens", "loss", "image", "numbers"])
        hook.muse_step(stage="base", step=1, steps=1, **told)
        if self.wrong:
            raise KeyboardInterrupt("enough")


def outer() -> object:
    """A run within a run, as a sweep has them."""
    return lambda hook: run({"use": "steps"}, plugins=[__file__])


@hookimpl
def muse_observers():
    return {"ear": Ear, "misspelt": Misspelt, "mute": Mute}


@hookimpl
def muse_tasks():
    return {"steps": Steps, "outer": outer}
'''


@pytest.fixture
def ears(write, monkeypatch):
    """Runs a recipe with the plugin above; gives what was heard."""
    monkeypatch.delenv("MUSE_OBSERVERS", raising=False)
    path = write("ears.py", EARS)

    def ears(recipe, error=None):
        prepared = prepare(recipe, plugins=[path])
        heard = prepared.registry.find("observer", "ear").load().muse_step.__globals__["HEARD"]
        heard.clear()
        if error is None:
            prepared()
        else:
            with pytest.raises(error):
                prepared()
        return heard

    ears.path = path
    return ears


def test_a_recipe_s_observers_hear_of_its_run_and_are_no_part_of_it(ears):
    message = {"use": "steps", "observers": ["ear", {"use": "ear", "name": "other"}]}
    heard = ears(message)
    for name in ("ear", "other"):
        assert [each[1:] for each in heard if each[0] == name] == [
            ("started",),
            (1,),
            ("finished", ["use"], ["ears"]),
        ]


def test_the_environment_s_observers_hear_of_every_run(ears, monkeypatch):
    monkeypatch.setenv("MUSE_OBSERVERS", "ear, {use: ear, name: other}")
    assert {each[0] for each in ears({"use": "steps"})} == {"ear", "other"}
    monkeypatch.setenv("MUSE_OBSERVERS", "[{use: ear, name: bracketed}]")
    assert {each[0] for each in ears({"use": "steps", "observers": ["ear"]})} == {"ear", "bracketed"}
    monkeypatch.setenv("MUSE_OBSERVERS", " ")
    assert ears({"use": "steps"}) == []


def test_a_run_within_a_run_is_heard_once_by_the_outer_one_s_observers(ears, monkeypatch):
    def steps_and_ends(recipe):
        prepared = prepare(recipe, plugins=[ears.path])
        ((_, observer),) = prepared.observers  # the inner run executes the file anew, so it is this one's list to read
        prepared()
        heard = [each[1] for each in type(observer).muse_step.__globals__["HEARD"]]
        return heard.count("started"), heard.count(1), heard.count("finished")

    assert steps_and_ends({"use": "outer", "observers": ["ear"]}) == (2, 1, 2)
    monkeypatch.setenv("MUSE_OBSERVERS", "ear")
    assert steps_and_ends({"use": "outer"}) == (2, 1, 2)


def test_an_end_by_ctrl_c_is_heard_too(ears):
    heard = ears({"use": "steps", "wrong": True, "observers": ["ear"]}, KeyboardInterrupt)
    assert [each[1:] for each in heard] == [("started",), (1,), ("failed", "enough")]


def test_only_the_leading_process_of_a_team_has_observers(ears, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert ears({"use": "steps", "observers": ["ear"]}) == []


def test_what_is_wrong_is_told_with_all_else(ears, monkeypatch):
    monkeypatch.setenv("MUSE_OBSERVERS", "{use: ear, nam: x}")
    recipe = {"use": "steps", "wrog": 1, "observers": ["eer", {"use": "ear", "name": "deaf"}, 3]}
    found = [(each.place, each.path, each.message) for each in check(recipe, plugins=[ears.path])]
    assert [(place, path) for place, path, _ in found] == [
        ("recipe", "wrog"),
        ("MUSE_OBSERVERS", "observers[0].nam"),
        ("recipe", "observers[1]"),
        ("recipe", "observers[3]"),
        ("recipe", "observers[2].name"),
    ]
    assert "did you mean 'name'" in found[1][2] and "no observer is called 'eer'; did you mean 'ear'" in found[2][2]
    with pytest.raises(RecipeError) as raised:
        run(recipe, plugins=[ears.path])
    assert [(each.place, each.path, each.message) for each in raised.value.problems] == found


@pytest.mark.parametrize("given", ["ear", {"ear": {}}, None])
def test_what_is_no_list_is_told(ears, given):
    (problem,) = _problems({"use": "steps", "observers": given}, ears.path)
    assert str(problem) == (
        "recipe  observers — expected a list of observers, such as [preview] or [{use: preview, seconds: 10}]"
    )


def _problems(recipe, path):
    with pytest.raises(RecipeError) as raised:
        run(recipe, plugins=[path])
    return raised.value.problems


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "misspelt",
            r"observer 'misspelt' of plugin ears, .*ears\.py:\d+: there is no hook 'muse_stpe'; did you mean",
        ),
        ("mute", r"observer 'mute' of plugin ears, .*ears\.py:\d+: it fills no hook"),
    ],
)
def test_an_observer_that_would_never_be_called_is_told(ears, name, message):
    with pytest.raises(PluginError, match=message):
        run({"use": "steps", "observers": [name]}, plugins=[ears.path])


def test_an_environment_that_is_no_yaml_is_told(ears, monkeypatch, capfd):
    monkeypatch.setenv("MUSE_OBSERVERS", "{use: ear")
    assert main(["run", "generate"]) == 2
    assert capfd.readouterr().err.startswith("MUSE_OBSERVERS  not YAML: ")
