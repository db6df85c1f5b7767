import json
import math

import pytest
import torch
from muse_tasks.evaluate.records import load
from muse_tasks.evaluate.task import Evaluate
from PIL import Image

from muse_studio.errors import UserError
from muse_studio.runtime.files import MARK
from muse_studio.testing.fakes import FakeSampler, FakeTokenizer, FakeTransformer

TOTAL, HELD_OUT = 40, 8
TOKENS = torch.randint(64, (TOTAL, 4, 4), generator=torch.Generator().manual_seed(0))
PICTURES = (FakeTokenizer().decode(TOKENS) * 255).round().byte()


class Numbered:
    """40 pictures that the fake tokenizer keeps without loss, in two groups; each caption is its picture's number."""

    def evaluation(self, split):
        numbers = range(HELD_OUT) if split == "held-out" else range(HELD_OUT, TOTAL)
        return [{"image": PICTURES[i], "caption": str(i), "group": "even" if i % 2 == 0 else "odd"} for i in numbers]


PLAIN = [{"image": picture, "caption": str(number)} for number, picture in enumerate(PICTURES)]
"""The same as a data set without splits."""


@pytest.fixture
def knowing(make_stage, knows):
    """Knows every seen picture by heart, and takes a held-out one for the next held-out one of its group."""

    def takes(number):
        return torch.where(number < HELD_OUT, (number + 2) % HELD_OUT, number)

    return {"base": make_stage(16, transformer=knows(TOKENS, takes))}


def test_a_model_that_knows_the_seen_pictures_alone_scores_so(knowing, numbers, tmp_path):
    result = Evaluate(knowing, numbers, Numbered(), n=20, batch=7, out=str(tmp_path))()
    metrics = result.metrics
    assert metrics["n"] == {"seen": 20, "held-out": HELD_OUT}
    assert metrics["gallery"] == {"even": 20, "odd": 20}
    seen, held_out = metrics["retrieval"]["base"]["seen"], metrics["retrieval"]["base"]["held-out"]
    assert seen["generated"] == {"R@1": 1.0, "R@5": 1.0}
    assert held_out["generated"]["R@1"] == 0.0
    for split in (seen, held_out):
        assert split["reconstructed"] == {"R@1": 1.0, "R@5": 1.0}
        assert split["chance"] == pytest.approx({"R@1": 1 / 20, "R@5": 5 / 20})
    masked = metrics["masked_tokens"]["base"]
    assert list(masked["seen"]) == ["0.25", "0.5", "0.75", "1"]
    assert {ratio["accuracy"] for ratio in masked["seen"].values()} == {1.0}
    assert max(ratio["cross_entropy"] for ratio in masked["seen"].values()) < 1e-6
    assert max(ratio["accuracy"] for ratio in masked["held-out"].values()) < 0.2
    assert min(ratio["cross_entropy"] for ratio in masked["held-out"].values()) > 40
    tokenizer = metrics["tokenizer"]["base"]
    assert tokenizer["psnr_db"] == {"seen": 100.0, "held-out": 100.0}


def test_codes_are_counted_over_the_measured_pictures(knowing, numbers, tmp_path):
    result = Evaluate(knowing, numbers, Numbered(), n=TOTAL, out=str(tmp_path))()
    share = torch.bincount(TOKENS.flatten(), minlength=64) / TOKENS.numel()
    tokenizer = result.metrics["tokenizer"]["base"]
    assert tokenizer["codebook_usage"] == (share > 0).float().mean().item()
    entropy = -sum(p * math.log(p) for p in share.tolist() if p)
    assert tokenizer["perplexity"] == pytest.approx(math.exp(entropy), rel=1e-5)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(stages, encoder, tmp_path):
    def run(seed):
        task = Evaluate(stages, encoder, Numbered(), n=6, seed=seed, batch=4, out=str(tmp_path), shown=3)
        return task().to_json(), (tmp_path / "sheet.png").read_bytes()

    first = run(3)
    assert run(3) == first
    assert run(4)[0] != first[0]
    assert json.loads((tmp_path / "metrics.json").read_text())["seed"] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == [MARK, "metrics.json", "sheet.png"]


def test_each_stage_is_measured_on_pictures_of_its_size_given_the_stage_before(make_stage, encoder, tmp_path):
    lows = []

    class Spy(FakeTransformer):
        def condition(self, text, low=None):
            lows.append(low.shape[1:])
            return super().condition(text, low)

    stages = {"base": make_stage(8), "large": make_stage([16, 32], transformer=Spy())}
    result = Evaluate(stages, encoder, Numbered(), n=4, out=str(tmp_path), mask_ratios=[0.5])()
    assert list(result.metrics["tokenizer"]) == list(result.metrics["masked_tokens"]) == ["base", "large"]
    assert set(lows) == {(2, 2)}
    assert 5 < result.metrics["tokenizer"]["base"]["psnr_db"]["seen"] < 40


