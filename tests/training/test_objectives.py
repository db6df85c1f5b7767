"""Objectives against formulas written out number by number, and what a run does with them."""

import itertools
import json
import math

import pytest
import torch
from muse_sampling.schedules import Cosine, Linear
from muse_training.data.tokens import Tokens
from muse_training.learner import Step
from muse_training.objectives import diffusion
from muse_training.objectives.alignment import Repa, plane_of
from muse_training.objectives.critic import TokenCritic
from muse_training.objectives.diffusion import MDLM, DiscreteFlow
from muse_training.objectives.distillation import Distillation
from muse_training.objectives.figures import SHARE, by_share
from muse_training.objectives.masked import Masked, MaskGIT
from muse_training.optimizers import AdamW
from muse_training.train import Train
from muse_transformer.muse import MuseTransformer
from runs import check_same_files, rows
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from muse_studio import testing
from muse_studio.contracts import MASK, Batch
from muse_studio.errors import PluginError, UserError
from muse_studio.sampling.masking import hide
from muse_studio.stage import Stage
from muse_studio.training.loop import Fit

CODES, GRID, COUNT = 3, (2, 2), 4


def chance(seed=0):
    return lambda name: torch.Generator().manual_seed(seed * 1000 + sum(name.encode()))


def batch(lots, tokens, rows=slice(None)):
    count = len(lots.hidden)
    weight = count if lots.weight is None else lots.weight.sum()
    noise = {name: each[rows] for name, each in lots.noise.items()}
    scale = torch.as_tensor(count / len(tokens[rows]) / weight, dtype=torch.float64)
    text = testing.embedding(len(tokens[rows]))
    return Batch(tokens[rows], text, None, lots.hidden[rows], noise, scale, count)


