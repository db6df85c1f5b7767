"""What the transformers' tensors were called in version 0.1."""

from muse_studio.runtime.former import FormerNames

FORMER = FormerNames(
    "muse-0.1",
    (
        (r"blocks\.(\d+)\.look\.", r"blocks.\1.self_attention."),
        (r"blocks\.(\d+)\.read\.", r"blocks.\1.cross_attention."),
        (r"blocks\.(\d+)\.think\.", r"blocks.\1.mlp."),
        (r"read_low\.(\d+)\.look\.", r"low_blocks.\1.self_attention."),
        (r"read_low\.(\d+)\.think\.", r"low_blocks.\1.mlp."),
        (r"read_low\.", "low_blocks."),
        (r"read_text\.", "text_projection."),
    ),
)
"""Those of the base and the super-resolution transformer and of their critics."""
