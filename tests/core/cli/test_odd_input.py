"""What looks odd and works: no prompt, a prompt that is too long, any script, and an interrupt while drawing."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from muse_studio.recipe.sources import PICTURE_KEY

QUICK = (
    "stages.base.transformer.weights=null",
    "stages.base.sampler.steps=1",
    "stages.superres.sampler.steps=1",
)

INTERRUPTED = """
import signal
from muse_studio import hookimpl

heard = []

@hookimpl
def muse_step(stage):
    heard.append(stage)
    if heard.count("base") == 3:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may have it ignored
        signal.raise_signal(signal.SIGINT)
"""


def test_an_empty_prompt_is_a_picture_of_anything(muse):
    assert muse("generate", "", *QUICK) == (0, "out/picture.png  seed 0  (no prompt)\n", "")
    assert muse("generate", *QUICK, "prompt=''") == (0, "out/picture-2.png  seed 0  (no prompt)\n", "")
    first, second = (Image.open(f"out/{name}.png").tobytes() for name in ("picture", "picture-2"))
    assert first == second


def test_a_prompt_beyond_the_text_length_is_cut_with_a_warning(muse):
    long = " ".join(["apple"] * 60)
    code, out, err = muse("generate", long, *QUICK)
    assert (code, out) == (0, f"out/{'apple-' * 13}ap.png  seed 0  {long}\n")
    assert err == (
        "warning: the prompt 'apple apple apple apple apple apple app…' is 30 tokens longer than the text length 32: "
        "its end was cut off; shorten it, or train with a greater length\n"
    )
    assert long in Image.open(f"out/{'apple-' * 13}ap.png").text[PICTURE_KEY]


def test_emoji_and_chinese_in_prompts_and_in_file_names(muse):
    code, out, err = muse("generate", "🍎", "一只猫", "../../etc/passwd", "a\nb", *QUICK)
    assert (code, err) == (0, "")
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "a-b.png",
        "etc-passwd.png",
        "red-apple.png",
        "sheet.png",
        "一只猫.png",
    ]
    assert out.splitlines()[:2] == ["out/red-apple.png  seed 0  🍎", "out/一只猫.png  seed 0  一只猫"]


def test_what_was_drawn_draws_itself_again(muse):
    assert muse("generate", "ein 🍎: rot", "seed=5", *QUICK)[0] == 0
    drawn = Path("out/ein-red-apple-rot.png")
    assert muse("run", str(drawn), "out=again")[0] == 0
    assert Image.open("again/ein-red-apple-rot.png").tobytes() == Image.open(drawn).tobytes()


def test_a_large_count_begins_at_once_and_ctrl_c_keeps_what_is_drawn(muse, here):
    Path("impatient.py").write_text(INTERRUPTED)
    code, out, err = muse("generate", "a cat", *QUICK, "count=1000000", "--plugin", "impatient.py")
    assert (code, out, err) == (130, "", "interrupted\n")
    assert sorted(path.name for path in Path("out").iterdir()) == ["a-cat-2.png", "a-cat.png"]
    for path in Path("out").iterdir():
        Image.open(path).load()
