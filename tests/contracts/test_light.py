"""check_light sees what an entry module loads, and says what to do instead."""

from __future__ import annotations

import sys

import pytest

from muse_studio import testing


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def write(text):
        (tmp_path / "an_entry_module.py").write_text(text)
        return "an_entry_module"

    return write


def test_a_light_module_passes_and_is_not_imported_here(module):
    testing.check_light(module("from muse_studio.hookspecs import hookimpl"))
    assert "an_entry_module" not in sys.modules


def test_a_heavy_module_is_named_with_what_it_loads(module):
    name = module("import yaml\nimport numpy")
    with pytest.raises(AssertionError, match=r'importing an_entry_module loads numpy, yaml, .* return "module:attr'):
        testing.check_light(name)


def test_a_module_that_raises_is_told(module):
    with pytest.raises(AssertionError, match=r"(?s)an_entry_module cannot be imported by itself:.*1 / 0.*ZeroDiv"):
        testing.check_light(module("1 / 0"))


def test_other_names_can_be_called_heavy(module):
    with pytest.raises(AssertionError, match="loads sqlite3"):
        testing.check_light(module("import sqlite3"), heavy=["sqlite3"])