def example(seed=3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(COUNT, *GRID, CODES, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.randint(CODES, (COUNT, *GRID), generator=generator)


def each_place(logits, tokens, hidden, pay):
    """The sums of `pay(chances of a place, its code)` over each picture's hidden places, in Python's numbers."""
    totals = []
    for row in range(COUNT):
        total = 0.0
        for y, x in itertools.product(*map(range, GRID)):
            if hidden[row, y, x]:
                exps = [math.exp(value) for value in logits[row, y, x].tolist()]
                total += pay([value / sum(exps) for value in exps], int(tokens[row, y, x]))
        totals.append(total)
    return totals


def crossed(chances, code, smoothing=0.0):
    return -(1 - smoothing) * math.log(chances[code]) - smoothing * sum(map(math.log, chances)) / CODES


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_masked_is_the_mean_of_all_hidden_tokens(smoothing):
    objective, (logits, tokens) = Masked(smoothing), example()
    lots = objective.draw(COUNT, GRID, Cosine(), chance())
    loss, _ = objective(batch(lots, tokens), lambda asked: logits)
    paid = each_place(logits, tokens, lots.hidden, lambda *place: crossed(*place, smoothing))
    assert loss.item() == pytest.approx(sum(paid) / lots.hidden.sum().item(), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_maskgit_is_the_mean_of_each_picture_s_mean(smoothing):
    objective, (logits, tokens) = MaskGIT(smoothing), example()
    lots = objective.draw(COUNT, GRID, Cosine(), chance())
    loss, figures = objective(batch(lots, tokens), lambda asked: logits)
    counts = lots.hidden.flatten(1).sum(1).tolist()
    paid = each_place(logits, tokens, lots.hidden, lambda *place: crossed(*place, smoothing))
    assert len(set(counts)) > 1 and loss.item() == pytest.approx(
        sum(pay / count for pay, count in zip(paid, counts, strict=True)) / COUNT, rel=1e-6
    )
    right = each_place(logits, tokens, lots.hidden, lambda chances, code: float(max(chances) == chances[code]))
    wanted = sum(part / count for part, count in zip(right, counts, strict=True)) / COUNT
    assert figures["accuracy"].item() == pytest.approx(wanted)


@pytest.mark.parametrize("schedule", [Cosine(), Linear()])
def test_mdlm_weighs_each_picture_by_how_fast_the_hidden_share_falls(schedule):
    objective, (logits, tokens) = MDLM(), example()
    lots = objective.draw(COUNT, GRID, schedule, chance())
    loss, _ = objective(batch(lots, tokens), lambda asked: logits)
    first = torch.rand(1, generator=chance()("time"), dtype=torch.float64).item()
    times = [(first + row / COUNT) % 1 * diffusion.LAST for row in range(COUNT)]
    turned = math.pi / 2
    weights = {
        Cosine: [turned * math.tan(turned * u) for u in times],
        Linear: [1 / (1 - u) for u in times],
    }[type(schedule)]
    assert lots.noise["weight"].tolist() == pytest.approx(weights, rel=1e-5)
    paid = each_place(logits, tokens, lots.hidden, crossed)
    wanted = sum(weight * pay for weight, pay in zip(weights, paid, strict=True)) / (COUNT * 4)
    assert loss.item() == pytest.approx(wanted, rel=1e-5)


def test_discrete_flow_weighs_nothing_and_counts_every_token():
    objective, (logits, tokens) = DiscreteFlow(), example()
    lots = objective.draw(COUNT, GRID, Cosine(), chance())
    loss, _ = objective(batch(lots, tokens), lambda asked: logits)
    assert loss.item() == pytest.approx(sum(each_place(logits, tokens, lots.hidden, crossed)) / (COUNT * 4), rel=1e-6)


def test_times_are_even_and_each_token_is_hidden_for_itself():
    times = diffusion.even_times(1000, torch.Generator().manual_seed(0))
    assert ((times / diffusion.LAST * 1000).floor().long().bincount(minlength=1000) == 1).all()
    hidden = diffusion.hide_each(torch.tensor([0.1, 0.9]), (200, 200), torch.Generator().manual_seed(0))
    assert hidden.float().mean((1, 2)).tolist() == pytest.approx([0.1, 0.9], abs=0.01)


@pytest.mark.parametrize("objective", [Masked(0.1), MaskGIT(), MDLM(), DiscreteFlow()], ids=str)
def test_gradients_are_those_of_the_loss(objective):
    logits, tokens = example()
    lots = objective.draw(COUNT, GRID, Cosine(), chance())
    assert torch.autograd.gradcheck(lambda given: objective(batch(lots, tokens), lambda asked: given)[0], logits)


class Joint:
    """A distribution over four places of three codes, by number of the picture, and its conditionals."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        self.chances = torch.rand(CODES**4, generator=generator, dtype=torch.float64) ** 3
        self.chances /= self.chances.sum()
        self.pictures = torch.tensor(list(itertools.product(range(CODES), repeat=4)))

    def logits(self, grids):
        """The logarithm of p(code | what is known) at each place of int64[B, 2, 2]."""
        flat = grids.flatten(1)
        fits = ((flat[:, None] == MASK) | (flat[:, None] == self.pictures)).all(-1) * self.chances
        each = torch.stack([(fits[:, :, None] * (self.pictures == code)).sum(1) for code in range(CODES)], -1)
        return (each / fits.sum(1)[:, None, None]).clamp(min=1e-300).log().view(len(grids), 2, 2, CODES)


@pytest.mark.parametrize("schedule", [Cosine(), Linear()])
def test_mdlm_s_bound_is_never_below_the_data_s_own_and_is_it_for_the_true_model(schedule):
    """All pictures, all masks, and the times by quadrature: the very mean of what `mdlm` estimates."""
    joint, wrong = Joint(1), Joint(2)
    entropy = -(joint.chances * joint.chances.log()).sum().item() / 4
    masks = torch.tensor(list(itertools.product([False, True], repeat=4)))
    tokens = joint.pictures.repeat_interleave(len(masks), 0).view(-1, 2, 2)
    hidden = masks.repeat(len(joint.pictures), 1).view(-1, 2, 2)
    chances, noise = joint.chances.repeat_interleave(len(masks)), {SHARE: by_share(hidden, hidden)}
    text, places = testing.embedding(len(tokens)), 400

    def bound(model):
        answers, total = model.logits(hide(tokens, hidden)), 0.0
        for u in (torch.arange(places, dtype=torch.float64) + 0.5) / places:
            share, fall = diffusion.share_and_fall(schedule, u[None])
            likely = (share ** masks.sum(1) * (1 - share) ** (4 - masks.sum(1))).repeat(len(joint.pictures))
            given = noise | {"weight": fall / share * likely * chances / places}
            seen = Batch(tokens, text, None, hidden, given, torch.tensor(1.0, dtype=torch.float64), len(tokens))
            total += MDLM()(seen, lambda asked: answers)[0].item()
        return total

    assert bound(joint) == pytest.approx(entropy, abs=1e-4)
    assert bound(wrong) > entropy + 0.01


def test_distillation_is_the_teacher_s_divergence_from_the_student():
    logits, tokens = example()
    wanted = torch.randn(2, COUNT, *GRID, CODES, generator=torch.Generator().manual_seed(9), dtype=torch.float64)

    class Teacher:
        codebook_size = CODES

        def condition(self, text, low=None):
            return (text.mask,)

        def __call__(self, asked, conditioning):
            assert (asked == MASK).any()
            return wanted[0 if conditioning[0].any() else 1]

    for guidance, temperature in ((0.0, 1.0), (2.0, 3.0)):
        objective = Distillation(Teacher(), guidance, temperature)
        lots = objective.draw(COUNT, GRID, Cosine(), chance())
        loss, _ = objective(batch(lots, tokens), lambda asked: logits)
        told = (1 + guidance) * wanted[0] - guidance * wanted[1]
        total = 0.0
        for row, y, x in lots.hidden.nonzero().tolist():
            theirs, ours = ([math.exp(v / temperature) for v in each[row, y, x].tolist()] for each in (told, logits))
            theirs, ours = ([v / sum(each) for v in each] for each in (theirs, ours))
            total += temperature**2 * sum(p * math.log(p / q) for p, q in zip(theirs, ours, strict=True))
        assert loss.item() == pytest.approx(total / lots.hidden.sum().item(), rel=1e-5)


def test_a_student_that_is_its_teacher_pays_nothing():
    teacher = testing.FakeTransformer()
    objective = Distillation(teacher)
    lots = objective.draw(COUNT, GRID, Cosine(), chance())
    seen = batch(lots, torch.randint(64, (COUNT, *GRID)))
    loss, figures = objective(seen, lambda tokens: teacher(tokens, teacher.condition(seen.text)))
    assert abs(loss.item()) < 1e-6 and figures["accuracy"].item() == pytest.approx(1)
    assert not any(weight.requires_grad for weight in teacher.parameters())


class Seeing:
    """A vision network of two layers, whose last one is the picture's mean colours."""

    def __init__(self, network, setting):
        pass

    def to(self, device):
        return self

    def __call__(self, pixels, output_hidden_states):
        return type("Told", (), {"hidden_states": (pixels, nn.functional.avg_pool2d(pixels, 4))})


class Noise:
    def __init__(self, count=12):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (3, 8, 8), generator=generator, dtype=torch.uint8)
        return {"image": image, "caption": f"picture {index}"}


def stage():
    torch.manual_seed(0)
    model = MuseTransformer(64, [2, 2], text_width=8, width=16, layers=3, heads=2)
    return Stage(testing.FakeTokenizer(), model, Cosine(), testing.FakeSampler(), testing.FakeGuidance(), 8)


def task(folder, objective, dataset=None, **more):
    fit = {"out": str(folder), "steps": 6, "batch": 4, "log_every": 1, "checkpoint_every": 2, "device": "cpu"}
    stages, data = {"base": stage()}, Noise() if dataset is None else dataset
    fit = Fit(**fit | more.pop("fit", {}))
    return Train(stages, testing.FakeTextEncoder(), data, fit, AdamW(3e-3), objective=objective, **more)


def repa(monkeypatch, **more):
    monkeypatch.setattr("muse_training.objectives.alignment.load_vision", Seeing)
    torch.manual_seed(5)
    return Repa(**{"network": "seeing", "channels": 3, "width": 16, "layer": 1, "hidden": 8} | more)


def test_repa_by_hand(monkeypatch):
    objective, made = repa(monkeypatch, weight=0.25), stage()
    lots = objective.draw(COUNT, GRID, Cosine(), chance())
    pixels = torch.rand(COUNT, 3, 8, 8)
    tokens, text = made.encode(pixels), testing.embedding(COUNT)
    scale = 1 / lots.weight.sum()
    step = Step(made.transformer, objective)
    loss, figures = step(tokens, text, None, lots.hidden, lots.noise, scale, COUNT, pixels)
    seen = Batch(tokens, text, None, lots.hidden, lots.noise, scale, COUNT)
    with torch.no_grad():
        states = []
        hook = made.transformer.blocks[1].register_forward_hook(lambda module, given, out: states.append(out))
        logits = made.transformer(hide(tokens, lots.hidden), made.transformer.condition(text))
        hook.remove()
    plain, _ = Masked()(seen, lambda asked: logits)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    features = nn.functional.avg_pool2d((pixels - mean) / std, 4).movedim(1, -1).flatten(1, 2)
    said = objective.project(states[0])
    alike = (nn.functional.normalize(said, dim=-1) * nn.functional.normalize(features, dim=-1)).sum(-1).mean()
    assert figures["alignment"].item() == pytest.approx(alike.item(), abs=1e-5)
    assert loss.item() == pytest.approx((plain - 0.25 * alike).item(), abs=1e-5)


def test_what_an_objective_learns_is_kept_in_checkpoints_and_not_shipped(tmp_path, monkeypatch):
    before = repa(monkeypatch).state_dict()["project.0.weight"].clone()
    through = task(tmp_path / "a", repa(monkeypatch))(testing.RecordingObserver())
    with pytest.raises(RuntimeError, match="power"):
        task(tmp_path / "b", repa(monkeypatch))(testing.RecordingObserver(dies_at=3))
    resumed = task(tmp_path / "b", repa(monkeypatch))(testing.RecordingObserver())
    assert rows(through) == rows(resumed)
    check_same_files(tmp_path / "a", tmp_path / "b")
    kept = load_file(tmp_path / "a" / "checkpoints" / "step-0000006" / "objective.safetensors")
    assert not torch.equal(kept["project.0.weight"], before)
    with safe_open(through.weights, "pt") as file:
        assert not any("project." in name and "attention" not in name for name in file.keys())  # noqa: SIM118


def test_features_without_a_plane_lose_their_class_tokens():
    features = torch.arange(2 * 3 * 10.0).view(2, 3, 10, 1)
    assert torch.equal(plane_of(features).flatten(2), features[:, :, 1:, 0])
    assert plane_of(torch.rand(2, 3, 4, 4)).shape == (2, 3, 4, 4)


@pytest.mark.parametrize("objective", [MaskGIT(), MDLM(), DiscreteFlow()], ids=str)
def test_parts_of_a_step_change_nothing(tmp_path, objective):
    whole = task(tmp_path / "a", objective)(testing.RecordingObserver())
    parts = task(tmp_path / "b", objective, fit={"accumulate": 4})(testing.RecordingObserver())
    for one, other in zip(rows(whole), rows(parts), strict=True):
        assert one == pytest.approx(other, rel=1e-4, nan_ok=True)


def test_a_distilled_student_learns(tmp_path):
    history = task(tmp_path, Distillation(stage().transformer), fit={"steps": 2})(testing.RecordingObserver())
    assert history.rows[0]["loss"] == pytest.approx(0, abs=1e-5), "it begins as its teacher, with the same seed"


def test_a_teacher_of_other_codes_is_refused(tmp_path):
    with pytest.raises(UserError, match="the teacher gives 5 codes, the transformer 64; give the teacher's codebook"):
        task(tmp_path, Distillation(testing.FakeTransformer(codebook_size=5)))(testing.RecordingObserver())


def test_pictures_that_are_not_there_are_refused(tmp_path, monkeypatch):
    message = "Repa needs the pictures themselves, of which a cache or a data set of tokens keeps none"
    for more in ({"dataset": Tokens(str(tmp_path))}, {"cache": str(tmp_path)}):
        with pytest.raises(ValueError, match=message):
            task(tmp_path / "run", repa(monkeypatch), **more)


def test_a_layer_that_is_not_there_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="Repa wants the states of layer 7, and the transformer has 3 layers"):
        task(tmp_path, repa(monkeypatch, layer=7))(testing.RecordingObserver())


@pytest.mark.parametrize("former", [{"smoothing": 0.1}, {"critic": True}])
def test_former_settings_are_taken_and_told(tmp_path, former):
    made = stage()
    if "critic" in former:
        from muse_sampling.token_critic import TokenCritic as Sampler
        from muse_transformer.critic import Critic

        made.sampler = Sampler(critic=Critic(64, [2, 2], text_width=8, width=16, layers=1, heads=2))
    fit = Fit(out=str(tmp_path), steps=1, batch=2, device="cpu")
    with pytest.warns(DeprecationWarning, match="is deprecated; write objective: "):
        trained = Train({"base": made}, testing.FakeTextEncoder(), Noise(), fit, AdamW(), **former)
    assert trained.setup.objective == (TokenCritic() if "critic" in former else Masked(0.1))
    with pytest.raises(ValueError, match="can't be beside each other or an objective; give objective alone"):
        Train({"base": made}, testing.FakeTextEncoder(), Noise(), fit, AdamW(), objective=Masked(), **former)


WRONG = {
    "no pair": ("return batch.tokens.sum()", r"it gives int64\[\]; give the loss and a table of figures"),
    "no scalar": ("return model(batch.tokens).sum(-1), {}", r"it gives float32\[.*\], where float\[\] is due"),
    "a whole number": ("return batch.tokens.sum(), {}", r"it gives int64\[\], where float\[\] is due"),
    "a figure of several": ("return model(batch.tokens).sum(), {'a': batch.hidden}", "its figure 'a' is bool"),
    "no number": (
        "return model(batch.tokens).mean() * float('nan'), {}",
        "its loss is nan, and all that the model said",
    ),
    "no end": (
        "return model(batch.tokens).mean() + float('inf'), {}",
        "its loss is inf, and all that the model said is",
    ),
    "a bug": ("return batch.nothing, {}", "AttributeError: 'Batch' object has no attribute 'nothing'"),
}
PLUGIN = """
from dataclasses import dataclass
from muse_studio import hookimpl
from muse_studio.contracts import Lots
from muse_studio.sampling.masking import mask_tokens

@dataclass
class Odd:
    '''Is odd.'''

    def draw(self, count, grid, schedule, chance):
        return Lots(mask_tokens(count, grid, schedule, chance("mask")))

    def __call__(self, batch, model):
        {body}

@hookimpl
def muse_objectives():
    return {{"odd": Odd}}
"""


@pytest.mark.parametrize("case", WRONG)
def test_what_a_plugin_s_objective_gets_wrong_is_named_as_the_plugin_s(tmp_path, monkeypatch, case):
    from PIL import Image

    import muse_studio

    monkeypatch.chdir(tmp_path)
    body, message = WRONG[case]
    (tmp_path / "odd.py").write_text(PLUGIN.format(body=body))
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "pictures" / "red.png")
    small = {"width": 16, "layers": 1, "heads": 2, "weights": None}
    recipe = {
        "extends": "train-emoji-base",
        "stages": {"base": {"transformer": small}},
        "dataset": {"use": "folder", "path": "pictures", "size": 64},
        "objective": "odd",
        "cache": None,
        "fit": {"out": "run", "steps": 1, "batch": 1, "device": "cpu"},
    }
    with pytest.raises(PluginError, match=message) as caught:
        muse_studio.run(recipe, plugins=["odd.py"])
    assert "odd.py:" in str(caught.value) and json.dumps("odd")[1:-1] in str(caught.value)


