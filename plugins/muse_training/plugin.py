"""Training, as a plugin."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_tasks():
    """Trains any masked transformer; makes the tokens that it trains on; averages a run's checkpoints."""
    return {
        "average": "muse_training.average:Average",
        "prepare-tokens": "muse_training.data.prepare:PrepareTokens",
        "train": "muse_training.train:Train",
    }


@hookimpl
def muse_optimizers():
    """How weights follow their gradients."""
    return {
        "adamw": "muse_training.optimizers:AdamW",
        "adamw8bit": "muse_training.eightbit:AdamW8bit",
        "adafactor": "muse_training.adafactor:Adafactor",
        "muon": "muse_training.optimizers:Muon",
    }


@hookimpl
def muse_objectives():
    """What a step of training hides, asks and pays."""
    return {
        "masked": "muse_training.objectives.masked:Masked",
        "maskgit": "muse_training.objectives.masked:MaskGIT",
        "mdlm": "muse_training.objectives.diffusion:MDLM",
        "discrete-flow": "muse_training.objectives.diffusion:DiscreteFlow",
        "token-critic": "muse_training.objectives.critic:TokenCritic",
        "repa": "muse_training.objectives.alignment:Repa",
        "distillation": "muse_training.objectives.distillation:Distillation",
    }


@hookimpl
def muse_datasets():
    """Anyone's pictures, and the tokens made of them."""
    return {
        "augmented": "muse_training.data.augmented:Augmented",
        "folder": "muse_training.data.folder:Folder",
        "huggingface": "muse_training.data.huggingface:HuggingFace",
        "tokens": "muse_training.data.tokens:Tokens",
        "webdataset": "muse_training.data.webdataset:WebDataset",
    }
