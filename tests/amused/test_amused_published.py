"""aMUSEd's published sizes and names fit the tables, and one command imports and draws."""

import pytest
import torch
from importing import dialect
from muse_amused.dialect import TRANSFORMER, transformer
from muse_weights.published import GeneratePublished
from PIL import Image

import muse_studio
from muse_studio.recipe.merging import load
from muse_studio.runtime.dialects import Found, Piece
from muse_studio.runtime.matching import differences, match


def meta(kind, settings):
    """The shapes of our part's tensors, and how many parameters it has."""
    given = {key: value for key, value in settings.items() if key != "use"}
    with torch.device("meta"):
        part = muse_studio.parts(kind, settings["use"])[0].load()(**given)
    shapes = {name: list(tensor.shape) for name, tensor in part.state_dict().items()}
    return shapes, sum(parameter.numel() for parameter in part.parameters())


def shapes(model):
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def fits(theirs, ours, rules, settings, where=None):
    """Whether every tensor of theirs becomes one of ours, none left over."""
    piece = Piece("x", "x", "x", "", rules, lambda found: {}, places=where)
    wrong = differences(match(theirs, piece, settings), theirs, ours)
    return not any(wrong.values()) or wrong


@pytest.mark.parametrize(("size", "count", "millions"), [(256, 474, 603.5), (512, 478, 608.3)])
def test_the_published_transformers_have_our_sizes_and_names(size, count, millions):
    from diffusers import UVit2DModel

    halved = size == 512
    with torch.device("meta"):  # diffusers' defaults are aMUSEd's
        theirs = UVit2DModel(downsample=halved, upsample=halved, sample_size=size // 16)
    assert len(theirs.state_dict()) == count
    settings = load(f"models/amused-{size}").plain()["stages"]["base"]["transformer"]
    ours, parameters = meta("transformer", settings)
    assert round(parameters / 1e6, 1) == millions
    del ours["empty_states"], ours["empty_pooled"]
    assert fits(shapes(theirs), ours, TRANSFORMER, settings) is True
    configs = {
        "vqvae/config.json": {"block_out_channels": [128, 256, 256, 512, 768]},
        "scheduler/scheduler_config.json": {"mask_token_id": 8255},
        "text_encoder/config.json": {"max_position_embeddings": 77},
    }
    derived = transformer(Found(theirs.config, {}, configs))
    assert {"use": "amused", **derived, "weights": None} == settings


def test_the_published_tokenizer_has_our_size_and_names():
    from diffusers import VQModel

    with torch.device("meta"):
        theirs = VQModel(
            down_block_types=("DownEncoderBlock2D",) * 5, up_block_types=("UpDecoderBlock2D",) * 5,
            block_out_channels=(128, 256, 256, 512, 768), layers_per_block=2, latent_channels=64,
            num_vq_embeddings=8192, mid_block_add_attention=False, lookup_from_codebook=True,
        )  # fmt: skip
    assert len(theirs.state_dict()) == 277
    settings = load("models/amused-256").plain()["stages"]["base"]["tokenizer"] | {"ema": 0.0}
    ours, parameters = meta("tokenizer", settings)
    assert round(parameters / 1e6, 1) == 146.2
    del ours["quantizer.idle"]
    vq = dialect("diffusers-vq").pieces[0]
    assert fits(shapes(theirs), ours, vq.rules, settings, vq.places) is True


def test_one_command_imports_once_and_draws(published, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    settings = {
        "source": str(published),
        "prompt": "a red apple",
        "out": str(tmp_path / "one.png"),
        "changes.stages.base.sampler.steps": 2,
    }
    drawn = muse_studio.run("amused-256", settings)
    assert drawn.images[0].size == (16, 16)
    assert drawn.paths[0].name == "one.png"
    task = GeneratePublished(str(published), dialect("amused"), "")
    model, written = task.model(), (task.model() / "transformer.safetensors").stat().st_mtime_ns
    again = muse_studio.run(str(drawn.paths[0]), {"out": str(tmp_path / "two.png")})
    assert again.images[0].tobytes() == drawn.images[0].tobytes()
    assert (task.model() / "transformer.safetensors").stat().st_mtime_ns == written and model.is_dir()


def test_an_imported_model_edits_a_picture(imported, tmp_path):
    region = torch.zeros(16, 16, dtype=torch.uint8)
    region[:8] = 255
    Image.new("RGB", (16, 16), "red").save(tmp_path / "picture.png")
    Image.fromarray(region.numpy()).save(tmp_path / "region.png")
    recipe = {"extends": str(imported / "model.yaml"), "use": "edit", "prompt": "a blue car", "editor": "inpaint"}
    recipe |= {name: str(tmp_path / f"{name}.png") for name in ("picture", "region")} | {"out": str(tmp_path / "out")}
    edited = muse_studio.run(recipe)
    assert edited.images[0].size == (16, 16) and edited.images[0].getpixel((8, 2)) != (255, 0, 0)


@pytest.mark.parametrize("recipe", ["amused-256", "amused-512"])
def test_the_recipes_are_checked_without_network(recipe):
    assert [str(problem) for problem in muse_studio.check(recipe)] == []
    assert load(recipe).plain()["source"] == f"hf://amused/{recipe}"
