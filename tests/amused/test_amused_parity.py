"""What is imported of aMUSEd computes what diffusers computes: logits, pixels, and tokens step by step."""

import muse_amused.transformer
import pytest
import torch
from PIL import Image

import muse_studio
from muse_studio.contracts import MASK
from muse_studio.recipe.merging import load

PROMPT = "a red apple"


@pytest.fixture(scope="session")
def stage(twin):
    """The imported model, as a task that a recipe builds holds it."""
    from muse_studio.recipe.build import build
    from muse_studio.registry.plugins import Registry

    task = build(load(twin / "generate.yaml"), Registry())
    task.stages["base"].precision = "float32"  # the recipe takes bfloat16 where the processor is fast at it
    for part in (task.stages["base"].tokenizer, task.stages["base"].transformer):
        part.eval()
    return task


def theirs(pipe, prompts):
    """diffusers' text: states, pooled vectors and micro-conditioning."""
    ids = pipe.tokenizer(prompts, return_tensors="pt", padding="max_length", truncation=True).input_ids
    said = pipe.text_encoder(ids, output_hidden_states=True)
    size = pipe.transformer.config.sample_size * pipe.vae_scale_factor
    return said.hidden_states[-2], said.text_embeds, torch.tensor([[size, size, 0, 0, 6]] * len(prompts))


@torch.no_grad()
@pytest.mark.parametrize("prompt", [PROMPT, "a blue car a a a a a a a", ""])
def test_logits_are_diffusers(pipe, stage, prompt):
    tokens = torch.randint(40, (1, 8, 8), generator=torch.Generator().manual_seed(1))
    tokens[0, ::2] = MASK
    states, pooled, micro = theirs(pipe, [prompt])
    expected = pipe.transformer(torch.where(tokens == MASK, 47, tokens), states, pooled, micro).permute(0, 2, 3, 1)
    transformer = stage.stages["base"].transformer
    got = transformer(tokens, transformer.condition(stage.text_encoder([prompt])))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1, "too flat to tell anything"


@torch.no_grad()
def test_pixels_and_codes_are_diffusers(pipe, stage):
    tokenizer = stage.stages["base"].tokenizer
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    latents = pipe.vqvae.encode(images).latents
    codes = pipe.vqvae.quantize(latents)[2][2].view(2, 8, 8)
    assert torch.equal(tokenizer.encode(images), codes)
    assert codes.unique().numel() > 3
    decoded = pipe.vqvae.decode(codes, force_not_quantize=True, shape=(2, 8, 8, 6)).sample.clip(0, 1)
    torch.testing.assert_close(tokenizer.decode(codes), decoded, atol=1e-4, rtol=0)
    assert decoded.std() > 0.01


class Shared:
    """The uniform numbers that our sampler draws, given to diffusers' scheduler in their place."""

    def __init__(self, seed, shape):
        self.generator, self.shape = torch.Generator().manual_seed(seed), shape

    def multinomial(self, probabilities, count, generator=None):
        """Codes by the cumulated probabilities, in place of torch.multinomial."""
        self.uniform = torch.rand(2, *self.shape, generator=self.generator)
        cumulated = probabilities.cumsum(-1)
        return (cumulated <= self.uniform[0].reshape(-1, 1) * cumulated[:, -1:]).sum(-1, keepdim=True)

    def gumbel(self, like, generator=None):
        """Gumbel's noise of the second number."""
        return -torch.log(-torch.log(self.uniform[1].reshape(like.shape)))


def shared(monkeypatch, seed):
    from diffusers.schedulers import scheduling_amused

    noise = Shared(seed, (1, 8, 8))
    monkeypatch.setattr(torch, "multinomial", noise.multinomial)
    monkeypatch.setattr(scheduling_amused, "gumbel_noise", noise.gumbel)


def ours(stage, seed, tokens=None, **sampler):
    base = stage.stages["base"]
    for name, value in sampler.items():
        setattr(base.sampler, name, value)
    text = stage.text_encoder([PROMPT])
    return list(base.sample(text, torch.Generator().manual_seed(seed), tokens=tokens))


@pytest.mark.parametrize("temperature", [(2, 0), (0, 0)], ids=["noise", "greedy"])
@pytest.mark.parametrize("steps", [1, 5, 12])
def test_the_pipeline_s_tokens_are_diffusers_at_every_step(pipe, stage, monkeypatch, temperature, steps):
    got = ours(stage, 3, steps=steps, temperature=[float(each) for each in temperature])
    shared(monkeypatch, 3)
    seen = []
    pipe(
        PROMPT,
        num_inference_steps=steps,
        temperature=temperature,
        output_type="latent",
        callback=lambda step, timestep, latents: seen.append(latents.clone()),
    )
    assert len(got) == len(seen) == steps
    for mine, other in zip(got, seen, strict=True):
        assert torch.equal(torch.where(mine == MASK, 47, mine), other)


