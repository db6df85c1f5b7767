"""Overfitting one batch, the first check of a training: nothing is dropped, and the verdict is right."""

import pytest
import torch
from muse_sampling.schedules import Cosine
from muse_training.objectives.masked import Masked
from muse_training.optimizers import Muon
from muse_training.train import Train
from muse_transformer.muse import MuseTransformer
from muse_transformer.superres import SuperResolution

from muse_studio import testing
from muse_studio.stage import Stage
from muse_studio.training.loop import Fit


class Patches:
    """Pictures of 4x4 patches of random colours; the caption, a word of its own, says which one it is."""

    def __init__(self, size=16, caption="picture{}"):
        self.size, self.caption = size, caption

    def __len__(self):
        return 40

    def __getitem__(self, index):
        patches = torch.randint(4, (3, 4, 4), generator=torch.Generator().manual_seed(index)) * 85
        repeat = self.size // 4
        image = patches.byte().repeat_interleave(repeat, 1).repeat_interleave(repeat, 2)
        return {"image": image, "caption": self.caption.format(index)}


def stages(width=16):
    torch.manual_seed(0)
    base = MuseTransformer(64, [4, 4], text_width=8, width=width, layers=2, heads=2)
    large = SuperResolution(64, [8, 8], 64, [4, 4], text_width=8, width=width, layers=1, low_layers=1, heads=2, block=2)
    rest = (Cosine(), testing.FakeSampler(), testing.FakeGuidance())
    return {
        "base": Stage(testing.FakeTokenizer(), base, *rest, 16),
        "large": Stage(testing.FakeTokenizer(), large, *rest, 32),
    }


def task(folder, rate, *, dataset=None, steps=150, width=64, stage="base", **more):
    fit = Fit(out=str(folder), steps=steps, batch=8, warmup=5, decay="constant", log_every=5, device="cpu", **more)
    shares = {"text_dropout": 0.3, "objective": Masked(0.1), "corruption": 0.5 if stage == "large" else 0.0}
    return Train(stages(width), testing.FakeTextEncoder(), dataset or Patches(), fit, Muon(rate), stage=stage, **shares)


@pytest.mark.parametrize("stage", ["base", "large"])
def test_nothing_is_dropped_corrupted_or_smoothed(tmp_path, stage):
    plain, overfit = (task(tmp_path, 1e-3, width=16, stage=stage, overfit=each).setup for each in (False, True))
    assert (plain.text_dropout, plain.objective) == (0.3, Masked(0.1))
    assert plain.corruption == (0.5 if stage == "large" else 0.0)
    assert (overfit.text_dropout, overfit.objective, overfit.corruption) == (0, Masked(), 0)


@pytest.mark.slow
def test_a_sound_training_learns_a_batch_by_heart(tmp_path):
    history = task(tmp_path, 1e-2, overfit=True)(testing.RecordingObserver())
    assert history.rows[-1]["loss"] < 0.1
    assert history.summary().splitlines()[-1].startswith("overfit: the loss came to 0.0")


@pytest.mark.slow
def test_captions_that_are_all_alike_are_found_out(tmp_path):
    history = task(tmp_path, 1e-2, dataset=Patches(caption="a picture"), overfit=True)(testing.RecordingObserver())
    last = history.summary().splitlines()[-1]
    assert last.startswith("overfit: the loss stays at ") and "two records of the batch have one caption" in last
