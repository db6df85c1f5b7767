"""The VQGAN tokenizer and its training task, as a plugin."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_tokenizers():
    """Muse's tokenizer."""
    return {"vqgan": "muse_vqgan.vqgan:VQGAN"}


@hookimpl
def muse_tasks():
    """How it is trained."""
    return {"train-tokenizer": "muse_vqgan.train:TrainTokenizer"}
