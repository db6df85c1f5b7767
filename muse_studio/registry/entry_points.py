"""The entry points of installed distributions: one whose file is malformed does not spoil those of the others."""

from __future__ import annotations

import warnings
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distribution, distributions, entry_points

FILE = "entry_points.txt"
"""Where a distribution's metadata lists what it offers to others."""


def of_group(group: str) -> tuple[list[EntryPoint], dict[str, str]]:
    """The entry points of a group, and why each distribution whose file can't be read is set aside, by its name.

    Python's own `entry_points` reads all distributions or, where a line of any is malformed, none. Of several by one
    name the first on the path counts, as there.
    """
    found: dict[str, list[EntryPoint]] = {}
    broken: dict[str, str] = {}
    for each in distributions():
        try:
            text = each.read_text(FILE) or ""
            wrong = _malformed(text)
        except UnicodeDecodeError as error:
            text, wrong = "", f"is not UTF-8 ({error.reason} at byte {error.start})"
        if not wrong and group not in text:
            continue  # before its name is asked for, which takes a while
        name = _name(each)
        if name is None:
            name, wrong = str(each.locate_file("")), wrong or "comes without the METADATA that says whose it is"
        if wrong:
            broken.setdefault(name, f"an {FILE} {wrong}; install what it belongs to again, or uninstall it")
        elif not _hidden(each, name):
            found.setdefault(name, list(each.entry_points.select(group=group)))
    return [entry for entries in found.values() for entry in entries], broken


def warn_of(broken: dict[str, str]) -> None:
    """Warn, by what `of_group` says of distributions, where Python's own reader fails by them.

    torch asks it while it is imported, so that nothing can be drawn before that is mended.
    """
    try:
        entry_points()
    except Exception:  # whatever a malformed file makes it raise
        whose = "; ".join(f"{name}: {why}" for name, why in broken.items())
        warnings.warn(f"Python can't read its entry points, and so torch can't be imported. {whose}", stacklevel=3)


def _malformed(text: str) -> str:
    """What is wrong with the first line that is no section, no comment and no `name = value` of one; else nothing."""
    section = False
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = True
            continue
        name, equals, _ = line.partition("=")
        if not section or not equals or not name.strip():
            return f"has {line!r} in line {number}, which is neither [group] nor a group's name = value"
    return ""


def _name(of: Distribution) -> str | None:
    """A distribution's name, None where its metadata is not there; what Python then raises, versions differ in."""
    try:
        return of.name or None
    except Exception:
        return None


def _hidden(each: Distribution, name: str) -> bool:
    """Whether another distribution of that name comes first on the path."""
    try:
        return distribution(name).locate_file("") != each.locate_file("")
    except PackageNotFoundError:  # its folder is called otherwise than it
        return False
