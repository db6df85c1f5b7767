"""The pages that are read off the code: every hook with its exact arguments, every part, every recipe, every error."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from muse_pages import generated

import muse_studio
from muse_studio.cli.scaffold import new
from muse_studio.recipe.sources import shipped
from muse_studio.registry.kinds import hook_points, kinds
from muse_studio.registry.plugins import Registry

ROOT = Path(__file__).parents[2]
ARGUMENTS = {hook: list(inspect.signature(each).parameters) for hook, each in hook_points().items()}
"""What each hook takes; tests/house/test_plugin_api.py has them written down."""
OBSERVERS = [hook for hook, taken in ARGUMENTS.items() if taken]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Every generated page by its name."""
    return generated(ROOT)


def section(page: str, title: str) -> str:
    """What stands below a heading, up to the next of its level or above."""
    level = title.partition(" ")[0]
    found = re.search(rf"^{re.escape(title)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"no {title!r}"
    return found[1]


def python(text: str) -> list[str]:
    """The blocks of Python in a page's text."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_every_hook_has_a_page(pages: dict[str, str]) -> None:
    assert {name for name in pages if name.startswith("muse_")} == set(hook_points())
    for hook in hook_points():
        assert f"[`{hook}`]({hook}.md)" in pages["hooks"]


@pytest.mark.parametrize("hook", hook_points())
def test_a_hook_s_page_has_its_exact_arguments(pages: dict[str, str], hook: str) -> None:
    (source,) = python(section(pages[hook], "## Its arguments"))
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef) and function.name == hook
    assert [argument.arg for argument in function.args.args] == ARGUMENTS[hook]


@pytest.mark.parametrize("hook", OBSERVERS)
def test_an_observer_s_example_is_called(
    pages: dict[str, str], hook: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = python(section(pages[hook], "## An example"))
    (tmp_path / "mine.py").write_text(example, encoding="utf-8")
    getattr(Registry([tmp_path / "mine.py"], entries=()).hook, hook)(**{name: name for name in ARGUMENTS[hook]})
    assert hook.removeprefix("muse_") in capsys.readouterr().out


@pytest.mark.parametrize("kind", kinds().values(), ids=str)
def test_a_part_hook_s_page_has_the_contract_and_every_part(pages: dict[str, str], kind) -> None:
    page = pages[kind.hook]
    (contract,) = ast.parse(python(section(page, "## The contract"))[0]).body
    promised = {node.name for node in contract.body if isinstance(node, ast.FunctionDef)}
    assert contract.name == kind.contract.__name__
    assert all(callable(getattr(kind.contract, name)) or name == "meanings" for name in promised)
    assert promised or kind.name == "observer", "what an observer hears are hooks, not its contract's"
    parts = Registry().parts(kind.name)
    assert parts
    for part in parts:
        described = section(page, f"### {part.name}")
        for setting in part.settings:
            assert f"| `{setting}` |" in described
    assert f"| {len(parts)} |" in next(line for line in pages["hooks"].splitlines() if f"`{kind.hook}`" in line)


@pytest.mark.parametrize("kind", kinds().values(), ids=str)
def test_a_part_hook_s_example_is_what_muse_new_writes(pages: dict[str, str], kind, tmp_path: Path) -> None:
    new("my-part", kind.name, str(tmp_path / "my-part"))
    written = {path.read_text(encoding="utf-8").strip() for path in (tmp_path / "my-part").rglob("*.py")}
    shown = python(section(pages[kind.hook], "## An example"))
    assert len(shown) == 3 and {each.strip() for each in shown} <= written
    assert f"def {kind.hook}()" in shown[1] and f"testing.{kind.contract.__name__}Contract" in shown[2]


def test_the_api_page_names_all_that_is_public() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   (\w+)$", page, re.MULTILINE)
    described = re.findall(r"^\.\. (?:auto\w+|py:data):: (\w+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted(described) == sorted(muse_studio.__all__)


def test_every_recipe_is_on_their_page_with_its_command(pages: dict[str, str]) -> None:
    page = pages["shipped-recipes"]
    assert len(re.findall(r"^### ", page, re.MULTILINE)) == len(shipped()) > 40
    for name in shipped():
        message = section(page, f"### {name}")
        assert "models/" in name or re.search(rf"^(muse|torchrun) .*{name}", message, re.MULTILINE), name


def test_the_page_of_errors_has_every_case(pages: dict[str, str]) -> None:
    table = (ROOT / "tests" / "core" / "cli" / "refusals.yaml").read_text(encoding="utf-8")
    assert pages["errors"].count("```{code-block} text") == table.count("\n      says:") > 100