class Doubling(FakeSampler):
    """Asks twice a step, and of a critic once."""

    def __init__(self, critic):
        super().__init__(steps=3)
        self.critic = critic

    def __call__(self, predict, tokens, schedule, generator):
        for step, grid in enumerate(super().__call__(predict, tokens, schedule, generator)):
            predict(tokens, step / 3)
            self.critic(grid, self.critic.condition(predict.text, predict.low))
            yield grid


def test_forward_passes_are_counted_of_all_networks_and_real_pictures_are_not(make_stage, encoder, tmp_path):
    stages = {"base": make_stage(8), "large": make_stage(16, sampler=Doubling(FakeTransformer()))}
    result = Evaluate(stages, encoder, Numbered(), n=7, batch=3, out=str(tmp_path))()
    assert result.metrics["forwards"] == {"base": 4.0, "large": 9.0}
    assert result.forwards == 13.0
    assert "large: forward passes a batch" in result.summary()
    assert not any(stage.transformer._forward_pre_hooks for stage in stages.values())


def test_of_a_network_that_is_no_module_none_is_counted(make_stage, encoder, tmp_path):
    class Plain:
        codebook_size, text_width = 64, 8

        def __init__(self):
            self.inner = FakeTransformer()
            self.condition = self.inner.condition

        def __call__(self, tokens, conditioning):
            return self.inner(tokens, conditioning)

    stages = {"base": make_stage(8), "large": make_stage(16, transformer=Plain())}
    result = Evaluate(stages, encoder, Numbered(), n=2, out=str(tmp_path), real=False)()
    assert result.metrics["forwards"] == {"base": 4.0} and result.forwards is None


class Looks(FakeTransformer):
    """Says, as far as it may see the low-resolution tokens, that each larger token is the one above it."""

    def condition(self, text, low=None):
        known = torch.nn.functional.one_hot(low.clamp(min=0), 64) * (low >= 0)[..., None]
        return (known.repeat_interleave(2, 1).repeat_interleave(2, 2).float(),)

    def forward(self, tokens, conditioning):
        return 5 * conditioning[0]


class Enlarged:
    """The numbered pictures, each pixel four times: the larger tokens are the smaller ones, each four times."""

    def evaluation(self, split):
        pictures = [record | {} for record in Numbered().evaluation(split)]
        for record in pictures:
            record["image"] = record["image"].repeat_interleave(2, 1).repeat_interleave(2, 2)
        return pictures


def test_a_stage_that_heeds_the_low_tokens_alone_is_measured_so(make_stage, encoder, tmp_path):
    stages = {"base": make_stage(16), "large": make_stage(32, transformer=Looks())}
    result = Evaluate(stages, encoder, Enlarged(), n=8, batch=4, out=str(tmp_path), mask_ratios=[0.5, 1.0])()
    for refined in result.metrics["refinement"]["large"].values():
        for entropies in refined["cross_entropy"].values():
            assert entropies["right"] == pytest.approx(math.log(1 + 63 * math.exp(-5)), rel=1e-4)
            assert entropies["none"] == pytest.approx(math.log(64), rel=1e-4)
            assert (
                5 < entropies["another"] < 5.5
            )  # the right code has no more than the other 62, far below the wrong one
    assert list(result.metrics["refinement"]) == ["large"]
    assert "large: cross-entropy, 100% masked, another low tokens" in result.summary()


def test_a_refined_picture_is_held_against_the_smaller_one_enlarged(make_stage, encoder, tmp_path):
    class Sure(Looks):
        def forward(self, tokens, conditioning):
            return 50 * conditioning[0]

    stages = {"base": make_stage(16), "large": make_stage(32, transformer=Sure())}
    result = Evaluate(stages, encoder, Enlarged(), n=8, out=str(tmp_path), mask_ratios=[1.0])()
    found = result.metrics["refinement"]["large"]["seen"]["psnr_db"]
    assert found["refined"] == 100.0, "the pictures are their tokens without loss"
    assert 10 < found["enlarged"] < 40
    assert found["enlarged_real"] == pytest.approx(found["enlarged"]), "the smaller tokenizer loses nothing either"


def test_a_batch_of_one_has_no_other_picture(make_stage, encoder, tmp_path):
    stages = {"base": make_stage(16), "large": make_stage(32, transformer=Looks())}
    result = Evaluate(stages, encoder, Enlarged(), n=3, batch=1, out=str(tmp_path), mask_ratios=[1.0])()
    assert set(result.metrics["refinement"]["large"]["seen"]["cross_entropy"]["1"]) == {"right", "none"}
    assert "another low tokens" not in result.summary()


