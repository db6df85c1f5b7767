"""What a user can get wrong about stages that refine each other, through the real command and the real parts."""

import pytest

SUPERRES = "train-emoji-superres"
WEIGHTS = "package://muse_emoji/models/base.safetensors"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["stages.superres.transformer.low_grid=[4, 4]"],
            "stages.superres: its transformer refines a grid of 4x4 tokens, the stage before it gives 8x8; set",
        ),
        (
            ["stages.superres.size=96"],
            "a picture of 96x96 pixels is 12x12 tokens, the transformer's grid is 16x16; set size or grid so that they",
        ),
        (
            ["stages.superres.transformer.low_codebook_size=1024"],
            "refines tokens of 1024 codes, the tokenizer of the stage before it has 4096; set low_codebook_size",
        ),
        (
            ["stages.superres.transformer.codebook_size=1024"],
            "the tokenizer has 4096 codes, the transformer has 1024; set the transformer's codebook_size to the",
        ),
        (
            ["stages.superres.transformer.block=3"],
            "block is 3, which does not divide the grid of 16x16 tokens; these do: 1, 2, 4, 8, 16",
        ),
        (["stages.superres.transformer.heads=1"], "heads is 1; it must be even: half of them look within blocks"),
        (["stages.superres.transformer.low_layers=0"], "low_layers, mlp, block must be 1 or more"),
        (["corruption=1.5"], "corruption is 1.5; it is a share, from 0 to 1"),
        (["stage=base"], "corruption is 0.4, but 'base' is the first stage and refines no tokens"),
        (["stage=super"], "stage is 'super'; say which one to train: base, superres"),
        (
            [f"stages.superres.transformer.weights={WEIGHTS}"],
            f"{WEIGHTS} does not fit here: ",
        ),
    ],
)
def test_a_stage_that_does_not_fit(refused, overrides, message):
    assert message in refused("check", SUPERRES, *overrides)


def test_a_super_resolution_stage_without_a_base(refused, here):
    (here / "alone.yaml").write_text(
        "use: generate\nprompt: a cat\ntext_encoder: {use: minilm}\nstages:\n  superres:\n    size: 128\n"
        "    tokenizer: {extends: models/emoji-tokenizer}\n"
        "    transformer: {use: superres, codebook_size: 4096, grid: [16, 16], low_grid: [8, 8], text_width: 384, "
        "width: 32, layers: 1, low_layers: 1, heads: 2}\n"
        "    schedule: cosine\n    sampler: confidence\n    guidance: none\n"
    )
    said = refused("check", "alone.yaml")
    assert (
        "stages.superres: its transformer refines a grid of 8x8 tokens, and no stage comes before it; put a base"
        in said
    )


def test_two_base_models_behind_each_other(refused, here):
    (here / "twice.yaml").write_text(
        "extends: generate\nprompt: a cat\nstages:\n  again:\n    size: 64\n"
        "    tokenizer: {extends: models/emoji-tokenizer}\n"
        "    transformer: {use: muse, codebook_size: 4096, grid: [8, 8], text_width: 384, width: 32, layers: 1, "
        "heads: 2}\n"
        "    schedule: cosine\n    sampler: confidence\n    guidance: none\n"
    )
    assert (
        "stages.again: its transformer is a base model, which can't refine the tokens of the stage before"
        in refused("check", "twice.yaml")
    )
