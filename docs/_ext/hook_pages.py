"""One page a hook point: its exact arguments, its contract, an example, and every part that there is."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from typing import get_args

from docstrings import FIELDS, blocks, first_sentence, markdown, plain

from muse_studio import testing
from muse_studio.cli.scaffold import new
from muse_studio.registry.kinds import Kind, hook_points, kinds
from muse_studio.registry.parts import Part, Setting, is_table, settings, spelled
from muse_studio.registry.plugins import Registry
from muse_studio.testing.promise import promises

EXAMPLE = "my-part"
"""The name of the part that each example offers."""


def pages(registry: Registry) -> dict[str, str]:
    """Each hook's page by its name, and the page `hooks` that lists them."""
    by_hook = {kind.hook: kind for kind in kinds().values()}
    found = {"hooks": _overview(registry, by_hook)}
    for hook, specification in hook_points().items():
        body = _of_kind(by_hook[hook], registry) if hook in by_hook else _of_observer(hook, specification, registry)
        found[hook] = "\n\n".join([f"# {hook}", *_opening(specification), *body]) + "\n"
    return found


def _overview(registry: Registry, by_hook: dict[str, Kind]) -> str:
    rows = []
    for hook, specification in hook_points().items():
        count = len(registry.parts(by_hook[hook].name)) if hook in by_hook else ""
        rows.append(f"| [`{hook}`]({hook}.md) | {plain(_about(specification))} | {count} |")
    contents = "\n".join(["```{toctree}", ":hidden:", "", *hook_points(), "```"])
    return "\n\n".join(
        [
            "# The hook points",
            "A plugin is a module that fills some of these, each by a function marked `@hookimpl`. A part hook takes "
            "no argument and returns a table from names to parts; an observer is told what happens, and takes as many "
            "of its arguments as it wants, by name.",
            "\n".join(["| hook | what it is for | parts |", "| --- | --- | --- |", *rows]),
            contents,
        ]
    )


def _about(specification: object) -> str:
    return first_sentence(inspect.getdoc(specification) or "")


def _opening(specification: object) -> Iterator[str]:
    yield markdown(inspect.getdoc(specification) or "")
    source = dedent(inspect.getsource(specification)).removeprefix("@hookspec\n")
    yield "## Its arguments"
    yield _code(source)


def _of_kind(kind: Kind, registry: Registry) -> Iterator[str]:
    contract = kind.contract.__name__
    yield (
        f"It returns a table from names to {kind}s. A {kind} is a class or a function whose keyword arguments are the "
        'settings that a recipe gives; name it as `"module:attribute"`, which is imported at the first use. Names are '
        "lower case, words joined by hyphens."
    )
    yield "## The contract"
    yield (
        f"`muse_studio.contracts.{contract}` says what is then asked of it. Nothing has to be inherited: what has "
        "these names and keeps these promises is one."
    )
    yield _code(inspect.getsource(kind.contract))
    yield f"`muse_studio.testing.{contract}Contract` holds a part against it. It promises:"
    promised = promises(getattr(testing, f"{contract}Contract")).values()
    yield "\n".join(f"* {plain(message)}" for message in promised)
    yield from _example(kind)
    yield "## The parts there are"
    parts = registry.parts(kind.name)
    rows = [
        f"| [`{each.name}`](#{each.name}) | {each.plugin} | {_cell(first_sentence(each.about))} |" for each in parts
    ]
    yield "\n".join(["| name | plugin | what it is |", "| --- | --- | --- |", *rows])
    tables: dict[str, type] = {}
    for part in parts:
        yield from _of_part(part)
        for setting in part.settings.values():
            tables |= {table.__name__: table for table in _tables(setting.annotation)}
    for name in sorted(tables):
        yield from _of_table(tables[name])


