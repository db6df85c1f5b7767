"""Docstrings as this project writes them are read as what they are."""

from __future__ import annotations

import docstrings

WHOLE = """Fill a grid: step by step. It yields all.

    for tokens in sampler(predict, tokens):
        show(tokens)

steps: how many. temperature, top_k: of the noise,
    which falls to 0; as [from, to] it
goes from one to the other.
weights: an address, null for none
Yields int64[B, h, w].

* First: `a * b`, and 2 * 3.
* Second, over
  two lines.
"""


def test_the_pieces_of_a_docstring() -> None:
    found = docstrings.blocks(WHOLE)
    assert [block.sort for block in found] == ["prose", "code", "fields", "prose", "items"]
    assert found[1].lines == ["for tokens in sampler(predict, tokens):", "    show(tokens)"]
    assert found[2].fields == {
        "steps": "how many.",
        "temperature, top_k": "of the noise, which falls to 0; as [from, to] it goes from one to the other.",
        "weights": "an address, null for none",
    }
    assert found[3].lines == ["Yields int64[B, h, w]."]


def test_the_first_sentence() -> None:
    assert docstrings.first_sentence(WHOLE) == "Fill a grid: step by step."
    assert docstrings.first_sentence("As e.g. this\ngoes on. Not this.") == "As e.g. this goes on."
    assert docstrings.first_sentence("") == ""


def test_marks_are_escaped_but_not_in_code() -> None:
    assert docstrings.markdown("a_b * [x] `a_b * [x]`") == r"a\_b \* \[x\] `a_b * [x]`"
    assert docstrings.restructured("a_b * `a_b\nc *`") == [r"a\_b \* ``a_b", "c *``", ""]
    assert docstrings.markdown("* one_\n* two") == "* one\\_\n* two"


def test_fields_are_a_list() -> None:
    assert docstrings.markdown("steps: how many.\nseed: of lots") == "* `steps`: how many.\n* `seed`: of lots"
    assert docstrings.markdown("steps: how many.", fields=False) == ""
    assert docstrings.restructured("steps: how * many.") == [r"* ``steps``: how \* many.", ""]
