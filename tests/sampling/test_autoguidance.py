"""Autoguidance, and what else guidance may ask: another model, other tokens."""

import pytest
import torch
from muse_sampling.guidance import CFG, AutoGuidance
from muse_sampling.schedules import Cosine

from muse_studio.contracts import MASK, Question
from muse_studio.sampling.predicting import Predictor
from muse_studio.stage import Stage
from muse_studio.testing import FakeSampler, FakeTextEncoder, FakeTokenizer, FakeTransformer, embedding


def model(seed, **sizes):
    torch.manual_seed(seed)
    return FakeTransformer(**sizes)


def stage(guidance):
    return Stage(FakeTokenizer(), model(0), Cosine(), FakeSampler(), guidance, 8)


def logits(network, tokens, text):
    with torch.no_grad():
        return network(tokens, network.condition(text))


def asked(guidance, progress=1.0):
    tokens, text = torch.full((2, 2, 2), MASK), embedding(2)
    made = stage(guidance)
    return Predictor(made, text, None, None)(tokens, progress), made.transformer, tokens, text


def test_it_leads_away_from_what_the_weaker_model_says():
    weak = model(1)
    got, strong, tokens, text = asked(AutoGuidance(2.0, "constant", model=weak))
    torch.testing.assert_close(got, 3 * logits(strong, tokens, text) - 2 * logits(weak, tokens, text))


def test_a_model_that_is_its_own_weaker_one_is_not_guided():
    made = model(0)
    got, strong, tokens, text = asked(AutoGuidance(2.0, "constant", model=made))
    torch.testing.assert_close(got, logits(strong, tokens, text))


def test_out_of_its_interval_the_weaker_model_is_not_asked():
    class Never(FakeTransformer):
        def forward(self, tokens, conditioning):
            raise AssertionError("it was asked")

    got, strong, tokens, text = asked(AutoGuidance(2.0, "constant", begin=0.5, model=Never()), progress=0.2)
    assert torch.equal(got, logits(strong, tokens, text))


def test_other_tokens_and_no_prompt_may_be_asked_beside_texts():
    other, weak = torch.zeros(2, 2, 2, dtype=torch.int64), model(1)
    answers = []

    class Curious:
        def __call__(self, ask, text, negative, progress):
            answers.extend(
                ask(Question(text, tokens=other), text, Question(None, weak), None, Question(None, weak, other))
            )
            return answers[1]

    _, strong, tokens, text = asked(Curious())
    nothing = text.null()
    wanted = [(strong, other, text), (strong, tokens, text), (weak, tokens, nothing), (strong, tokens, nothing)]
    for answer, (network, grid, said) in zip(answers, [*wanted, (weak, other, nothing)], strict=True):
        torch.testing.assert_close(answer, logits(network, grid, said))


def test_the_weaker_model_s_conditioning_is_computed_once():
    class Counted(FakeTransformer):
        conditioned = 0

        def condition(self, text, low=None):
            self.conditioned += 1
            return super().condition(text, low)

    weak = Counted()
    list(stage(AutoGuidance(model=weak)).sample(FakeTextEncoder()(["a hat"]), torch.Generator().manual_seed(0)))
    assert weak.conditioned == 1


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"codebook_size": 5}, "the tokenizer has 64 codes, the guidance's model has 5; set the guidance's model's"),
        ({"grid": (4, 4)}, r"is 2x2 tokens, the guidance's model's grid is 4x4; set size or grid so that they agree"),
    ],
)
def test_a_weaker_model_that_does_not_fit_is_refused(sizes, message):
    grid = sizes.pop("grid", None)
    weak = model(1, **sizes)
    if grid is not None:
        weak.grid = grid
    with pytest.raises(ValueError, match=message):
        stage(AutoGuidance(model=weak))


def test_what_is_no_question_is_refused():
    class Wrong:
        def __call__(self, ask, text, negative, progress):
            return ask(text, "a cat")[0]

    with pytest.raises(ValueError, match="ask takes texts, each a TextEmbedding or None, and Questions; got"):
        asked(Wrong())

    class Misshapen:
        def __call__(self, ask, text, negative, progress):
            return ask(Question(text, tokens=torch.zeros(2, 3, 3, dtype=torch.int64)))[0]

    with pytest.raises(ValueError, match=r"predict is asked for int64\[2, 3, 3\]; give the whole grid"):
        asked(Misshapen())


def test_settings_of_its_strength_are_checked():
    with pytest.raises(ValueError, match="scale is -1"):
        AutoGuidance(-1.0, model=model(1))
    assert AutoGuidance(4.0, model=model(1)).strength(0.5) == CFG(4.0).strength(0.5) == 2.0
