"""What drawing a picture loads of this project: one who follows it through has so many files to read."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

MOST = 55

COUNT = """
import json, sys
from muse_studio.cli import main

main(sys.argv[1:])
files = [getattr(module, "__file__", None) or "" for name, module in sys.modules.items() if name.startswith("muse_")]
print(json.dumps(sorted(file for file in files if not file.endswith(("__init__.py", "plugin.py")))))
"""


@pytest.mark.slow
def test_drawing_a_picture_loads_few_modules(tmp_path):
    words = ["generate", "a fox, noto style", "seed=3", f"out={tmp_path / 'fox.png'}"]
    done = subprocess.run([sys.executable, "-c", COUNT, *words], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert (tmp_path / "fox.png").is_file()
    assert any(file.endswith("stage.py") for file in loaded)  # the count sees what it is to count
    assert len(loaded) <= MOST, f"{len(loaded)} modules, at most {MOST} wanted:\n" + "\n".join(loaded)
