"""Offers the mask schedules, the samplers and the guidance of MaskGIT, Muse and what came after; imports no torch."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_schedules():
    """The schedules by name."""
    return {
        "arccos": "muse_sampling.later_schedules:Arccos",
        "cosine": "muse_sampling.schedules:Cosine",
        "cubic": "muse_sampling.schedules:Cubic",
        "exp": "muse_sampling.schedules:Exp",
        "linear": "muse_sampling.schedules:Linear",
        "log": "muse_sampling.schedules:Log",
        "polynomial": "muse_sampling.later_schedules:Polynomial",
        "sigmoid": "muse_sampling.later_schedules:Sigmoid",
        "sqrt": "muse_sampling.schedules:Sqrt",
        "square": "muse_sampling.schedules:Square",
        "steps": "muse_sampling.later_schedules:Steps",
    }


@hookimpl
def muse_samplers():
    """The samplers by name."""
    return {
        "confidence": "muse_sampling.confidence:Confidence",
        "entropy-bounded": "muse_sampling.entropy_bounded:EntropyBounded",
        "gumbel": "muse_sampling.gumbel:Gumbel",
        "predictor-corrector": "muse_sampling.predictor_corrector:PredictorCorrector",
        "random": "muse_sampling.shuffled:Random",
        "remdm": "muse_sampling.remdm:ReMDM",
        "token-critic": "muse_sampling.token_critic:TokenCritic",
    }


@hookimpl
def muse_guidances():
    """The guidance rules by name."""
    return {
        "autoguidance": "muse_sampling.guidance:AutoGuidance",
        "cfg": "muse_sampling.guidance:CFG",
        "none": "muse_sampling.guidance:NoGuidance",
    }
