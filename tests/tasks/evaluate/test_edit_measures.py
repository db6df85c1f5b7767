import pytest
import torch
from muse_tasks.evaluate.edit_measures import changing, draw_corners, hole_errors, holes, judge

SIDE = 16


def plain(colour):
    return torch.tensor(colour, dtype=torch.uint8)[:, None, None].repeat(1, SIDE, SIDE)


def halves(left, right):
    picture = plain(left)
    picture[:, :, SIDE // 2 :] = plain(right)[:, :, SIDE // 2 :]
    return picture


RED, GREEN, BLUE, WHITE = (200, 0, 0), (0, 200, 0), (0, 0, 200), (255, 255, 255)


def case(kind="colour", after=GREEN, others=(BLUE,), rest=WHITE):
    """The left half changes from red to green; the right half is the rest."""
    return {
        "kind": kind,
        "before": halves(RED, rest),
        "after": halves(after, rest),
        "others": torch.stack([halves(colour, rest) for colour in others]),
        "prompt_before": "red",
        "prompt_after": "green",
    }


def verdict(result, of=None, *further):
    cases = [of or case(), *further]
    return judge(cases, torch.stack([result] + [each["before"] for each in further]))[0]


def test_a_hole_is_a_quarter_and_lies_within_the_picture():
    corners = draw_corners(500, 8, 6, torch.Generator().manual_seed(0))
    assert {top for top, _ in corners} == set(range(5)) and {left for _, left in corners} == set(range(4))
    assert holes(corners, 8, 6).flatten(1).sum(1).tolist() == [12] * 500
    assert holes([(1, 2)], 4, 4)[0].int().tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]


def test_errors_count_in_the_hole_alone():
    real = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
    other = real.clone()
    other[0, :, 4:12, 4:12] = 51  # 0.2 of 255
    other[1, :, :4] = 255
    errors = hole_errors(real, other, [(4, 4), (4, 4)])
    assert errors["pixels"].tolist() == pytest.approx([0.04, 0.0])
    assert errors["colours"].tolist() == pytest.approx([0.04, 0.0])


def test_coarse_colours_do_not_see_what_evens_out_within_a_field():
    real = torch.full((1, 3, SIDE, SIDE), 100, dtype=torch.uint8)
    other = real.clone()
    other[..., ::2], other[..., 1::2] = 151, 49  # 51 up and 51 down, column by column
    errors = hole_errors(real, other, [(0, 0)])
    assert errors["pixels"].item() == pytest.approx(0.04)
    assert errors["colours"].item() == pytest.approx(0.0)


def test_what_changes_is_where_before_and_after_differ_clearly():
    half = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    half[:, : SIDE // 2] = True
    assert torch.equal(changing(case()), half)
    assert not changing(case(after=(208, 8, 0))).any(), "eight levels are no change"


@pytest.mark.parametrize("kind", ["colour", "object", "background"])
def test_the_truth_is_moved_found_and_kept_and_the_picture_before_is_kept_alone(kind):
    other = case(kind, rest=BLUE)
    truth = verdict(case()["after"], case(kind), other)
    assert (truth.moved, truth.found, truth.changed, truth.kept) == (True, True, True, True)
    assert truth.both
    still = verdict(case()["before"], case(kind), other)
    assert (still.moved, still.found, still.changed, still.kept, still.both) == (False, False, False, True, False)


def test_a_colour_past_the_wanted_one_has_moved_but_is_not_found():
    olive = halves((90, 130, 0), WHITE)  # nearer to green than to red, and nearest to itself among the others
    of_colour = verdict(olive, case(others=((90, 130, 0),)))
    assert (of_colour.moved, of_colour.found, of_colour.changed) == (True, False, True)
    of_object = verdict(olive, case("object", others=((90, 130, 0),)))
    assert (of_object.moved, of_object.found, of_object.changed) == (True, False, False)


def test_a_rest_that_became_another_case_s_is_not_kept():
    result = halves(GREEN, BLUE)
    assert not verdict(result, case(), case(rest=BLUE)).kept
    assert verdict(result, case(), case(rest=(255, 0, 0))).kept is False, "pure red is nearer to blue than white is"
    assert verdict(result, case(), case(rest=WHITE)).kept, "a tie is no other picture"


def test_a_background_is_judged_by_its_mean_and_an_object_by_what_is_where():
    """Left half with black above and white below: as a mean it is grey, as a picture it is not."""
    result = halves((0, 0, 0), WHITE)
    result[:, SIDE // 2 :, : SIDE // 2] = 255
    grey, upside_down = (128, 128, 128), result.flip(1)
    of = case("background", after=grey)
    assert verdict(result, of).moved
    shape = case("object", after=grey) | {"before": upside_down, "after": result, "others": halves(grey, WHITE)[None]}
    assert verdict(result, shape).found
    assert not verdict(halves(grey, WHITE), shape).found
