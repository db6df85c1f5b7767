"""Offers an objective, a quantizer and a guidance; imports nothing heavy, so that muse starts quickly."""

from muse_studio import hookimpl

requires_api = ">=1.3,<2"


@hookimpl
def muse_objectives() -> dict[str, str]:
    """Parts by name, each as "module:attribute", which is imported when it is first used."""
    return {"aligned": "muse_research.alignment:Aligned"}


@hookimpl
def muse_quantizers() -> dict[str, str]:
    """Likewise."""
    return {"spherical": "muse_research.spherical:Spherical"}


@hookimpl
def muse_guidances() -> dict[str, str]:
    """Likewise."""
    return {"weaker": "muse_research.weaker:Weaker"}
