"""What observers promise."""

from __future__ import annotations

from muse_studio import hookspecs
from muse_studio.contracts import Observer
from muse_studio.errors import near
from muse_studio.registry.kinds import hook_points, kinds
from muse_studio.testing.contract import Contract
from muse_studio.testing.promise import promise

HEARD = tuple(name for name in hook_points() if name not in {kind.hook for kind in kinds().values()})
"""The hook points that an observer's methods may be."""


class ObserverContract(Contract):
    """Promises of a `contracts.Observer`: its hooks are there, and are called as they are meant to be."""

    def make(self) -> Observer:
        """The observer, which has heard nothing yet."""
        return super().make()

    @promise("it hears of something")
    def test_it_has_a_hook(self) -> None:
        observer = self.make()
        hooks = _hooks(observer)
        assert hooks, f"{type(observer).__name__} has no method marked by @hookimpl, such as {HEARD[0]}"
        for name in hooks:
            assert name in HEARD, f"{name} is nothing that an observer hears;{near(name, HEARD)} {', '.join(HEARD)}"

    @promise("what looks like a hook is one")
    def test_a_method_with_a_hook_s_name_is_marked(self) -> None:
        observer = self.make()
        for name in HEARD:
            assert not callable(getattr(observer, name, None)) or name in _hooks(observer), (
                f"{name} has no @hookimpl above it, so it is never called; add it"
            )


def _hooks(observer: object) -> list[str]:
    marker = f"{hookspecs.PROJECT}_impl"
    return [name for name in dir(type(observer)) if hasattr(getattr(type(observer), name), marker)]
