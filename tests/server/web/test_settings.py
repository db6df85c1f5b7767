"""What a client sets is checked in the words of `muse check`, and may name no place and no weights."""

from __future__ import annotations

from typing import Any

import pytest
from muse_server import parts, settings
from muse_server.refusals import Refusal

import muse_studio
from muse_studio.hookspecs import hookimpl
from muse_studio.recipe.running import parts as all_parts
from muse_studio.registry.plugins import Registry
from muse_studio.sampling.model import Model

FINE: list[dict[str, Any]] = [
    {},
    {"base": {}},
    {"base": {"sampler": {"steps": 3}}, "superres": {"guidance": {"scale": 2}}},
    {"base": {"sampler": {"use": "halton", "steps": 24, "roll": True}}},
    {"base": {"sampler": "random", "schedule": "cosine", "guidance": "none"}},
    {"base": {"sampler": {"use": "muse_sampling/random"}, "schedule": {"use": "steps", "ratios": [0.5, 0]}}},
    {"base": {"sampler": {"use": "amused", "temperature": [2.0, 0]}}},
]


@pytest.mark.parametrize("given", FINE)
def test_values_for_parts_are_fine(emoji: Model, given: dict[str, Any]) -> None:
    assert settings.problems(emoji, given) == []
    settings.check(emoji, given)
    emoji.using(**given)


REFUSED = [
    ({"base": {"sampler": {"steps": 0}}}, "base.sampler.steps", "steps is 0; give 1 or more"),
    ({"base": {"sampler": {"steps": "8"}}}, "base.sampler.steps", "expected int, got text '8'"),
    ({"base": {"sampler": {"step": 8}}}, "base.sampler.step", "did you mean 'steps'?"),
    ({"base": {"sampler": "haltn"}}, "base.sampler.use", "did you mean 'halton'?"),
    ({"base": {"sampler": None}}, "base.sampler", "expected sampler, got nothing"),
    ({"base": {"samplr": {}}}, "base.samplr", "did you mean 'sampler'?"),
    ({"bse": {}}, "bse", "did you mean 'base'?"),
    ({"base": 3}, "base", "expected a table"),
    ({"base": {"guidance": {"schedule": "linaer"}}}, "base.guidance.schedule", "did you mean 'linear'?"),
    ({"base": {"transformer": {"width": 10}}}, "base.transformer", "the rest is the recipe's"),
    (
        {"base": {"sampler": {"use": "token-critic", "critic": {"use": "critic"}}}},
        "base.sampler.critic",
        "a transformer",
    ),
    ({"base": {"guidance": {"use": "autoguidance", "model": "muse"}}}, "base.guidance.model", "names a place"),
    ({"base": {"sampler": {"steps": 10**9}}}, "base.sampler.steps", "at most 1,024"),
    ({"base": {"sampler": {"top_k": 10**400}}}, "base.sampler.top_k", "at most 10,000"),
    ({"base": {"guidance": {"scale": float("nan")}}}, "base.guidance.scale", "without end"),
    ({"base": {"sampler.steps": 8}}, "base.sampler.steps", "can't be set here"),
]
PLACES: list[Any] = [
    {"base": {"extends": "models/emoji"}},
    {"base": {"sampler": {"extends": "x"}}},
    {"base": {"sampler": {"use": "confidence", "weights": "x"}}},
    {"base": {"sampler": {"use": "../sampler"}}},
    {"base": {"sampler": {"use": "a/../b"}}},
    {"base": {"sampler": "/etc/passwd"}},
    {"base": {"sampler": {"use": "http://127.0.0.1/"}}},
    {"base": {"guidance": {"schedule": "~root"}}},
    {"base": {"guidance": {"schedule": "a\\b"}}},
    {"base": {"guidance": {"schedule": "linear\n"}}},
    {"base": {"sampler": {"a/b": 1}}},
    {"base": {"sampler": {"observers": [{"use": "csv", "file": "x"}]}}},
    {"base": {"sampler": {"use": "x" * 300}}},
    {"base": {"sampler": {str(number): 1 for number in range(2000)}}},
]


@pytest.mark.parametrize(("given", "path", "message"), REFUSED)
def test_each_problem_stands_at_its_field(emoji: Model, given: Any, path: str, message: str) -> None:
    (found,) = settings.problems(emoji, given)
    assert found["path"] == f"settings.{path}" and message in found["message"]
    with pytest.raises(Refusal, match=r"^settings\.") as refused:
        settings.check(emoji, given)
    assert (refused.value.param, refused.value.status) == (f"settings.{path}", 400)


