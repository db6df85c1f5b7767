"""Signals at random moments of a run, whatever it does then: the same command goes on to the same weights."""

import sys

import pytest
from killing import trial

SEED, COUNT = 1, 30


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_thirty_signals_at_random_moments(tmp_path):
    found = trial(tmp_path, SEED, COUNT)
    assert not found, "\n".join([f"with the seed {SEED}:", *found])
