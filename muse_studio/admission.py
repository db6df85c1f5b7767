"""What a plugin must be to be let in: written for this API, its hooks spelt right and marked."""

from __future__ import annotations

import re

import pluggy

from muse_studio.hookspecs import API
from muse_studio.kinds import hook_points
from muse_studio.problems import PluginError, near, told


def check_api(required: object) -> None:
    """PluginError where a plugin's `requires_api`, such as ">=1,<2", leaves out the API here; None asks for none."""
    if required is None:
        return
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import Version

    try:
        wanted = SpecifierSet(required if isinstance(required, str) else "?")
    except InvalidSpecifier as error:
        raise PluginError(f"its requires_api is {required!r}; write it like '>=1,<2'") from error
    unmet = [each for each in wanted if API not in each]
    if unmet:
        newer = any(Version(each.version.removesuffix(".*")) > Version(API) for each in unmet)
        cure = "upgrade muse-studio" if newer else "upgrade the plugin"
        raise PluginError(f"it needs plugin API {required}, and this muse_studio has {API}; {cure}")


def check_filled(plugin: object, filled: set[str]) -> None:
    """PluginError where a hook is written but not marked, which pluggy passes over, or where there is none at all."""
    for name, specification in hook_points().items():
        written = getattr(plugin, name, None)
        if callable(written) and written is not specification and name not in filled:
            raise PluginError(f"{name} has no @hookimpl above it, so it would not be seen; add it")
    if not filled:
        raise PluginError(f"it fills no hook; mark a function such as {next(iter(hook_points()))} by @hookimpl")


def reason(error: Exception) -> str:
    """Why a plugin was not let in, with the name that is near where pluggy knows a hook not."""
    unknown = re.search(r"unknown hook '(\w+)'", str(error))
    if unknown:
        return f"there is no hook {unknown[1]!r};{near(unknown[1], hook_points())} hooks: {', '.join(hook_points())}"
    if isinstance(error, PluginError | pluggy.PluginValidationError):
        return " ".join(str(error).split())
    return told(error)
