"""Several processes train what one does: the same losses, the same weights, whatever shares and parts they work in."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import environment
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("teamwork.py")


def launch(processes, cases, folder, timeout=300):
    """Runs the cases by torchrun, or in a plain process, one after the other."""
    given = folder / f"cases-{processes}-{len(list(folder.iterdir()))}.json"
    given.write_text(json.dumps(cases))
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    done = subprocess.run(
        [sys.executable, *start, str(SCRIPT), str(given)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(OMP_NUM_THREADS="1"),
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done


def rows(out):
    return json.loads((Path(out) / "rows.json").read_text())


def check_alike(one, other, tolerance=1e-5):
    """Every number of every step, to five digits; the norm, in which all weights' rounding adds up, to three."""
    assert [row.keys() for row in one] == [row.keys() for row in other]
    for mine, theirs in zip(one, other, strict=True):
        for key, value in mine.items():
            near = max(10 * tolerance, 1e-3) if key == "norm" else tolerance
            assert math.isclose(value, theirs[key], rel_tol=near, abs_tol=1e-6), (mine["step"], key, value, theirs[key])


pytestmark = pytest.mark.slow  # some dozens of runs, in processes of their own


WAYS = {
    "ddp": {},
    "parts": {"accumulate": 2},
    "fsdp": {"parallel": {"strategy": "fsdp"}},
    "fsdp-parts": {"parallel": {"strategy": "fsdp"}, "accumulate": 2},
}
WEIGHTS = {"base": "base", "superres": "large", "critic": "critic", "mdlm": "base", "maskgit": "base"}
KINDS = {
    "base": {"of": "base"},
    "factored": {"of": "base", "optimizer": "adafactor"},
    "muon": {"of": "base", "optimizer": "muon", "checkpointing": True},
    "superres": {"of": "superres", "fit": {"ema": 0.9}},
    "critic": {"of": "critic", "fit": {"ema": 0.9}},
    "mdlm": {"of": "mdlm"},
    "maskgit": {"of": "maskgit"},
    "tokenizer": {"of": "tokenizer", "fit": {"steps": 12}},  # later a rounding error makes a latent choose another code
    "adversaries": {"of": "adversaries", "fit": {"steps": 12}},
}
CASES = [(kind, way) for kind, case in KINDS.items() for way in WAYS if case["of"] in WEIGHTS or "fsdp" not in way]
# Muon turns matrices in bfloat16, and two networks that chase each other drive rounding errors apart.
TOLERANCES = {"muon": 1e-3, "adversaries": 1e-3}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every kind by one process, and by two in every way."""
    folder = tmp_path_factory.mktemp("teams")

    def case(kind, way, fit):
        given = KINDS[kind]
        return given | {"out": str(folder / f"{kind}-{way}"), "fit": given.get("fit", {}) | fit}

    launch(1, [case(kind, "alone", {}) for kind in KINDS], folder)
    launch(2, [case(kind, way, WAYS[way]) for kind, way in CASES], folder)
    return folder


@pytest.mark.parametrize(("kind", "way"), CASES)
def test_two_processes_train_as_one_does(runs, kind, way):
    check_alike(rows(runs / f"{kind}-alone"), rows(runs / f"{kind}-{way}"), TOLERANCES.get(kind, 1e-5))
    name = WEIGHTS.get(KINDS[kind]["of"], "tokenizer")
    one, other = (load_file(runs / f"{kind}-{how}" / f"{name}.safetensors") for how in ("alone", way))
    assert one.keys() == other.keys()
    for key in one:
        # A bias in front of a norm has rounding errors for a gradient, of which AdamW makes steps like any other.
        loose = kind in TOLERANCES or kind == "tokenizer"
        torch.testing.assert_close(one[key], other[key], rtol=1e-3, atol=1e-2 if loose else 1e-4)


@pytest.fixture(scope="module")
def elastic(tmp_path_factory):
    """A run of two processes, which then one goes on with, and then four, in shares and copies of them."""
    folder = tmp_path_factory.mktemp("elastic")
    ways = {"ddp": [{}] * 3, "fsdp": [{"strategy": "fsdp"}] * 2 + [{"strategy": "fsdp", "replicas": 2}]}

    def cases(place, steps):
        made = []
        for way, parallels in ways.items():
            fit = {"steps": steps, "ema": 0.9, "parallel": parallels[place]}
            made.append({"of": "superres", "optimizer": "adafactor", "out": str(folder / way), "fit": fit})
        return made

    launch(1, [cases(0, 20)[0] | {"out": str(folder / "alone")}], folder)
    for place, (processes, steps) in enumerate([(2, 8), (1, 12), (4, 20)]):
        launch(processes, cases(place, steps), folder)
    return folder


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_other_numbers_of_processes_go_on_with_a_run(elastic, way):
    one, other = rows(elastic / "alone"), rows(elastic / way)
    assert [row["step"] for row in other] == list(range(1, 21))
    check_alike(one, other)


def test_a_batch_that_the_processes_do_not_divide_is_told_once(tmp_path):
    with pytest.raises(
        AssertionError, match=r"which 2 processes with fit\.accumulate 3 don't divide; give a multiple of 6"
    ):
        launch(2, [{"of": "base", "out": str(tmp_path / "run"), "fit": {"accumulate": 3}}], tmp_path)
