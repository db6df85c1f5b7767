"""Offers the sampler eb-sampler; imports nothing heavy, so that muse starts quickly."""

from muse_studio import hookimpl

requires_api = ">=1.0,<2"


@hookimpl
def muse_samplers() -> dict[str, str]:
    """Parts by name, each as "module:attribute", which is imported when it is first used."""
    return {"eb-sampler": "muse_entropy_bounded.sampler:EntropyBounded"}
