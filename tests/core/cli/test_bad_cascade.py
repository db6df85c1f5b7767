"""What a user can get wrong about stages that refine each other, through the real command and the real parts."""


def test_a_super_resolution_stage_without_a_base(refused, here):
    (here / "alone.yaml").write_text(
        "use: generate\nprompt: a cat\ntext_encoder: {use: minilm}\nstages:\n  superres:\n    size: 128\n"
        "    tokenizer: {extends: models/emoji-tokenizer}\n"
        "    transformer: {use: superres, codebook_size: 4096, grid: [16, 16], low_grid: [8, 8], text_width: 384, "
        "width: 32, layers: 1, low_layers: 1, heads: 2}\n"
        "    schedule: cosine\n    sampler: confidence\n    guidance: none\n"
    )
    message = refused("check", "alone.yaml")
    assert (
        "stages.superres: its transformer refines a grid of 8x8 tokens, and no stage comes before it; put a base"
        in message
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
