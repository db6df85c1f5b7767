"""What a stranger gives breaks no reader, holds none up, and has none write elsewhere; the guard sees what would."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz.py")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, FUZZ, *arguments], capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("code", ["open('/tmp/muse-fuzz-x', 'w')", "import os; os.remove('/tmp/muse-fuzz-x')"])
def test_the_guard_sees_what_is_written_elsewhere(code, tmp_path):
    script = (
        f"import sys; sys.path.insert(0, {str(FUZZ.parent)!r}); import fuzz, pathlib\n"
        f"def reader(folder):\n    def case(lot):\n        {code}\n    return case\n"
        "fuzz.READERS = {'odd': reader}\n"
        f"print(*fuzz.fuzz(1, 0, None, pathlib.Path({str(tmp_path)!r})), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "muse-fuzz-x" in done.stdout
    Path("/tmp/muse-fuzz-x").unlink(missing_ok=True)


@pytest.mark.slow
def test_twenty_thousand_cases():
    done = run("--cases", "20000", "--seed", "0")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert re.search(r"^20000 cases of seed 0 in \d+ s, 0 wrong$", done.stdout, re.MULTILINE)
