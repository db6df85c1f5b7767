"""The word filter refuses what is on its list, and nothing that merely looks like it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from muse_observers.words import LIST, WordFilter

from muse_studio.cli import main
from muse_studio.errors import UserError
from muse_studio.registry.plugins import Registry

LISTED = [line for line in LIST.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("a NAKED cat", "naked"),
        ("naked", "naked"),
        ("\uff4e\uff41\uff4b\uff45\uff44 people", "naked"),  # full width
        ("na\u200bked people", "naked"),
        ("self harm, twemoji style", "self harm"),
        ("ku-klux  klan", "ku-klux  klan"),
        ("a corpse.", "corpse"),
    ],
)
def test_a_word_of_the_list_is_found(prompt, found):
    assert WordFilter().muse_prompt(prompt) == f"{found!r} is on its list of words"


@pytest.mark.parametrize("prompt", ["", "a red apple", "Essex", "snaked", "the wasted hitlerites", "grape", "gorge"])
def test_other_words_pass(prompt):
    assert WordFilter().muse_prompt(prompt) is None


def test_every_word_of_the_list_is_refused_alone_and_within_a_sentence():
    ours = WordFilter()
    assert len(LISTED) == len(set(LISTED)) > 40
    assert all(
        ours.muse_prompt(f"{before}{word}{behind}") for word in LISTED for before, behind in [("", ""), ("a ", "!")]
    )


@given(st.lists(st.sampled_from("abc de"), max_size=12).map("".join))
def test_words_are_found_as_by_splitting(prompt):
    ours = WordFilter(words=None, also=["ab", "c"], allow=LISTED)
    assert (ours.muse_prompt(prompt) is not None) == bool({"ab", "c"} & set(prompt.split()))


def test_a_list_of_one_s_own(here):
    (here / "own.txt").write_text("Äpfel # no fruit\n\n# a comment\n")
    ours = WordFilter(words="own.txt", also=["pear tree"])
    assert ours.muse_prompt("two a\u0308pfel") == "'äpfel' is on its list of words"
    assert ours.muse_prompt("a PEAR\ttree") is not None
    assert ours.muse_prompt("naked, no fruit") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"own.txt can't be read as a list of words: .*No such file.*; give another file as words"),
        (b"\xff", "own.txt can't be read as a list of words"),
        (b"# nothing\n", "own.txt holds no word, so the filter would refuse nothing"),
    ],
)
def test_a_list_that_is_none_is_told_when_the_run_begins(here, text, message):
    if text is not None:
        (here / "own.txt").write_bytes(text)
    with pytest.raises(UserError, match=message):
        WordFilter(words="own.txt").muse_started()


def test_it_is_off_unless_it_is_asked_for():
    hook = Registry().hook
    assert (hook.muse_prompt.get_hookimpls(), hook.muse_picture.get_hookimpls()) == ([], [])


def test_the_environment_switches_it_on_for_every_command(here, monkeypatch, capfd):
    monkeypatch.setenv("MUSE_OBSERVERS", "word-filter")
    assert main(["generate", "a pear", "a naked apple"]) == 2
    assert capfd.readouterr() == (
        "",
        "error: prompt 2 of 2, 'a naked apple', is refused by the filter word-filter: 'naked' is on its list of words; "
        "nothing was drawn\n",
    )
    assert list(here.iterdir()) == []
