"""The judge: what it learns from made-up features, what a file of it must say, and how a picture is counted."""

from __future__ import annotations

import pytest
import torch
from muse_metrics.linear import fit_linear
from muse_metrics.recognition import Recognition
from muse_metrics.train_recogniser import TrainRecogniser, top_shares

from muse_studio.errors import UserError
from muse_studio.runtime import weights

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (128, 128, 128)}


class MeanColour:
    """Features that are a picture's mean colour."""

    network, side, title = "mean colour", None, "mean colour"

    def load(self):
        return self

    def to(self, device):
        return self

    def __call__(self, images):
        return images.double().mean((2, 3)) / 255


def picture(colour, side=16, noise=0):
    image = torch.tensor(COLOURS[colour])[:, None, None].expand(3, side, side).float()
    generator = torch.Generator().manual_seed(noise)
    return (image + 20 * torch.randn(3, side, side, generator=generator)).clamp(0, 255).byte()


class Colours:
    """Plain pictures; grey ones are held out, and so are some of the others."""

    def evaluation(self, split):
        names = ["red", "green", "blue"] * 4 if split == "seen" else ["red", "grey", "blue"]
        return [{"image": picture(name, noise=index), "thing": name} for index, name in enumerate(names)]


@pytest.fixture
def trained(tmp_path):
    """A judge of colours, and what its training said."""
    path = tmp_path / "judge.safetensors"
    task = TrainRecogniser(Colours(), MeanColour(), str(path), [16, 8], epochs=200, batch=8, rate=0.05)
    return Recognition(str(path), MeanColour()), task()


def test_it_learns_what_can_be_told_apart_and_says_how_well(trained):
    judge, told = trained
    assert judge.things == ("blue", "green", "red")
    assert told.shares["seen"] == {16: (1.0, 1.0), 8: (1.0, 1.0)}
    assert told.shares["held-out"][16] == pytest.approx((2 / 3, 2 / 3)), "of grey it has seen nothing"
    assert "held-out pictures at 8 px: top-1 0.667, top-5 0.667" in told.summary()


def test_a_caption_s_thing_is_looked_for_among_the_likeliest(trained):
    judge, _ = trained
    real = torch.stack([picture("red"), picture("green"), picture("blue")])
    judge.update(real, real.roll(1, 0), ["red, noto style", "green", "grey, noto style"])
    assert judge.compute().tolist() == pytest.approx([0, 2 / 3, 2 / 3, 2 / 3])
    assert len(judge.meanings) == 4
    judge.reset()
    judge.update(real[:1], real[:1], ["red thing, noto style"])
    assert judge.compute().tolist() == [0] * 4, "a name is more than its beginning"


def test_the_longest_name_that_a_caption_begins_with_is_meant(tmp_path):
    tensors = {"weight": torch.eye(3), "bias": torch.zeros(3)}
    things = ["family", "family: man, boy", "man"]
    features = {"network": MeanColour.network, "side": None}
    weights.save(tensors, tmp_path / "judge.safetensors", {"things": things, "features": features})
    judge = Recognition(str(tmp_path / "judge.safetensors"), MeanColour())
    green = picture("green")[None]
    for caption, hit in (("family: man, boy, noto style", 1), ("family, noto style", 0), ("family: man, boys", 0)):
        judge.reset()
        judge.update(green, green, [caption])
        assert judge.compute()[0] == hit, caption


def test_shares_by_hand_and_ties_count_against_it():
    logits = torch.tensor([[3.0, 2, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 0]])
    assert top_shares(logits, [0, 0, 1, None]) == (1 / 4, 3 / 4)


def test_softmax_regression_comes_to_the_shares_of_what_it_has_seen():
    """Of one feature that takes two values, the best probabilities are the shares of the classes at each value."""
    rows = torch.tensor([[0.0]] * 40 + [[10.0]] * 40)
    classes = torch.tensor([0] * 30 + [1] * 10 + [0] * 8 + [1] * 32)
    weight, bias = fit_linear(rows, classes, 2, epochs=800, rate=0.05, decay=0.0, batch=80, seed=0)
    found = (torch.tensor([[0.0], [10.0]]) @ weight.T + bias).softmax(1)
    assert found.flatten().tolist() == pytest.approx([0.75, 0.25, 0.2, 0.8], abs=0.01)


def test_what_is_no_judge_or_another_one_s_is_refused(trained, tmp_path):
    weights.save({"weight": torch.zeros(2, 3)}, tmp_path / "other.safetensors", {})
    with pytest.raises(UserError, match="is no judge's; give a file that train-recogniser wrote"):
        Recognition(str(tmp_path / "other.safetensors"), MeanColour()).things  # noqa: B018
    with pytest.raises(UserError, match="was trained on the features"):
        Recognition(trained[0].head).things  # noqa: B018
    with pytest.raises(UserError, match="no weights at"):
        Recognition(str(tmp_path / "none.safetensors")).things  # noqa: B018


def test_pictures_without_names_are_refused(tmp_path):
    class Nameless:
        def evaluation(self, split):
            return [{"image": picture("red")}]

    for dataset in (Nameless(), []):
        with pytest.raises(UserError, match="it names nothing that its pictures show"):
            TrainRecogniser(dataset, MeanColour(), str(tmp_path / "judge.safetensors"))()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"sizes": [4]}, "sizes is"),
        ({"sizes": []}, "sizes is"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainRecogniser(Colours(), **settings)
