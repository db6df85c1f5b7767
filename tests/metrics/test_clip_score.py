"""The CLIP score against transformers' own answer for the same pictures and captions."""

from __future__ import annotations

import pytest
import torch
from muse_metrics.clip_score import MEAN, STD, CLIPScore, preprocess
from PIL import Image

from muse_studio.errors import UserError

WORDS = ["<pad>", "</s>", "<s>", "<unk>", "a", "red", "apple", "two", "cats"]
CAPTIONS = ["a red apple", "two cats", "a cats a cats a cats a cats a cats"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    torch.manual_seed(2)  # of three cosines one is below 0
    where = tmp_path_factory.mktemp("clip")
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = size | {"vocab_size": len(WORDS), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    text |= {"max_position_embeddings": 8}
    vision = size | {"image_size": 16, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(where)
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 2), ("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(where)
    return where


def pictures(height=16, width=16):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (3, 3, height, width), dtype=torch.uint8, generator=generator)


def test_it_is_the_cosine_of_transformers_own_model(folder):
    from transformers import CLIPModel

    metric, images = CLIPScore(str(folder), offline=True), pictures()
    metric.update(images, images[:1], CAPTIONS[:1])
    metric.update(images, images[1:], CAPTIONS[1:])
    model = CLIPModel.from_pretrained(folder).eval()
    # <s>, six words and </s>: the model has eight positions
    ids = [[2, 4, 5, 6, 1], [2, 7, 8, 1], [2, 4, 8, 4, 8, 4, 8, 1]]
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD))
    cosines = []
    with torch.no_grad():
        for row, image in zip(ids, images, strict=True):
            pixels = ((image / 255 - mean) / std)[None]
            answer = model(input_ids=torch.tensor([row]), pixel_values=pixels)
            cosines.append(max(0.0, (answer.logits_per_image / model.logit_scale.exp()).item()))
    assert max(cosines) > 0
    assert metric.compute().tolist() == pytest.approx([sum(cosines) / 3], abs=1e-5)
    (name,) = metric.meanings
    assert name == f"CLIP score, {folder.name}"


@pytest.mark.parametrize(("height", "width", "box"), [(64, 96, (16, 0, 80, 64)), (90, 60, (0, 15, 60, 75))])
def test_pictures_are_scaled_by_their_shorter_side_and_cut_from_the_middle(height, width, box):
    x = torch.linspace(0, 255, width).round().byte()
    y = torch.linspace(255, 0, height).round().byte()
    image = torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.zeros(height, width).byte()])
    expected = Image.fromarray(image.permute(1, 2, 0).numpy()).crop(box).resize((32, 32), Image.Resampling.BICUBIC)
    found = preprocess(image[None], 32)[0] * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    wanted = torch.frombuffer(bytearray(expected.tobytes()), dtype=torch.uint8).view(32, 32, 3).permute(2, 0, 1)
    inner = (slice(None), slice(2, -2), slice(2, -2))  # cutting before scaling, as here, shows at the edges
    assert (found * 255 - wanted)[inner].abs().max() < 2.5


def test_what_is_no_clip_and_what_is_not_there_is_refused(folder, tmp_path):
    for where, message in ((tmp_path, "no config.json"), (tmp_path / "none", "there is no folder")):
        with pytest.raises(UserError, match=message):
            CLIPScore(str(where), offline=True).meanings  # noqa: B018
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(UserError, match="can't be loaded as a CLIP"):
        CLIPScore(str(tmp_path), offline=True).meanings  # noqa: B018
    with pytest.raises(ValueError, match="model is empty"):
        CLIPScore(" ")


def test_every_picture_has_its_caption(folder):
    with pytest.raises(ValueError, match="3 pictures have 2 captions"):
        CLIPScore(str(folder), offline=True).update(pictures(), pictures(), ["a", "b"])
    with pytest.raises(UserError, match="none came"):
        CLIPScore(str(folder), offline=True).compute()