def test_each_stage_s_pictures_are_looked_up_and_shown(make_stage, encoder, tmp_path):
    stages = {"base": make_stage(16), "large": make_stage(32, transformer=Looks())}
    one = Evaluate({"base": stages["base"]}, encoder, Enlarged(), n=8, out=str(tmp_path / "one"))()
    both = Evaluate(stages, encoder, Enlarged(), n=8, out=str(tmp_path / "two"))()
    assert both.metrics["retrieval"]["base"]["seen"].keys() == {"generated", "reconstructed", "chance"}
    assert set(both.metrics["retrieval"]) == {"base", "large"}
    assert both.sheet.size[0] > one.sheet.size[0], "a column more"


def test_json_says_what_its_numbers_mean_and_the_table_shows_them(knowing, numbers, tmp_path):
    result = Evaluate(knowing, numbers, Numbered(), n=10, out=str(tmp_path))()
    written = json.loads((tmp_path / "metrics.json").read_text())
    definitions = written.pop("definitions")
    assert written == result.metrics
    assert {"psnr_db", "codebook_usage", "perplexity", "accuracy", "cross_entropy", "R@1", "R@5", "chance"} <= set(
        definitions
    )
    lines = result.summary().splitlines()
    (line,) = (line for line in lines if "base: retrieval R@1, generated" in line)
    assert line.replace("│", " ").split() == ["base:", "retrieval", "R@1,", "generated", "1.000", "0.000", "-"]
    assert lines[-2:] == [str(tmp_path / "metrics.json"), str(tmp_path / "sheet.png")]


def test_the_sheet_shows_as_many_pairs_as_asked(knowing, numbers, tmp_path):
    def area(shown):
        task = Evaluate(knowing, numbers, Numbered(), n=8, out=str(tmp_path), shown=shown)
        return task().sheet.size

    one, eight = area(1), area(8)
    assert one[0] < eight[0]
    assert Image.open(tmp_path / "sheet.png").size == eight


def test_a_data_set_without_splits_counts_as_seen_in_one_group(knowing, numbers, tmp_path):
    result = Evaluate(knowing, numbers, PLAIN, n=10, out=str(tmp_path))()
    assert result.metrics["n"] == {"seen": 10}
    assert result.metrics["gallery"] == {"all": TOTAL}
    assert list(result.metrics["retrieval"]["base"]) == ["seen"]
    (line,) = (line for line in result.summary().splitlines() if "pictures measured" in line)
    assert line.replace("│", " ").split() == ["pictures", "measured", "10", "-", "10"]


def test_observers_hear_of_every_sampling_step(knowing, numbers, notes, tmp_path):
    Evaluate(knowing, numbers, Numbered(), n=8, batch=8, out=str(tmp_path))(notes)
    assert [(step["stage"], step["step"], len(step["tokens"])) for step in notes.steps] == [
        ("base", step, 8) for step in (1, 2, 3, 4)
    ] * 2


def test_an_empty_data_set_is_refused(knowing, numbers, tmp_path):
    with pytest.raises(UserError, match="it has no picture to evaluate on"):
        Evaluate(knowing, numbers, [], out=str(tmp_path))()


def test_a_folder_that_cannot_be_written_is_told_before_a_picture_is_read(knowing, numbers, tmp_path):
    class Never:
        def evaluation(self, split):
            raise AssertionError("a picture was read")

    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written"):
        Evaluate(knowing, numbers, Never(), out=str(tmp_path / "file"))()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "n is 0; give at least 1"),
        ({"batch": -1}, "batch is -1; give at least 1"),
        ({"shown": 0}, "shown is 0; give at least 1"),
        ({"seed": -1}, "seed is -1; give 0 or more"),
        ({"mask_ratios": []}, r"mask_ratios is \[\]; give one or more shares above 0"),
        ({"mask_ratios": [0.5, 1.5]}, r"mask_ratios is \[0.5, 1.5\]; give one or more shares above 0 and up to 1"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_cure(knowing, numbers, settings, message):
    with pytest.raises(ValueError, match=message):
        Evaluate(knowing, numbers, Numbered(), **settings)


def test_a_folder_is_read_picture_by_picture():
    records = load(PLAIN)["seen"]
    assert [record["caption"] for record in records] == [str(index) for index in range(TOTAL)]


@pytest.mark.parametrize("name", ["metrics.json", "sheet.png"])
def test_what_a_user_has_by_an_evaluation_s_names_is_not_replaced(stages, encoder, tmp_path, name):
    (tmp_path / name).write_text("mine")
    task = Evaluate(stages, encoder, Numbered(), n=4, out=str(tmp_path), mask_ratios=[0.5])
    with pytest.raises(UserError, match=f"holds {name}, which no evaluation wrote"):
        task()
    assert (tmp_path / name).read_text() == "mine"
    (tmp_path / name).unlink()
    assert task().paths == task().paths
