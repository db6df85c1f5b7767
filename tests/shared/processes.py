"""Variables under which a Python of its own finds what this one finds."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def environment(path: Sequence[str] = (), **variables: str) -> dict[str, str]:
    """This process's variables and module path, with these folders in front of it and these variables changed."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*path, *filter(None, sys.path)]), **variables}
