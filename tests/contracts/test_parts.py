"""Every part that a plugin of this checkout offers keeps its contract; the parts are found as a recipe finds them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
from dialect_sources import SOURCES
from muse_transformer.options import Options, Sketching

from muse_studio import testing
from muse_studio.registry.kinds import kinds
from muse_studio.registry.parts import Part
from muse_studio.registry.plugins import GROUP, Registry
from muse_studio.runtime import weights
from muse_studio.stage import Stage
from muse_studio.training.loop import Fit

REGISTRY = Registry()
PARTS = REGISTRY.parts()


def nothing(folder: Path) -> dict[str, Any]:
    return {}


def stages() -> dict[str, Stage]:
    return {"base": testing.tiny_stage()}


def drawing(folder: Path) -> dict[str, Any]:
    return {"stages": stages(), "text_encoder": testing.FakeTextEncoder(), "out": str(folder / "out")}


def emoji(folder: Path) -> dict[str, Any]:
    """The npm packages of the emoji data set, in small: two things, drawn alike by every set."""
    from muse_emoji.sources import LABELS, SOURCES
    from PIL import Image

    things = {"1F34E": "red apple", "1F697": "car"}
    words = [{"hexcode": code, "label": label, "tags": [], "group": 1, "subgroup": 1} for code, label in things.items()]
    messages = {"groups": [{"order": 1, "key": "things"}], "subgroups": [{"order": 1, "message": "things"}]}
    icon = {"body": '<circle cx="8" cy="8" r="7" fill="red"/>', "width": 16, "height": 16}
    icons = {"icons": {label.replace(" ", "-"): icon for label in things.values()}}
    chars = {code.lower(): label.replace(" ", "-") for code, label in things.items()}
    files = {f"{LABELS[0]}/package.json": {"version": LABELS[1]}}
    files |= {f"{LABELS[0]}/en/data.json": words, f"{LABELS[0]}/en/messages.json": messages}
    for source in SOURCES:
        files[f"{source.package}/package.json"] = {"version": source.version}
        if source.style == "fluent 3d":
            (folder / source.package / "assets").mkdir(parents=True)
            for code in things:
                Image.new("RGBA", (16, 16), "red").save(folder / source.package / "assets" / f"{code.lower()}.webp")
        else:
            files |= {f"{source.package}/icons.json": icons, f"{source.package}/chars.json": chars}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(text), encoding="utf-8")
    return {"size": 16, "root": str(folder), "split": "all", "variants": 2}


def pictures(folder: Path) -> dict[str, Any]:
    from PIL import Image

    for colour in ("red", "green", "blue"):
        Image.new("RGB", (24, 16), colour).save(folder / f"a_{colour}_picture.png")
    return {"path": str(folder), "size": 16}


def tar_of_pictures(folder: Path) -> dict[str, Any]:
    import tarfile

    settings = pictures(folder)
    with tarfile.open(folder / "pictures.tar", "w") as tar:
        for picture in sorted(folder.glob("*.png")):
            picture.with_suffix(".txt").write_text(picture.stem, encoding="utf-8")
            for file in (picture, picture.with_suffix(".txt")):
                tar.add(file, file.name)
    return settings | {"path": str(folder / "pictures.tar")}


def rows(folder: Path) -> dict[str, Any]:
    import datasets

    settings = pictures(folder)
    held = [{"path": None, "bytes": file.read_bytes()} for file in sorted(folder.glob("*.png"))]
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    made = datasets.Dataset.from_dict({"image": held, "caption": ["a picture"] * len(held)}, features)
    made.save_to_disk(str(folder / "rows"))
    return settings | {"path": str(folder / "rows")}


def published(folder: Path) -> dict[str, Any]:
    return {"source": str(folder), "format": REGISTRY.find("dialect", "amused").load()()}


def editing(folder: Path) -> dict[str, Any]:
    return drawing(folder) | {"editor": testing.FakeEditor(), "picture": "picture.png"}


def preparing(folder: Path) -> dict[str, Any]:
    return {
        "stages": stages(),
        "text_encoder": testing.FakeTextEncoder(),
        "dataset": testing.FakeDataset(size=16),
        "out": str(folder / "tokens"),
        "device": "cpu",
    }


def tokens(folder: Path) -> dict[str, Any]:
    task = REGISTRY.find("task", "prepare-tokens").load()
    task(**preparing(folder) | {"shard": 2})(testing.RecordingObserver())
    return {"path": str(folder / "tokens")}


def pretrained(folder: Path, model: Any) -> dict[str, Any]:
    """A local folder with random weights and a tokenizer of a few words, <s> before and </s> behind."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [
        "<pad>",
        "</s>",
        "<s>",
        "<unk>",
        *["a", "red", "apple", "two", "cats", "to", "the", "left", "of", "blue", "car", "an"],
    ]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 2), ("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    model.save_pretrained(folder)
    return {"model": str(folder), "length": 16, "dtype": "float32", "offline": True}


def t5(folder: Path) -> dict[str, Any]:
    from transformers import T5Config, T5EncoderModel

    return pretrained(
        folder, T5EncoderModel(T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2))
    )


