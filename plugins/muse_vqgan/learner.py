"""One step of a tokenizer's training, whichever of its parts learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.contracts import Optimizer
from muse_studio.errors import UserError
from muse_studio.training.distributed import World, gather_rows
from muse_studio.training.loop import Fit
from muse_studio.training.parallel import distribute, optimizer_step
from muse_vqgan.adversarial import Adversarial, Discriminator, r1
from muse_vqgan.losses import Perceptual, PerceptualLoss, Reconstruction
from muse_vqgan.quantizers import VQ
from muse_vqgan.vqgan import VQGAN


class Rebuilt(NamedTuple):
    """Pictures behind the tokenizer: images float[B, 3, H, W], about 0..1, and int64[B, h, w].

    cost: a scalar that the loss has beside what the images are judged by, weighted already.
    """

    images: Tensor
    tokens: Tensor
    cost: Tensor | float


@dataclass
class Losses:
    """What rebuilt pictures are judged by."""

    reconstruction: Reconstruction
    perceptual: Perceptual | None
    adversarial: Adversarial | None


class TokenizerLearner:
    """One step of training, as the shared loop wants it.

    Its loss jumps where the discriminator comes in, and may be negative then: the pixels' must not run away.

    model: what of the tokenizer learns, and is kept in checkpoints. rebuild: a module with that in it, which takes
    float[B, 3, H, W] in 0..1 through the tokenizer, under the run's autocast, to what `Rebuilt` is.
    """

    watched = "pixels"

    def __init__(
        self,
        fit: Fit,
        tokenizer: VQGAN,
        model: nn.Module,
        optimizer: Optimizer,
        losses: Losses,
        rebuild: nn.Module,
        world: World,
    ) -> None:
        if world.size > 1 and fit.parallel.strategy != "ddp":
            raise UserError(
                "fit.parallel.strategy is fsdp, but every process needs a tokenizer's whole codebook; set it to ddp"
            )
        self.fit, self.losses, self.world, self.device = fit, losses, world, world.device
        self.tokenizer = tokenizer.to(self.device)
        self.model = model
        self.rebuild = distribute(rebuild.to(self.device), world, fit.parallel)
        self.modules: dict[str, nn.Module] = {"tokenizer": model}
        self.optimizers = {"tokenizer": optimizer(model)}
        perceptual, adversarial = losses.perceptual, losses.adversarial
        self.perceptual: PerceptualLoss | None = perceptual.load().to(self.device) if perceptual else None
        if adversarial is not None:
            torch.manual_seed(fit.seed)
            critic = Discriminator(adversarial.channels, adversarial.levels).to(self.device)
            self.criticise = distribute(critic, world, fit.parallel)
            self.modules["discriminator"] = critic
            self.optimizers["discriminator"] = torch.optim.Adam(critic.parameters(), adversarial.rate, (0.0, 0.99))

    def try_out(self, image: Tensor) -> None:
        """UserError where a picture of the data set, uint8[3, H, W], is of a size that a part can't take."""
        height, width = image.shape[-2:]
        adversarial, pixels = self.losses.adversarial, (image.to(self.device).float() / 255).unsqueeze(0)
        try:
            self.tokenizer.grid_shape(height, width)
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
        losses, real = self.losses, batch["image"].to(self.device).float() / 255
        adversarial = losses.adversarial if losses.adversarial and step >= losses.adversarial.start else None
        parts = real.chunk(self.fit.accumulate)
        rebuilt: list[Rebuilt] = []
        reported: list[Tensor] = []

        def loss_of(part: Tensor) -> Tensor:
            with self.fit.autocast(self.device):
                made, tokens, cost = self.rebuild(part)
                made = made.float()
                pixels = losses.reconstruction(made, part)
                loss = pixels + cost
                if losses.perceptual is not None and self.perceptual is not None:
                    loss = loss + losses.perceptual.weight * self.perceptual(made, part)
                if adversarial is not None:
                    critic = self.modules["discriminator"].requires_grad_(False)
                    loss = loss + adversarial.weight * adversarial.generator_loss(critic(made))
            rebuilt.append(Rebuilt(made.detach(), tokens, 0.0))
            reported.append(pixels.detach())
            return loss / len(parts)

        loss, norm = optimizer_step(self.optimizers["tokenizer"], parts, loss_of, self.rebuild, self.fit.clip)
        if isinstance(self.tokenizer.quantizer, VQ):
            self.tokenizer.quantizer.follow()
        made, tokens = torch.cat([each.images for each in rebuilt]), torch.cat([each.tokens for each in rebuilt])
        numbers = {"loss": loss, "pixels": torch.stack(reported).mean(), "psnr": psnr(made, real), "norm": norm}
        if adversarial is not None:
            numbers["critic"] = self._criticise(adversarial, real, made)
        return numbers | usage(gather_rows(tokens), self.tokenizer.codebook_size)

    def _criticise(self, adversarial: Adversarial, real: Tensor, made: Tensor) -> Tensor:
        critic = self.modules["discriminator"].requires_grad_(True)
        assert isinstance(critic, Discriminator)  # as the constructor made it
        parts = list(zip(real.chunk(self.fit.accumulate), made.chunk(self.fit.accumulate), strict=True))

        def loss_of(part: tuple[Tensor, Tensor]) -> Tensor:
            genuine, fake = part
            genuine = genuine.requires_grad_(adversarial.regulariser == "r1")
            with self.fit.autocast(self.device):
                yes, no = self.criticise(torch.cat([genuine, fake])).chunk(2)
                loss = adversarial.discriminator_loss(yes, no)
                if adversarial.regulariser == "lecam":
                    loss = loss + adversarial.strength * critic.lecam(yes, no)
                elif adversarial.regulariser == "r1":
                    loss = loss + adversarial.strength * r1(yes, genuine)
            return loss / len(parts)

        loss, _ = optimizer_step(self.optimizers["discriminator"], parts, loss_of, self.criticise, self.fit.clip)
        return loss


def psnr(made: Tensor, real: Tensor) -> Tensor:
    """Mean over pictures of each one's peak signal-to-noise ratio in dB; float[B, 3, H, W] twice, in 0..1."""
    error = F.mse_loss(made.clamp(0, 1), real, reduction="none").mean((1, 2, 3))
    return (-10 * error.clamp(min=1e-10).log10()).mean()


def usage(tokens: Tensor, codebook_size: int) -> dict[str, Tensor]:
    """The share of codes that occur in tokens, and their perplexity: e to the entropy of how often each does."""
    share = torch.bincount(tokens.flatten(), minlength=codebook_size).float() / tokens.numel()
    return {"usage": (share > 0).float().mean(), "perplexity": torch.special.entr(share).sum().exp()}
