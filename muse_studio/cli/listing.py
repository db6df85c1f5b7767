"""Parts as text: what `muse parts` prints."""

from __future__ import annotations

from muse_studio.registry.kinds import kind_named, kinds
from muse_studio.registry.parts import Part
from muse_studio.registry.plugins import WITHOUT, Registry


def table(registry: Registry, kind: str | None = None, verbose: bool = False) -> str:
    """Every part by kind, or those of one kind, with its plugin; then the plugins that are not there, and why.

    verbose: also every plugin with its release and what loading it cost.
    """
    wanted = kinds().values() if kind is None else [kind_named(kind)]
    width = max((len(part.name) for part in registry.parts()), default=0)
    lines = []
    for each in wanted:
        lines.append(f"{each.name}: {each.about}")
        lines += [f"  {part.name:{width}}  {part.plugin}" for part in registry.parts(each.name)] or ["  (none)"]
    if clashes := _clashes(registry, kind):
        lines += ["", "offered by several plugins, so that a recipe must say whose:", *clashes]
    if verbose:
        lines += ["", "plugins:", *_plugins(registry)]
    if registry.failed:
        lines += ["", "could not be loaded:"]
        lines += [f"  {plugin}: {reason}" for plugin, reason in registry.failed.items()]
    if registry.left_out:
        lines += ["", f"left out by {WITHOUT}: {', '.join(sorted(registry.left_out))}"]
    return "\n".join(lines)


def _clashes(registry: Registry, kind: str | None) -> list[str]:
    offering: dict[tuple[str, str], list[str]] = {}
    for part in registry.parts(kind):
        offering.setdefault((part.kind, part.name), []).append(part.full_name)
    return [f"  {kind}: {' or '.join(whose)}" for (kind, _), whose in offering.items() if len(whose) > 1]


def _plugins(registry: Registry) -> list[str]:
    width = max(map(len, registry.plugins), default=0)
    lines = []
    for name, plugin in registry.plugins.items():
        slow = f", for it imports {', '.join(plugin.cost.heavy)}" if plugin.cost.heavy else ""
        held = f"; it {plugin.cost.gpu}" if plugin.cost.gpu else ""
        lines.append(f"  {name:{width}}  {plugin.release}, loaded in {plugin.cost.seconds * 1e3:.1f} ms{slow}{held}")
    return lines


def describe(part: Part) -> str:
    """One part: whose it is, what it says of itself, and its settings with types and defaults; imports it."""
    settings = [f"  {setting}" for setting in part.settings.values()] or ["  none"]
    heading = f"{part}, from plugin {part.plugin}"
    return "\n".join([heading, "", part.about or "(no docstring)", "", "settings:", *settings])
