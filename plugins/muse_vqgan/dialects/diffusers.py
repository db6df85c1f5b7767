"""diffusers' folder of a VQModel without attention: config.json and one file of weights."""

from __future__ import annotations

from typing import Any

from muse_studio.runtime.dialects import Dialect, Found, Piece, Rule, single_part
from muse_vqgan.dialects.layout import BY_GRADIENT, MODULE, STARTS, places

RULES = (
    Rule(rf"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.{MODULE}", r"encoder.\1.\2.\3.\4"),
    Rule(rf"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\.{MODULE}", r"decoder.\1.\2.\3.\4"),
    Rule(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.conv_shortcut\.(weight|bias)", r"encoder.\1.\2.shortcut.\3"),
    Rule(r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\.conv_shortcut\.(weight|bias)", r"decoder.\1.\2.shortcut.\3"),
    Rule(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0\.conv\.(weight|bias)", r"encoder.\1.change.conv.\2"),
    Rule(r"decoder\.up_blocks\.(\d+)\.upsamplers\.0\.conv\.(weight|bias)", r"decoder.\1.change.conv.\2"),
    Rule(rf"(encoder|decoder)\.mid_block\.resnets\.([01])\.{MODULE}", r"\1.middle.\2.\3.\4"),
    Rule(r"(encoder|decoder)\.(conv_in|conv_out)\.(weight|bias)", r"\1.\2.\3"),
    Rule(r"(encoder|decoder)\.conv_norm_out\.(weight|bias)", r"\1.norm_out.\2"),
    Rule(r"quant_conv\.(weight|bias)", r"pre.\1"),
    Rule(r"post_quant_conv\.(weight|bias)", r"post.\1"),
    Rule(r"quantize\.embedding\.weight", "quantizer.codes"),
)
"""Its names to those that `muse_vqgan.dialects.layout.places` knows."""


def settings(found: Found) -> dict[str, Any]:
    """Our VQGAN's settings, from VQModel's."""
    config = found.config
    channels = config["block_out_channels"]
    least = min(channels)
    if any(each % least for each in channels) or config["norm_num_groups"] != 32 or least % 32:
        raise ValueError("channels that are multiples of the fewest, in norms of 32 groups")
    if config["vq_embed_dim"] not in (None, config["latent_channels"]):
        raise ValueError("codes as wide as its latents, by vq_embed_dim")
    return {
        "codebook_size": config["num_vq_embeddings"],
        "code_width": config["latent_channels"],
        "channels": least,
        "multipliers": [each // least for each in channels],
        "blocks": config["layers_per_block"],
        "quantizer": BY_GRADIENT,
        "signed": False,
    }


def diffusers_vq() -> Dialect:
    """diffusers' VQModel without attention, such as aMUSEd's, in a folder of its own."""
    piece = Piece(
        "tokenizer",
        "tokenizer",
        "vqgan",
        "diffusion_pytorch_model.safetensors",
        RULES,
        settings,
        places=places,
        expected={
            "_class_name": "VQModel",
            "act_fn": "silu",
            "norm_type": "group",
            "mid_block_add_attention": False,
            "lookup_from_codebook": True,
            "in_channels": 3,
            "out_channels": 3,
        },
        defaults={"norm_type": "group"},
        starts=STARTS,
    )
    return single_part("diffusers-vq", piece)
