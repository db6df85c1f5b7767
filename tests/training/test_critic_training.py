"""Training a critic: its loss by hand, what it is shown, that it learns and resumes, and that the generator stays."""

import math

import pytest
import torch
from muse_sampling.schedules import Cosine
from muse_sampling.token_critic import TokenCritic
from muse_training.adapters import LoRA
from muse_training.learner import Step
from muse_training.objectives.critic import TokenCritic as Objective
from muse_training.objectives.critic import telling_loss
from muse_training.objectives.figures import SHARE, by_share
from muse_training.optimizers import AdamW, Muon
from muse_training.samples import Samples
from muse_training.train import Train
from muse_transformer.critic import Critic, SuperResolutionCritic
from runs import check_same_files, rows
from safetensors.torch import load_file
from torch import nn

from muse_studio import testing
from muse_studio.contracts import MASK
from muse_studio.stage import Stage
from muse_studio.training.loop import Fit

SMALL = {"codebook_size": 64, "text_width": 8, "width": 16, "layers": 1, "heads": 2}


FAKES = testing.FakeSampler(), testing.FakeGuidance()


class Greys:
    """Pictures of 4x4 squares, each white or black by lot: tokens 0 and 63 alone."""

    def __init__(self, size=16, count=24):
        self.size, self.count = size, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        squares = torch.randint(2, (1, 4, 4), generator=torch.Generator().manual_seed(index)).byte() * 255
        side = self.size // 4
        image = squares.repeat_interleave(side, 1).repeat_interleave(side, 2).expand(3, -1, -1)
        return {"image": image.clone(), "caption": "squares"}


def parts(critic=None, transformer=None):
    torch.manual_seed(0)
    critic = Critic(grid=[4, 4], **SMALL) if critic is None else critic
    transformer = testing.FakeTransformer() if transformer is None else transformer
    sampler = TokenCritic(3, critic=critic)
    return Stage(testing.FakeTokenizer(), transformer, Cosine(), sampler, testing.FakeGuidance(), 16)


def task(folder, stages=None, dataset=None, **more):
    fit = {"out": str(folder), "steps": 9, "batch": 8, "log_every": 1, "checkpoint_every": 3, "device": "cpu"}
    fit |= more.pop("fit", {})
    stages = stages or {"base": parts()}
    settings = {"objective": Objective(), "optimizer": AdamW(3e-3)} | more
    return Train(stages, testing.FakeTextEncoder(), dataset or Greys(), Fit(**fit), **settings)


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_the_loss_by_hand():
    scores = torch.tensor([[2.0, -1.0], [0.5, -3.0]]).view(1, 2, 2, 1)
    sampled = torch.tensor([[[False, False], [True, True]]])
    loss, right = telling_loss(scores, sampled)
    each = [math.log(1 + math.exp(x)) for x in (-2.0, 1.0, 0.5, -3.0)]
    assert loss.item() == pytest.approx(sum(each))
    assert right.tolist() == [2]


def test_the_critic_sees_the_picture_with_the_hidden_tokens_drawn():
    """Where nothing is hidden it is the picture; where something is, codes come as often as the generator says."""
    seen = []

    class Noted(testing.FakeTransformer):
        def forward(self, tokens, conditioning):
            seen.append(tokens)
            return super().forward(tokens, conditioning)[..., :1]

    chances = torch.tensor([0.1, 0.6, 0.3])

    class Fixed(testing.FakeTransformer):
        def forward(self, tokens, conditioning):
            asked.append(tokens)
            return chances.log().expand(*tokens.shape, 3)

    asked, generator = [], torch.Generator().manual_seed(0)
    tokens, hidden = torch.full((400, 4, 4), 7), torch.rand(400, 4, 4, generator=generator) < 0.5
    noise = {"uniform": torch.rand(400, 4, 4, generator=generator), SHARE: by_share(hidden, torch.ones_like(hidden))}
    step = Step(Noted(), Objective(), Fixed())
    step(tokens, testing.embedding(400), None, hidden, noise, torch.tensor(1.0), 400)
    (shown,), (filled,) = asked, seen
    assert torch.equal(shown, torch.where(hidden, MASK, tokens))
    assert (filled[~hidden] == 7).all() and filled[hidden].max() <= 2
    drawn = torch.bincount(filled[hidden], minlength=3) / hidden.sum()
    torch.testing.assert_close(drawn, chances, atol=0.03, rtol=0)


@pytest.mark.parametrize(
    "more", [{}, {"fit": {"ema": 0.9, "accumulate": 2}, "optimizer": Muon(1e-3)}], ids=["plain", "average"]
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, more):
    through = task(tmp_path / "a", **more)(testing.RecordingObserver())
    for step in (2, 5, 8):
        with pytest.raises(RuntimeError, match="power"):
            task(tmp_path / "b", **more)(testing.RecordingObserver(dies_at=step))
    resumed = task(tmp_path / "b", **more)(testing.RecordingObserver())
    assert rows(through) == rows(resumed)
    check_same_files(tmp_path / "a", tmp_path / "b")


