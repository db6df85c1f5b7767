"""The VQGAN tokenizer and its training tasks, as a plugin."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_tokenizers():
    """Muse's tokenizer."""
    return {"vqgan": "muse_vqgan.vqgan:VQGAN"}


@hookimpl
def muse_tasks():
    """How it is trained, and its decoder once more."""
    return {
        "train-tokenizer": "muse_vqgan.train:TrainTokenizer",
        "finetune-decoder": "muse_vqgan.finetune:FinetuneDecoder",
    }
