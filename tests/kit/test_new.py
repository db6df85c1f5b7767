"""`muse new` writes a whole package of every kind, which passes its own tests, is well written, and has a use."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import muse_studio
from muse_studio import testing
from muse_studio.cli import main, scaffold
from muse_studio.errors import UserError
from muse_studio.registry.kinds import kinds

LONG = "bcdefghij-abcdefghij-abcdefghi"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("made")
    for kind in kinds():
        scaffold.new(f"my-{kind}", kind, str(folder / f"my-{kind}"))
    return [folder / f"my-{kind}" for kind in kinds()]


@pytest.fixture(scope="module")
def path(made: list[Path], installed) -> list[str]:
    return installed(made)


def test_every_kind_has_its_template_and_no_other():
    folders = {folder.name for folder in scaffold.TEMPLATES.iterdir()}
    assert folders == {*kinds(), "every", "pictures"}


@pytest.mark.slow
def test_each_package_passes_its_own_tests(made, path, passed, tmp_path):
    counts = passed(path, made, tmp_path)
    assert len(counts) == len(kinds())
    for kind, count in zip(kinds().values(), counts.values(), strict=True):
        inherited = (getattr(testing, f"{kind.contract.__name__}Contract"), testing.PluginContract)
        promises = sum(name.startswith("test_") for contract in inherited for name in dir(contract))
        assert count > promises + 2, f"my-{kind} has {promises} promises to keep, 2 tests of the package, and its own"


@pytest.mark.parametrize("kind", kinds())
def test_a_part_is_there_by_plugin_and_its_recipe_has_no_problem(kind, made, monkeypatch):
    (folder,) = [each for each in made if each.name == f"my-{kind}"]
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(folder)
    entry = f"my_{kind.replace('-', '_')}/plugin.py"
    assert main(["check", "recipe.yaml", "--plugin", entry]) == 0
    (part,) = muse_studio.parts(kind, f"my-{kind}", plugins=[entry])
    assert part.about


@pytest.mark.parametrize("name", ["x", LONG])
def test_what_is_written_is_clean_whatever_the_name(name, tmp_path):
    for number, kind in enumerate(kinds()):
        part = f"{chr(ord('a') + number)}{name[1:]}" if name == LONG else f"{name}{number}"
        scaffold.new(part, kind, str(tmp_path / part))
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "."], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    texts = [path for path in tmp_path.rglob("*") if path.suffix in (".py", ".md", ".toml", ".yaml")]
    assert not [path for path in texts if "$" in path.read_text(encoding="utf-8")]


def test_it_says_what_it_wrote_and_what_comes_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "spiral_in", "--kind", "sampler"]) == 0
    message = capsys.readouterr().out.splitlines()
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(message[: message.index("")]) == sorted(files)
    assert "spiral_in/spiral_in/sampler.py" in files
    assert message[-4:] == ["  cd spiral_in", "  pip install -e '.[test]'", "  pytest", "  muse run recipe.yaml"]
    assert "class SpiralIn:" in Path("spiral_in/spiral_in/sampler.py").read_text()
    assert '"spiral-in": "spiral_in.sampler:SpiralIn"' in Path("spiral_in/spiral_in/plugin.py").read_text()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("MySampler", "sampler", "'MySampler' is no name for a part; give up to 30 .*; how about 'my-sampler'?"),
        ("2nd", "sampler", "'2nd' is no name for a part; .* the first a letter$"),
        ("../up", "sampler", "'../up' is no name for a part; .*how about 'up'?"),
        ("a" * 31, "sampler", "is no name for a part; give up to 30"),
        ("", "sampler", "'' is no name for a part"),
        ("class", "sampler", "'class' is a word of Python's own"),
        ("none", "sampler", "'none' is a word of Python's own"),
        ("halton", "sampler", "plugin muse_halton offers a sampler 'halton' already; give another name"),
        ("torch", "sampler", "'torch' is the name of a Python module that is there already"),
        ("muse_vqgan", "sampler", "'muse_vqgan' is the name of a Python module"),
        ("tests", "sampler", "'tests' is the name of a Python module"),
        ("tensor", "sampler", "'tensor' makes a class Tensor, a name that a sampler needs; give another"),
        ("sizes", "dialect", "'sizes' makes a function sizes, a name that a dialect needs; give another"),
        ("mine", "smapler", "no kind of part is called 'smapler'; did you mean 'sampler'? kinds: tokenizer, "),
        ("there", "editor", "there is there already, and nothing is overwritten; move it, or give another --out"),
    ],
)
def test_what_can_t_be_is_refused_with_the_cure(name, kind, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    assert main(["new", name, "--kind", kind]) == 2
    text = capsys.readouterr()
    assert text.err.count("\n") == 1 and text.out == ""
    assert re.search(message.replace("?", r"\?").replace("(", r"\("), text.err.strip())
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_folder_that_can_t_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/mine can't be written: File exists; give another folder as --out"):
        scaffold.new("mine", "task", str(tmp_path / "file" / "mine"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_out_names_the_folder(tmp_path):
    written = scaffold.new("mine", "schedule", str(tmp_path / "deep" / "elsewhere"))
    assert tmp_path / "deep" / "elsewhere" / "mine" / "schedule.py" in written
    assert all(path.is_file() for path in written)


@pytest.mark.slow  # each is a process of its own, and half of them train for some seconds
@pytest.mark.parametrize("kind", kinds())
def test_a_recipe_runs(kind, made, path, python):
    folder = next(each for each in made if each.name == f"my-{kind}")
    done = python(path, "-m", "muse_studio", "run", "recipe.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    results = [each for each in ("out", "runs", "codebook.png") if (folder / each).exists()]
    assert results, f"{kind}: the recipe wrote nothing"
    if kind in ("tokenizer", "text-encoder", "transformer", "optimizer"):
        assert "near zero: model, data and optimizer work together" in done.stdout