def _example(kind: Kind) -> Iterator[str]:
    """The package that `muse new` writes: the part, how it is offered, how a recipe uses it."""
    with TemporaryDirectory() as folder:
        root = Path(folder, EXAMPLE)
        new(EXAMPLE, kind.name, str(root))
        package, module = EXAMPLE.replace("-", "_"), kind.name.replace("-", "_")
        part, entry, test, recipe = (
            (root / each).read_text(encoding="utf-8")
            for each in (
                f"{package}/{module}.py",
                f"{package}/plugin.py",
                f"tests/test_{module}.py",
                "recipe.yaml",
            )
        )
    yield "## An example"
    yield f"`muse new {EXAMPLE} --kind {kind}` writes a package with this part, which works as it is:"
    yield _code(part)
    yield "Its entry module offers it by the hook:"
    yield _code(entry)
    yield f"Its tests inherit `muse_studio.testing.{kind.contract.__name__}Contract`:"
    yield _code(test)
    yield "And a recipe uses it:"
    yield _code(recipe, "yaml")


def _of_part(part: Part) -> Iterator[str]:
    yield f"### {part.name}"
    yield markdown(part.about, fields=False)
    yield from _settings(part.settings, part.about)


def _of_table(table: type) -> Iterator[str]:
    yield f"### The table {table.__name__}"
    yield markdown(inspect.getdoc(table) or "", fields=False)
    yield from _settings(settings(table, table.__name__), inspect.getdoc(table) or "")


def _settings(takes: dict[str, Setting], docstring: str) -> Iterator[str]:
    message = _said(docstring)
    if takes:
        rows = [_row(setting, message.pop(setting.name, "")) for setting in takes.values()]
        yield "\n".join(["| setting | type | default | |", "| --- | --- | --- | --- |", *rows])
    else:
        yield "It has no settings."
    if message:
        yield "\n".join(f"* `{name}`: {plain(text)}" for name, text in message.items())


def _tables(annotation: object) -> Iterator[type]:
    """The dataclasses that an annotation names, and those that they name in turn."""
    if is_table(annotation):
        yield annotation
        for setting in settings(annotation, annotation.__name__).values():
            yield from _tables(setting.annotation)
    for inner in get_args(annotation):
        yield from _tables(inner)


def _said(docstring: str) -> dict[str, str]:
    """What a docstring says of each name; one line may speak of several."""
    found = {}
    for block in blocks(docstring):
        if block.sort == FIELDS:
            for names, text in block.fields.items():
                for name in names.split(", "):
                    found[name] = text
    return found


def _row(setting: Setting, message: str) -> str:
    default = "must be given" if setting.required else f"`{str(setting).partition(' = ')[2]}`"
    return f"| `{setting.name}` | `{_bars(spelled(setting.annotation))}` | {_bars(default)} | {_cell(message)} |"


def _cell(text: str) -> str:
    return plain(" ".join(text.split()))


def _bars(code: str) -> str:
    """Code within a table, where a bar would end its cell."""
    return code.replace("|", "\\|")


def _code(source: str, language: str = "python") -> str:
    return f"```{language}\n{source.rstrip()}\n```"


def _of_observer(hook: str, specification: object, registry: Registry) -> Iterator[str]:
    signature = inspect.signature(specification)
    takes = list(signature.parameters)
    asked = "str" in str(signature.return_annotation)
    answer = "what the function above says" if asked else "nothing"
    yield (
        f"It returns {answer}. Every plugin that fills it is called in every run, and so is an "
        "[observer](muse_observers.md) with such a method, in the runs whose recipe names it."
    )
    yield "## An example"
    yield "It takes those of the arguments that it wants, by these names:"
    shown = ", ".join(f"{{{name}}}" for name in takes if name not in ("tokens", "image"))
    does = [f'print(f"{hook.removeprefix("muse_")}: {shown}")', *(["return None"] if asked else [])]
    body = "\n".join(f"    {line}" for line in does)
    yield _code(f"from muse_studio import hookimpl\n\n\n@hookimpl\ndef {hook}({', '.join(takes)}):\n{body}\n")
    yield "## The plugins that fill it"
    names = sorted(each.plugin_name for each in getattr(registry.hook, hook).get_hookimpls())
    yield "\n".join(f"* `{name}`" for name in names) if names else "None of those that come with the package."
