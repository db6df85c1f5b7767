"""What docs/observers.md and docs/safety.md show works as it stands there."""

import re
from pathlib import Path

import pytest

from muse_studio import check
from muse_studio.cli import main
from muse_studio.recipe.tree import parse
from muse_studio.registry.kinds import hook_points, kinds

DOCS = Path(__file__).parents[2] / "docs"
QUICK = ["stages.base.sampler.steps=2", "stages.superres.sampler.steps=2"]


def blocks(page, language):
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def plugin(here):
    """Writes a page's only plugin to the file that its first line names."""

    def plugin(page):
        (code,) = blocks(page, "python")
        path = here / re.match(r"# (\w+\.py)\n", code)[1]
        path.write_text(code, encoding="utf-8")
        return path

    return plugin


@pytest.mark.slow
def test_the_example_of_an_observer_runs(plugin, capfd):
    path = plugin("observers.md")
    command = ["generate", "a red apple", "observers=[{use: timing, digits: 1}]", "--plugin", path.name]
    assert 'muse generate "a red apple" observers="[{use: timing, digits: 1}]" --plugin timing.py' in "".join(
        blocks("observers.md", "sh")
    )
    assert main([*command, *QUICK]) == 0
    assert re.fullmatch(r"base: \d+\.\d s\nsuperres: \d+\.\d s\n", capfd.readouterr().err)


@pytest.mark.slow
def test_the_example_of_a_filter_refuses_prompts_and_pictures(plugin, here, capfd):
    path = plugin("safety.md")
    assert main(["generate", "a red apple", "a pear", "--plugin", path.name]) == 2
    assert capfd.readouterr().err == (
        "error: prompt 2 of 2, 'a pear', is refused by the filter apples: only apples are drawn here; nothing was "
        "drawn\n"
    )
    path.write_text(path.read_text().replace("< 100", "< 1000"))
    assert main(["generate", "a red apple", "--plugin", path.name, *QUICK]) == 2
    assert "the picture of 'a red apple', seed 0, is refused by the filter apples: it is too dark" in (
        capfd.readouterr().err
    )
    assert list(here.rglob("*.png")) == []


@pytest.mark.parametrize("page", ["observers.md", "safety.md"])
def test_the_recipes_shown_have_no_mistake(page):
    shown = blocks(page, "yaml")
    assert len(shown) == 1
    for text in shown:
        recipe = {"extends": "generate"} | parse(text, page).plain()
        assert [str(problem) for problem in check(recipe)] == []


def test_the_hooks_are_listed_with_their_exact_arguments():
    text = (DOCS / "observers.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(muse_\w+)\(([^)]*)\)` \|", text, re.MULTILINE))
    parts = {kind.hook for kind in kinds().values()}
    assert listed == {
        name: ", ".join(hook.__annotations__ | {}).removesuffix(", return")
        for name, hook in hook_points().items()
        if name not in parts
    }


def test_the_refusal_shown_is_the_one_that_comes(here, capfd):
    assert main(["generate", "a pear", "a naked apple", "observers=[word-filter]"]) == 2
    assert f"    {capfd.readouterr().err}" in (DOCS / "safety.md").read_text(encoding="utf-8")
