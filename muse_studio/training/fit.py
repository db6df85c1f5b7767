"""How long, on what and by which rates a run trains: the settings that every training task shares."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from muse_studio.errors import SettingError
from muse_studio.runtime.device import computes_in_bfloat16
from muse_studio.runtime.files import claim_folder, file_name, path_of
from muse_studio.training.order import key_of
from muse_studio.training.parallel import Parallel

FOLDER = "checkpoints"
"""In a run's folder, that of its checkpoints."""
STATE = "state.json"
"""In a checkpoint's folder, written last, so that its presence says that the rest is whole."""
OWN = ("log.csv", FOLDER, "samples", "loss.png")
"""What a run writes in its folder, beside its weights."""
FORMER = f"{FOLDER}/step-*/{STATE}"
"""What a run has written where no mark says that the folder is a run's, as those of earlier versions."""
MOST_BATCH, MOST_WORKERS = 2**20, 256
"""Records of a step and processes that read them; what is more fills the machine before the first step."""


@dataclass
class Fit:
    """How a run trains: the table `fit` of a training recipe.

    out: the run's folder: checkpoints, log.csv, the trained weights.
    resume: auto goes on with a run that is found there, if it was made of the same; changed goes on with one that was
    made of other settings or data too, and records it; never begins anew, and its checkpoints go.
    upload: an address (s3://, gs://, another disk) where the newest checkpoints are copied to, and fetched from where
    `out` has none.
    dtype: of the trained weights' file; halves are half as large, and as good to draw with.
    steps, batch: optimizer steps, records each, those of all processes together. accumulate: in how many parts, one
    after the other, each process works through its share of them, which needs less memory.
    parallel: how several processes, started by torchrun, share the model. seed: of the data's order and of all noise.
    warmup, decay, floor: steps of linear warm-up; then the rate follows a cosine to `floor` times its peak, or stays,
    or falls as sqrt(warmup / step) (Vaswani et al., 2017), though not below `floor` times its peak.
    clip: the gradient norm is cut to this. ema: decay of the running average of the weights, which is then shipped.
    precision: bfloat16 computes under autocast; weights stay float32. auto is bfloat16 where the device is fast at it:
    a CPU without instructions for it emulates it, ten to thirty times slower than float32.
    compile: fuses a masked transformer's small operations (torch.compile): faster steps, after a first one of a minute
    or two. blocks compiles one layer at a time: the layers share what is compiled, so the first step comes sooner, and
    fsdp can gather them. A tokenizer's steps stay as they are.
    checkpoint_every, keep, log_every: in steps, and how many checkpoints stay. workers: processes that read records.
    patience: seconds to wait for a record or for another process, before the run is ended.
    diverged: a run stops where the median of the last 5 logged losses is more than so many times the lowest such
    median so far (or a tenth of the first, where that is more), after the warm-up and the first 10 logged rows; null is
    never. While the loss rises, the last checkpoint from before stays, beside the `keep`.
    overfit: train on the first batch at every step, with nothing dropped or corrupted: a sound set-up learns it by
    heart, and the run's last line says whether it did. Never stopped by `diverged`.
    """

    out: str
    steps: int
    batch: int
    accumulate: int = 1
    parallel: Parallel = field(default_factory=Parallel)
    seed: int = 0
    warmup: int = 0
    decay: Literal["cosine", "constant", "inverse-sqrt"] = "cosine"
    floor: float = 0.0
    clip: float | None = 1.0
    ema: float | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    compile: bool | Literal["blocks"] = False
    checkpoint_every: int = 500
    keep: int = 2
    log_every: int = 20
    workers: int = 0
    patience: float = 1800.0
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    diverged: float | None = 3.0
    overfit: bool = False
    device: str = "auto"
    resume: Literal["auto", "changed", "never"] = "auto"
    upload: str | None = None

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.accumulate, self.checkpoint_every, self.keep, self.log_every) < 1:
            raise ValueError("steps, batch, accumulate, checkpoint_every, keep and log_every must be 1 or more")
        if self.warmup < 0 or self.workers < 0 or self.seed < 0:
            raise ValueError("warmup, workers and seed must be 0 or more")
        for name, most in (("batch", MOST_BATCH), ("workers", MOST_WORKERS)):
            if (given := getattr(self, name)) > most:
                raise SettingError(name, f"{name} is {given}; give {most:,} or less")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor is {self.floor}; it is a share of the peak rate, from 0 to 1")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema is {self.ema}; a decay lies between 0 and 1, such as 0.999")
        if self.parallel.strategy == "fsdp" and self.compile is True:
            raise ValueError("compile is true, which fsdp can't gather layers within; give compile: blocks")
        if self.parallel.gather == "bfloat16" and self.precision != "bfloat16":
            raise ValueError("parallel.gather is bfloat16, in which float32 can't be computed; set precision too")
        if self.patience <= 0:
            raise ValueError(f"patience is {self.patience}; give seconds above 0")
        if self.clip is not None and self.clip <= 0:
            raise ValueError(f"clip is {self.clip}; give a gradient norm above 0, or null for none")
        if self.diverged is not None and self.diverged <= 1:
            raise ValueError(f"diverged is {self.diverged}; give a multiple above 1, such as 3, or null for never")

    def folder(self, *weights: str) -> Path:
        """The run's own folder, made where it is missing, in which it writes `<name>.safetensors` of these names.

        UserError, before anything costly, where it can't be written, or holds another's files by the names of a run's.
        """
        names = [*OWN, *(f"{file_name(each, 'the trained weights')}.safetensors" for each in weights)]
        return claim_folder(path_of(self.out), "fit.out", "training", names, FORMER)

    def rate(self, step: int) -> float:
        """The factor of the learning rate at a step, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.decay == "constant":
            return 1.0
        if self.decay == "inverse-sqrt":
            return max(self.floor, math.sqrt(max(1, self.warmup) / max(1, step)))
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2

    def generator(self, step: int, purpose: str) -> torch.Generator:
        """Host noise that is a function of (seed, step, purpose): equal on every device, and nothing to save."""
        return torch.Generator().manual_seed(key_of(self.seed, step, purpose) >> 1)

    def autocast(self, on: torch.device) -> torch.autocast:
        """The context that a forward pass runs in."""
        return torch.autocast(on.type, torch.bfloat16, enabled=computes_in_bfloat16(self.precision, on))
