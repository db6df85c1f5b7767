"""What a user can get wrong about a critic, through the real command and the real parts."""

import pytest

SMALL = "codebook_size: 4096, grid: [8, 8], text_width: 384, width: 32, layers: 1, heads: 2"
LARGE = f"{SMALL}, low_grid: [4, 4], low_codebook_size: 4096, low_layers: 1, block: 4"
CRITIC = "stages.base.sampler.critic"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            f"{CRITIC}.codebook_size=1024",
            "the tokenizer has 4096 codes, the critic has 1024; set the critic's codebook_",
        ),
        (f"{CRITIC}.grid=[16, 16]", "is 8x8 tokens, the critic's grid is 16x16; set size or grid so that they agree"),
        (f"{CRITIC}.text_width=5", "its critic wants text of width 5, the text encoder gives 384; set the critic's"),
        (f"{CRITIC}={{use: muse, {SMALL}}}", f"{CRITIC} — critic is a transformer that predicts codes; give one that"),
        (f"{CRITIC}={{use: critic-superres, {LARGE}}}", "its critic refines a grid of 4x4 tokens, and no stage comes"),
        (f"{CRITIC}=null", f"{CRITIC} — expected transformer, got nothing (null)"),
        (f"stages.base.transformer={{use: critic, {SMALL}}}", "the transformer is a critic, which scores tokens and"),
        (
            "stages.base.sampler=confidence",
            "the objective trains a critic, but the sampler of 'base' asks none; give it one that does",
        ),
        ("smoothing=0.1", "smoothing: 0.1 can't be beside each other or an objective; give objective alone"),
    ],
)
def test_a_critic_that_does_not_fit(refused, override, message):
    assert message in refused("check", "train-emoji-critic", override)
