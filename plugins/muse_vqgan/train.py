"""Trains a tokenizer: reconstruction, commitment, entropy, and, where set, perceptual and adversarial losses."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from muse_studio.contracts import NO_RUN, Dataset, Optimizer, RunContext, Tokenizer
from muse_studio.training.distributed import SINGLE, World, join
from muse_studio.training.loop import Fit, History, Output, Run, first
from muse_vqgan.adversarial import Adversarial
from muse_vqgan.learner import Losses, Reconstructed, TokenizerLearner
from muse_vqgan.losses import Perceptual, Reconstruction


class TrainTokenizer:
    """Trains a tokenizer, such as `vqgan`, on a data set's pictures, and writes `tokenizer.safetensors` into fit.out.

    commitment: how strongly latents are drawn to their codes (0.25 in VQ-VAE). codebook: weight of the codebook's own
    loss, where the quantizer has one. entropy: weight of MaskGIT's entropy loss (0.1 there). A loss by another name, of
    a quantizer of your own, counts as it is.
    The log has the share of codes that a batch of pictures uses, and their perplexity.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        dataset: Dataset,
        fit: Fit,
        optimizer: Optimizer,
        reconstruction: Reconstruction | None = None,
        commitment: float = 0.25,
        codebook: float = 1.0,
        entropy: float = 0.0,
        perceptual: Perceptual | None = None,
        adversarial: Adversarial | None = None,
    ) -> None:
        if not isinstance(tokenizer, nn.Module) or not callable(getattr(tokenizer, "reconstruct", None)):
            raise ValueError(
                f"the tokenizer {type(tokenizer).__name__} does not say how it is trained: it has no method "
                "`reconstruct` of contracts.Reconstructing, or is no torch module; 'vqgan' is one that does"
            )
        if min(commitment, codebook, entropy) < 0:
            raise ValueError("commitment, codebook and entropy are weights: 0 or more")
        self.tokenizer, self.dataset, self.fit, self.optimizer = tokenizer, dataset, fit, optimizer
        self.weighted = {"commitment": commitment, "codebook": codebook, "entropy": entropy}
        self.losses = Losses(reconstruction or Reconstruction(), perceptual, adversarial)

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> History:
        """Train to the end, from the newest checkpoint where there is one."""
        with join(self.fit.device, self.fit.patience) as world:
            self.fit.folder("tokenizer")
            learner = self.learner(world)
            learner.try_out(first(self.dataset)["image"])
            return Run(self.fit, learner, self.dataset, hook, Output("tokenizer", context.recipe or {})).train()

    def learner(self, world: World = SINGLE) -> TokenizerLearner:
        """What the loop drives: all of the tokenizer learns."""
        model = self.tokenizer.train()
        return TokenizerLearner(
            self.fit, model, model, self.optimizer, self.losses, EncodeDecode(model, self.weighted), world
        )


class EncodeDecode(nn.Module):
    """A tokenizer's whole path, and what its quantizer pays, by the weights of each loss."""

    def __init__(self, tokenizer: Any, weighted: dict[str, float]) -> None:
        super().__init__()
        self.tokenizer, self.weighted = tokenizer, weighted

    def forward(self, real: Tensor) -> Reconstructed:
        """float[B, 3, H, W] in 0..1."""
        made, quantized = self.tokenizer.reconstruct(real, entropy=self.weighted["entropy"] > 0)
        cost = sum(self.weighted.get(name, 1.0) * value for name, value in quantized.losses.items())
        return Reconstructed(made, quantized.tokens, cost)
