"""More processes than any test machine has: 512 of them share the paper's 3B model, all but one of them pretended."""

import subprocess
import sys

import pytest

SCRIPT = """
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from muse_studio.recipe.build import build
from muse_studio.contracts import Transformer
from muse_studio.training.parallel import Parallel, shard
from muse_studio.recipe.merging import load
from muse_studio.registry.plugins import Registry
from muse_training.learner import Step
from muse_training.objectives.masked import Masked
from muse_training.optimizers import AdamW

settings = load("models/muse-3b").plain()["stages"]["base"]["transformer"] | {{"weights": None}}
with torch.device("meta"):
    transformer = build(load(settings), Registry(), Transformer)
dist.init_process_group("fake", store=FakeStore(), rank=3, world_size=512)
step = Step(transformer, Masked())
shard(step, 512, "cpu", Parallel("fsdp", replicas={replicas}))
whole = sum(parameter.numel() for parameter in transformer.parameters())
mine = sum(parameter.to_local().numel() for parameter in transformer.parameters())
placed = {{str(parameter.placements) for parameter in transformer.parameters()}}
print(whole, mine, len(placed))
AdamW()(transformer)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("replicas", "shards"), [(1, 512), (8, 64)])
def test_512_processes_share_the_3b_model(replicas, shards):
    code = SCRIPT.format(replicas=replicas)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    whole, mine, placements = map(int, done.stdout.split())
    assert whole > 3e9
    assert mine / whole == pytest.approx(1 / shards, rel=0.01)
    assert placements == 1
