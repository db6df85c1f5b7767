"""The page's modules as TypeScript reads them: their JSDoc says which types go where."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import muse_server
import pytest
from npm import package

PAGE = Path(muse_server.__file__).parent / "page"
TYPESCRIPT = "5.9.3"
CHECKED = {"allowJs": True, "checkJs": True, "noEmit": True, "strict": True, "target": "es2022", "module": "es2022"}
FORBIDDEN = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://(?!www\.w3)"
"""What would make markup of text, or ask another server."""
LONGEST = 200
"""Lines of a module; the board is one file for the notebook's sake."""


@pytest.mark.slow
def test_the_types_hold(tmp_path: Path) -> None:
    compiler = package("typescript", TYPESCRIPT) / "bin" / "tsc"
    options = CHECKED | {"lib": ["es2023", "dom", "dom.iterable"], "types": []}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": [f"{PAGE}/*.js"]}))
    command = [shutil.which("node") or "node", str(compiler), "-p", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout


def test_the_board_imports_nothing_and_no_module_anything_from_elsewhere() -> None:
    modules = {path.name: path.read_text() for path in PAGE.glob("*.js")}
    assert len(modules) > 15
    imported = {name: set(re.findall(r"""^import .* from "([^"]+)";""", text, re.M)) for name, text in modules.items()}
    assert imported["board.js"] == set()
    assert {each.removeprefix("./") for found in imported.values() for each in found} <= set(modules)
    for name, text in modules.items():
        assert text.startswith("// @ts-check\n"), name
        assert name == "board.js" or len(text.splitlines()) <= LONGEST, name
        assert not re.search(FORBIDDEN, text)


def test_the_page_has_no_script_or_style_of_its_own() -> None:
    text = (PAGE / "index.html").read_text()
    assert re.findall(r"<script[^>]*>[^<]+", text) == [] and "<style" not in text
    assert re.findall(r"\s(style|on[a-z]+)=", text) == []
    assert set(re.findall(r"""(?:src|href)="(?!#|data:)([^"]*)""", text)) == {"/page/app.js", "/page/style.css"}
