"""The task `studio`: a page to draw on, and OpenAI's images API, by a server of one's own."""

from __future__ import annotations

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_tasks() -> dict[str, str]:
    """`studio` serves a model to a browser and to programs."""
    return {"studio": "muse_server.task:Studio"}
