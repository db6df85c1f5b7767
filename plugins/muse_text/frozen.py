"""What every frozen text encoder does alike: load late, never train, keep one length, warn of what it truncates."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn

from muse_studio.contracts import TextEmbedding
from muse_studio.images.naming import check_prompts
from muse_studio.runtime.device import move_to_device


class FrozenEncoder(ABC):
    """A pretrained encoder that nothing trains (`contracts.TextEncoder`).

    It is no `nn.Module`: a model that holds it neither lists its parameters, nor saves them, nor reaches it with
    `.train()` or `.to()`; its own `to` moves it. Weights load at the first call.

    length: T, the text positions of every embedding. ValueError where no word would fit between the special tokens.
    """

    padded = False
    """Whether every prompt is filled up to T by padding, which then counts like words."""

    def __init__(self, length: int) -> None:
        if length < 3:
            raise ValueError(f"length is {length}; give at least 3 text positions, two go to the special tokens")
        self.length = length
        self.device = torch.device("cpu")
        self._module: nn.Module | None = None

    @property
    def identity(self) -> str:
        """What its embeddings depend on, without loading the weights: its kind and T; a subclass adds its model."""
        return f"{type(self).__name__} {self.length}"

    @abstractmethod
    def load(self) -> nn.Module:
        """The pretrained module, on the CPU; UserError where it can't be had."""

    @abstractmethod
    def tokenize(self, prompts: list[str]) -> tuple[list[list[int]], int]:
        """The ids of each prompt, uncut, special tokens included and the last of them closing; and the padding id."""

    @abstractmethod
    def encode(self, module: nn.Module, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """int64[B, S] and bool[B, S], S at most T, to states float[B, S, D] and pooled float[B, P] or None."""

    def to(self, device: torch.device | str) -> Self:
        """Work on that device from now on; what is loaded moves, what is not will be loaded there."""
        self.device = torch.device(device)
        if self._module is not None:
            self._module.to(self.device)
        return self

    @property
    def module(self) -> nn.Module:
        """The frozen module on the encoder's device, loaded when first asked for; UserError where it can't be had."""
        if self._module is None:
            # An inference tensor could never be moved, and initialising what is overwritten then, or not kept, must
            # not draw from the caller's random numbers.
            with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
                module = self.load().requires_grad_(False).eval()
                move_to_device(module, self.device)
                self._module = module
        return self._module

    def __call__(self, prompts: list[str]) -> TextEmbedding:
        """B prompts to states float32[B, T, D], mask bool[B, T] and, where the encoder has one, pooled float32[B, P].

        Special tokens (CLS, SEP, end of sentence) were part of every sentence in pretraining: they stay, True in the
        mask. Positions of padding are False and zero, unless the encoder is `padded`. An empty or blank prompt is all
        False and zero, as in `TextEmbedding.null`. What is longer than T loses its tail but keeps its closing token,
        with one warning. TypeError for a single string, ValueError for no prompt at all.
        """
        states, mask, pooled = self.embed(prompts)[:3]
        prompted = torch.tensor([bool(prompt.strip()) for prompt in prompts], dtype=torch.bool).to(self.device)
        mask = mask & prompted[:, None]
        if pooled is not None:
            pooled = pooled.masked_fill(~prompted[:, None], 0.0)
        return TextEmbedding(states.masked_fill(~mask[..., None], 0.0), mask, pooled)

    def embed(self, prompts: list[str]) -> TextEmbedding:
        """As a call, but an empty prompt is a sentence like any other, of special tokens alone."""
        check_prompts(prompts)
        rows, padding = self.tokenize(prompts)
        self._warn_of_truncation(prompts, rows)
        rows = [row if len(row) <= self.length else row[: self.length - 1] + row[-1:] for row in rows]
        # A CPU runs any shape at once, so there it works on the longest prompt alone: three times faster on captions.
        span = max(map(len, rows)) if self.device.type == "cpu" and not self.padded else self.length
        ids = torch.tensor([row + [padding] * (span - len(row)) for row in rows], dtype=torch.int64)
        mask = torch.tensor([[self.padded or i < len(row) for i in range(span)] for row in rows], dtype=torch.bool)
        ids, mask = ids.to(self.device), mask.to(self.device)
        with torch.no_grad():  # not inference_mode: training differentiates what it computes from these states
            states, pooled = self.encode(self.module, ids, mask)
        mask = nn.functional.pad(mask, (0, self.length - span))
        states = nn.functional.pad(states.float(), (0, 0, 0, self.length - span)).masked_fill(~mask[..., None], 0.0)
        return TextEmbedding(states, mask, None if pooled is None else pooled.float())

    def _warn_of_truncation(self, prompts: list[str], rows: list[list[int]]) -> None:
        cut = [(len(row) - self.length, prompt) for row, prompt in zip(rows, prompts, strict=True)]
        cut = [(excess, prompt) for excess, prompt in cut if excess > 0]
        if not cut:
            return
        excess, prompt = cut[0]
        start = prompt if len(prompt) <= 40 else prompt[:39] + "…"
        others = f" (and {len(cut) - 1} more of the {len(prompts)} prompts were cut)" if len(cut) > 1 else ""
        warnings.warn(
            f"the prompt {start!r} is {excess} token{'s' * (excess > 1)} longer than the text length {self.length}: "
            f"its end was cut off{others}; shorten it, or train with a greater length",
            UserWarning,
            stacklevel=4,
        )
