"""What tokenizers and text encoders promise."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from muse_studio.contracts import MASK, Codebook, Quantizer, TextEmbedding, TextEncoder, Tokenizer
from muse_studio.testing.contract import Contract
from muse_studio.testing.promise import ALONE, REFUSED, SHAPES, UNCHANGED, promise, refuses
from muse_studio.testing.watching import unchanged


class TokenizerContract(Contract):
    """Promises of a `contracts.Tokenizer`. `size` is a side in pixels that fits it, and so does twice that."""

    size = 32

    def make(self) -> Tokenizer:
        """A small tokenizer, ready to encode: no training, no gradients asked for."""
        return super().make()

    def images(self, count: int = 2) -> Tensor:
        """Pictures float32[count, 3, size, 2 size] in 0..1: not square, so that exchanged sides are seen."""
        return torch.rand(count, 3, self.size, 2 * self.size, generator=torch.Generator().manual_seed(0))

    @promise(SHAPES)
    @torch.no_grad()
    def test_a_picture_becomes_a_grid_of_codes(self) -> None:
        tokenizer, images = self.make(), self.images()
        tokens, grid = tokenizer.encode(images), tokenizer.grid_shape(*images.shape[2:])
        assert tokens.dtype == torch.int64, f"tokens are int64, got {tokens.dtype}"
        assert tuple(tokens.shape) == (2, *grid), f"grid_shape promised (2, *{grid}), encode gave {tuple(tokens.shape)}"
        low, high = int(tokens.min()), int(tokens.max())
        assert low >= 0 and high < tokenizer.codebook_size, (
            f"tokens are in 0..{tokenizer.codebook_size - 1}, got {low}..{high}"
        )

    @promise(SHAPES)
    @torch.no_grad()
    def test_codes_become_a_picture(self) -> None:
        tokenizer, images = self.make(), self.images()
        again = tokenizer.decode(tokenizer.encode(images))
        assert again.dtype == torch.float32, f"pictures are float32, got {again.dtype}"
        assert again.shape == images.shape, f"expected {tuple(images.shape)}, decode gave {tuple(again.shape)}"
        low, high = float(again.min()), float(again.max())
        assert low >= 0 and high <= 1, f"pictures are in 0..1, decode gave {low:.3f}..{high:.3f}; clamp them"

    @promise(SHAPES)
    @torch.no_grad()
    def test_every_code_can_be_decoded(self) -> None:
        tokenizer = self.make()
        h, w = tokenizer.grid_shape(self.size, self.size)
        for code in (0, tokenizer.codebook_size - 1):
            picture = tokenizer.decode(torch.full((1, h, w), code))
            assert picture.isfinite().all(), f"code {code} is decoded to something that is not finite"

    @promise(REFUSED)
    @torch.no_grad()
    def test_mask_given_to_decode_fails_loudly(self) -> None:
        tokenizer = self.make()
        tokens = tokenizer.encode(self.images())
        tokens[0, 0, 0] = MASK
        with refuses(ValueError, "decode of a grid in which one token is MASK"):
            tokenizer.decode(tokens)

    @promise(ALONE)
    @torch.no_grad()
    def test_a_picture_is_encoded_and_decoded_alike_alone_and_in_company(self) -> None:
        tokenizer, images = self.make(), self.images()
        tokens = tokenizer.encode(images)
        alone = tokenizer.encode(images[1:])
        assert (alone == tokens[1:]).float().mean() > 0.98, "a picture's tokens depend on the others in its batch"
        pictures = tokenizer.decode(tokens)
        torch.testing.assert_close(tokenizer.decode(tokens[1:]), pictures[1:], atol=1e-4, rtol=1e-4)

    @promise("encoding draws nothing at random")
    @torch.no_grad()
    def test_the_same_picture_gives_the_same_tokens(self) -> None:
        tokenizer, images = self.make(), self.images()
        assert torch.equal(tokenizer.encode(images), tokenizer.encode(images)), "encode draws at random"

    @promise(UNCHANGED)
    @torch.no_grad()
    def test_inputs_are_not_changed(self) -> None:
        tokenizer, images = self.make(), self.images()
        with unchanged({"the pictures that encode was given": images}):
            tokens = tokenizer.encode(images)
        with unchanged({"the tokens that decode was given": tokens}):
            tokenizer.decode(tokens)

    @promise(REFUSED)
    @torch.no_grad()
    def test_a_size_that_does_not_fit_is_refused_or_encoded(self) -> None:
        tokenizer = self.make()
        with refuses(ValueError, "grid_shape of a picture without pixels"):
            tokenizer.grid_shape(0, self.size)
        try:
            grid = tokenizer.grid_shape(self.size + 1, self.size)
        except ValueError as refusal:
            assert str(refusal), "grid_shape refuses a size without saying which sizes fit"
        else:
            tokens = tokenizer.encode(torch.zeros(1, 3, self.size + 1, self.size))
            assert tuple(tokens.shape[1:]) == grid, f"grid_shape said {grid}, encode gave {tuple(tokens.shape[1:])}"


class QuantizerContract(Contract):
    """Promises of a `contracts.Quantizer`, by a codebook that it makes of `size` codes and `width`."""

    size, width = 64, 8

    def make(self) -> Quantizer:
        """The quantizer; it can make a codebook of `size` codes."""
        return super().make()

    def codebook(self) -> Codebook:
        """The codebook as it begins."""
        torch.manual_seed(0)
        return self.make()(self.size, self.width)

    def latents(self, codebook: Codebook) -> Tensor:
        """float32[2, D, 3, 4], not square, so that exchanged sides are seen."""
        return torch.randn(2, codebook.width, 3, 4, generator=torch.Generator().manual_seed(1))

    @promise(SHAPES)
    @torch.no_grad()
    def test_latents_become_codes_and_codes_latents(self) -> None:
        codebook = self.codebook()
        assert isinstance(codebook, torch.nn.Module), f"{type(codebook).__name__} is no torch module"
        tokens = codebook.tokens(self.latents(codebook))
        assert tokens.dtype == torch.int64, f"tokens are int64, got {tokens.dtype}"
        assert tuple(tokens.shape) == (2, 3, 4), f"tokens of (2, D, 3, 4) are (2, 3, 4), got {tuple(tokens.shape)}"
        low, high = int(tokens.min()), int(tokens.max())
        assert low >= 0 and high < self.size, f"tokens are in 0..{self.size - 1}, got {low}..{high}"
        found = codebook.lookup(tokens)
        assert tuple(found.shape) == (2, codebook.width, 3, 4), f"lookup gives {tuple(found.shape)}"
        every = codebook.lookup(torch.arange(self.size).view(1, 1, -1))[0, :, 0].t()
        assert len(every.unique(dim=0)) == self.size, "several codes look alike"

    @promise("training sees what drawing does")
    @torch.no_grad()
    def test_training_sees_what_drawing_does(self) -> None:
        codebook = self.codebook()
        latents = self.latents(codebook)
        tokens = codebook.tokens(latents)
        made = codebook(latents)
        assert torch.equal(made.tokens, tokens), "training chooses other codes than `tokens`"
        apart = float((made.latents - codebook.lookup(tokens)).abs().max())
        assert apart < 1e-4, f"training decodes what is {apart:.2g} from the codes that `lookup` gives"

    @promise("gradients pass")
    def test_gradients_pass(self) -> None:
        codebook = self.codebook()
        latents = self.latents(codebook).requires_grad_()
        made = codebook(latents, True)
        weight = torch.randn(made.latents.shape, generator=torch.Generator().manual_seed(2))
        (made.latents * weight).sum().backward()
        assert latents.grad is not None and bool(latents.grad.any()), "the decoder's gradient never reaches the encoder"
        assert bool(latents.grad.isfinite().all()), "the gradient has NaN or infinity"

    @promise("losses are finite scalars")
    def test_losses_are_finite_scalars(self) -> None:
        codebook = self.codebook()
        for entropy in (False, True):
            for name, loss in codebook(self.latents(codebook), entropy).losses.items():
                assert tuple(loss.shape) == (), f"the loss {name!r} is float{list(loss.shape)}; give a scalar"
                assert bool(loss.isfinite()), f"the loss {name!r} is {loss.item()}"

    @promise(UNCHANGED)
    def test_inputs_are_not_changed(self) -> None:
        codebook = self.codebook()
        latents = self.latents(codebook)
        with unchanged({"latents": latents}):
            codebook(latents)


class TextEncoderContract(Contract):
    """Promises of a `contracts.TextEncoder`: frozen, of one length, and quiet about an empty prompt."""

    prompts = ("a red apple", "two cats to the left of a blue car")

    def make(self) -> TextEncoder:
        """The encoder; it may load its weights at the first call."""
        return super().make()

    def encode(self, *prompts: str) -> TextEmbedding:
        """The embedding of these prompts, by a new encoder."""
        return self.make()(list(prompts))

    @promise(SHAPES)
    def test_prompts_become_states_and_a_mask(self) -> None:
        encoder = self.make()
        text = encoder(list(self.prompts))
        assert text.states.is_floating_point(), f"states are floats, got {text.states.dtype}"
        assert text.states.shape[::2] == (2, encoder.width), (
            f"states are float[2, T, width = {encoder.width}], got {tuple(text.states.shape)}"
        )
        assert text.mask.dtype == torch.bool, f"mask is bool, True where a position counts; got {text.mask.dtype}"
        assert text.mask.shape == text.states.shape[:2], f"mask is bool[2, T], got {tuple(text.mask.shape)}"
        assert text.mask.any(1).all(), "a prompt with words has no position that counts"
        assert text.states.isfinite().all(), "states are not finite"
        assert text.pooled is None or (text.pooled.ndim == 2 and len(text.pooled) == 2), "pooled is float[B, P] or None"

    @promise("an empty prompt is no prompt")
    def test_an_empty_prompt_has_a_mask_that_is_all_false(self) -> None:
        mask = self.encode(self.prompts[0], "").mask
        assert mask[0].any() and not mask[1].any(), f"an empty prompt means no prompt; its mask is {mask[1].tolist()}"

    @promise("no shape depends on data")
    def test_the_length_is_the_same_for_every_prompt(self) -> None:
        encoder = self.make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the last one is cut off may well be said
            lengths = {encoder([prompt]).states.shape[1] for prompt in ("", "apple", "an apple " * 400)}
        assert len(lengths) == 1, f"T must not depend on the prompt, got {sorted(lengths)}; pad and truncate"

    @promise("any writing can be read")
    def test_any_writing_is_read(self) -> None:
        text = self.encode("一只红色的苹果", "🍎 🍏", "naïve\n\tcafé")
        assert text.states.isfinite().all(), "states are not finite"

    @promise(ALONE)
    def test_a_prompt_is_read_alike_alone_and_in_company(self) -> None:
        encoder = self.make()
        together, alone = encoder(list(self.prompts)), encoder([self.prompts[1]])
        assert torch.equal(together.mask[1:], alone.mask), "a prompt's mask depends on the others in its batch"
        counts = alone.mask[0]
        torch.testing.assert_close(together.states[1][counts], alone.states[0][counts], atol=1e-3, rtol=1e-3)

    @promise("encoding draws nothing at random")
    def test_the_same_prompt_gives_the_same_states(self) -> None:
        encoder = self.make()
        first, second = encoder(list(self.prompts)), encoder(list(self.prompts))
        assert torch.equal(first.states, second.states), "the encoder draws at random; put it in eval mode"

    @promise("a text encoder is frozen")
    def test_it_is_frozen(self) -> None:
        encoder = self.make()
        text = encoder(list(self.prompts))
        assert not text.states.requires_grad, "states carry a gradient; encode under no_grad"
        if isinstance(encoder, nn.Module):
            learning = [name for name, weight in encoder.named_parameters() if weight.requires_grad]
            assert not learning, f"a text encoder is frozen, but {learning[0]} asks for a gradient"

    @promise(UNCHANGED)
    def test_the_list_of_prompts_is_not_changed(self) -> None:
        prompts = list(self.prompts)
        self.make()(prompts)
        assert prompts == list(self.prompts), "the encoder changed the list that it was given"
