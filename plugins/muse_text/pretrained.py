"""A frozen encoder that transformers loads, by hub name or from a local folder."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import torch
from torch import nn

from muse_studio.errors import UserError, words_of
from muse_studio.runtime import memory
from muse_studio.runtime.hub import CONFIG, folder_of
from muse_text.frozen import FrozenEncoder

Precision = Literal["float32", "bfloat16"]


class PretrainedEncoder(FrozenEncoder):
    """The part that T5 and CLIP share: settings, configuration, tokenizer, loading with nothing left to chance.

    model: hub name or local folder; length: T; dtype: of the weights (states are float32 always); offline: never ask
    the hub, which is asked otherwise only for what the local cache lacks; width: D, None to ask the configuration.
    """

    width_key: str
    """What the model's configuration calls D."""
    text_config: Any
    """The configuration of the text encoder, as a subclass accepts it; UserError where it does not."""

    def __init__(self, model: str, length: int, dtype: Precision, offline: bool, width: int | None) -> None:
        super().__init__(length)
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype is {dtype!r}; give 'float32' or 'bfloat16'")
        if not model.strip():
            raise ValueError("model is empty; give a local folder or a hub name")
        if width is not None and width < 1:
            raise ValueError(f"width is {width}; give the model's {self.width_key}, or leave it out")
        self.model, self.dtype, self.offline, self.stated_width = model, getattr(torch, dtype), offline, width

    @property
    def width(self) -> int:
        """D, as stated, else from the model's configuration; UserError as `text_config`."""
        return getattr(self.text_config, self.width_key) if self.stated_width is None else self.stated_width

    def check_width(self, config: Any) -> None:
        """UserError where a configuration has another width than was stated."""
        if self.stated_width not in (None, found := getattr(config, self.width_key)):
            raise UserError(f"width is {self.stated_width}, but {self.model} has {found}; leave width out")

    @property
    def identity(self) -> str:
        """The kind, T, and the last part of the model's name, which a copy in a folder of that name has too."""
        return f"{super().identity} {self.model.rstrip('/').rpartition('/')[2]}"

    @cached_property
    def config(self) -> Any:
        """transformers' configuration of the model, without its weights; UserError where it can't be had."""
        from transformers import AutoConfig

        folder = folder_of(self.model, self.offline, CONFIG)
        try:
            return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"transformers can't read the config.json of {self.model}: {words_of(error)}") from error

    @cached_property
    def tokenizer(self) -> Any:
        """The model's own tokenizer; UserError where it can't be built."""
        from transformers import AutoTokenizer

        folder = folder_of(self.model, self.offline)
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # tokenizers raises Exception itself, transformers whatever a broken file leads to
            raise UserError(
                f"transformers can't build the tokenizer of {self.model}: {words_of(error)}; "
                "a tokenizer.json beside the weights always works, a spiece.model needs pip install sentencepiece"
            ) from error

    def tokenize(self, prompts: list[str]) -> tuple[list[list[int]], int]:
        """Ids with the tokenizer's own special tokens."""
        return self.tokenizer(prompts, verbose=False)["input_ids"], self.tokenizer.pad_token_id or 0

    def pretrained(self, loader: Any, config: Any, optional: tuple[str, ...] = ()) -> tuple[nn.Module, set[str]]:
        """What `loader.from_pretrained` makes of the folder, and which of the `optional` weights it lacks.

        UserError where another weight is missing, as transformers would fill it with random numbers.
        """
        from safetensors import SafetensorError

        folder = folder_of(self.model, self.offline)
        self._check_memory(loader, config)
        try:
            module, info = loader.from_pretrained(
                folder,
                config=config,
                dtype=self.dtype,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise UserError(f"the weights of {self.model} can't be loaded: {words_of(error)}") from error
        missing = {str(name) for name in info["missing_keys"]}
        if missing - set(optional):
            some = sorted(missing - set(optional))
            raise UserError(f"the weights of {self.model} lack {len(some)} of the encoder's tensors, first {some[0]}")
        return module, missing

    def _check_memory(self, loader: Any, config: Any) -> None:
        """UserError where the model's weights don't fit the machine."""
        try:
            with torch.device("meta"):
                auto = getattr(loader, "from_config", None)  # of transformers' Auto classes, which may run code
                model = loader(config) if auto is None else auto(config, trust_remote_code=False)
        except (ValueError, RuntimeError):  # loading it reports what can't be made
            return
        need = sum(weight.numel() for weight in model.parameters()) * self.dtype.itemsize
        memory.check(need, f"the weights of {self.model} take", "choose a smaller text encoder, or dtype: bfloat16")
