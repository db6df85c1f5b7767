"""Every command and every block of code in README and docs is run, or checked, or says why it is not.

A page's blocks are taken in their order, in one folder. A block whose first line is a comment with a file's name, as
in `# mine.py`, is that file, and so is one behind a line such as "`examples/one_file.py`:". A comment before a block,
`<!-- not run: why -->`, leaves it out.
"""

from __future__ import annotations

import functools
import json
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image, ImageDraw

from muse_studio.cli import main
from muse_studio.recipe.merging import load
from muse_studio.recipe.sources import shipped

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]

RUN, CHECKED, INSTALLED, ELSEWHERE, NOT_RUN = "run", "checked", "installed", "run elsewhere", "not run"
SHOWN = "shown"
QUICK = ("--help", "--version", "check", "new", "parts", "show")
"""What is run by the default tests too."""
RUN_TASKS = ("canvas", "edit", "generate", "prepare-tokens")
"""Tasks that the slow tests run; the default ones check their recipes."""
CHECKED_TASKS = {
    "average": "needs the checkpoints of a run",
    "evaluate": "takes minutes and the data set",
    "evaluate-edits": "takes minutes and the data set",
    "export-weights": "needs published weights",
    "finetune-decoder": "trains for minutes at least",
    "generate-published": "fetches gigabytes",
    "import-weights": "needs published weights",
    "solve-sketch": "looks at the whole data set for minutes",
    "studio": "serves until Ctrl-C",
    "sweep": "takes minutes and the data set",
    "train": "trains for an hour",
    "train-recogniser": "looks at the whole data set for minutes",
    "train-tokenizer": "trains for minutes at least",
}
"""Tasks whose recipes are checked with all overrides and not run, and why."""
REFUSED = {"muse check generate stages.base.sampler.steps=0"}
"""Commands that show how a mistake is told."""
OTHERS = {
    "pytest": "runs these tests",
    "sphinx-autobuild docs build/docs": "builds what test_site.py builds",
}
"""Commands that are not muse's, and where they are run."""


class Block(NamedTuple):
    """A block of code: its language, its text, the file that it is, and why it is not run, where the page says that.

    One of a package's files, `spiral/plugin.py`, is shown alone: what runs it are that package's tests.
    """

    language: str
    text: str
    file: str | None
    why_not: str | None

    @property
    def shown(self) -> bool:
        """Whether it is a file of a package."""
        return "/" in (self.file or "")