def clip(folder: Path) -> dict[str, Any]:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    return pretrained(folder, CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=32, **size, **ids)))


def features(folder: Path) -> dict[str, Any]:
    from muse_metrics.features import Features
    from transformers import ResNetConfig, ResNetModel

    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])).save_pretrained(folder)
    return {"features": Features(str(folder), side=32)}


def classes(folder: Path) -> dict[str, Any]:
    from muse_metrics.efficientnet import EfficientNetLite0
    from muse_metrics.features import Features

    torch.save(EfficientNetLite0().state_dict(), folder / "classes.pth")
    return {"features": Features(weights=str(folder / "classes.pth"), side=32), "splits": 2}


def judge(folder: Path) -> dict[str, Any]:
    """A judge of three things that looks at a small network's features."""
    settings = features(folder)
    looked = {"network": settings["features"].network, "side": settings["features"].side}
    tensors = {"weight": torch.randn(3, 16, generator=torch.Generator().manual_seed(0)), "bias": torch.zeros(3)}
    things = ["a red apple", "a car", "two cats"]
    weights.save(tensors, folder / "judge.safetensors", {"things": things, "features": looked})
    return settings | {"head": str(folder / "judge.safetensors")}


def whole_clip(folder: Path) -> dict[str, Any]:
    from transformers import CLIPConfig, CLIPModel

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = size | {"vocab_size": 32, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    vision = size | {"image_size": 16, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    settings = pretrained(folder, CLIPModel(config))
    return {"model": settings["model"], "offline": True}


def seeing(folder: Path) -> dict[str, Any]:
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    return {"network": pretrained(folder, ResNetModel(config))["model"], "channels": 12, "width": 8, "hidden": 16}


def training(folder: Path) -> dict[str, Any]:
    fit = Fit(out=str(folder / "run"), steps=2, batch=2, device="cpu")
    return {
        "dataset": testing.FakeDataset(),
        "fit": fit,
        "optimizer": lambda model: torch.optim.SGD(model.parameters()),
    }


def tokenizer_training(folder: Path) -> dict[str, Any]:
    vqgan = REGISTRY.find("tokenizer", "vqgan").load()
    return training(folder) | {"tokenizer": vqgan(**small_vqgan(folder))}


def decoder_training(folder: Path) -> dict[str, Any]:
    settings = tokenizer_training(folder)
    weights.save(settings["tokenizer"].state_dict(), folder / "source.safetensors", {})
    return settings | {"source": str(folder / "source.safetensors")}


def quick(folder: Path) -> dict[str, Any]:
    return {"rate": 1e-2}


def small_vqgan(folder: Path) -> dict[str, Any]:
    return {"codebook_size": 32, "code_width": 8, "channels": 32, "multipliers": [1, 1], "blocks": 1, "patch": 2}


def small_muse(folder: Path) -> dict[str, Any]:
    return {"codebook_size": 32, "grid": [4, 4], "text_width": 8, "width": 32, "layers": 2, "heads": 4, "mlp": 64}


def small_amused(folder: Path) -> dict[str, Any]:
    sizes = {
        "codebook_size": 32,
        "vocabulary": 36,
        "grid": [4, 4],
        "text_width": 8,
        "text_positions": 7,
        "pooled_width": 8,
    }
    sizes |= {
        "token_width": 12,
        "channels": 16,
        "conv_blocks": 1,
        "conv_heads": 2,
        "width": 32,
        "layers": 2,
        "heads": 4,
    }
    return sizes | {"mlp": 40, "frequencies": 4, "halved": True}


def small_maskgit(folder: Path) -> dict[str, Any]:
    return {"codebook_size": 32, "classes": 8, "grid": [4, 4], "width": 32, "layers": 2, "heads": 4, "mlp": 64}


def classes_by_name(folder: Path) -> dict[str, Any]:
    """Every prompt that the contract asks with is a class."""
    prompts = [
        *testing.TextEncoderContract.prompts,
        "apple",
        "an apple " * 400,
        "一只红色的苹果",
        "🍎 🍏",
        "naïve café",
    ]
    (folder / "names.txt").write_text("\n".join(prompts), encoding="utf-8")
    return {"classes": len(prompts), "names": str(folder / "names.txt")}


def solving(folder: Path) -> dict[str, Any]:
    """A stage whose transformer has a sketch; the tokenizer's codes are vectors."""
    vqgan = REGISTRY.find("tokenizer", "vqgan").load()(**small_vqgan(folder))
    options = Options(sketch=Sketching(things=2, manners=2, code_width=8))
    muse = REGISTRY.find("transformer", "muse").load()(**small_muse(folder) | {"options": options})
    stage = replace(testing.tiny_stage(), tokenizer=vqgan, transformer=muse, size=16)
    return {
        "stages": {"base": stage},
        "text_encoder": testing.FakeTextEncoder(),
        "dataset": testing.FakeDataset(size=16),
        "out": str(folder / "sketch.safetensors"),
    }


def small_superres(folder: Path) -> dict[str, Any]:
    return small_muse(folder) | {"low_codebook_size": 7, "low_grid": [2, 2], "low_layers": 1, "block": 2}


def with_critic(folder: Path) -> dict[str, Any]:
    """For the grids that samplers are tested with: 6x8 tokens of 16 codes, text of width 8."""
    critic = REGISTRY.find("transformer", "critic").load()
    return {"critic": critic(**small_muse(folder) | {"codebook_size": 16, "grid": [6, 8]})}


SETTINGS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "dataset augmented": lambda folder: {"dataset": testing.FakeDataset(), "variants": 2},
    "dataset emoji": emoji,
    "dataset folder": pictures,
    "dataset huggingface": rows,
    "dataset tokens": tokens,
    "dataset webdataset": tar_of_pictures,
    **{f"dialect {name}": nothing for name in SOURCES},
    "editor inpaint": nothing,
    "editor mask-free": lambda folder: {"iterations": 3},
    "editor variations": nothing,
    "guidance autoguidance": lambda folder: {"model": testing.FakeTransformer()},
    "guidance cfg": nothing,
    "guidance none": nothing,
    "metric clip-score": whole_clip,
    "metric feature-distance": features,
    "metric frechet": features,
    "metric inception-score": classes,
    "metric kernel": features,
    "metric precision-recall": features,
    "metric psnr": nothing,
    "metric recognition": judge,
    "metric ssim": nothing,
    "objective discrete-flow": nothing,
    "objective distillation": lambda folder: {"teacher": testing.FakeTransformer()},
    "objective masked": nothing,
    "objective maskgit": nothing,
    "objective mdlm": nothing,
    "objective repa": seeing,
    "objective token-critic": nothing,
    "observer preview": nothing,
    "observer csv": nothing,
    "observer tensorboard": nothing,
    "observer wandb": nothing,
    "observer word-filter": nothing,
    "optimizer adafactor": quick,
    "optimizer adamw": quick,
    "optimizer adamw8bit": quick,
    "optimizer muon": quick,
    "quantizer fsq": lambda folder: {"levels": [4, 4, 4]},
    "quantizer ibq": nothing,
    "quantizer lfq": nothing,
    "quantizer projected": nothing,
    "quantizer simvq": nothing,
    "quantizer vq": nothing,
    "sampler amused": nothing,
    "sampler confidence": nothing,
    "sampler entropy-bounded": nothing,
    "sampler gumbel": nothing,
    "sampler halton": nothing,
    "sampler predictor-corrector": nothing,
    "sampler random": nothing,
    "sampler remdm": nothing,
    "sampler token-critic": with_critic,
    "schedule arccos": nothing,
    "schedule cosine": nothing,
    "schedule cubic": nothing,
    "schedule exp": nothing,
    "schedule linear": nothing,
    "schedule log": nothing,
    "schedule polynomial": lambda folder: {"exponent": 1.5},
    "schedule sigmoid": nothing,
    "schedule sqrt": nothing,
    "schedule square": nothing,
    "schedule steps": lambda folder: {"ratios": [0.9, 0.4, 0.0]},
    "task average": lambda folder: {"checkpoints": str(folder / "run"), "out": str(folder / "average.safetensors")},
    "task canvas": lambda folder: drawing(folder) | {"actions": [{"do": "generate", "prompt": "a red apple"}]},
    "task edit": editing,
    "task evaluate": lambda folder: drawing(folder) | {"dataset": testing.FakeDataset()},
    "task export-weights": lambda folder: {"source": str(folder), "out": str(folder / "out")},
    "task evaluate-edits": lambda folder: {
        "dataset": testing.FakeDataset(),
        "inpaint": REGISTRY.find("task", "edit").load()(**editing(folder)),
    },
    "task finetune-decoder": decoder_training,
    "task generate-published": lambda folder: {**published(folder), "prompt": "a red apple"},
    "task generate": lambda folder: drawing(folder) | {"prompt": "a red apple"},
    "task import-weights": published,
    "task prepare-tokens": preparing,
    "task solve-sketch": solving,
    "task studio": drawing,
    "task sweep": lambda folder: {"recipe": "generate", "settings": {"seed": [0, 1]}, "out": str(folder / "out")},
    "task train": lambda folder: training(folder) | {"stages": stages(), "text_encoder": testing.FakeTextEncoder()},
    "task train-recogniser": lambda folder: {
        "dataset": testing.FakeDataset(),
        "out": str(folder / "judge.safetensors"),
    },
    "task train-tokenizer": tokenizer_training,
    "text-encoder class": classes_by_name,
    "text-encoder clip": clip,
    "text-encoder minilm": nothing,
    "text-encoder t5": t5,
    "tokenizer magvit2": lambda folder: {"bits": 5, "channels": 32, "multipliers": [1, 1], "blocks": 1},
    "tokenizer vqgan": small_vqgan,
    "transformer amused": small_amused,
    "transformer critic": small_muse,
    "transformer critic-superres": small_superres,
    "transformer halton-maskgit": small_maskgit,
    "transformer maskgit": small_maskgit,
    "transformer muse": small_muse,
    "transformer superres": small_superres,
    "transformer uvit": lambda folder: small_muse(folder) | {"layers": 3, "text_positions": 7},
    "transformer uvit-class": lambda folder: small_maskgit(folder) | {"layers": 3},
}
"""Settings that make each part small, by kind and name, from a folder of the test's own."""

OTHER_SETTINGS: dict[str, list[dict[str, Any]]] = {
    "guidance cfg": [
        *({"scale": 5.0, "schedule": "constant"}, {"scale": 0.0}),
        *({"schedule": "cosine"}, {"schedule": "power-cosine", "power": 2.5}, {"scales": [0.0, 2.0, 1.0]}),
        *({"begin": 0.3, "end": 0.7}, {"negative_weight": 0.5}, {"negative_weight": 2.0}),
        *({"rescale": 0.7}, {"rescale": 1.0}),
    ],
    "quantizer lfq": [{"temperature": 0.01, "group": 3}],
    "quantizer simvq": [{"gradient": "rotation"}],
    "quantizer vq": [
        {"cosine": False, "ema": 0.0, "revive_after": 0},
        {"gradient": "rotation"},
        {"gradient": "rotation", "cosine": False},
    ],
    "sampler confidence": [
        *({"steps": 1}, {"steps": 90}),
        {"steps": 5, "temperature": 0.0, "sampling_temperature": 0.5, "top_k": 3},
        {"steps": 5, "top_p": 0.9},
    ],
    "sampler entropy-bounded": [{"bound": 0.0, "steps": 90}, {"steps": 3, "top_k": 2}],
    "sampler gumbel": [{"steps": 5, "sampling_temperature": 1.0}],
    "sampler halton": [{"steps": 90, "roll": True}],
    "sampler predictor-corrector": [{"steps": 5, "temperature": 4.5, "eta": 2.0}],
    "sampler remdm": [
        *({"strategy": "rescale", "eta": 1.0}, {"strategy": "conf", "eta": 1.0}),
        {"steps": 90, "strategy": "loop", "eta": 0.5},
    ],
    "schedule polynomial": [{"exponent": 0.3}, {"exponent": 1.7}],
    "schedule sigmoid": [{"start": 0.0, "end": 3.0, "tau": 0.7}],
    "schedule steps": [{"ratios": [0.9, 0.9, 0.2, 0.0]}],
    "text-encoder clip": [{"dtype": "bfloat16", "layer": -2, "padded": True}],
    "text-encoder t5": [{"dtype": "bfloat16"}],
    "transformer muse": [
        {"options": Options(rope=True, swiglu=True, mask_ratio=True, dropout=0.1)},
        {"options": Options(registers=3, fold=2)},
    ],
    "transformer superres": [{"options": Options(rope=True, swiglu=True, mask_ratio=True, fold=2), "block": 1}],
}
"""Settings over those above, with which a part that computes something else by them keeps its contract too."""

REFINING = {"low_grid": (2, 2), "low_codes": 7}
INPUTS: dict[str, dict[str, Any]] = {"transformer critic-superres": REFINING, "transformer superres": REFINING}
"""What a contract must know to ask a part, where its defaults don't fit."""


ON_A_GPU = {"optimizer adamw8bit"}
"""Parts that refuse the CPU, on which a contract has its model; that they do is tested where they are."""


CALLED_BY_NAME = {"editor", "guidance", "sampler", "schedule"}
"""Kinds of parts that are classes with a `__call__` of the contract's very arguments."""


def contract_of(part: Part) -> type[testing.Contract]:
    return getattr(testing, f"{kinds()[part.kind].contract.__name__}Contract")


def title(part: Part) -> str:
    return f"{part.kind} {part.name}"


PROMISES = [
    pytest.param(part, more, name, id="-".join([part.kind, part.name, *map(str, more.values()), name[5:]]))
    for part in PARTS
    for more in [{}, *OTHER_SETTINGS.get(title(part), [])]
    for name in dir(contract_of(part))
    if name.startswith("test_")
]


def test_every_part_of_every_entry_point_is_here():
    assert REGISTRY.failed == {}
    offered = 0
    for entry in entry_points(group=GROUP):
        module = import_module(entry.value)
        hooks = [each for each in vars(module).values() if hasattr(each, f"{GROUP}_impl")]
        assert hooks, f"{entry.value} fills no hook"
        offered += sum(len(hook()) for hook in hooks if hook.__name__ in {kind.hook for kind in kinds().values()})
    assert len(PARTS) == offered
    assert {part.kind for part in PARTS} <= set(kinds())


def test_every_promise_of_every_part_is_walked():
    forms = [(part, 1 + len(OTHER_SETTINGS.get(title(part), []))) for part in PARTS]
    assert len(PROMISES) == sum(count * len(testing.promises(contract_of(part))) for part, count in forms)
    assert set(OTHER_SETTINGS) <= set(SETTINGS)


def test_every_part_has_settings_to_be_tested_with_and_none_are_left_over():
    missing = {title(part) for part in PARTS} - set(SETTINGS)
    assert not missing, f"add {', '.join(sorted(missing))} to SETTINGS here: settings that make each of them small"
    assert set(SETTINGS) == {title(part) for part in PARTS}


def test_a_dialect_goes_by_the_name_that_it_says():
    named = {part.name: part.load()().name for part in PARTS if part.kind == "dialect"}
    assert named == {name: name for name in SOURCES}


@pytest.mark.parametrize("part", [part for part in PARTS if part.kind in CALLED_BY_NAME], ids=title)
def test_it_is_called_as_its_contract_says(part):
    called, contract = part.load().__call__, kinds()[part.kind].contract.__call__
    assert list(inspect.signature(called).parameters) == list(inspect.signature(contract).parameters)


@pytest.mark.parametrize(("part", "more", "promise"), PROMISES)
def test_it_keeps(part, more, promise, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    if title(part) in ON_A_GPU:
        pytest.skip("a contract is held on a CPU, which this part refuses")
    settings = SETTINGS[title(part)](tmp_path) | more

    class Examined(contract_of(part)):
        def make(self):
            with torch.random.fork_rng(devices=[]):  # a contract watches who touches torch's global generator
                torch.manual_seed(0)
                made = part.load()(**settings)
            return made.eval() if isinstance(made, torch.nn.Module) else made

        def target(self):
            return part.load()

        def source(self):
            return SOURCES[part.name]()[0]

        def configs(self):
            return SOURCES[part.name]()[1]

    for name, value in INPUTS.get(title(part), {}).items():
        setattr(Examined, name, value)
    getattr(Examined(), promise)()
