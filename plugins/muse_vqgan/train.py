"""Trains a tokenizer: reconstruction, commitment, entropy, and, where set, perceptual and adversarial losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio import device, loop
from muse_studio.contracts import Dataset, Optimizer, Tokenizer
from muse_studio.errors import UserError
from muse_studio.loop import Fit, History
from muse_vqgan.adversarial import Adversarial, Discriminator, r1
from muse_vqgan.losses import Perceptual, PerceptualLoss, Reconstruction
from muse_vqgan.vqgan import VQGAN


class TrainTokenizer:
    """Trains a `vqgan` on a data set's pictures, and writes `tokenizer.safetensors` into fit.out.

    commitment: how strongly latents are drawn to their codes (0.25 in VQ-VAE). codebook: weight of the codebook's own
    loss, where the quantizer has one (`ema: 0`). entropy: weight of MaskGIT's entropy loss (0.1 there).
    The log has the share of codes that a batch of pictures uses, and their perplexity.
    """

    recipe: dict[str, Any]

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
        if not isinstance(tokenizer, VQGAN):
            raise ValueError(f"train-tokenizer trains the part 'vqgan', not {type(tokenizer).__name__}")
        if min(commitment, codebook, entropy) < 0:
            raise ValueError("commitment, codebook and entropy are weights: 0 or more")
        self.tokenizer, self.dataset, self.fit, self.optimizer = tokenizer, dataset, fit, optimizer
        self.reconstruction = reconstruction or Reconstruction()
        self.weighted = {"commitment": commitment, "codebook": codebook, "entropy": entropy}
        self.perceptual, self.adversarial = perceptual, adversarial
        self.recipe = {}

    def __call__(self, hook: Any) -> History:
        """Train to the end, from the newest checkpoint where there is one."""
        self.fit.folder()
        learner = TokenizerLearner(self)
        learner.try_out(loop.first(self.dataset)["image"])
        return loop.train(self.fit, learner, self.dataset, hook, "tokenizer", self.recipe)


class TokenizerLearner:
    """One step of tokenizer training, as the shared loop wants it."""

    def __init__(self, task: TrainTokenizer) -> None:
        self.task, self.fit = task, task.fit
        self.device = device.pick(task.fit.device)
        self.model = task.tokenizer.to(self.device).train()
        self.modules: dict[str, nn.Module] = {"tokenizer": self.model}
        self.optimizers = {"tokenizer": task.optimizer(self.model)}
        self.perceptual: PerceptualLoss | None = task.perceptual.load().to(self.device) if task.perceptual else None
        if task.adversarial is not None:
            torch.manual_seed(self.fit.seed)
            critic = Discriminator(task.adversarial.channels, task.adversarial.levels).to(self.device)
            self.modules["discriminator"] = critic
            rate = task.adversarial.rate
            self.optimizers["discriminator"] = torch.optim.Adam(critic.parameters(), rate, betas=(0.0, 0.99))

    def try_out(self, image: Tensor) -> None:
        """UserError where a picture of the data set, uint8[3, H, W], is of a size that a part can't take."""
        height, width = image.shape[-2:]
        adversarial, pixels = self.task.adversarial, (image.to(self.device).float() / 255).unsqueeze(0)
        try:
            self.model.grid_shape(height, width)
            if self.perceptual is not None:
                self.perceptual(pixels, pixels)
        except ValueError as error:
            raise UserError(f"the data set's pictures can't be trained on: {error}; change its size") from error
        if adversarial is not None and min(height, width) < 2**adversarial.levels:
            raise UserError(
                f"the discriminator halves pictures {adversarial.levels} times, those of the data set have "
                f"{height}x{width} pixels; lower adversarial.levels"
            )

    def step(self, batch: dict[str, Any], step: int) -> Mapping[str, Tensor]:
        """`{"image": uint8[B, 3, H, W], ...}`."""
        task = self.task
        real = batch["image"].to(self.device).float() / 255
        adversarial = task.adversarial if task.adversarial and step >= task.adversarial.start else None
        with self.fit.autocast(self.device):
            made, quantized = self.model(real, entropy=task.weighted["entropy"] > 0)
            made = made.float()
            loss = pixels = task.reconstruction(made, real)
            for name, value in quantized.losses.items():
                loss = loss + task.weighted[name] * value
            if self.perceptual is not None:
                loss = loss + task.perceptual.weight * self.perceptual(made, real)
            if adversarial is not None:
                critic = self.modules["discriminator"].requires_grad_(False)
                loss = loss + adversarial.weight * adversarial.generator_loss(critic(made))
        norm = self.fit.update(self.optimizers["tokenizer"], loss)
        numbers = {"loss": loss.detach(), "pixels": pixels.detach(), "psnr": psnr(made.detach(), real), "norm": norm}
        if adversarial is not None:
            numbers["critic"] = self._criticise(adversarial, real, made.detach())
        return numbers | usage(quantized.tokens, self.model.codebook_size)

    def _criticise(self, adversarial: Adversarial, real: Tensor, made: Tensor) -> Tensor:
        critic = self.modules["discriminator"].requires_grad_(True)
        with self.fit.autocast(self.device):
            real = real.requires_grad_(adversarial.regulariser == "r1")
            yes, no = critic(real), critic(made)
            loss = adversarial.discriminator_loss(yes, no)
            if adversarial.regulariser == "lecam":
                loss = loss + adversarial.strength * critic.lecam(yes, no)
            elif adversarial.regulariser == "r1":
                loss = loss + adversarial.strength * r1(yes, real)
        self.fit.update(self.optimizers["discriminator"], loss)
        return loss.detach()


def psnr(made: Tensor, real: Tensor) -> Tensor:
    """Mean over pictures of each one's peak signal-to-noise ratio in dB; float[B, 3, H, W] twice, in 0..1."""
    error = F.mse_loss(made.clamp(0, 1), real, reduction="none").mean((1, 2, 3))
    return (-10 * error.clamp(min=1e-10).log10()).mean()


def usage(tokens: Tensor, codebook_size: int) -> dict[str, Tensor]:
    """The share of codes that occur in tokens, and their perplexity: e to the entropy of how often each does."""
    share = torch.bincount(tokens.flatten(), minlength=codebook_size).float() / tokens.numel()
    return {"usage": (share > 0).float().mean(), "perplexity": torch.special.entr(share).sum().exp()}
