import pytest
import torch
from muse_emoji.canvas import BACKGROUNDS, HUES
from muse_emoji.dataset import Emoji

from muse_studio.errors import UserError


@pytest.fixture(scope="module")
def cases(packages):
    return Emoji(size=32, root=str(packages), split="all").edits(30, seed=0)


def differing(case):
    return (case["before"] != case["after"]).any(0)


def test_kinds_come_in_turn_with_seven_different_candidates(cases):
    assert [case["kind"] for case in cases] == ["colour", "object", "background"] * 10
    for case in cases:
        shown = torch.cat([case["before"][None], case["after"][None], case["others"]])
        assert shown.shape == (7, 3, 32, 32) and shown.dtype == torch.uint8
        assert len({picture.numpy().tobytes() for picture in shown}) == 7


def test_before_and_after_differ_in_what_the_prompts_say(cases, colour_of):
    """The made-up things are squares of a known colour in the middle, so that corner and centre say everything."""
    for case in cases:
        corners = [tuple(case[when][:, 0, 0].tolist()) for when in ("before", "after")]
        centres = [tuple(case[when][:, 16, 16].tolist()) for when in ("before", "after")]
        prompts = [case["prompt_before"], case["prompt_after"]]
        styles = {prompt.rsplit(", ", 1)[1] for prompt in prompts}
        assert len(styles) == 1
        words = [prompt.rsplit(", ", 1)[0].split(" ") for prompt in prompts]
        if case["kind"] == "colour":
            assert corners == [(255, 255, 255)] * 2 and centres[0] != centres[1]
            assert [each[1] in HUES for each in words] == [True, True] and words[0][1] != words[1][1]
            assert words[0][2:] == words[1][2:]
        elif case["kind"] == "object":
            assert corners[0] == corners[1]
            for each, centre in zip(words, centres, strict=True):
                assert max(abs(a - b) for a, b in zip(colour_of[each[1]], centre, strict=True)) <= 2
            assert words[0][2:] == words[1][2:]
        else:
            assert centres[0] == centres[1]
            for prompt, corner in zip(prompts, corners, strict=True):
                ground = prompt.split(" on a")[1].removeprefix("n").strip().split(" background")[0]
                assert BACKGROUNDS[ground] == corner


def test_the_same_seed_gives_the_same_cases_and_a_smaller_number_the_first_of_them(packages, cases):
    few = Emoji(size=32, root=str(packages), split="all").edits(5, seed=0)
    for one, two in zip(few, cases, strict=False):
        assert one["prompt_after"] == two["prompt_after"] and torch.equal(one["before"], two["before"])
    other = Emoji(size=32, root=str(packages), split="all").edits(5, seed=1)
    assert [case["prompt_after"] for case in other] != [case["prompt_after"] for case in few]


def test_only_drawings_of_the_split_are_shown(packages):
    data = Emoji(size=32, root=str(packages), split="train", limit=40)
    allowed = {record["caption"].split(", ")[0] for record in data.evaluation("seen")}
    cases = data.edits(12, seed=3)
    things = {case["prompt_before"].split(" on ")[0].split(", ")[0].split(" ")[-1] for case in cases}
    assert things <= allowed


def test_too_few_drawings_are_told_with_the_cure(packages):
    with pytest.raises(UserError, match="no edit of object can be made"):
        Emoji(size=32, root=str(packages), limit=3).edits(3, seed=0)
