"""What `muse new` writes: a small package with a working part of one kind, to be made into one's own."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import sys
from pathlib import Path
from string import Template

from muse_studio.errors import UserError
from muse_studio.registry.kinds import Kind, kind_named
from muse_studio.registry.plugins import Registry
from muse_studio.runtime.files import path_of, replacing_folder, unwritable

TEMPLATES = Path(__file__).parent / "templates"
"""`every`: the files of every package; one folder a kind: those of its part; `pictures`: what some recipes read."""
FILLED = ".tmpl"
"""How a template's name ends, in which `$words` are filled in; other files are copied as they are."""
LONGEST = 30
"""Letters of a name: the lines of the templates, in which it stands up to three times, then stay below 120."""
NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
FUNCTIONS = {"dialect"}
"""Kinds whose part is a function; it has the package's name."""
SINCE = {"dialect": "1.2", "objective": "1.3", "quantizer": "1.3"}
"""The plugin API that a kind came with, where that is later than 1.0."""
TAKEN = {"tests", "muse_studio"}
"""Names that the package's own folders have."""


def new(name: str, kind: str, out: str | None = None) -> list[Path]:
    """Write a package with a part of that kind and name; its files, each as a path from here.

    name: of the part and the distribution; with _ for -, of the import package and the plugin.
    out: the folder to write, ./NAME by default; it must not be there yet.

    Raises UserError where there is no such kind, the name can't be one or is taken, or the folder can't be written:
    then nothing is written.
    """
    words = _words(name, kind_named(kind))
    folder = path_of(out) if out is not None else Path(name)
    if os.path.lexists(folder):
        raise UserError(f"{folder} is there already, and nothing is overwritten; move it, or give another --out")
    return _write(_files(words), folder)


def _words(name: str, kind: Kind) -> dict[str, str]:
    """What the templates are filled with; UserError where the name can't be one, or is another part's or module's."""
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        proposed = "-".join(re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()))
        nearby = f"; how about {proposed!r}?" if NAME.fullmatch(proposed) and len(proposed) <= LONGEST else ""
        raise UserError(
            f"{name!r} is no name for a part; give up to {LONGEST} lower-case letters and digits, words joined by "
            f"hyphens, the first a letter{nearby}"
        )
    part, package = name.replace("_", "-"), name.replace("-", "_")
    class_name = "".join(word.capitalize() for word in package.split("_"))
    if keyword.iskeyword(package) or keyword.iskeyword(class_name):
        raise UserError(f"{name!r} is a word of Python's own, so no package can have it; give another name")
    registry = Registry()
    for other in registry.parts(kind.name):
        if other.name == part:
            raise UserError(f"plugin {other.plugin} offers a {kind} {part!r} already; give another name")
    if package in TAKEN or package in registry.failed or _is_module(package):
        raise UserError(f"{package!r} is the name of a Python module that is there already; give another name")
    words = {
        "name": part,
        "package": package,
        "class_name": class_name,
        "attribute": package if kind.name in FUNCTIONS else class_name,
        "api": SINCE.get(kind.name, "1.0"),
        "kind": kind.name,
        "a_kind": kind.with_article.capitalize(),
        "a_kind_low": kind.with_article,
        "module": kind.name.replace("-", "_"),
        "hook": kind.hook,
    }
    sources = "".join(path.read_text(encoding="utf-8") for path in (TEMPLATES / kind.name).rglob(f"*.py{FILLED}"))
    if re.search(rf"(?<!\$)\b{words['attribute']}\b", sources):
        what = "function" if kind.name in FUNCTIONS else "class"
        raise UserError(
            f"{name!r} makes a {what} {words['attribute']}, a name that {words['a_kind_low']} needs; give another"
        )
    return words


def _is_module(package: str) -> bool:
    try:
        return package in sys.stdlib_module_names or importlib.util.find_spec(package) is not None
    except ValueError:  # it is loaded, and knows not from where
        return True


def _files(words: dict[str, str]) -> dict[str, bytes]:
    """The package's files by their path in it."""
    module, package = words["module"], words["package"]
    places = {"part.py": f"{package}/{module}.py", "test_part.py": f"tests/test_{module}.py", "gitignore": ".gitignore"}
    files = {}
    for source in (TEMPLATES / "every", TEMPLATES / words["kind"]):
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            content, place = path.read_bytes(), path.relative_to(source).as_posix()
            if place.endswith(FILLED):
                place = place.removesuffix(FILLED)
                content = Template(content.decode()).substitute(words).encode()
            place = places.get(place, place).replace("package/", f"{package}/")
            files[place] = content
    if b"pictures" in files["recipe.yaml"]:
        for path in sorted((TEMPLATES / "pictures").iterdir()):
            files[f"pictures/{path.name}"] = path.read_bytes()
    return files


def _write(files: dict[str, bytes], folder: Path) -> list[Path]:
    """Write them aside, then give the folder its name, so that there is all of it or nothing."""
    try:
        with replacing_folder(folder) as aside:
            for place, content in files.items():
                path = aside / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    except OSError as error:
        raise unwritable(folder, error, "give another folder as --out") from error
    return [folder / place for place in files]
