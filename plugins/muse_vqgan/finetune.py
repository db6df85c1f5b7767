"""Trains a larger decoder for a tokenizer whose tokens stay what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from muse_studio.contracts import NO_RUN, Dataset, Optimizer, RunContext, Tokenizer
from muse_studio.errors import UserError
from muse_studio.runtime import weights
from muse_studio.runtime.files import path_of
from muse_studio.training.distributed import SINGLE, World, join
from muse_studio.training.loop import Fit, History, Output, Run, first
from muse_vqgan.adversarial import Adversarial
from muse_vqgan.learner import Losses, Reconstructed, TokenizerLearner
from muse_vqgan.losses import Perceptual, Reconstruction
from muse_vqgan.vqgan import VQGAN

FROZEN = ("encoder.", "pre.", "quantizer.")
"""What makes tokens of pictures, by the beginnings of its tensors' names."""

SHAPELESS = {"quantizer": "vq", "levels": None, "cosine": True}
"""Settings that tokens depend on, but no tensor's shape does, and what they are by default."""


class FinetuneDecoder:
    """Trains a new decoder, usually a larger one, for the tokens of a trained `vqgan` (Muse, section 2.5).

    Only `post` and `decoder` learn. Encoder and codebook are the source's, to the bit and in its file's number type, so
    every token keeps its meaning, and transformers trained on them draw with the new decoder as they are. It writes the
    whole tokenizer, `tokenizer.safetensors`, into fit.out.

    tokenizer: with the source's settings, but for decoder_channels and decoder_blocks (Muse doubles both: 256 channels
    and 4 blocks, appendix A.2) and decoder_multipliers, and with `weights: null`. source: an address of the trained
    tokenizer's safetensors. Where the new decoder has the channels of the source's and no fewer blocks it starts as
    that one, the further blocks adding nothing yet, and afresh in further levels; else with random weights. `post`,
    whose size the codes give, starts as the source's.
    perceptual: Muse lowers its weight to 0.005 here.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        source: str,
        dataset: Dataset,
        fit: Fit,
        optimizer: Optimizer,
        reconstruction: Reconstruction | None = None,
        perceptual: Perceptual | None = None,
        adversarial: Adversarial | None = None,
    ) -> None:
        if not isinstance(tokenizer, VQGAN):
            raise ValueError(f"finetune-decoder trains the part 'vqgan', not {type(tokenizer).__name__}")
        try:
            differs = weights.difference(tokenizer, source, FROZEN)
        except UserError as error:
            raise UserError(f"source: {error}") from error
        if differs:
            raise UserError(
                f"source: {source} makes other tokens than tokenizer: {differs}; give tokenizer the settings that the "
                "source was written for, all but decoder_channels, decoder_blocks and decoder_multipliers"
            )
        self.tokenizer, self.source, self.dataset = tokenizer, source, dataset
        self.fit, self.optimizer = fit, optimizer
        self.losses = Losses(reconstruction or Reconstruction(), perceptual, adversarial)

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> History:
        """Train to the end, from the newest checkpoint where there is one."""
        if weights.local(self.source).resolve().parent == path_of(self.fit.out).resolve():
            raise UserError(f"fit.out is {self.fit.out}, where the source lies, which must stay; give another folder")
        self.fit.folder("tokenizer")
        recipe = context.recipe or {}
        self._check_settings(recipe)
        with join(self.fit.device, self.fit.patience) as world:
            learner = self.learner(world)
            learner.try_out(first(self.dataset)["image"])
            output = Output("tokenizer", recipe, weights.read(self.source, FROZEN))
            return Run(self.fit, learner, self.dataset, hook, output).train()

    def learner(self, world: World = SINGLE) -> TokenizerLearner:
        """What the loop drives: `post` and `decoder` alone learn, from where the source says."""
        tokenizer = self.tokenizer.eval().requires_grad_(False)
        weights.load(tokenizer, self.source, (*FROZEN, "post."))
        theirs = weights.read(self.source, ("decoder.",))
        start = tokenizer.decoder.grow_from({name.removeprefix("decoder."): part for name, part in theirs.items()})
        if start is not None:
            tokenizer.decoder.load_state_dict(start)
        model = nn.ModuleDict({"post": tokenizer.post, "decoder": tokenizer.decoder}).train().requires_grad_(True)
        return TokenizerLearner(self.fit, tokenizer, model, self.optimizer, self.losses, DecodeTokens(tokenizer), world)

    def _check_settings(self, recipe: dict[str, Any]) -> None:
        """UserError where the source's file says that it was written for settings which would make other tokens."""
        theirs, ours = weights.settings(self.source).get("tokenizer"), recipe.get("tokenizer")
        if not isinstance(theirs, Mapping) or not isinstance(ours, Mapping):
            return
        for key, default in SHAPELESS.items():
            its, mine = (_quantizer_of(table).get(key, default) for table in (theirs, ours))
            if its != mine:
                raise UserError(
                    f"source: {self.source} was written for {key} {its}, tokenizer has {key} {mine}, which makes other "
                    f"tokens of the same codes; set tokenizer.{key} to the source's"
                )


def _quantizer_of(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe's tokenizer says of its quantizer, by a table of its own or beside its name, as it was before."""
    given = tokenizer.get("quantizer", SHAPELESS["quantizer"])
    own = dict(given) if isinstance(given, Mapping) else {"use": given}
    return {key: tokenizer[key] for key in SHAPELESS if key in tokenizer} | own | {"quantizer": own.get("use")}


class DecodeTokens(nn.Module):
    """A tokenizer's path from the tokens that drawing has too, which the decoder alone can better."""

    def __init__(self, tokenizer: VQGAN) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, real: Tensor) -> Reconstructed:
        """float[B, 3, H, W] in 0..1."""
        with torch.autocast(real.device.type, enabled=False):  # bfloat16 would make other tokens than drawing has
            tokens = self.tokenizer.encode(real)
        return Reconstructed(self.tokenizer.pixels(self.tokenizer.quantizer.lookup(tokens)), tokens, 0.0)
