"""Fine-tuning a decoder: tokens keep their meaning to the bit, post and decoder alone learn, runs resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from muse_training.optimizers import AdamW
from muse_vqgan.adversarial import Adversarial
from muse_vqgan.finetune import FinetuneDecoder
from muse_vqgan.losses import Reconstruction
from muse_vqgan.network import Decoder
from muse_vqgan.quantizers.vector import VectorQuantizer
from muse_vqgan.train import TrainTokenizer
from muse_vqgan.vqgan import VQGAN
from PIL import Image
from runs import check_same_files, rows, same_tensors
from safetensors.torch import load_file

import muse_studio
from muse_studio.contracts import RunContext
from muse_studio.errors import UserError
from muse_studio.images.pixels import psnr
from muse_studio.recipe import merging
from muse_studio.runtime import weights
from muse_studio.testing import FakeTokenizer, RecordingObserver
from muse_studio.training.loop import Fit

ROOT = Path(__file__).parents[2]
SIZES = {"codebook_size": 32, "code_width": 4, "channels": 8, "multipliers": [1, 2], "blocks": 1, "patch": 2}
LARGER = {"decoder_channels": 16, "decoder_blocks": 3}
FAKES = Adversarial(start=2, channels=8, levels=2, rate=1e-3)
FROZEN = ("encoder.", "pre.", "quantizer.")


class Crops:
    """Squares of real drawings, as many as asked for, none of one colour alone."""

    def __init__(self, size=16, count=12):
        with Image.open(ROOT / "docs" / "pictures" / "first-prompts.png") as sheet:
            pixels = torch.frombuffer(bytearray(sheet.convert("RGB").tobytes()), dtype=torch.uint8)
            pixels = pixels.view(sheet.height, sheet.width, 3).permute(2, 0, 1)
        squares = pixels.unfold(1, size, size).unfold(2, size, size).permute(1, 2, 0, 3, 4).flatten(0, 1)
        lively = squares.float().flatten(1).std(1).argsort(descending=True)
        self.images = squares[lively[: 4 * count : 4]].contiguous()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "caption": f"square {index}"}


def vqgan(seed=0, **more):
    torch.manual_seed(seed)
    own = {key: more.pop(key) for key in ("cosine", "ema", "revive_after") if key in more}
    return VQGAN(**SIZES | {"quantizer": VectorQuantizer(**{"revive_after": 3} | own)} | more)


@pytest.fixture(scope="module")
def crops():
    return Crops()


@pytest.fixture(scope="module")
def images(crops):
    return crops.images.float() / 255


@pytest.fixture(scope="module")
def sources(tmp_path_factory, crops):
    """Makes the file of a tokenizer that was trained a little, with those settings, once."""
    made = {}

    def source(dtype="float32", **more):
        key = json.dumps([dtype, more])
        if key not in made:
            folder = tmp_path_factory.mktemp("source")
            fit = Fit(out=str(folder), steps=20, batch=6, device="cpu", dtype=dtype, log_every=20)
            task = TrainTokenizer(vqgan(seed=7, **more), crops, fit, AdamW(5e-3), Reconstruction(1, 1))
            context = RunContext({"use": "train-tokenizer", "tokenizer": {"use": "vqgan"} | SIZES | more})
            made[key] = task(RecordingObserver(), context).weights
        return made[key]

    return source


def task(folder, source, dataset, model=None, optimizer=None, **more):
    fit = {"out": str(folder), "steps": 6, "batch": 4, "log_every": 1, "checkpoint_every": 2, "device": "cpu"}
    fit |= more.pop("fit", {})
    model = vqgan(**LARGER) if model is None else model
    return FinetuneDecoder(model, str(source), dataset, Fit(**fit), optimizer or AdamW(1e-3), **more)


def frozen(tensors):
    return {name: tensor for name, tensor in tensors.items() if name.startswith(FROZEN)}


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ({}, "float32"),
        ({}, "float16"),
        ({"ema": 0.0}, "float32"),
        ({"cosine": False}, "bfloat16"),
        ({"quantizer": "lfq"}, "float32"),
        ({"quantizer": {"use": "fsq", "levels": [8, 4]}}, "float16"),
    ],
    ids=["vq", "vq-halves", "vq-gradient", "vq-far", "lfq", "fsq"],
)
def test_not_one_token_changes(tmp_path, sources, crops, images, kind, dtype):
    source = sources(dtype, **kind)
    before, data = load_file(source), source.read_bytes()
    tokens = vqgan(**kind, weights=str(source)).encode(images)
    assert len(tokens.unique()) > 1, "too few tokens to see a change by"
    model = vqgan(**kind, **LARGER)
    fit = {"ema": 0.9, "precision": "bfloat16", "dtype": "float16"}
    history = task(tmp_path, source, crops, model, AdamW(1e-2), adversarial=FAKES, fit=fit)(RecordingObserver())
    after = load_file(history.weights)
    assert same_tensors(frozen(before), frozen(after))
    assert {tensor.dtype for name, tensor in after.items() if not name.startswith(FROZEN)} == {torch.float16}
    assert source.read_bytes() == data
    assert same_tensors(frozen(model.state_dict()), {name: tensor.float() for name, tensor in frozen(before).items()})
    assert torch.equal(model.encode(images), tokens)
    shipped = vqgan(**kind, **LARGER, weights=str(history.weights))
    assert torch.equal(shipped.encode(images), tokens)
    assert shipped.decode(tokens).isfinite().all()


def test_post_and_decoder_alone_are_in_the_optimizer(sources, crops):
    model = vqgan(ema=0.0, **LARGER)
    given = []

    def heedless(learning):
        given.extend(learning.parameters())
        return torch.optim.SGD(learning.parameters(), 1e-2)

    learner = task("unused", sources(ema=0.0), crops, model, heedless).learner()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(parameter)].split(".")[0] for parameter in given} == {"post", "decoder"}
    assert len(given) == sum(name.startswith(("post.", "decoder.")) for name in names.values())
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [names[id(p)] for p in given]
    assert [part for part in ("encoder", "pre", "quantizer") if getattr(model, part).training] == []
    assert learner.modules["tokenizer"].training


def test_the_decoder_is_given_the_codes_of_the_encoder_s_tokens(sources, crops, images):
    model = vqgan(**LARGER)
    learner = task("unused", sources(), crops, model, reconstruction=Reconstruction(1, 2, 0)).learner()
    tensors = load_file(sources())
    with torch.no_grad():
        latents = F.normalize(vqgan(weights=str(sources())).latents(images), dim=1)
        codes = F.normalize(tensors["quantizer.codes"], dim=-1)
        nearest = torch.cdist(latents.movedim(1, -1).flatten(0, 2), codes).argmin(1)
        vectors = codes[nearest].view(*latents.movedim(1, -1).shape).movedim(-1, 1)
        made = (model.decoder(F.conv2d(vectors, tensors["post.weight"], tensors["post.bias"])) + 1) / 2
    numbers = learner.step({"image": crops.images}, 0)
    error = made - images
    torch.testing.assert_close(numbers["loss"], error.abs().mean() + 2 * error.square().mean())
    torch.testing.assert_close(numbers["loss"], numbers["pixels"])
    torch.testing.assert_close(numbers["psnr"], psnr(made.clamp(0, 1), images, 1).mean())


def test_halves_in_training_change_no_token(sources, crops):
    noise = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))  # in between codes, unlike drawings
    learner = task("unused", sources(), crops, fit={"precision": "bfloat16"}).learner()
    tokens = vqgan(weights=str(sources())).encode(noise)
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(learner.tokenizer.encode(noise), tokens), "these pictures could not show it"
        made = learner.reconstruct(noise)
    assert torch.equal(made.tokens, tokens)
    assert made.images.dtype == torch.bfloat16


@pytest.mark.slow
def test_it_learns_to_draw_the_same_tokens_better(tmp_path, sources, crops, images):
    source = vqgan(weights=str(sources()))
    tokens = source.encode(images)
    fit = {"steps": 60, "batch": 12, "log_every": 59}
    history = task(tmp_path, sources(), crops, None, AdamW(5e-3), fit=fit)(RecordingObserver())
    first, last = history.rows[0], history.rows[-1]
    assert first["step"] == 59 and last["step"] == 60
    drawn = vqgan(**LARGER, weights=str(history.weights)).decode(tokens)
    gained = psnr(drawn, images, 1).mean() - psnr(source.decode(tokens), images, 1).mean()
    assert gained > 2, f"{gained} dB"
    assert last["psnr"] == pytest.approx(psnr(drawn, images, 1).mean().item(), abs=1)


def test_its_loss_falls(sources, crops):
    learner = task("unused", sources(), crops, optimizer=AdamW(5e-3)).learner()
    losses = [learner.step({"image": crops.images}, step)["loss"] for step in range(40)]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ({}, {"adversarial": FAKES, "fit": {"ema": 0.9}}),
        ({"ema": 0.0}, {"fit": {"warmup": 3, "precision": "bfloat16"}}),
        ({"quantizer": "lfq"}, {"fit": {"dtype": "float16"}}),
    ],
    ids=["average-adversarial", "halves", "lfq"],
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, sources, crops, kind, more):
    def again(folder):
        return task(tmp_path / folder, sources(**kind), crops, vqgan(**kind, **LARGER), **more)

    through = again("a")(RecordingObserver())
    for step in (1, 3):
        with pytest.raises(RuntimeError, match="power"):
            again("b")(RecordingObserver(dies_at=step))
    resumed = again("b")(RecordingObserver())
    assert [row["step"] for row in rows(through)] == [1, 2, 3, 4, 5, 6]
    assert rows(through) == rows(resumed)
    check_same_files(tmp_path / "a", tmp_path / "b")


def test_a_decoder_of_the_source_s_sizes_starts_as_the_source_s(sources, crops, images):
    source = vqgan(weights=str(sources()))
    learner = task("unused", sources(), crops, vqgan(seed=3)).learner()
    assert same_tensors(learner.tokenizer.state_dict(), source.state_dict())
    torch.testing.assert_close(learner.reconstruct(images).images.clamp(0, 1), source.decode(source.encode(images)))


@pytest.mark.parametrize("blocks", [3, 5])
def test_a_decoder_with_more_blocks_starts_by_drawing_what_the_source_s_draws(sources, crops, images, blocks):
    source = vqgan(weights=str(sources()))
    fresh = vqgan(seed=3, decoder_blocks=blocks)
    learner = task("unused", sources(), crops, vqgan(seed=3, decoder_blocks=blocks)).learner()
    decoder = learner.tokenizer.decoder
    assert not torch.equal(fresh.pixels(fresh.latents(images)), source.pixels(source.latents(images)))
    torch.testing.assert_close(learner.reconstruct(images).images.clamp(0, 1), source.decode(source.encode(images)))
    silent = [name for name, part in decoder.named_parameters() if name.endswith("conv2.weight") and not part.any()]
    assert len(silent) == len(SIZES["multipliers"]) * (blocks - 2)
    before = {name: part.detach().clone() for name, part in decoder.named_parameters()}
    for step in range(2):  # a silent block's first convolution learns once its second one has moved
        learner.step({"image": crops.images}, step)
    assert [name for name, part in decoder.named_parameters() if torch.equal(part, before[name])] == []


def test_a_grown_decoder_s_further_blocks_come_last_on_each_level():
    small, large = (Decoder(2, [1, 2, 2], blocks, 2, 4) for blocks in (1, 3))
    its = {name: torch.full_like(part, index) for index, (name, part) in enumerate(small.state_dict().items())}
    grown = large.grow_from(its)
    # 0 in, 1 and 2 middle; then on each level one block of the source's and two further ones, and what follows
    places = {0: 0, 1: 1, 2: 2, 3: 3, 4: 6, 5: 7, 6: 10, 7: 11, 8: 14, 10: 16}
    for name, part in its.items():
        layer, rest = name.split(".", 2)[1:]
        assert torch.equal(grown.pop(f"layers.{places[int(layer)]}.{rest}"), part)
    assert {int(name.split(".")[1]) for name in grown} == {4, 5, 8, 9, 12, 13}


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_decoder_of_further_levels_starts_as_the_source_s_up_to_them(blocks):
    small, large = Decoder(4, [1, 2], 1, 2, 4), Decoder(2, [1, 2, 4], blocks, 2, 4)
    grown = large.grow_from(small.state_dict())
    assert large.ends[1] == 3 + 2 * blocks + 1
    large.load_state_dict(grown)
    latents = torch.rand(2, 4, 3, 3)
    torch.testing.assert_close(large.layers[: large.ends[1]](latents), small.layers[: small.ends[0]](latents))
    behind = [part for name, part in large.layers[large.ends[1] :].named_parameters() if name.endswith("weight")]
    assert all(part.any() for part in behind)


def test_a_further_level_is_trained_for_the_source_s_tokens(sources, crops, tmp_path):
    made = vqgan(decoder_channels=4, decoder_multipliers=[1, 2, 4], decoder_blocks=2)
    learner = task(tmp_path, sources(), crops, made).learner()
    numbers = [learner.step({"image": crops.images}, step)["pixels"] for step in range(20)]
    assert numbers[-1] < numbers[0]
    source = vqgan(weights=str(sources()))
    images = crops.images.float() / 255
    assert torch.equal(learner.tokenizer.encode(images), source.encode(torch.nn.functional.avg_pool2d(images, 2)))


@pytest.mark.parametrize("tensors", [{}, {"layers.0.weight": torch.ones(1)}, {"other": torch.ones(1)}])
def test_no_decoder_s_tensors_grow_to_nothing(tensors):
    assert Decoder(2, [1, 2], 2, 2, 4).grow_from(tensors) is None


@pytest.mark.parametrize("sizes", [LARGER, {"decoder_channels": 16}, {"decoder_blocks": 1}, {"decoder_channels": 4}])
def test_a_decoder_of_other_sizes_starts_afresh_behind_the_source_s_post(sources, crops, sizes):
    fresh, learner = vqgan(seed=3, **sizes), task("unused", sources(), crops, vqgan(seed=3, **sizes)).learner()
    assert same_tensors(learner.tokenizer.decoder.state_dict(), fresh.decoder.state_dict())
    post = {name: tensor for name, tensor in load_file(sources()).items() if name.startswith("post.")}
    assert same_tensors({f"post.{name}": tensor for name, tensor in learner.tokenizer.post.state_dict().items()}, post)
    assert not torch.equal(fresh.post.weight, post["post.weight"])


@pytest.mark.parametrize("regulariser", ["lecam", "r1", "none"])
def test_decoder_and_discriminator_keep_to_their_own_weights(sources, crops, regulariser):
    settings = Adversarial(start=0, channels=8, levels=2, regulariser=regulariser, strength=1.0)
    for still, moving in (("tokenizer", "discriminator"), ("discriminator", "tokenizer")):
        learner = task("unused", sources(), crops, adversarial=settings).learner()
        for group in learner.optimizers[still].param_groups:
            group["lr"] = 0.0
        before = {name: [p.detach().clone() for p in learner.modules[name].parameters()] for name in (still, moving)}
        for step in range(3):
            numbers = learner.step({"image": crops.images[:4]}, step)
            assert numbers["critic"].isfinite() and numbers["loss"].isfinite()
        assert all(map(torch.equal, before[still], learner.modules[still].parameters()))
        assert not any(map(torch.equal, before[moving], learner.modules[moving].parameters()))


@pytest.mark.parametrize(
    ("sizes", "differs"),
    [
        ({"codebook_size": 64}, r"quantizer\.codes is \[32, 4\], not \[64, 4\]"),
        ({"channels": 16}, r"encoder\.layers\.1\.weight is \[8, 12, 3, 3\], not \[16, 12, 3, 3\]"),
        ({"blocks": 2}, r"encoder\.layers\..* is .*, not "),
        ({"ema": 0.0}, r"quantizer\.counts is not asked for; quantizer\.sums is not asked for \(2 differences"),
    ],
)
def test_a_source_of_other_sizes(sources, crops, sizes, differs):
    message = (
        rf"^source: {sources()} makes other tokens than tokenizer: .*{differs}.*\. It was written for "
        r'{"use": "train-tokenizer", .*; give tokenizer the settings that the source was written for, '
        r"all but decoder_channels, decoder_blocks and decoder_multipliers$"
    )
    with pytest.raises(UserError, match=message):
        task("unused", sources(), crops, vqgan(**sizes))


def test_a_source_that_is_no_vqgan(tmp_path, crops):
    path = tmp_path / "linear.safetensors"
    weights.save(torch.nn.Linear(2, 2).state_dict(), path, {"use": "linear"})
    with pytest.raises(UserError, match=r"source: .* makes other tokens than tokenizer: quantizer\.codes is missing"):
        task("unused", path, crops)


@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_a_source_that_is_not_whole(tmp_path, sources, crops, kept):
    path = tmp_path / "half.safetensors"
    path.write_bytes(sources().read_bytes()[:kept])
    with pytest.raises(UserError, match=r"^source: .*half.safetensors is not a whole safetensors file .* fetch it aga"):
        task("unused", path, crops)


def test_a_source_that_is_missing(tmp_path, crops):
    with pytest.raises(UserError, match=r"^source: no weights at .*none.safetensors is not a file; give the address"):
        task("unused", tmp_path / "none.safetensors", crops)


def test_a_tokenizer_that_is_no_vqgan(sources, crops):
    with pytest.raises(ValueError, match="finetune-decoder trains the part 'vqgan', not FakeTokenizer"):
        task("unused", sources(), crops, FakeTokenizer())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"dataset": Crops(18)}, r"18x18 pixels don't divide into tokens of 4x4; .*change its size"),
        ({"dataset": Crops(count=0)}, "no record to train on"),
        ({"adversarial": Adversarial(levels=5)}, "halves pictures 5 times, .* have 16x16 pixels; lower"),
        ({"fit": {"device": "abacus"}}, "device 'abacus' is not there"),
    ],
)
def test_what_can_not_be_trained_on_is_told_before(tmp_path, sources, crops, more, message):
    with pytest.raises(UserError, match=message):
        task(tmp_path, sources(), **{"dataset": crops} | more)(RecordingObserver())
    assert not (tmp_path / "checkpoints").exists()


def test_a_run_in_the_source_s_own_folder(tmp_path, sources, crops):
    path, data = tmp_path / "tokenizer.safetensors", sources().read_bytes()
    path.write_bytes(data)
    with pytest.raises(
        UserError, match=r"^fit\.out is .*, where the source lies, which must stay; give another folder$"
    ):
        task(tmp_path, path, crops)(RecordingObserver())
    assert path.read_bytes() == data


def test_a_checkpoint_of_another_decoder(tmp_path, sources, crops):
    task(tmp_path, sources(), crops)(RecordingObserver())
    with pytest.raises(UserError, match=r"does not fit here: .*decoder\.layers.*give another folder as fit\.out"):
        task(tmp_path, sources(), crops, vqgan(decoder_channels=8))(RecordingObserver())


@pytest.fixture
def table(tmp_path, sources, crops):
    """A recipe, as a dict, that runs in a folder of the test's own."""
    (tmp_path / "pictures").mkdir()
    for index, image in enumerate(crops.images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "pictures" / f"{index}.png")
    return {
        "use": "finetune-decoder",
        "tokenizer": {"use": "vqgan"} | SIZES | LARGER,
        "source": str(sources()),
        "dataset": {"use": "folder", "path": str(tmp_path / "pictures"), "size": 16},
        "optimizer": {"use": "adamw", "rate": 1e-3},
        "fit": {"out": str(tmp_path / "run"), "steps": 2, "batch": 4, "device": "cpu"},
    }


