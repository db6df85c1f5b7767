"""Other people's distributions, made as files on the path: what is malformed in one of them spoils no other."""

import importlib.metadata
import sys
from pathlib import Path

import pytest

from muse_studio import testing
from muse_studio.cli import main
from muse_studio.registry import loading
from muse_studio.registry.plugins import GROUP, Registry

GOOD = "from muse_studio import hookimpl\n@hookimpl\ndef muse_samplers():\n    return {'dots': 'json:dumps'}\n"
NEITHER = "which is neither [group] nor a group's name = value; install what it belongs to again, or uninstall it"


@pytest.fixture
def distribution(here, write, monkeypatch):
    """Installs one: its name, the bytes of its entry_points.txt, and the folder, which comes first on the path."""

    def distribution(name, text, folder="site", metadata=True):
        place = here / folder / f"{name}-1.0.dist-info"
        place.mkdir(parents=True)
        (place / loading.ENTRY_POINTS).write_bytes(text.encode("latin-1"))
        if metadata:
            (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        monkeypatch.syspath_prepend(str(here / folder))

    write("site/dots_of_a_test.py", GOOD)
    monkeypatch.delitem(sys.modules, "dots_of_a_test", raising=False)
    return distribution


@pytest.mark.filterwarnings("ignore:Python can't read its entry points")
@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        ("[muse_studio]\nodd = not a module!!\n", "odd", "its entry point is 'not a module!!'; write the plugin's mod"),
        ("[muse_studio]\nodd =\n", "odd", "its entry point is ''; write the plugin's module"),
        ("[muse_studio]\nodd = no_such.module\n", "odd", "ModuleNotFoundError: No module named 'no_such'"),
        ("[muse_studio]\n\n# ours\nodd\n", "odd-dist", f"an entry_points.txt has 'odd' in line 4, {NEITHER}"),
        ("[muse_studio]\n= json\n", "odd-dist", f"an entry_points.txt has '= json' in line 2, {NEITHER}"),
        ("[muse_studio\nodd = json\n", "odd-dist", f"an entry_points.txt has '[muse_studio' in line 1, {NEITHER}"),
        ("odd = json\n[muse_studio]\n", "odd-dist", f"an entry_points.txt has 'odd = json' in line 1, {NEITHER}"),
        ("[console_scripts]\nodd\n", "odd-dist", f"an entry_points.txt has 'odd' in line 2, {NEITHER}"),
        ("[muse_studio]\n\xe9 = json\n", "odd-dist", "an entry_points.txt is not UTF-8 (invalid"),
    ],
)
def test_a_malformed_distribution_is_set_aside_and_named(distribution, capfd, text, name, reason):
    distribution("odd-dist", text)
    distribution("dots", "[muse_studio]\ndots = dots_of_a_test\n", folder="further")
    assert main(["parts", "sampler"]) == 0
    out, err = capfd.readouterr()
    there, failed = out.split("could not be loaded:\n")
    assert "  dots                 dots\n" in there and "  confidence           muse_sampling\n" in there
    assert f"  {name}: {reason}" in failed
    assert "Traceback" not in err
    assert main(["parts", "sampler", "no-such-sampler"]) == 2
    assert f"plugin {name} could not be loaded and may have it: {reason}" in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore:Python can't read its entry points")
@pytest.mark.parametrize("text", ["[muse_studio]\nodd = not a module!!\n", "[muse_studio]\nodd\n"])
def test_the_contract_of_a_plugin_can_be_examined_beside_it(distribution, write, text):
    distribution("odd-dist", text)
    write("site/dots_of_a_test.py", GOOD.replace("'dots'", "'confidence'"))
    contract = testing.PluginContract()
    contract.module = "dots_of_a_test"
    with pytest.raises(AssertionError, match="sampler 'confidence' of muse_sampling is there already"):
        contract.test_it_takes_no_name_of_a_part_that_is_there()
    contract.module = "muse_sampling.plugin"
    contract.test_it_takes_no_name_of_a_part_that_is_there()


def test_what_breaks_pythons_own_reader_is_warned_of_as_torch_asks_it(distribution):
    distribution("odd-dist", "[muse_studio]\nodd = not a module!!\n[muse_studio_2\n")
    with pytest.raises(TypeError):  # it is what is said of it
        importlib.metadata.entry_points(group=GROUP)
    with pytest.warns(UserWarning, match="so torch can't be imported. odd-dist: an entry_points.txt has"):
        Registry()


def test_a_distribution_without_metadata_is_told_by_its_folder(distribution, here):
    distribution("odd", "[muse_studio]\nodd = dots_of_a_test\n", metadata=False)
    entries, broken = loading.entry_points_of(GROUP)
    assert "odd" not in {entry.name for entry in entries}
    assert broken.keys() == {str(here / "site")}
    assert "comes without the METADATA that says whose it is" in broken[str(here / "site")]


def test_entries_are_those_that_python_finds(distribution):
    """Where nothing is malformed. Of two distributions by one name the first counts, whatever it offers."""
    distribution("dots", "[muse_studio]\nold = dots_of_a_test\n", folder="behind")
    distribution("dots", "[console_scripts]\nold = dots_of_a_test\n")
    distribution("stripes", "[other]\nx = muse_studio\n[muse_studio]\n b = dots_of_a_test:x [y]\na=dots_of_a_test\n")
    entries, broken = loading.entry_points_of(GROUP)
    assert broken == {}
    assert {"a", "b", "muse_sampling"} <= {entry.name for entry in entries}
    assert sorted(entries) == sorted(importlib.metadata.entry_points(group=GROUP))
    assert next(entry for entry in entries if entry.name == "a").dist.name == "stripes"


def test_looking_for_entries_reads_no_other_metadata(distribution, monkeypatch):
    """The names of two hundred distributions take 40 ms, which a list of parts would wait for."""
    distribution("other", "[console_scripts]\nx = y\n")
    read = []
    usual = importlib.metadata.PathDistribution.read_text
    monkeypatch.setattr(
        importlib.metadata.PathDistribution,
        "read_text",
        lambda self, name: (read.append((Path(str(self.locate_file(""))).name, name)), usual(self, name))[1],
    )
    loading.entry_points_of(GROUP)
    assert ("site", loading.ENTRY_POINTS) in read and ("site", "METADATA") not in read
