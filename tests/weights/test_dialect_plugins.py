"""Dialects come from plugins, a file's too: they are listed, and import and draw by name as those that are shipped."""

from __future__ import annotations

import pytest

import muse_studio
from muse_studio.cli import main
from muse_studio.errors import PluginError, RecipeError

PLUGIN = '''
"""aMUSEd under another name, whose transformer is this file's own."""

from dataclasses import replace

import muse_studio
from muse_amused.transformer import Amused
from muse_studio import hookimpl


class Mine(Amused):
    """aMUSEd's transformer as a part of this file."""


def my_amused():
    """aMUSEd's folders, for the transformer of this file."""
    known = muse_studio.parts("dialect", "amused")[0].load()()
    *others, transformer = known.pieces

    def recipes(imported):
        written = known.recipes(imported)
        written["model.yaml"]["stages"]["base"]["transformer"]["use"] = "mine"
        return written

    return replace(known, name="my-amused", pieces=(*others, replace(transformer, part="mine")), recipes=recipes)


@hookimpl
def muse_transformers():
    return {"mine": Mine}


@hookimpl
def muse_dialects():
    return {"my-amused": my_amused, "broken": "no_such_module:dialect", "nothing": lambda: None}
'''


@pytest.fixture
def plugin(tmp_path):
    (tmp_path / "own.py").write_text(PLUGIN)
    return str(tmp_path / "own.py")


@pytest.mark.slow
def test_a_file_s_dialect_imports_and_draws(published, plugin, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    assert main(["parts", "dialect", "my-amused", "--plugin", plugin]) == 0
    assert "for the transformer of this file" in capsys.readouterr().out
    task = {"use": "import-weights", "source": str(published), "format": "my-amused", "out": str(tmp_path / "out")}
    report = muse_studio.run(task, plugins=[plugin])
    assert report.whole and muse_studio.check(report.recipes[1], plugins=[plugin]) == []
    drawing = {"use": "generate-published", "source": str(published), "format": "my-amused", "prompt": "a red apple"}
    drawing |= {"out": str(tmp_path / "one.png"), "changes": {"stages": {"base": {"sampler": {"steps": 2}}}}}
    assert muse_studio.run(drawing, plugins=[plugin]).images[0].size == (16, 16)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "offers dialect 'broken' as no_such_module:dialect, which can't be imported"),
        ("nothing", "dialect 'nothing' of plugin own, .*: it gave NoneType, which is no Dialect: it has no recipes"),
    ],
)
def test_a_broken_dialect_is_its_plugin_s_fault(plugin, name, message):
    with pytest.raises(PluginError, match=message):
        muse_studio.run({"use": "import-weights", "source": "x", "format": name}, plugins=[plugin])


def test_what_is_left_out_is_named(monkeypatch):
    monkeypatch.setenv("MUSE_WITHOUT", "muse_vqgan")
    with pytest.raises(RecipeError, match=r"no dialect is called 'taming-vqgan'.*left out by MUSE_WITHOUT: muse_vqgan"):
        muse_studio.run({"use": "import-weights", "source": "x", "format": "taming-vqgan"})
