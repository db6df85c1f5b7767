"""Runs small training runs as one process of a team: `torchrun teamwork.py CASES.json`, or in the test's own process.

Each case is a dict: what is trained (`of`), `fit` and other settings. Losses go to `<out>/rows.json`.
"""

import json
import sys
from pathlib import Path

import torch
from muse_sampling.schedules import Cosine
from muse_sampling.token_critic import TokenCritic
from muse_training.adafactor import Adafactor
from muse_training.objectives.critic import TokenCritic as TokenCriticLoss
from muse_training.objectives.diffusion import MDLM
from muse_training.objectives.masked import Masked, MaskGIT
from muse_training.optimizers import AdamW, Muon
from muse_training.train import Train
from muse_transformer.critic import Critic
from muse_transformer.muse import MuseTransformer
from muse_transformer.superres import SuperResolution
from muse_vqgan.adversarial import Adversarial
from muse_vqgan.quantizers.vector import VectorQuantizer
from muse_vqgan.train import TrainTokenizer
from muse_vqgan.vqgan import VQGAN

from muse_studio import testing
from muse_studio.runtime import launch
from muse_studio.stage import Stage
from muse_studio.training.distributed import join
from muse_studio.training.loop import Fit
from muse_studio.training.parallel import Parallel

OBJECTIVES = {"critic": TokenCriticLoss, "mdlm": MDLM, "maskgit": MaskGIT}
OPTIMIZERS = {"adamw": AdamW, "adafactor": Adafactor, "muon": Muon}


class Noise:
    """Random pictures, each under a caption of its own."""

    def __init__(self, size, count=40):
        self.size, self.count = size, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (3, self.size, self.size), generator=generator, dtype=torch.uint8)
        return {"image": image, "caption": f"picture {index}"}


def stage(transformer, size, critic=None):
    sampler = testing.FakeSampler() if critic is None else TokenCritic(critic=critic)
    return Stage(testing.FakeTokenizer(), transformer, Cosine(), sampler, testing.FakeGuidance(), size)


def stages(refines, checkpointing, judged):
    torch.manual_seed(0)
    more = {"text_width": 8, "width": 16, "layers": 2, "heads": 2, "checkpointing": checkpointing}
    base = MuseTransformer(64, [2, 2], **more)
    made = {"base": stage(base, 8, Critic(64, [2, 2], **more) if judged else None)}
    if refines:
        low = {"low_codebook_size": 64, "low_grid": [2, 2], "low_layers": 2, "block": 2}
        made["large"] = stage(SuperResolution(64, [4, 4], **low, **more), 16)
    return made


def task(case):
    fit = {"steps": 20, "batch": 8, "log_every": 1, "checkpoint_every": 4, "device": "cpu", "decay": "constant"}
    fit |= {"out": case["out"]} | case.get("fit", {})
    fit["parallel"] = Parallel(**fit.get("parallel", {}))
    optimizer = OPTIMIZERS[case.get("optimizer", "adamw")](3e-3)
    if case["of"] in ("tokenizer", "adversaries"):
        torch.manual_seed(0)
        sizes = {"codebook_size": 16, "code_width": 4, "channels": 8, "multipliers": [1, 1], "blocks": 1}
        tokenizer = VQGAN(**sizes, quantizer=VectorQuantizer(ema=0.8, revive_after=2))
        adversarial = Adversarial(start=3, channels=4, levels=2, strength=0.5) if case["of"] == "adversaries" else None
        return TrainTokenizer(tokenizer, Noise(8), Fit(**fit), optimizer, adversarial=adversarial)
    refines, judged = case["of"] == "superres", case["of"] == "critic"
    objective = OBJECTIVES.get(case["of"], Masked)()
    more = {"stage": "large", "corruption": 0.5} if refines else {"stage": "base", "objective": objective}
    parts = stages(refines, case.get("checkpointing", False), judged)
    return Train(parts, testing.FakeTextEncoder(), Noise(16 if refines else 8), Fit(**fit), optimizer, **more)


def run(case):
    history = task(case)(testing.RecordingObserver())
    if launch.is_main():
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in history.rows]
        (Path(case["out"]) / "rows.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    with join("cpu", patience=60):  # one process group for all of them: torch makes none twice
        for each in json.loads(Path(sys.argv[1]).read_text()):
            run(each)
