"""What a plugin as a whole promises: its entry module, and every part that it offers."""

from __future__ import annotations

from importlib.metadata import EntryPoint

from muse_studio.registry.parts import Part
from muse_studio.registry.plugins import GROUP, Registry
from muse_studio.testing.contract import check_settings
from muse_studio.testing.light import check_light
from muse_studio.testing.promise import ANNOTATED, DOCUMENTED, LIGHT, promise


class PluginContract:
    """Promises of a plugin. `module` is its entry module, such as "my_plugin.plugin"; it need not be installed."""

    module: str

    def registry(self) -> Registry:
        """This plugin alone."""
        return Registry(entries=[EntryPoint(self.module, self.module, GROUP)])

    def parts(self) -> list[Part]:
        """What it offers; AssertionError with the reason where it is not let in."""
        registry = self.registry()
        assert not registry.failed, f"{self.module}: {registry.failed[self.module]}"
        return registry.parts()

    @promise(LIGHT)
    def test_its_entry_module_is_light(self) -> None:
        check_light(self.module)

    @promise("its hooks are let in")
    def test_its_hooks_are_let_in(self) -> None:
        self.parts()

    @promise("its parts have names of their own")
    def test_it_takes_no_name_of_a_part_that_is_there(self) -> None:
        installed = Registry()
        own = {name for name, each in installed.plugins.items() if getattr(each.source, "module", "") == self.module}
        others = {(part.kind, part.name): part.plugin for part in installed.parts() if part.plugin not in own}
        mine = {(part.kind, part.name): part for part in self.parts()}
        taken = [f"{part} of {others[key]}" for key, part in mine.items() if key in others]
        assert not taken, f"{', '.join(taken)} is there already: recipes that name it would have to say whose they mean"

    @promise(ANNOTATED)
    def test_every_part_has_settings_that_a_recipe_can_give(self) -> None:
        for part in self.parts():
            check_settings(part.load())

    @promise(DOCUMENTED)
    def test_every_part_says_what_it_is(self) -> None:
        silent = [str(part) for part in self.parts() if not part.about]
        assert not silent, f"{', '.join(silent)} has no docstring, which `muse parts` shows"
