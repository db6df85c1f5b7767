"""What models and stages refuse of their callers: one sentence that says what was expected and how to make it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from muse_studio.contracts import TextEmbedding, Transformer
from muse_studio.sampling.abilities import takes_micro
from muse_studio.sampling.noise import Rows

LARGEST_SEED = 2**63 - 1


def check_images(images: Any, name: str = "images") -> None:
    """TypeError or ValueError where these are not float[B, 3, H, W]."""
    wanted = f"{name}: expected float32[B, 3, H, W] in 0..1, got {described(images)}"
    if not isinstance(images, Tensor):
        raise TypeError(f"{wanted}; make it by muse_studio.to_tensor(picture)")
    if not images.is_floating_point():
        raise TypeError(f"{wanted}; make it by {name}.float() / 255")
    if images.ndim == 3:
        raise ValueError(f"{wanted}, without a batch axis; make it by {name}[None]")
    if images.ndim == 4 and images.shape[1] != 3 and images.shape[-1] == 3:
        raise ValueError(f"{wanted}, with the channels last; make it by {name}.permute(0, 3, 1, 2)")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"{wanted}; make it by muse_studio.to_tensor(picture)")


def check_range(images: Tensor, name: str = "images") -> None:
    """ValueError where pixels are outside of 0..1."""
    least, most = (float(each) for each in images.detach().aminmax())
    if least < 0 or most > 1:
        cure = f"({name} + 1) / 2" if least >= -1 and most <= 1 else f"{name} / 255"
        raise ValueError(f"{name}: expected pixels in 0..1, got {least:.4g}..{most:.4g}; make it by {cure}")


def check_tokens(tokens: Any, name: str = "tokens") -> None:
    """TypeError or ValueError where these are not int64[B, h, w]."""
    wanted = f"{name}: expected int64[B, h, w], got {described(tokens)}"
    if not isinstance(tokens, Tensor):
        raise TypeError(f"{wanted}; make it by stage.tokenizer.encode(images), or stage.blank(count)")
    if tokens.is_floating_point():
        raise TypeError(f"{wanted}; make it by stage.tokenizer.encode(images)")
    if tokens.dtype != torch.int64:
        raise TypeError(f"{wanted}; make it by {name}.long()")
    if tokens.ndim == 2:
        raise ValueError(f"{wanted}, without a batch axis; make it by {name}[None]")
    if tokens.ndim != 3:
        raise ValueError(f"{wanted}; make it by {name}.view(B, h, w)")


def check_text(text: Any, name: str = "text", of: Transformer | None = None) -> None:
    """TypeError where this is no `TextEmbedding`; a warning where it brings what the transformer `of` doesn't take."""
    if not isinstance(text, TextEmbedding):
        shown = repr(text) if isinstance(text, str) else '"a fox"'
        raise TypeError(
            f"{name}: expected a TextEmbedding, got {described(text)}; make it by model.text_encoder([{shown}])"
        )
    if of is not None and text.micro is not None:
        tell_of_micro(of)


def tell_of_micro(model: Transformer) -> None:
    """A warning where micro-conditions come with texts and a transformer takes none."""
    if not takes_micro(model):
        warnings.warn(
            f"{type(model).__name__} takes no micro-conditions, so those that come with the texts change nothing; "
            "leave them out of the data set, or take a transformer that knows them, such as amused",
            stacklevel=3,
        )


def check_conditioning(conditioning: Any) -> None:
    """TypeError where this is not what `Stage.condition` gives."""
    wanted = f"conditioning: expected what a transformer makes of a text, got {described(conditioning)}"
    if isinstance(conditioning, TextEmbedding):
        raise TypeError(f"{wanted}; make it by stage.condition(text)")
    if not isinstance(conditioning, tuple):
        raise TypeError(f'{wanted}; make it by stage.condition(model.text_encoder(["a fox"]))')


def check_generator(generator: Any) -> None:
    """TypeError where this is no generator of random numbers, nor one for each picture."""
    if not isinstance(generator, torch.Generator | Rows):
        seed = generator if type(generator) is int else 0
        raise TypeError(
            f"generator: expected a torch.Generator, got {described(generator)}; "
            f"make it by torch.Generator().manual_seed({seed})"
        )


def check_seed(seed: Any) -> None:
    """TypeError where this is no whole number, ValueError where no generator takes it."""
    if type(seed) is not int:
        raise TypeError(f"seed: expected a whole number, got {described(seed)}; give one such as seed=3")
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"seed is {seed}; give one from 0 to {LARGEST_SEED}")


def check_words(prompt: Any, name: str = "prompt") -> None:
    """TypeError where a prompt is no text."""
    if not isinstance(prompt, str):
        raise TypeError(f'{name}: expected a text, got {described(prompt)}; give one such as {name}="a fox"')


def described(value: Any) -> str:
    """What was given, in a few words: "uint8[3, 64, 64]", "a picture of pillow", "the text 'a fox'"."""
    if isinstance(value, TextEmbedding):
        return "a TextEmbedding"
    if isinstance(value, Tensor | np.ndarray):
        kind = str(value.dtype).removeprefix("torch.")
        return f"{'' if isinstance(value, Tensor) else 'a numpy array '}{kind}{list(value.shape)}"
    if isinstance(value, Image.Image):
        return "a picture of pillow"
    if isinstance(value, str):
        return f"the text {value!r}"
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
