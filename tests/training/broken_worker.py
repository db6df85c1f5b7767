"""A run whose data set's worker dies, hangs or fails, as `act` says: `broken_worker.py ACT OUT`."""

import os
import signal
import sys
import time

import torch
from torch import nn

from muse_studio.testing import RecordingObserver
from muse_studio.training.distributed import SINGLE
from muse_studio.training.fit import Fit
from muse_studio.training.loop import Learner, Output, Run
from muse_studio.training.parallel import optimizer_step


class Broken(torch.utils.data.Dataset):
    """Records, but for one whose reading does what it should not."""

    def __init__(self, act):
        self.act = act

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 5:
            self.act()
        return torch.ones(1)


class Linear(Learner):
    world = SINGLE

    def __init__(self):
        self.model = nn.Linear(1, 1)
        self.modules = {"net": self.model}
        self.optimizers = {"net": torch.optim.SGD(self.model.parameters(), 0.1)}

    def step(self, batch, step):
        loss, norm = optimizer_step(
            self.optimizers["net"], [batch], lambda rows: self.model(rows).square().mean(), self.model, 1
        )
        return {"loss": loss, "norm": norm}


def die():
    time.sleep(0.5)  # until what it gave before was taken: torch tells of a death amid that in other words
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(600)


def fail():
    raise LookupError("the tape is torn")


if __name__ == "__main__":
    fit = Fit(out=sys.argv[2], steps=8, batch=2, workers=1, patience=3, log_every=1)
    acts = {"die": die, "hang": hang, "fail": fail}
    Run(fit, Linear(), Broken(acts[sys.argv[1]]), RecordingObserver(), Output("net", {})).train()