def test_a_recipe_is_run_and_kept_in_the_file(table, tmp_path, sources, images):
    assert [str(problem) for problem in muse_studio.check(table)] == []
    history = muse_studio.run(table)
    assert history.weights == tmp_path / "run" / "tokenizer.safetensors"
    assert weights.settings(str(history.weights)) == table | {
        "source": "tokenizer.safetensors",
        "dataset": table["dataset"] | {"path": "pictures"},
        "fit": {"steps": 2, "batch": 4},
    }, "names alone: what is the same gives the same bytes on every machine"
    again = VQGAN(**SIZES, **LARGER, weights=str(history.weights))
    assert torch.equal(again.encode(images), vqgan(weights=str(sources())).encode(images))
    onwards = table | {"source": str(history.weights), "fit": table["fit"] | {"out": str(tmp_path / "onwards")}}
    assert torch.equal(
        VQGAN(**SIZES, **LARGER, weights=str(muse_studio.run(onwards).weights)).encode(images), again.encode(images)
    )


def test_a_check_places_the_problem_at_the_source(table):
    (problem,) = muse_studio.check(table, ["tokenizer.codebook_size=64"])
    assert problem.path == "source"
    assert "makes other tokens than tokenizer: quantizer.codes is [32, 4], not [64, 4]; " in problem.message


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        (
            {},
            ["tokenizer.quantizer={use: vq, cosine: false, revive_after: 3}"],
            "cosine True, tokenizer has cosine False",
        ),
        (
            {"quantizer": {"use": "fsq", "levels": [8, 4]}},
            ["tokenizer.quantizer={use: fsq, levels: [4, 8]}"],
            r"levels \[8, 4\], tokenizer has levels \[4, 8\]",
        ),
        (
            {"quantizer": "lfq"},
            ["tokenizer.quantizer={use: fsq, levels: [2, 2, 2, 2, 2]}"],
            "quantizer lfq, tokenizer has quantizer fsq",
        ),
    ],
)
def test_settings_that_no_shape_tells_of(table, tmp_path, sources, theirs, ours, message):
    overrides = [*ours, f"source={sources(**theirs)}"]
    assert muse_studio.check(table, overrides) == []
    with pytest.raises(
        UserError, match=rf"^source: .* was written for {message}, which makes other tokens .*; set token"
    ):
        muse_studio.run(table, overrides)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("name", ["finetune-emoji-decoder", "finetune-emoji-decoder-gpu"])
