"""Where the emoji art comes from: npm packages, pinned, pure data; fetched by the npm client once."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from muse_studio.errors import UserError
from muse_studio.runtime.fetching import CACHE, cache_folder
from muse_studio.runtime.files import open_folder, path_of


@dataclass(frozen=True)
class Source:
    """One set of drawings. Sets of one family show the same drawings, so a split keeps them together."""

    style: str
    package: str
    version: str
    licence: str
    family: str


SOURCES = (
    Source("noto", "@iconify-json/noto", "1.2.9", "Apache-2.0", "noto"),
    Source("blob", "@iconify-json/noto-v1", "1.2.5", "Apache-2.0", "blob"),
    Source("twemoji", "@iconify-json/twemoji", "1.2.5", "CC-BY-4.0", "twemoji"),
    Source("fluent flat", "@iconify-json/fluent-emoji-flat", "1.2.6", "MIT", "fluent"),
    Source("fluent", "@iconify-json/fluent-emoji", "1.2.7", "MIT", "fluent"),
    Source("fluent 3d", "@lobehub/fluent-emoji-3d", "1.1.0", "MIT", "fluent"),
    Source("emojione", "@iconify-json/emojione", "1.2.3", "CC-BY-4.0", "emojione"),
)
FURTHER = (Source("streamline", "@iconify-json/streamline-emojis", "1.2.4", "CC-BY-4.0", "streamline"),)
"""Sets that the embedded model has not seen: they are drawn where their style is asked for by name."""
LABELS = ("emojibase-data", "17.0.0")
"""Labels and tags (MIT), the English ones."""

STYLES = tuple(source.style for source in SOURCES)


def sources_of(styles: tuple[str, ...]) -> tuple[Source, ...]:
    """The sets to fetch and draw for some styles: all seven where any of them is, so that one cache serves."""
    seven = SOURCES if any(source.style in styles for source in SOURCES) else ()
    return seven + tuple(source for source in FURTHER if source.style in styles)


def find_packages(root: str | None, sources: tuple[Source, ...] = SOURCES) -> Path:
    """The folder that holds the packages: `root` where given, else the cache, filled by npm where needed.

    Raises UserError where a package is missing from `root`, or npm is missing or fails.
    """
    wanted = {source.package: source.version for source in sources} | dict([LABELS])
    folder = path_of(root) if root is not None else cache_folder() / "emoji"
    modules = folder / "node_modules" if (folder / "node_modules").is_dir() else folder
    missing = [name for name, version in wanted.items() if _version(modules / name) != version]
    if not missing:
        return modules
    line = "npm install --ignore-scripts " + " ".join(f"{name}@{wanted[name]}" for name in missing)
    if root is not None:
        raise UserError(
            f"{folder} lacks the emoji packages {', '.join(missing)} in their pinned versions; run there: {line}"
        )
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            "the emoji data set comes as npm packages, and there is no npm here; install Node.js, or run elsewhere\n"
            f"  {line}\nand give that folder as dataset.root"
        )
    open_folder(folder, CACHE)
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
    done = subprocess.run(
        [*command, *(f"{n}@{v}" for n, v in wanted.items())], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise UserError(f"npm could not fetch the emoji packages: {done.stderr.strip()[-400:]}")
    return folder / "node_modules"


def _version(package: Path) -> str | None:
    try:
        return json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError):
        return None
