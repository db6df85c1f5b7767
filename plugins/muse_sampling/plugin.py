"""Offers the mask schedules, the sampler and the guidance of MaskGIT and Muse; imports no torch."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_schedules():
    """The schedules by name."""
    return {
        "cosine": "muse_sampling.schedules:Cosine",
        "cubic": "muse_sampling.schedules:Cubic",
        "exp": "muse_sampling.schedules:Exp",
        "linear": "muse_sampling.schedules:Linear",
        "log": "muse_sampling.schedules:Log",
        "sqrt": "muse_sampling.schedules:Sqrt",
        "square": "muse_sampling.schedules:Square",
    }


@hookimpl
def muse_samplers():
    """The samplers by name."""
    return {
        "confidence": "muse_sampling.confidence:Confidence",
        "token-critic": "muse_sampling.token_critic:TokenCritic",
    }


@hookimpl
def muse_guidances():
    """The guidance rules by name."""
    return {"cfg": "muse_sampling.guidance:CFG", "none": "muse_sampling.guidance:NoGuidance"}
