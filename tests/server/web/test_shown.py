"""No text that leaves the server names a file or a folder of this machine."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
from muse_server.shown import without_paths

PLACES = [
    str(Path.home() / "pictures" / "x.png"),
    str(Path.cwd() / "x.png"),
    f"{tempfile.gettempdir()}/x",
    f"{sys.prefix}/lib/python",
    "/etc/passwd",
    "/srv/ann/muse/studio/gallery/x.png",
    "C:\\pictures\\ann\\x.png",
    "~/secrets.txt",
    "studio/sessions/abc.safetensors",
    "out\\gallery\\a.png",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("frame", ["{}", "{} can't be written: no room", "it is in '{}', there", "({})", "x={};"])
def test_a_place_is_left_out(place: str, frame: str) -> None:
    said = without_paths(frame.format(place))
    assert "…" in said
    for word in ("ann", "passwd", "x.png", "gallery", "secrets", "abc", "lib", "sessions"):
        assert word not in said


@pytest.mark.parametrize(
    "text",
    [
        "steps is 0; give 1 or more",
        "expected int or float/double, got 1/2",
        "send application/json or image/png",
        "see http://127.0.0.1:7860/api/queue and https://example.org/a/b.html",
        "package://muse_emoji/models/superres",
        "an apple and/or a pear",
    ],
)
def test_all_else_stays(text: str) -> None:
    assert without_paths(text) == text
