"""Critics: the masked transformers with one logit a place, which tells real tokens from sampled ones."""

from __future__ import annotations

from muse_transformer.muse import MuseTransformer
from muse_transformer.superres import SuperResolution


class Critic(MuseTransformer):
    """Token-Critic's network (Lezama et al., 2022): looks at a filled grid and the text, and scores each token.

    float[B, h, w, 1] is the log-odds that a token is the picture's own, not one that a generator has drawn in its
    place. The sampler `token-critic` asks it, and the task `train` trains it with `critic: true`; with random weights
    it scores at random. Its settings are those of `muse`, whose defaults are the 3B model's: a critic is usually
    smaller than what it judges.
    """

    name, outputs = "critic", 1


class SuperResolutionCritic(SuperResolution):
    """The critic of a second stage: as `critic`, built as `superres` is, so that it sees the smaller tokens too."""

    name, outputs = "critic-superres", 1
