"""What an exception says is never nothing."""

import re
from pathlib import Path

import pytest

from muse_studio.errors import words_of

ROOT = Path(__file__).parents[2]


class Silent(Exception):
    def __str__(self):
        return "\n  \n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError(), "ConnectionError"),
        (TimeoutError(""), "TimeoutError"),
        (ValueError("  "), "ValueError"),
        (Silent(), "Silent"),
        (KeyError("a"), "KeyError: 'a'"),
        (KeyError(), "KeyError"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ValueError("\nfirst\nsecond"), "first"),
    ],
)
def test_an_error_that_says_nothing_is_told_by_its_type(error, words):
    assert words_of(error) == words


def test_nobody_hopes_that_an_exception_is_false():
    """`error or ...` never reaches what stands behind the `or`: an exception is true, whatever it says."""
    pattern = re.compile(r"\berror or [\w(']+.*\}|or type\(error\)")
    files = [path for folder in ("muse_studio", "plugins") for path in (ROOT / folder).rglob("*.py")]
    found = [path.name for path in files if path.name != "errors.py" and pattern.search(path.read_text("utf-8"))]
    assert files and not found
