"""One step of a tokenizer's training, whichever of its parts learn."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from muse_studio.contracts import Optimizer
from muse_studio.errors import UserError
from muse_studio.images.pixels import psnr
from muse_studio.runtime.device import gather_rows
from muse_studio.training.distributed import World
from muse_studio.training.loop import Fit, Learner
from muse_studio.training.parallel import distribute, optimizer_step
from muse_vqgan.adversarial import Adversarial, Discriminator, r1
from muse_vqgan.losses import Perceptual, PerceptualLoss, Reconstruction


class Reconstructed(NamedTuple):
    """What a tokenizer makes of pictures: images float[B, 3, H, W], about 0..1, and int64[B, h, w].

    cost: a scalar that the loss has beside the losses of the images, weighted already.
    """

    images: Tensor
    tokens: Tensor
    cost: Tensor | float


@dataclass
class Losses:
    """The losses of reconstructed pictures."""

    reconstruction: Reconstruction
    perceptual: Perceptual | None
    adversarial: Adversarial | None


class TokenizerLearner(Learner):
    """One step of training, as the shared loop calls it.

    Its loss jumps where the discriminator comes in, and may be negative then: the pixels' must not run away.

    model: what of the tokenizer learns, and is kept in checkpoints. reconstruct: a module with that in it, which takes
    float[B, 3, H, W] in 0..1 through the tokenizer, under the run's autocast, to a `Reconstructed`.
    """

    watched = "pixels"

    def __init__(
        self,
        fit: Fit,
        tokenizer: Any,
        model: nn.Module,
        optimizer: Optimizer,
        losses: Losses,
        reconstruct: nn.Module,
        world: World,
    ) -> None:
        if world.size > 1 and fit.parallel.strategy != "ddp":
            raise UserError(
                "fit.parallel.strategy is fsdp, but every process needs a tokenizer's whole codebook; set it to ddp"
            )
        self.fit, self.losses, self.world, self.device = fit, losses, world, world.device
        self.tokenizer = tokenizer.to(self.device)
        self.model = model
        self.reconstruct = distribute(reconstruct.to(self.device), world, fit.parallel)
        self.modules: dict[str, nn.Module] = {"tokenizer": model}
        self.optimizers = {"tokenizer": optimizer(model)}
        perceptual, adversarial = losses.perceptual, losses.adversarial
        if adversarial is not None and adversarial.start >= fit.steps:
            warnings.warn(
                f"adversarial.start is {adversarial.start}, and the run ends at step {fit.steps} (fit.steps): no "
                "discriminator comes in; set adversarial.start to less, or leave adversarial out",
                stacklevel=2,
            )
        self.perceptual: PerceptualLoss | None = perceptual.load().to(self.device) if perceptual else None
        if adversarial is not None:
            torch.manual_seed(fit.seed)
            discriminator = Discriminator(adversarial.channels, adversarial.levels).to(self.device)
            self.discriminate = distribute(discriminator, world, fit.parallel)
            self.modules["discriminator"] = discriminator
            self.optimizers["discriminator"] = torch.optim.Adam(
                discriminator.parameters(), adversarial.rate, (0.0, 0.99)
            )

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
        outputs: list[Reconstructed] = []
        pixel_losses: list[Tensor] = []

        def loss_of(part: Tensor) -> Tensor:
            with self.fit.autocast(self.device):
                made, tokens, cost = self.reconstruct(part)
                made = made.float()
                pixels = losses.reconstruction(made, part)
                loss = pixels + cost
                if losses.perceptual is not None and self.perceptual is not None:
                    loss = loss + losses.perceptual.weight * self.perceptual(made, part)
                if adversarial is not None:
                    discriminator = self.modules["discriminator"].requires_grad_(False)
                    loss = loss + adversarial.weight * adversarial.generator_loss(discriminator(made))
            outputs.append(Reconstructed(made.detach(), tokens, 0.0))
            pixel_losses.append(pixels.detach())
            return loss / len(parts)

        loss, norm = optimizer_step(self.optimizers["tokenizer"], parts, loss_of, self.reconstruct, self.fit.clip)
        update = getattr(self.tokenizer, "update_codebook", None)
        if update is not None:
            update()
        made, tokens = torch.cat([each.images for each in outputs]), torch.cat([each.tokens for each in outputs])
        numbers = {
            "loss": loss,
            "pixels": torch.stack(pixel_losses).mean(),
            "psnr": psnr(made.clamp(0, 1), real, 1).mean(),
            "norm": norm,
        }
        if adversarial is not None:
            numbers["critic"] = self._discriminator_step(adversarial, real, made)
        return numbers | usage(gather_rows(tokens), self.tokenizer.codebook_size)

    def _discriminator_step(self, adversarial: Adversarial, real: Tensor, made: Tensor) -> Tensor:
        discriminator = self.modules["discriminator"].requires_grad_(True)
        assert isinstance(discriminator, Discriminator)  # as the constructor made it
        parts = list(zip(real.chunk(self.fit.accumulate), made.chunk(self.fit.accumulate), strict=True))

        def loss_of(part: tuple[Tensor, Tensor]) -> Tensor:
            genuine, fake = part
            genuine = genuine.requires_grad_(adversarial.regulariser == "r1")
            with self.fit.autocast(self.device):
                real_logits, fake_logits = self.discriminate(torch.cat([genuine, fake])).chunk(2)
                loss = adversarial.discriminator_loss(real_logits, fake_logits)
                if adversarial.regulariser == "lecam":
                    loss = loss + adversarial.strength * discriminator.lecam(real_logits, fake_logits)
                elif adversarial.regulariser == "r1":
                    loss = loss + adversarial.strength * r1(real_logits, genuine)
            return loss / len(parts)

        loss, _ = optimizer_step(self.optimizers["discriminator"], parts, loss_of, self.discriminate, self.fit.clip)
        return loss


def usage(tokens: Tensor, codebook_size: int) -> dict[str, Tensor]:
    """The share of codes that occur in tokens, and their perplexity: e to the entropy of how often each does."""
    share = torch.bincount(tokens.flatten(), minlength=codebook_size).float() / tokens.numel()
    return {"usage": (share > 0).float().mean(), "perplexity": torch.special.entr(share).sum().exp()}