WANTS = {
    "pixels = True": "needs the pictures themselves, of which a cache or a data set of tokens keeps none",
    "layer = 9": "wants the states of layer 9, and the transformer has 1 layers",
}


@pytest.mark.parametrize("wants", WANTS)
def test_what_a_plugin_s_objective_asks_for_and_is_not_there_is_told_with_its_place(tmp_path, monkeypatch, wants):
    import muse_studio

    monkeypatch.chdir(tmp_path)
    text = PLUGIN.format(body="return model(batch.tokens).mean() * batch.scale, {}")
    (tmp_path / "odd.py").write_text(text.replace("    def draw", f"    {wants}\n\n    def draw", 1))
    recipe = {
        "extends": "train-emoji-base",
        "stages": {"base": {"transformer": {"width": 16, "layers": 1, "heads": 2, "weights": None}}},
        "objective": "odd",
        "fit": {"out": "run", "steps": 1, "batch": 1, "device": "cpu"},
    }
    with pytest.raises(UserError) as caught:
        muse_studio.run(recipe, [{} if wants.startswith("pixels") else {"cache": None}], plugins=["odd.py"])
    assert WANTS[wants] in str(caught.value) and "objective 'odd' of plugin odd" in str(caught.value)
    assert "odd.py:7" in str(caught.value)