def blocks(page: Path) -> Iterator[Block]:
    """A page's blocks of code in order."""
    before = r"(?:^`([\w./-]+)`:\n\n)?(?:<!-- not run: ([^>]+) -->\n+)?"
    pattern = before + r"^(`{3,})(\w*)[^\n]*\n(.*?)^\3$"
    for found in re.finditer(pattern, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        first = re.match(r"# ([\w-]+\.(?:py|yaml))\n", found[5])
        yield Block(found[4], found[5], found[1] or (first and first[1]), found[2])


class Command(NamedTuple):
    """A command for the shell: its words, and the variables that are set for it; those of `export` go without words."""

    words: list[str]
    variables: dict[str, str]

    def __str__(self) -> str:
        return shlex.join([*(f"{name}={value}" for name, value in self.variables.items()), *self.words])

    def muse(self, words: list[str]) -> int:
        """The exit code of muse with these words, and with this command's variables."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables.items():
                patch.setenv(name, value)
            return main(words)


def commands(block: Block) -> list[Command]:
    """The commands of a block for the shell that is not marked, split at &&, without comments."""
    if block.language != "sh" or block.why_not is not None:
        return []
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            found.append(words[: words.index("&&")])
            words = words[words.index("&&") + 1 :]
        found.append(words)
    return [_command(words) for words in found if words]


def _command(words: list[str]) -> Command:
    words = words[1:] if words[0] == "export" else words
    count = next((place for place, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), len(words))
    return Command(words[count:], dict(word.split("=", 1) for word in words[:count]))


def inline(page: Path) -> list[str]:
    """The muse commands within a page's prose that name a recipe or a part."""
    text = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = [" ".join(each.split()) for each in re.findall(r"`(muse [^`]+)`", text)]
    return [each for each in found if len(each.split()) > 2 and not re.search(r"\.(png|yaml|py)\b|[A-Z]{4}|…", each)]


def runs(block: Block) -> bool:
    """Whether a block holds something to run."""
    if block.why_not is not None:
        return False
    if block.language == "python":
        return block.file is None
    return any(treatment(command) == RUN for command in commands(block))


def is_recipe(block: Block) -> bool:
    """Whether a block is a whole recipe, to be checked."""
    whole = re.search("^(use|extends):", block.text, re.MULTILINE)
    return block.language == "yaml" and block.why_not is None and not block.shown and whole is not None


def treatment(command: Command) -> str:
    """What is done with a command of a block that is not marked."""
    words = command.words
    if not words or (words[0] == "pytest" and len(words) > 1) or (words[0] == "muse" and words[1] in QUICK):
        return RUN
    if str(command) in OTHERS:
        return ELSEWHERE
    if words[:2] == ["pip", "install"]:
        return INSTALLED
    if words[0] != "muse" and (words[0] != "torchrun" or "muse_studio" not in words):
        pytest.fail(f"`{command}`: nothing runs it; put <!-- not run: why --> before its block")
    task = _task(words)
    if task not in RUN_TASKS and task not in CHECKED_TASKS:
        pytest.fail(f"`{command}`: what is done with the task {task!r}? Say so in RUN_TASKS or CHECKED_TASKS")
    # By what another command of the page trains, which is not run.
    trained = any(re.search(r"weights[:=] *runs/", word) for word in words)
    return RUN if task in RUN_TASKS and not trained else CHECKED


def _task(words: list[str]) -> str:
    """The task that a command runs; a file of the page, or a picture, is taken to draw."""
    if words[1] == "studio":
        return "studio"
    return _task_of("generate" if words[1] == "generate" else words[words.index("run") + 1])


@functools.cache
def _task_of(recipe: str) -> str:
    return load(recipe).plain()["use"] if recipe in shipped() else "generate"


def to_check(words: list[str]) -> list[str]:
    """The arguments by which `muse check` checks what a command would run; those of a quick one as they are."""
    if words[1] in QUICK:
        return words[1:]
    if words[1] == "generate":
        end = words.index("--plugin") if "--plugin" in words else len(words)
        settings = [word for word in words[2:end] if re.match(r"[\w.]+=", word)]
        prompts = [word for word in words[2:end] if word not in settings]
        return ["check", "generate", *settings, f"prompt={json.dumps(prompts)}", *words[end:]]
    if words[1] == "studio":  # of another model, what is said of the page
        return ["check", "studio", *(word for word in words[2:] if re.match(r"[\w.]+=", word))]
    return ["check", *words[words.index("run") + 1 :]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the pictures that pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    Path("pictures").mkdir()
    Path("docs/pictures").mkdir(parents=True)
    for name, colour in (("cat", "orange"), ("apple", "red"), ("pictures/pear", "green"), ("pictures/fox", "brown")):
        picture = Image.new("RGB", (128, 128), "white")
        ImageDraw.Draw(picture).ellipse((24, 24, 104, 104), fill=colour)
        picture.save(f"{name}.png")
    mask = Image.new("L", (128, 128), 0)
    ImageDraw.Draw(mask).rectangle((30, 0, 100, 40), fill=255)
    mask.save("hat.png")
    return tmp_path


def test_nothing_slips() -> None:
    """Another walk, line by line, finds as many blocks, and each of them is run, checked or marked."""
    treated: Counter[str] = Counter()
    for page in PAGES:
        fences = [line for line in page.read_text(encoding="utf-8").splitlines() if re.match("`{3,}", line)]
        assert len(list(blocks(page))) * 2 == len(fences), f"{page.name}: a fence is left open, or indented"
        for block in blocks(page):
            if block.why_not is not None:
                treated[NOT_RUN] += 1
            elif block.language == "sh":
                treated.update(map(treatment, commands(block)))
            elif block.shown:
                treated[SHOWN] += 1
            else:
                known = ("", "text", "python", "toml", "yaml")
                assert block.language in known, f"{page.name}: who runs a block of {block.language}?"
    assert set(treated) == {RUN, CHECKED, INSTALLED, ELSEWHERE, NOT_RUN, SHOWN}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_s_commands_have_no_problem(
    page: Path, here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for block in blocks(page):
        write(block)
        if block.language == "toml" and block.why_not is None:
            assert tomllib.loads(block.text)
        if is_recipe(block):
            Path("block.yaml").write_text(block.text, encoding="utf-8")
            assert unexpected(main(["check", "block.yaml"]), capfd) == ""
        for command in commands(block):
            if not command.words:
                export(command, monkeypatch)
            elif treatment(command) == INSTALLED:
                check_extras(command.words)
            elif command.words[0] in ("muse", "torchrun"):
                told = unexpected(command.muse(to_check(command.words)), capfd)
                assert (told != "") == (str(command) in REFUSED), f"{command}\n{told}"
    for command in map(shlex.split, inline(page)):
        assert unexpected(main(to_check(command)), capfd) == "", command


def export(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set variables for the rest of the page."""
    for name, value in command.variables.items():
        monkeypatch.setenv(name, value)


def write(block: Block) -> None:
    """The file that a block is, where it says so."""
    if block.why_not is None and block.file is not None:
        Path(Path(block.file).name).write_text(block.text, encoding="utf-8")


def unexpected(code: int, capfd: pytest.CaptureFixture[str]) -> str:
    """What a command complained of, files apart that an earlier command of the page writes when it is run."""
    told = capfd.readouterr().err
    if code == 0:
        return ""
    return "\n".join(
        line for line in told.splitlines() if not re.search(r"no weights at runs/|there is no recipe 'out/", line)
    )


def check_extras(words: list[str]) -> None:
    """AssertionError where `pip install` names an extra that there is not."""
    for extra in re.findall(r"\[([\w,-]+)\]", " ".join(words)):
        assert extra in EXTRAS, f"pyproject.toml has no extra {extra!r}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_s_commands_do_what_they_say(
    page: Path, here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace: dict[str, object] = {}
    for number, block in enumerate(blocks(page)):
        write(block)
        if runs(block) and block.language == "python":
            Path(f"block{number}.py").write_text(block.text, encoding="utf-8")
            namespace = runpy.run_path(f"block{number}.py", init_globals=namespace)
        for command in commands(block):
            if not command.words:
                export(command, monkeypatch)
            elif treatment(command) == RUN:
                words = command.words
                code = (
                    subprocess.call([sys.executable, "-m", *words]) if words[0] == "pytest" else command.muse(words[1:])
                )
                assert code == (2 if str(command) in REFUSED else 0), f"{command}\n{capfd.readouterr().err}"
