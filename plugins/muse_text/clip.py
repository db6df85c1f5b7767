"""CLIP's text encoder."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from torch import Tensor, nn

from muse_studio.errors import UserError
from muse_text.pretrained import Precision, PretrainedEncoder

PROJECTION = "text_projection.weight"


class CLIP(PretrainedEncoder):
    """The text half of any CLIP, as aMUSEd and open-muse use it.

    States are those of one layer, the opening and the closing token among them. pooled is the closing token's state
    after the last layer, projected to the space shared with pictures where the weights have that projection. Weights
    load at the first prompt, from safetensors only.

    model: hub name or local folder, for example openai/clip-vit-large-patch14.
    length: text positions, at most the model's own (77); longer prompts are cut.
    layer: whose states, from the end: -1 the last with the final norm, -2 the penultimate without it (as aMUSEd).
    padded: every prompt is filled up to `length` by the tokenizer's padding, which then counts like words, as aMUSEd
        and Stable Diffusion were trained.
    padding: the id that fills up, where it is another than the tokenizer's own: open_clip's is 0, which counts where
        `padded` is set.
    dtype: of the weights.
    offline: never ask the hub. Otherwise it is asked only for what the local cache (HF_HOME) lacks.
    width: D, so that a recipe can be checked where the model is not; by default its configuration is asked. What is
        stated here must agree with it once the weights load.
    """

    width_key = "hidden_size"

    def __init__(
        self,
        model: str,
        length: int = 77,
        layer: int = -1,
        padded: bool = False,
        padding: int | None = None,
        dtype: Precision = "float32",
        offline: bool = False,
        width: int | None = None,
    ) -> None:
        super().__init__(model, length, dtype, offline, width)
        if layer >= 0:
            raise ValueError(f"layer is {layer}; it counts from the end: -1 is the last, -2 the one before it")
        if padding is not None and padding < 0:
            raise ValueError(
                f"padding is {padding}; give the id of a token, 0 or more, or null for the tokenizer's own"
            )
        self.layer, self.padded, self.padding = layer, padded, padding

    @property
    def identity(self) -> str:
        """As any pretrained encoder's, and whether the padding counts."""
        by = "" if self.padding is None else f" by {self.padding}"
        return f"{super().identity}{f' padded{by}' * self.padded}"

    def tokenize(self, prompts: list[str]) -> tuple[list[list[int]], int]:
        """Ids with the tokenizer's own special tokens, and the padding's."""
        rows, own = super().tokenize(prompts)
        return rows, own if self.padding is None else self.padding

    @cached_property
    def text_config(self) -> Any:
        """The configuration of the text half; UserError where the model is no CLIP or smaller than the settings ask."""
        if self.config.model_type not in ("clip", "clip_text_model"):
            raise UserError(f"{self.model} is a {self.config.model_type!r}; text encoder 'clip' takes a clip")
        config = self.config.text_config if self.config.model_type == "clip" else self.config
        if self.length > config.max_position_embeddings:
            raise UserError(f"length is {self.length}; {self.model} has {config.max_position_embeddings} positions")
        if -self.layer > config.num_hidden_layers:
            raise UserError(f"layer is {self.layer}; {self.model} has {config.num_hidden_layers} layers")
        self.check_width(config)
        return config

    def load(self) -> nn.Module:
        """transformers' CLIPTextModelWithProjection, the projection being left out where the weights have none."""
        from transformers import CLIPTextModelWithProjection

        module, missing = self.pretrained(CLIPTextModelWithProjection, self.text_config, (PROJECTION,))
        if PROJECTION in missing:
            module.text_projection = nn.Identity()  # transformers would project by random numbers
        return module

    def encode(self, module: nn.Module, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The chosen layer's states, and the sentence vector."""
        output = module(input_ids=ids, attention_mask=mask.long(), output_hidden_states=self.layer != -1)
        states = output.last_hidden_state if self.layer == -1 else output.hidden_states[self.layer]
        return states, output.text_embeds
