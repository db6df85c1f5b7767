"""Parts as text: what `muse parts` prints."""

from __future__ import annotations

from muse_studio.kinds import kind_named, kinds
from muse_studio.part import Part
from muse_studio.registry import WITHOUT, Registry


def table(registry: Registry, kind: str | None = None) -> str:
    """Every part by kind, or those of one kind, with its plugin; then the plugins that are not there, and why."""
    wanted = kinds().values() if kind is None else [kind_named(kind)]
    width = max((len(part.name) for part in registry.parts()), default=0)
    lines = []
    for each in wanted:
        lines.append(f"{each.name}: {each.about}")
        lines += [f"  {part.name:{width}}  {part.plugin}" for part in registry.parts(each.name)] or ["  (none)"]
    if registry.failed:
        lines += ["", "could not be loaded:"]
        lines += [f"  {plugin}: {reason}" for plugin, reason in registry.failed.items()]
    if registry.left_out:
        lines += ["", f"left out by {WITHOUT}: {', '.join(sorted(registry.left_out))}"]
    return "\n".join(lines)


def describe(part: Part) -> str:
    """One part: whose it is, what it says of itself, and its settings with types and defaults; imports it."""
    settings = [f"  {setting}" for setting in part.settings.values()] or ["  none"]
    heading = f"{part}, from plugin {part.plugin}"
    return "\n".join([heading, "", part.about or "(no docstring)", "", "settings:", *settings])
