"""The worker of muse-maskgit-pytorch for benchmarks/maskgit.py; runs in the rival's environment, without ours.

Sampling alone is measured, so what the package imports for training and never calls here, torchvision, may be missing:
an empty module stands for it. Its text encoder would ask the hub; vectors of the same shape stand for the text.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib.metadata import version
from types import ModuleType

import torch
from turns import serve

TORCHVISION = {
    "torchvision": [],
    "torchvision.transforms": [],
    "torchvision.datasets": ["ImageFolder"],
    "torchvision.utils": ["make_grid", "save_image"],
}
"""Its modules that the package imports, and what by name."""


def main() -> None:
    """Serve one sampling run of the sizes given as JSON on the command line."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer  # noqa: F401, while torchvision is seen to be missing

    if importlib.util.find_spec("torchvision") is None:
        for name, imported in TORCHVISION.items():
            sys.modules[name] = ModuleType(name)
            vars(sys.modules[name]).update(dict.fromkeys(imported))
    from muse_maskgit_pytorch import MaskGit, MaskGitTransformer, VQGanVAE
    from muse_maskgit_pytorch.t5 import T5_CONFIGS

    sizes = json.loads(sys.argv[1])
    torch.manual_seed(0)
    T5_CONFIGS["the text's width"] = {"config": T5Config(d_model=sizes["text_width"])}
    transformer = MaskGitTransformer(
        num_tokens=sizes["codes"],
        seq_len=sizes["side"] ** 2,
        dim=sizes["width"],
        depth=sizes["layers"],
        heads=sizes["heads"],
        dim_head=sizes["width"] // sizes["heads"],
        t5_name="the text's width",
    )
    vae = VQGanVAE(dim=16, codebook_size=sizes["codes"], use_vgg_and_gan=False)
    model = MaskGit(image_size=16 * sizes["side"], transformer=transformer, vae=vae).eval()
    model.vae.decode_from_ids = lambda ids: ids  # tokens alone
    text = torch.randn(sizes["batch"], sizes["text_length"], sizes["text_width"])
    transformer.encode_text = lambda prompts: text

    def draw() -> None:
        prompts = ["anything"] * sizes["batch"]
        model.generate(prompts, fmap_size=sizes["side"], timesteps=sizes["steps"], cond_scale=3)

    count = sum(parameter.numel() for parameter in transformer.parameters())
    serve({"draw": draw}, reported=f"muse-maskgit-pytorch {version('muse-maskgit-pytorch')}", parameters=count)


if __name__ == "__main__":
    main()