def test_how_many_parts_a_step_is_worked_through_in_changes_nothing(tmp_path):
    whole = task(tmp_path / "a")(testing.RecordingObserver())
    halves = task(tmp_path / "b", fit={"accumulate": 4})(testing.RecordingObserver())
    for one, other in zip(rows(whole), rows(halves), strict=True):
        assert one == pytest.approx(other, rel=1e-4, nan_ok=True)


class Stranger(testing.FakeTransformer):
    """Draws code 21 in nine of ten places, which no picture of Greys has, and 0 in the others."""

    def forward(self, tokens, conditioning):
        logits = torch.full((*tokens.shape, 64), -torch.inf)
        logits[..., 21], logits[..., 0] = math.log(0.9), math.log(0.1)
        return logits


def test_it_learns_to_tell_codes_that_no_picture_has(tmp_path):
    stage = parts(transformer=Stranger())
    history = task(tmp_path, {"base": stage}, fit={"steps": 50}, optimizer=AdamW(2e-2))(testing.RecordingObserver())
    first, last = history.rows[0], history.rows[-1]
    assert first["loss"] == pytest.approx(math.log(2), abs=0.1)
    assert last["loss"] < 0.35 and last["accuracy"] > 0.9
    assert history.weights.name == "critic.safetensors"
    grid = Greys()[0]["image"].float()[None] / 255
    tokens = stage.tokenizer.encode(grid)
    tokens[0, 1, 2] = 21
    with torch.no_grad():
        scores = stage.critic(tokens, stage.critic.condition(testing.FakeTextEncoder()(["squares"])))
    assert scores.flatten().argmin() == 1 * 4 + 2 and scores[0, 1, 2] < -2


def test_only_the_critic_is_trained_and_only_it_is_kept(tmp_path):
    stage = parts()
    generator, critic = state(stage.transformer), state(stage.critic)
    history = task(tmp_path, {"base": stage}, fit={"steps": 3})(testing.RecordingObserver())
    assert all(torch.equal(tensor, generator[name]) for name, tensor in stage.transformer.state_dict().items())
    assert all(weight.grad is None for weight in stage.transformer.parameters())
    assert any(not torch.equal(tensor, critic[name]) for name, tensor in stage.critic.state_dict().items())
    assert load_file(history.weights).keys() == critic.keys()
    (kept,) = (tmp_path / "checkpoints").glob("*3")
    assert {file.name for file in kept.glob("*.safetensors")} == {
        "critic.safetensors",
        "transformer.optimizer.safetensors",
    }


def test_a_dropout_of_the_generator_is_off(tmp_path):
    class Dropping(testing.FakeTransformer):
        def __init__(self):
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def forward(self, tokens, conditioning):
            modes.append(self.dropout.training)
            return super().forward(tokens, conditioning)

    modes = []
    task(tmp_path, {"base": parts(transformer=Dropping())}, fit={"steps": 2})(testing.RecordingObserver())
    assert modes[-2:] == [False, False]


def test_a_second_stage_s_critic_is_given_the_smaller_tokens(tmp_path):
    critic = SuperResolutionCritic(grid=[4, 4], low_codebook_size=64, low_grid=[2, 2], low_layers=1, block=2, **SMALL)
    given, condition = [], critic.condition
    critic.condition = lambda text, low=None: given.append(low) or condition(text, low)
    base = Stage(testing.FakeTokenizer(), testing.FakeTransformer(), Cosine(), *FAKES, 8)
    made = task(tmp_path, {"base": base, "large": parts(critic)}, stage="large", corruption=0.5, fit={"steps": 2})
    assert made(testing.RecordingObserver()).weights.name == "critic.safetensors"
    assert [low.shape for low in given] == [(1, 2, 2), (8, 2, 2), (8, 2, 2)]  # the first one tries the parts out


def test_sheets_show_what_is_drawn_with_it(tmp_path):
    asked, stage = [], parts()
    forward = stage.critic.forward
    stage.critic.forward = lambda *given: asked.append(stage.critic.training) or forward(*given)
    task(tmp_path, {"base": stage}, samples=Samples(2, ["squares"]), fit={"steps": 2})(testing.RecordingObserver())
    assert (tmp_path / "samples" / "step-0000002.png").is_file()
    assert asked == [True, True, True, False, False, False]  # the first one tries the parts out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"adapter": LoRA()},
            "adapter is for training the transformer, and the objective trains a critic",
        ),
        ({"smoothing": 0.1}, "smoothing: 0.1 can't be beside each other or an objective; give objective alone"),
    ],
)
def test_settings_that_can_not_be(tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        task(tmp_path, **more)


def test_a_stage_without_a_critic_is_told_how_to_get_one(tmp_path):
    stage = parts()
    stage.sampler = testing.FakeSampler()
    wanted = r"the objective trains a critic, but the sampler of 'base' asks none; .*stages\.base\.sampler="
    with pytest.raises(ValueError, match=wanted):
        task(tmp_path, {"base": stage})