def test_the_pipeline_s_picture_is_diffusers(pipe, stage, monkeypatch):
    got = ours(stage, 4, steps=6, temperature=[2.0, 0.0])[-1]
    shared(monkeypatch, 4)
    expected = pipe(PROMPT, num_inference_steps=6, output_type="np").images
    drawn = stage.stages["base"].tokenizer.decode(got).permute(0, 2, 3, 1).numpy()
    assert abs(drawn - expected).max() < 1e-4


def test_numbers_of_the_picture_reach_the_logits(stage, monkeypatch):
    transformer, text = stage.stages["base"].transformer, stage.text_encoder([PROMPT])
    tokens = torch.full((1, 8, 8), MASK)
    with torch.no_grad():
        before = transformer(tokens, transformer.condition(text))
        monkeypatch.setattr(transformer, "aesthetic", 2.0)
        assert (transformer(tokens, transformer.condition(text)) - before).abs().max() > 1e-3


def test_frequencies_by_hand():
    expected = [[1.0, 1.0, 0.0, 0.0], [-0.41614684, 0.99980001, 0.90929743, 0.01999867]]
    got = muse_amused.transformer.waves(torch.tensor([0.0, 2.0]), 4)
    torch.testing.assert_close(got, torch.tensor(expected))


def test_the_recipes_have_no_problem(imported):
    assert [str(problem) for problem in muse_studio.check(str(imported / "generate.yaml"))] == []


@pytest.mark.parametrize("steps", [3, 12])
def test_inpainting_s_tokens_are_diffusers_at_every_step(pipe, stage, monkeypatch, steps):
    from diffusers import AmusedInpaintPipeline, AmusedScheduler

    base = stage.stages["base"]
    pixels = torch.randint(256, (16, 16, 3), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    region = torch.zeros(8, 8, dtype=torch.bool)
    region[1:6, 2:] = True
    known = base.tokenizer.encode(pixels.permute(2, 0, 1)[None] / 255)
    monkeypatch.setattr(base, "schedule", muse_studio.parts("schedule", "linear")[0].load()())  # as theirs, unasked
    got = ours(stage, 6, known.masked_fill(region, MASK), steps=steps, temperature=[2.0, 0.0])
    shared(monkeypatch, 6)
    scheduler = AmusedScheduler(mask_token_id=47)  # a new one: the pipeline changes its schedule
    inpaint = AmusedInpaintPipeline(**pipe.components | {"scheduler": scheduler})
    inpaint.set_progress_bar_config(disable=True)
    seen = []
    inpaint(
        PROMPT,
        image=Image.fromarray(pixels.numpy()),
        mask_image=Image.fromarray((region.repeat_interleave(2, 0).repeat_interleave(2, 1) * 255).byte().numpy()),
        strength=1.0,
        num_inference_steps=steps,
        output_type="latent",
        callback=lambda step, timestep, latents: seen.append(latents.clone()),
    )
    assert len(got) == len(seen) == steps
    for mine, other in zip(got, seen, strict=True):
        assert torch.equal(torch.where(mine == MASK, 47, mine), other)
    assert torch.equal(got[-1][0][~region], known[0][~region])


@pytest.mark.parametrize(("steps", "strength"), [(6, 0.5), (12, 0.75), (12, 0.1)])
def test_image_to_image_s_tokens_are_diffusers_at_every_step(pipe, stage, monkeypatch, steps, strength):
    from diffusers import AmusedImg2ImgPipeline

    base, taken = stage.stages["base"], int(steps * strength)
    pixels = torch.randint(256, (16, 16, 3), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    known = base.tokenizer.encode(pixels.permute(2, 0, 1)[None] / 255)
    lots = torch.rand(known.shape, generator=torch.Generator().manual_seed(8))
    forgotten = lots < torch.cos(torch.tensor((steps - taken) / steps * torch.pi / 2))
    monkeypatch.setattr(base.sampler, "of", steps)
    got = ours(stage, 7, known.masked_fill(forgotten, MASK), steps=taken, temperature=[2.0, 0.0])
    shared(monkeypatch, 7)
    again = AmusedImg2ImgPipeline(**pipe.components)
    again.set_progress_bar_config(disable=True)
    seen = []
    again(
        PROMPT,
        image=Image.fromarray(pixels.numpy()),
        strength=strength,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(8),
        output_type="latent",
        callback=lambda step, timestep, latents: seen.append(latents.clone()),
    )
    assert len(got) == len(seen) == taken
    for mine, other in zip(got, seen, strict=True):
        assert torch.equal(torch.where(mine == MASK, 47, mine), other)
