"""One step of a critic's training: a frozen generator draws the hidden tokens, the critic tells which they were."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.contracts import TextEmbedding, Transformer
from muse_studio.sampling.masking import hide
from muse_studio.sampling.noise import choose
from muse_training.learner import TransformerLearner

CRITIC = "critic"
"""What the trained weights' file is called, and the critic in a checkpoint."""


class CriticObjective(nn.Module):
    """A generator that stays as it is, a critic, and its loss, as one forward pass (Token-Critic, algorithm 1)."""

    generator: Transformer
    critic: Transformer

    def __init__(self, generator: Transformer, critic: Transformer) -> None:
        super().__init__()
        self.generator, self.critic = generator, critic

    def forward(
        self, tokens: Tensor, hidden: Tensor, text: TextEmbedding, low: Tensor | None, uniform: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The sums of `telling_loss` for int64[B, h, w] of which bool[B, h, w] are drawn, by float[B, h, w] in 0..1.

        The generator draws by its own chances, without guidance or temperature.
        """
        with torch.no_grad():
            logits = self.generator(hide(tokens, hidden), self.generator.condition(text, low)).float()
            filled = torch.where(hidden, choose(logits, uniform), tokens)
        return telling_loss(self.critic(filled, self.critic.condition(text, low)), hidden)


class CriticLearner(TransformerLearner):
    """Trains the critic of a stage's sampler, as a transformer is trained but for its loss, which weighs every token.

    `accuracy` is the share of tokens judged rightly, which says much only beside the share that was sampled.
    """

    def prepare(self) -> tuple[dict[str, nn.Module], nn.Module]:
        """The critic, and its loss."""
        generator, critic = self.setup.stage.transformer, self.setup.stage.critic
        assert isinstance(generator, nn.Module) and isinstance(critic, nn.Module)  # the task refuses all else
        return {CRITIC: critic}, CriticObjective(generator.eval().requires_grad_(False), critic.train())

    def noise(self, count: int, step: int) -> tuple[Tensor, ...]:
        """A uniform number for each code that the generator draws, float[count, h, w]."""
        return (torch.rand(count, *self.setup.stage.grid, generator=self.fit.generator(step, "draw")),)

    def counted(self, masks: Tensor) -> Tensor:
        """All of them."""
        return torch.ones_like(masks)


def telling_loss(scores: Tensor, sampled: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over all tokens; float[B, h, w, 1], bool[B, h, w].

    The first is the binary cross-entropy of the scores, the log-odds that a token is real; the second, float[B], how
    many of each row were judged rightly. What was sampled is the mask itself, as in the paper: a code that was drawn
    counts as sampled even where it is the one that was hidden.
    """
    scores = scores.squeeze(-1).float()
    loss = F.binary_cross_entropy_with_logits(scores, (~sampled).float(), reduction="sum")
    right = ((scores.detach() > 0) == ~sampled).flatten(1).sum(-1)
    return loss, right.float()
