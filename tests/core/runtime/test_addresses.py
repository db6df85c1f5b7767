"""Which addresses are opened: those whose protocol gives a file and does no more, unless they are trusted."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from muse_weights.source import Source

import muse_studio
from muse_studio.errors import NotFetched, UserError
from muse_studio.runtime import fetching, launch, weights

STRANGE = [
    "reference://index.json",
    "dask://worker/x",
    "git://repo:main@x",
    "github://owner:repo@main/x",
    "ftp://host/x",
    "sftp://host/x",
    "ssh://host/x",
    "smb://host/x",
    "zip://x::http://host/y.zip",
    "tar://x",
    "libarchive://x",
    "simplecache://x",
    "dir://x",
    "generic://x",
    "webhdfs://host/x",
    "jupyter://host/x",
    "data:,x",
    "file::reference://x",
    "reference::index.json",
    "simplecache::s3://bucket/x",
    "jinja::file://x",
]


@pytest.mark.parametrize("address", STRANGE)
def test_a_protocol_that_does_more_is_refused(address, monkeypatch):
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(UserError, match="--trust") as error:
        fetching.file_system(address)
    assert str(error.value).startswith(address)


def test_one_that_there_is_not_is_unknown():
    with pytest.raises(ValueError, match="jinja"):
        fetching.file_system("jinja://{{ x }}")


def test_all_that_fsspec_knows_is_either_listed_or_refused():
    listed = {*fetching.HERE, *fetching.REMOTE}
    assert listed - {"abfss"} <= set(fsspec.available_protocols())  # which adlfs brings
    for protocol in set(fsspec.available_protocols()) - listed:
        with pytest.raises(UserError, match="--trust"):
            fetching.file_system(f"{protocol}://x")


@pytest.mark.parametrize("address", ["file:///tmp/x", "memory://x", "local:///tmp/x", "/tmp/x", "~/x", "x y:z"])
def test_what_is_here_is_opened(address):
    assert fetching.file_system(address)[1]


def test_a_trusted_address_is_opened_by_any(monkeypatch):
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda address: ("opened", address))
    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda protocol: None)  # the libraries of some are missing
    with launch.trusting():
        assert [fetching.file_system(each)[0] for each in STRANGE] == ["opened"] * len(STRANGE)
    assert not launch.trusted()
    monkeypatch.setenv(launch.TRUST, "1")
    assert fetching.file_system("reference://x")[0] == "opened"
    with launch.trusting():
        pass
    assert launch.trusted()


def test_weights_are_fetched_by_none_of_them(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path))
    for address in ("reference://index.json", "github://owner:repo@main/x", "simplecache::memory://x"):
        with pytest.raises(UserError, match="--trust"):
            weights.local(address)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("import-weights", {"source": "github://a:b@main/x", "format": "amused", "out": "o"}),
        ("prepare-tokens", {"dataset": {"use": "webdataset", "path": "reference://x.tar"}, "out": "o"}),
        ("average", {"checkpoints": ["zip://x::file://y"], "out": "o.safetensors"}),
    ],
)
@pytest.mark.slow
def test_nor_is_anything_else_that_a_recipe_names(recipe, changes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--trust"):
        muse_studio.run(recipe, changes)


@pytest.mark.parametrize("address", ["https://example.org/x", "s3://bucket/x", "hf://a/b", "gs://bucket/x"])
def test_a_check_opens_none_that_is_remote(address):
    with launch.fetching_nothing(), pytest.raises(NotFetched, match="would be fetched"):
        fetching.file_system(address)


@pytest.mark.parametrize("opened", [fetching.file_system, lambda address: fetching.fetch(address, Path("x"))])
def test_a_library_that_is_missing_is_named_with_the_cure(opened, monkeypatch):
    monkeypatch.setitem(sys.modules, "adlfs", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"abfs://box/x needs a library that is not installed; .*adlfs"):
        opened("abfs://box/x")


class Served(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({"/there": 200, "/broken": 500, "/hidden": 403}.get(self.path, 404))
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        """Nothing is printed."""


def test_a_server_that_does_not_answer_is_no_missing_file(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Served)
    at = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    assert fetching.exists(f"{at}/there") and not fetching.exists(f"{at}/elsewhere")
    assert not fetching.exists(f"{at}/hidden")
    with pytest.raises(Exception, match="500"):
        fetching.exists(f"{at}/broken")
    server.shutdown()
    server.server_close()
    serving.join()
    with pytest.raises(OSError, match="Cannot connect"):
        fetching.exists(f"{at}/there")
    with pytest.raises(UserError, match=r"can't be asked for: Cannot connect.*check the address and the network"):
        Source(f"{at}/model", None, {}).has("weights.ckpt")
    (tmp_path / "here").touch()
    assert fetching.exists(str(tmp_path / "here")) and not fetching.exists(str(tmp_path / "gone"))