def test_the_emoji_recipe_writes_less_than_20_mb_and_a_larger_decoder(name):
    message = merging.load(name).plain()
    settings = {key: value for key, value in message["tokenizer"].items() if key != "use"}
    assert settings["weights"] is None and message["fit"]["dtype"] == "float16"
    with torch.device("meta"):
        model = VQGAN(**settings)
    assert weights.difference(model, message["source"], FROZEN) == ""
    sizes = {name: tensor.numel() for name, tensor in model.state_dict().items()}
    assert sum(sizes.values()) * 2 < 20e6
    with torch.device("meta"):
        trained = {k: v for k, v in merging.load("train-emoji-tokenizer").plain()["tokenizer"].items() if k != "use"}
        small = sum(tensor.numel() for tensor in VQGAN(**trained).decoder.state_dict().values())
    assert sum(size for name, size in sizes.items() if name.startswith("decoder.")) > 1.4 * small


@pytest.mark.slow
def test_not_one_token_of_the_embedded_tokenizer_changes(tmp_path):
    message = merging.load("models/emoji-tokenizer").plain()
    message.pop("use")
    source, data = VQGAN(**message), Crops(64)
    images = data.images.float() / 255
    model = VQGAN(**message | {"decoder_channels": 32, "weights": None})
    fit = {"steps": 2, "precision": "bfloat16", "dtype": "float16"}
    history = task(tmp_path, message["weights"], data, model, fit=fit)(RecordingObserver())
    again = VQGAN(**message | {"decoder_channels": 32, "weights": str(history.weights)})
    tokens = source.encode(images)
    assert len(tokens.unique()) > 100
    assert torch.equal(again.encode(images), tokens)
    assert same_tensors(frozen(load_file(history.weights)), frozen(load_file(weights.local(message["weights"]))))
