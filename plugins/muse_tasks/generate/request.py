"""What is asked of a task that draws: prompts, seeds, and where the pictures go."""

from __future__ import annotations

from pathlib import Path

from muse_studio.errors import SettingError
from muse_studio.images.naming import check_prompt
from muse_studio.runtime.files import open_folder, path_of

LARGEST_SEED = 2**63 - 1
MOST = 1_000_000
"""Pictures of one run, which knows all their names before it draws the first."""


def check_request(prompts: list[str], negative: str, count: int, seed: int, out: str) -> None:
    """ValueError, naming the setting, where one of these can't be; see the settings of the task `generate`."""
    for prompt in (*prompts, negative):
        check_prompt(prompt)
    if count < 1:
        raise SettingError("count", f"count is {count}; draw at least 1 picture a prompt")
    if not 0 <= seed <= LARGEST_SEED:
        raise SettingError("seed", f"seed is {seed}; give one from 0 to {LARGEST_SEED}")
    if seed + count - 1 > LARGEST_SEED:
        raise SettingError(
            "count", f"count is {count}; the last seed, {seed} + count - 1, must be at most {LARGEST_SEED}"
        )
    if not out.strip():
        raise SettingError("out", 'out is empty; name a folder, such as "out", or "." for this one')
    total = len(prompts) * count
    if total > MOST:
        raise SettingError("count", f"count is {count}, {total:,} pictures in all; draw at most {MOST:,} at a time")
    if names_a_file(out) and total > 1:
        raise SettingError("out", f"out is {out!r}, one file, but {total} pictures are asked for; name a folder")


def names_a_file(out: str) -> bool:
    """Whether `out` is one picture's name, not a folder's."""
    return out.lower().endswith(".png")


def open_out(out: str) -> Path:
    """`out` as a path, its folder made and proven writable; UserError where it is not."""
    path = path_of(out)
    open_folder(path.parent if names_a_file(out) else path, "out")
    return path
