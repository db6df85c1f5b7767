"""T5's encoder, Muse's choice of text encoder (section 2.1)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from torch import Tensor, nn

from muse_studio.errors import UserError
from muse_text.pretrained import Precision, PretrainedEncoder


class T5(PretrainedEncoder):
    """The encoder of any T5 (t5, flan-t5, mt5, umt5), up to T5-XXL, which Muse uses (4.6B parameters, width 4096).

    States are the last layer's, the closing </s> among them; pooled is None. Weights load at the first prompt, from
    safetensors only.

    model: hub name or local folder, for example google/flan-t5-xxl.
    length: text positions; longer prompts are cut. Muse's is not stated; 64 is an unpublished caption's "up to 64".
    dtype: of the weights; T5 overflows in float16, so that is not offered.
    offline: never ask the hub. Otherwise it is asked only for what the local cache (HF_HOME) lacks.
    width: D (4096 for T5-XXL), so that a recipe can be checked where the model is not; by default its configuration
        is asked. What is stated here must agree with it once the weights load.
    """

    width_key = "d_model"

    def __init__(
        self,
        model: str,
        length: int = 64,
        dtype: Precision = "bfloat16",
        offline: bool = False,
        width: int | None = None,
    ) -> None:
        super().__init__(model, length, dtype, offline, width)

    @cached_property
    def text_config(self) -> Any:
        """The model's configuration; UserError where it is no T5, or of another width than was stated."""
        if self.config.model_type not in ("t5", "mt5", "umt5"):
            raise UserError(f"{self.model} is a {self.config.model_type!r}; text encoder 't5' takes a t5, mt5 or umt5")
        self.check_width(self.config)
        return self.config

    def load(self) -> nn.Module:
        """transformers' encoder half, T5EncoderModel or its kin."""
        from transformers import AutoModelForTextEncoding

        return self.pretrained(AutoModelForTextEncoding, self.text_config)[0]

    def encode(self, module: nn.Module, ids: Tensor, mask: Tensor) -> tuple[Tensor, None]:
        """The last layer's states; T5 has no sentence vector."""
        return module(input_ids=ids, attention_mask=mask.long()).last_hidden_state, None
