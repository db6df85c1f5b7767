"""Offers the VQGAN tokenizer, its training tasks, and the layouts that VQGANs are published in; imports no torch."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_tokenizers():
    """Muse's tokenizer."""
    return {"vqgan": "muse_vqgan.vqgan:VQGAN"}


@hookimpl
def muse_quantizers():
    """How its latents become codes."""
    return {
        "fsq": "muse_vqgan.quantizers.finite:Finite",
        "ibq": "muse_vqgan.quantizers.index:IndexBackpropagation",
        "lfq": "muse_vqgan.quantizers.lookup_free:LookupFree",
        "projected": "muse_vqgan.quantizers.projected:Projecting",
        "simvq": "muse_vqgan.quantizers.vector:SimpleVector",
        "vq": "muse_vqgan.quantizers.vector:VectorQuantizer",
    }


@hookimpl
def muse_tasks():
    """How it is trained, and its decoder once more."""
    return {
        "train-tokenizer": "muse_vqgan.train:TrainTokenizer",
        "finetune-decoder": "muse_vqgan.finetune:FinetuneDecoder",
    }


@hookimpl
def muse_dialects():
    """Files that hold a VQGAN alone."""
    return {
        "diffusers-vq": "muse_vqgan.dialects.diffusers:diffusers_vq",
        "llamagen-vq": "muse_vqgan.dialects.llamagen:llamagen_vq",
        "maskgit-vqgan": "muse_vqgan.dialects.taming:maskgit_vqgan",
        "maskgit-vqgan-flax": "muse_vqgan.dialects.maskgit:maskgit_vqgan_flax",
        "maskgit-vqgan-torch": "muse_vqgan.dialects.maskgit:maskgit_vqgan_torch",
        "taming-vqgan": "muse_vqgan.dialects.taming:taming_vqgan",
    }
