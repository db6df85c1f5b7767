"""What masked transformers promise: shapes, the null condition, and rows that know nothing of each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from muse_studio.contracts import MASK, Conditioning, TextEmbedding, Transformer
from muse_studio.sampling.abilities import outputs_of, takes_micro
from muse_studio.testing.contract import Contract
from muse_studio.testing.fakes import embedding
from muse_studio.testing.promise import ALONE, SHAPES, UNCHANGED, promise
from muse_studio.testing.watching import unchanged


class TransformerContract(Contract):
    """Promises of a `contracts.Transformer`. `grid` is a token grid that fits it.

    `low_grid` is the grid of the low-resolution tokens, for a super-resolution transformer, and `low_codes` how many
    codes those have (codebook_size where None). A critic is one too; its attribute `outputs` says that it has one logit
    a place.
    """

    grid = (4, 4)
    low_grid: tuple[int, int] | None = None
    low_codes: int | None = None

    def make(self) -> Transformer:
        """A small transformer with random weights."""
        return super().make()

    def awake(self) -> Transformer:
        """The part in eval mode, noise added to every weight: one that starts at zero would hide what it does later."""
        model = self.make()
        if isinstance(model, nn.Module):
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for weight in model.parameters():
                    weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
            model.eval()
        return model

    def tokens(self, model: Transformer, batch: int = 2) -> Tensor:
        """int64[batch, h, w], every other token MASK."""
        generator = torch.Generator().manual_seed(1)
        tokens = torch.randint(model.codebook_size, (batch, *self.grid), generator=generator)
        tokens.view(batch, -1)[:, ::2] = MASK
        return tokens

    def text(self, model: Transformer, batch: int = 2, **settings: Any) -> TextEmbedding:
        """A random TextEmbedding of this transformer's text width."""
        return embedding(batch, width=model.text_width, **settings)

    def low(self, model: Transformer, batch: int = 2) -> Tensor | None:
        """Random low-resolution tokens int64[batch, h', w'], or None where the transformer takes none."""
        if self.low_grid is None:
            return None
        codes = self.low_codes or model.codebook_size
        return torch.randint(codes, (batch, *self.low_grid), generator=torch.Generator().manual_seed(2))

    def logits(self, model: Transformer, text: TextEmbedding, tokens: Tensor | None = None) -> Tensor:
        """The logits of `tokens` (of `self.tokens` where None) under this text."""
        tokens = self.tokens(model, len(text.mask)) if tokens is None else tokens
        return model(tokens, model.condition(text, self.low(model, len(text.mask))))

    @promise(SHAPES)
    @torch.no_grad()
    def test_a_grid_becomes_logits_over_the_codebook(self) -> None:
        model = self.awake()
        logits = self.logits(model, self.text(model))
        expected = (2, *self.grid, outputs_of(model))
        assert logits.is_floating_point(), f"logits are floats, got {logits.dtype}"
        assert tuple(logits.shape) == expected, f"logits are float[B, h, w, K] = {expected}, got {tuple(logits.shape)}"
        assert logits.isfinite().all(), "logits are not finite"

    @promise(SHAPES)
    @torch.no_grad()
    def test_conditioning_is_a_tuple_of_tensors_that_lead_with_b(self) -> None:
        model = self.awake()
        for batch in (1, 3):
            conditioning = model.condition(self.text(model, batch), self.low(model, batch))
            assert type(conditioning) is tuple, f"conditioning is a tuple of tensors, got {type(conditioning).__name__}"
            for place, tensor in enumerate(conditioning):
                assert len(tensor) == batch, (
                    f"conditioning[{place}] is {tuple(tensor.shape)}; it must lead with {batch}"
                )

    @promise(ALONE)
    @torch.no_grad()
    def test_guidance_can_batch_two_texts_in_one_forward(self) -> None:
        model = self.awake()
        texts = [self.text(model, seed=0), self.text(model, seed=1).null()]
        each: list[Conditioning] = [model.condition(text, self.low(model)) for text in texts]
        batched = tuple(torch.cat(tensors) for tensors in zip(*each, strict=True))
        together = model(self.tokens(model).repeat(2, 1, 1), batched).chunk(2)
        for text, logits in zip(texts, together, strict=True):
            _close(logits, self.logits(model, text), "two texts in one batch give other logits than each by itself")

    @promise(ALONE)
    @torch.no_grad()
    def test_logits_of_one_row_do_not_depend_on_other_rows(self) -> None:
        model = self.awake()
        text, tokens = self.text(model), self.tokens(model)
        before = self.logits(model, text, tokens)
        other = TextEmbedding(text.states.clone(), text.mask.clone(), text.pooled)
        other.states[1], other.mask[1] = 0, False
        changed = tokens.clone()
        changed[1] = MASK
        _close(self.logits(model, other, changed)[0], before[0], "row 0's logits changed with row 1's text and tokens")

    @promise("the prompt and the known tokens matter")
    @torch.no_grad()
    def test_the_prompt_and_the_known_tokens_matter(self) -> None:
        model = self.awake()
        text, tokens = self.text(model), self.tokens(model)
        before = self.logits(model, text, tokens)
        other = self.logits(model, self.text(model, seed=5), tokens)
        assert not torch.allclose(before, other), "two different prompts give the same logits"
        known = torch.where(tokens == MASK, MASK, (tokens + 1) % model.codebook_size)
        assert not torch.allclose(before, self.logits(model, text, known)), "known tokens don't change the logits"

    @promise("no prompt says nothing")
    @torch.no_grad()
    def test_a_text_whose_mask_is_all_false_equals_any_other_null_text(self) -> None:
        model = self.awake()
        null = self.text(model).null()
        noise = TextEmbedding(torch.randn_like(null.states), null.mask, null.pooled)
        longer = self.text(model, positions=9).null()
        expected = self.logits(model, null)
        assert expected.isfinite().all(), "logits under the null text are not finite: a softmax over no position"
        _close(self.logits(model, noise), expected, "with no position that counts, the states still change the logits")
        _close(self.logits(model, longer), expected, "the null text's length changes the logits")

    @promise("no prompt says nothing")
    def test_cross_attention_contributes_nothing_then(self) -> None:
        model = self.awake()
        null = self.text(model).null()
        states = null.states.clone().requires_grad_()
        self.logits(model, TextEmbedding(states, null.mask, null.pooled)).square().sum().backward()
        assert states.grad is None or not states.grad.any(), "the null text's states receive a gradient"

    @promise("padding does not count")
    @torch.no_grad()
    def test_padding_does_not_count(self) -> None:
        model = self.awake()
        text = self.text(model)
        states = torch.where(text.mask[..., None], text.states, text.states + 3)
        padded = TextEmbedding(states, text.mask, text.pooled)
        _close(
            self.logits(model, padded), self.logits(model, text), "a position whose mask is False changes the logits"
        )

    @promise("what is told of a picture matters, where it is known")
    @torch.no_grad()
    def test_micro_conditions_matter_where_they_are_known(self) -> None:
        model = self.awake()
        if not takes_micro(model):
            return
        text = self.text(model)
        said = torch.tensor([640.0, 480.0, 16.0, 32.0, 9.0]).expand(2, -1)
        expected = self.logits(model, text)
        unknown = self.logits(model, text._replace(micro=torch.full_like(said, torch.nan)))
        _close(unknown, expected, "micro-conditions that are all NaN, which is not known, change the logits")
        told = self.logits(model, text._replace(micro=said))
        assert told.isfinite().all(), "logits are not finite where micro-conditions are known"
        assert not torch.allclose(told, expected), "it says takes_micro, and no micro-condition changes the logits"

    @promise("low-resolution tokens matter, known or not")
    @torch.no_grad()
    def test_low_tokens_matter_and_unknown_ones_are_taken(self) -> None:
        model = self.awake()
        low = self.low(model)
        if low is None:
            return  # a base model
        text, tokens = self.text(model), self.tokens(model)
        given = [model(tokens, model.condition(text, each)) for each in (low, low.flip(0), torch.full_like(low, MASK))]
        assert given[2].isfinite().all(), "logits given low-resolution tokens of MASK alone are not finite"
        right, another, none = given
        assert not torch.allclose(right, another), "two different low-resolution pictures give the same logits"
        assert not torch.allclose(right, none), "low-resolution tokens give the same logits as none"

    @promise(UNCHANGED)
    @torch.no_grad()
    def test_inputs_are_not_changed(self) -> None:
        model = self.awake()
        text, tokens, low = self.text(model), self.tokens(model), self.low(model)
        given = {f"the text's {name}": each for name, each in text._asdict().items()} | {"the low tokens": low}
        with unchanged(given):
            conditioning = model.condition(text, low)
        shared = {f"conditioning[{place}], which every step shares": each for place, each in enumerate(conditioning)}
        with unchanged({"the tokens": tokens} | given | shared):
            model(tokens, conditioning)

    @promise("no shape depends on data")
    def test_no_shape_depends_on_data(self) -> None:
        model = self.awake()
        if not isinstance(model, nn.Module):
            return  # only a module can be moved to where there is no data
        low = self.low(model)
        text, tokens = self.text(model), self.tokens(model)
        model = model.to("meta")
        there = text.to("meta")
        try:
            logits = model(tokens.to("meta"), model.condition(there, None if low is None else low.to("meta")))
        except (NotImplementedError, RuntimeError) as problem:
            raise AssertionError(
                f"on the meta device, which has shapes and no data: {problem}; weigh by a mask instead of indexing by "
                "it, and make new tensors on the device of those given"
            ) from problem
        assert tuple(logits.shape) == (2, *self.grid, outputs_of(model))

    @promise("every weight that can learn receives a gradient")
    def test_every_weight_that_can_learn_receives_a_gradient(self) -> None:
        model = self.awake()
        if not isinstance(model, nn.Module):
            return  # a transformer that isn't a module has no weights to learn
        self.logits(model, self.text(model)).square().mean().backward()
        idle = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
        assert not idle, f"{', '.join(idle)} received no gradient: data-parallel training would stop at the first step"


def _close(got: Tensor, expected: Tensor, message: str) -> None:
    """AssertionError with `message` where float32 rounding does not explain the difference."""
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4, msg=lambda detail: f"{message}\n{detail}")
