"""The masked transformers, as a plugin."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_transformers():
    """Muse's base model and its super-resolution model, and a critic of the tokens that each of them draws."""
    return {
        "critic": "muse_transformer.critic:Critic",
        "critic-superres": "muse_transformer.critic:SuperResolutionCritic",
        "muse": "muse_transformer.muse:MuseTransformer",
        "superres": "muse_transformer.superres:SuperResolution",
    }


@hookimpl
def muse_tasks():
    """Fills the tables by which a transformer knows things before it is trained."""
    return {"solve-sketch": "muse_transformer.solve_sketch:SolveSketch"}


@hookimpl
def muse_dialects():
    """Their names in version 0.1."""
    return {"muse-0.1": "muse_transformer.dialect:muse_0_1"}
