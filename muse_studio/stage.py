"""Where plugins find `Stage`, at the address that docs/plugin-api.md promises."""

from muse_studio.sampling.stage import Stage

__all__ = ["Stage"]
