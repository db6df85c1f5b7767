"""Trains through torch_xla as `train` does, on as many pretended chips as said; fails where later steps compile anew.

The losses must be those of the same run on the plain CPU.
"""

import json
import math
import sys
import tempfile
from pathlib import Path

import torch_xla.debug.metrics as metrics
from teamwork import run, task

from muse_studio import testing

STEPS = 8


class Compilations(testing.RecordingObserver):
    """Notes after each step how many graphs have been compiled so far."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def muse_step(self, **told):
        found = metrics.metric_data("CompileTime")
        self.seen.append(0 if found is None else found[0])


def main(chips: int) -> None:
    """Both runs, and what they must have in common."""
    for of in ("base", "superres"):
        with tempfile.TemporaryDirectory() as folder:
            there = {"of": of, "out": f"{folder}/xla", "fit": {"device": "xla", "steps": STEPS, "checkpoint_every": 99}}
            observer = Compilations()
            history = task(there)(observer)
            run(there | {"out": f"{folder}/cpu", "fit": there["fit"] | {"device": "cpu"}})
            plain = json.loads(Path(f"{folder}/cpu/rows.json").read_text())
        for mine, theirs in zip(history.rows, plain, strict=True):
            assert math.isclose(mine["loss"], theirs["loss"], rel_tol=1e-4), (mine, theirs)
        after = observer.seen[-2] - observer.seen[1]  # the last step of a run reads its weights, which is a graph too
        print(f"{of} on {chips} chips: compiled so far after each step {observer.seen}; losses as on a plain CPU")
        assert after == 0, f"{after} graphs were compiled after step 2"


if __name__ == "__main__":
    main(int(sys.argv[1]))