@pytest.mark.parametrize("given", [*PLACES, 7, "base", [], {"base": {"sampler": object()}}])
def test_no_place_passes_and_nothing_of_another_shape(emoji: Model, given: Any) -> None:
    assert settings.problems(emoji, given)


def test_settings_that_are_nested_without_end_are_refused(emoji: Model) -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert "20 deep" in settings.problems(emoji, {"base": {"sampler": deep}})[0]["message"]


def test_an_editor_is_checked_alike(emoji: Model) -> None:
    assert settings.problems(emoji, editor="inpaint") == []
    assert settings.problems(emoji, editor={"use": "mask-free", "iterations": 5}) == []
    (found,) = settings.problems(emoji, editor={"use": "variations", "strength": 2.0})
    assert found["path"] == "editor.strength"
    assert settings.problems(emoji, editor="halton")[0]["path"] == "editor"
    assert settings.problems(emoji, editor={"use": "inpaint", "out": "x"})[0]["path"] == "editor.out"


def test_the_words_are_those_of_muse_check(emoji: Model) -> None:
    (said,) = muse_studio.check("models/emoji", ["use=generate", "prompt=x", "stages.base.sampler.steps=0"])
    (found,) = settings.problems(emoji, {"base": {"sampler": {"steps": 0}}})
    assert found["message"] == said.message


@pytest.mark.parametrize("kind", parts.KINDS)
def test_every_part_of_a_kind_is_told_with_all_its_settings(kind: str) -> None:
    told = {each["full_name"]: each for each in parts.told(all_parts(kind))}
    there = {part.full_name: part for part in all_parts(kind)}
    assert set(told) == set(there)
    for name, part in there.items():
        assert told[name]["about"] == part.about
        assert [each["name"] for each in told[name]["settings"]] == list(part.settings)


def test_a_setting_has_its_type_its_default_its_choices_and_its_words() -> None:
    remdm = next(each for each in parts.told(all_parts("sampler")) if each["name"] == "remdm")
    told = {each["name"]: each for each in remdm["settings"]}
    assert told["steps"] | {"about": ""} == {
        "name": "steps",
        "type": "int",
        "nullable": False,
        "written": "int",
        "default": 12,
        "required": False,
        "choices": None,
        "kind": None,
        "about": "",
    }
    assert (told["top_k"]["type"], told["top_k"]["nullable"], told["top_k"]["default"]) == ("int", True, None)
    assert told["strategy"]["type"] == "choice"
    assert told["strategy"]["choices"] == ["cap", "rescale", "conf", "loop"]
    assert told["sampling_temperature"]["written"] == "float | list[float]"
    assert told["eta"]["about"].startswith("0 takes nothing back")
    critic = next(each for each in parts.told(all_parts("sampler")) if each["name"] == "token-critic")
    asked = {each["name"]: each for each in critic["settings"]}["critic"]
    assert (asked["type"], asked["kind"], asked["required"]) == ("part", "transformer", True)


def test_all_that_a_docstring_says_of_its_settings_is_found() -> None:
    about = "Does it.\n\na: one\n    goes on. b, c: two; c: not this\nd: e: three\n\nf: is none."
    assert parts.settings_said(about, ["a", "b", "c", "d"]) == {
        "a": "one goes on.",
        "b": "two;",
        "c": "not this d: e: three",
    }
    assert parts.settings_said(about, []) == {}


class Spiral:
    """A schedule of a third party.

    turns: how often it goes round.
    """

    def __init__(self, turns: int = 3) -> None:
        self.turns = turns

    def __call__(self, r: Any) -> Any:
        return 1 - r


class Plugin:
    """As a package of somebody else."""

    @hookimpl
    def muse_schedules(self) -> dict[str, Any]:
        return {"spiral": Spiral, "broken": "no_such_module:Thing"}


def test_a_third_partys_part_shows_itself_and_a_broken_one_takes_no_other_along() -> None:
    registry = Registry()
    registry._add("spirals", Plugin())
    told = {each["name"]: each for each in parts.told(registry.parts("schedule"))}
    assert told["spiral"]["settings"][0]["about"] == "how often it goes round."
    assert "broken" not in told and "cosine" in told


def test_tables_of_a_recipe_are_told_without_places() -> None:
    critic = {"use": "token-critic", "steps": 3, "critic": {"use": "critic", "weights": "/srv/x"}}
    assert parts.values_of(critic) == {"use": "token-critic", "steps": 3}
    assert parts.values_of("cosine") == {"use": "cosine"}
    assert parts.values_of(None) is None
