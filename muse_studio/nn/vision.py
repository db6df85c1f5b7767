"""Pretrained vision networks of transformers, loaded with nothing left to chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from muse_studio.errors import UserError
from muse_studio.runtime import hub

if TYPE_CHECKING:
    from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's red, green and blue, of pixels in 0..1, which most vision networks are trained with."""


def load_vision(network: str, setting: str) -> Any:
    """A vision model by hub name or local folder, frozen; UserError, which calls it `setting`, where it can't be had.

    The hub is asked only for what is neither a folder here nor in its cache.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel

    try:
        folder = hub.folder_of(network, offline=False, files=(*hub.CONFIG, *hub.WEIGHTS))
        module, info = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
    except (UserError, OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{setting} {network!r} could not be loaded: {reason}; give a folder that save_pretrained wrote, with "
            "config.json and model.safetensors, or the hub name of a vision model"
        ) from error
    if missing := [name for name in info["missing_keys"] if "pooler" not in name]:
        raise UserError(f"{setting} {network!r} lacks {len(missing)} of its weights, first {missing[0]}")
    return module.eval().requires_grad_(False)


def layers_of(module: Any, pixels: Tensor, setting: str, cure: str) -> list[Tensor]:
    """What each layer of such a model makes of pictures, float[B, C, h, w]; of one without a plane, [B, C, T, 1].

    UserError, which calls the model `setting` and ends in the cure, where it tells no hidden states.
    """
    states = getattr(module(pixels, output_hidden_states=True), "hidden_states", None)
    if states is None:
        raise UserError(f"{setting} tells no hidden states; {cure}")
    return [each if each.ndim == 4 else each.transpose(1, 2).unsqueeze(-1) for each in states]
