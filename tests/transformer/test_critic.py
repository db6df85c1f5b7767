"""Critics: one logit a place out of the same network, in a first stage and in a second one."""

import pytest
import torch
from muse_transformer.critic import Critic, SuperResolutionCritic
from muse_transformer.muse import MuseTransformer
from muse_transformer.superres import SuperResolution

from muse_studio.testing.fakes import embedding

BASE = {"codebook_size": 11, "grid": [3, 4], "text_width": 8, "width": 16, "layers": 2, "heads": 2, "mlp": 24}
LARGE = BASE | {"grid": [4, 4], "low_codebook_size": 5, "low_grid": [2, 2], "low_layers": 1, "block": 2}


@pytest.mark.parametrize(
    ("critic", "model", "settings"), [(Critic, MuseTransformer, BASE), (SuperResolutionCritic, SuperResolution, LARGE)]
)
@torch.no_grad()
def test_a_critic_is_its_transformer_with_one_output(critic, model, settings):
    """With the head's row for one code, it gives that code's logit."""
    torch.manual_seed(0)
    whole, one = model(**settings), critic(**settings)
    for parameter in whole.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    last, code = len(whole.head) - 1, 7
    state = whole.state_dict()
    for name in (f"head.{last}.weight", f"head.{last}.bias"):
        state[name] = state[name][code : code + 1]
    one.load_state_dict(state)
    text, tokens = embedding(2), torch.randint(11, (2, *settings["grid"]))
    low = torch.randint(5, (2, 2, 2)) if model is SuperResolution else None
    scores = one(tokens, one.condition(text, low))
    assert scores.shape == (2, *settings["grid"], 1) and one.outputs == 1
    torch.testing.assert_close(scores[..., 0], whole(tokens, whole.condition(text, low))[..., code])


def test_what_each_stage_s_critic_refuses():
    with pytest.raises(ValueError, match="'critic' is a base model and takes no low-resolution tokens"):
        Critic(**BASE).condition(embedding(1), torch.zeros(1, 2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="'critic-superres' needs the finished tokens of a stage before it"):
        SuperResolutionCritic(**LARGE).condition(embedding(1))
