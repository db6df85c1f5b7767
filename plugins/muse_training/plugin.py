"""Training, as a plugin."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_tasks():
    """Trains any masked transformer; averages a run's checkpoints."""
    return {"average": "muse_training.average:Average", "train": "muse_training.train:Train"}


@hookimpl
def muse_optimizers():
    """How weights follow their gradients."""
    return {
        "adamw": "muse_training.optimizers:AdamW",
        "adafactor": "muse_training.adafactor:Adafactor",
        "muon": "muse_training.optimizers:Muon",
    }


@hookimpl
def muse_datasets():
    """Anyone's pictures."""
    return {"folder": "muse_training.folder:Folder"}
