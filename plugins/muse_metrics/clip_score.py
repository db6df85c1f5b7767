"""The CLIP score: how well a drawn picture fits its caption."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_studio.errors import UserError
from muse_studio.runtime import hub

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Red, green and blue of the pictures that CLIP was trained on, in 0..1."""


@dataclass
class CLIPScore:
    """The cosine of a drawn picture and its caption in CLIP's space, below 0 counted as 0, and then the mean.

    That is what Muse reports (0.32 on COCO); CLIPScore's own paper multiplies by 2.5 (Hessel et al. 2021), others by
    100. It depends on the model: compare it with the same alone.

    model: hub name or local folder of a CLIP, such as openai/clip-vit-base-patch16. offline: never ask the hub.
    """

    model: str
    offline: bool = False
    least: int = field(default=1, init=False, repr=False)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"), init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ValueError("model is empty; give a local folder or a hub name of a CLIP")
        self.reset()

    @property
    def meanings(self) -> dict[str, str]:
        """The score, by the model's name; UserError where the model can't be had."""
        name = self.model.rstrip("/").rpartition("/")[2]
        self._loaded  # noqa: B018  a missing model is reported before anything is drawn
        return {
            f"CLIP score, {name}": f"cosine of a drawn picture and its caption in the space of {name}, at least 0, the "
            "mean; higher is better"
        }

    def to(self, device: torch.device) -> CLIPScore:
        """Compute on that device from now on."""
        self.device = torch.device(device)
        return self

    def reset(self) -> None:
        """Forget all pictures."""
        self.count, self.total = 0, torch.zeros((), dtype=torch.float64, device="cpu")

    @torch.inference_mode()
    def update(self, real: Tensor, generated: Tensor, prompts: list[str]) -> None:
        """uint8[B, 3, H, W] twice, of any sizes, and B captions; ValueError of another number of captions."""
        if len(prompts) != len(generated):
            raise ValueError(f"{len(generated)} pictures have {len(prompts)} captions; give each its own")
        module, tokenizer = self._loaded
        module.to(self.device)
        texts = tokenizer(
            prompts,
            padding=True,
            truncation=True,
            max_length=module.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        pixels = preprocess(generated.to(self.device), module.config.vision_config.image_size)
        output = module(
            input_ids=texts["input_ids"].to(self.device),
            attention_mask=texts["attention_mask"].to(self.device),
            pixel_values=pixels,
        )
        cosine = F.cosine_similarity(output.image_embeds.double().cpu(), output.text_embeds.double().cpu())
        self.count += len(generated)
        self.total = self.total + cosine.clamp(min=0).sum()

    def compute(self) -> Tensor:
        """float64[1]; UserError of no picture."""
        if self.count == 0:
            raise UserError("a CLIP score needs 1 picture at least, and none came")
        return (self.total / self.count)[None]

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """transformers' CLIPModel and its tokenizer."""
        from transformers import AutoTokenizer, CLIPModel

        folder = hub.folder_of(self.model, self.offline)
        try:
            loaded: Any = CLIPModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
            module, info = loaded  # a pair, as the loading info was asked for
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # tokenizers raises Exception itself, transformers whatever a broken folder leads to
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"{self.model} can't be loaded as a CLIP: {reason}; give a model such as openai/clip-vit-base-patch16"
            ) from error
        if missing := info["missing_keys"]:
            raise UserError(
                f"{self.model} is no whole CLIP: it lacks {len(missing)} tensors, first {sorted(missing)[0]}"
            )
        return module.eval().requires_grad_(False), tokenizer


def preprocess(images: Tensor, side: int) -> Tensor:
    """uint8[B, 3, H, W] to float32[B, 3, side, side] as CLIP takes it: by the shorter side, cut from the middle."""
    height, width = images.shape[2:]
    scale = side / min(height, width)
    size = (max(side, round(height * scale)), max(side, round(width * scale)))
    pixels = images.float()
    if size != (height, width):
        pixels = F.interpolate(pixels, size, mode="bicubic", align_corners=False, antialias=True)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    pixels = pixels[:, :, top : top + side, left : left + side].round().clamp(0, 255) / 255
    mean, std = (torch.tensor(each).view(3, 1, 1).to(pixels) for each in (MEAN, STD))
    return (pixels - mean) / std
