"""What the tiny parts that authors test with do; that they keep their contracts is tested in test_bite."""

from __future__ import annotations

import pytest
import torch

from muse_studio import testing


def test_a_token_is_the_mean_colour_of_4_x_4_pixels():
    images = torch.zeros(1, 3, 4, 8)
    images[:, 0, :, 4:] = 1
    assert testing.FakeTokenizer().encode(images).tolist() == [[[0, 48]]]


class TestFakeTransformerWithoutLow(testing.TransformerContract):
    grid = (3, 5)

    def make(self):
        return testing.FakeTransformer(codebook_size=11, text_width=6)

    test_every_weight_that_can_learn_receives_a_gradient = None  # the table for low tokens rests without any


def test_fake_predict_notes_what_it_was_asked():
    predict = testing.FakePredict(torch.zeros(1, 2, 2, 3))
    predict(torch.ones(1, 2, 2, dtype=torch.int64), 0.25)
    ((tokens, progress),) = predict.asked
    assert tokens.sum() == 4
    assert progress == 0.25


def test_an_embedding_has_padding_that_says_so():
    text = testing.embedding(3, 7, 4)
    assert text.states.shape == (3, 7, 4)
    assert text.mask.sum(1).tolist() == [6, 6, 6]


def test_refuses_asks_for_the_error_and_for_its_message():
    with testing.refuses(ValueError, "x"):
        raise ValueError("expected a, got b")
    with pytest.raises(AssertionError, match="x went through"), testing.refuses(ValueError, "x"):
        pass
    with pytest.raises(AssertionError, match="has no message"), testing.refuses(ValueError, "x"):
        raise ValueError
    with pytest.raises(KeyError), testing.refuses(ValueError, "x"):
        raise KeyError("another error goes through as it is")
