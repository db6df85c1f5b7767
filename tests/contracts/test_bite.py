"""Every promise of every contract is broken once on purpose, and the contract test of that name must say so."""

from __future__ import annotations

import inspect
import itertools
import random
import re
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy
import pytest
import torch
from torch import nn

from muse_studio import testing
from muse_studio.contracts import MASK, Lots, Quantized, TextEmbedding
from muse_studio.hookspecs import hookimpl
from muse_studio.registry.kinds import kinds
from muse_studio.runtime.dialects import Piece, Rule
from muse_studio.runtime.former import FormerNames
from muse_studio.sampling.masking import hidden_loss, hide, mask_tokens
from muse_studio.testing import (
    BrokenPromise,
    FakeDataset,
    FakeEditor,
    FakeGuidance,
    FakeSampler,
    FakeSchedule,
    FakeTextEncoder,
    FakeTokenizer,
    FakeTransformer,
    promises,
)


class Optimizer:
    """Adam."""

    def __init__(self, *, lr: float = 1e-2) -> None:
        self.lr = lr

    def __call__(self, model):
        return torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], self.lr)


class Signs(nn.Module):
    """Each latent becomes its sign."""

    width = 6

    def lookup(self, tokens):
        bits = tokens.unsqueeze(1) >> torch.arange(6).view(-1, 1, 1) & 1
        return bits * 2.0 - 1

    def tokens(self, latents):
        return ((latents > 0) << torch.arange(6).view(-1, 1, 1)).sum(1)

    def forward(self, latents, entropy=False):
        found = self.lookup(self.tokens(latents))
        return Quantized(latents + (found - latents).detach(), self.tokens(latents), {"commitment": latents.var()})


class Quantizer:
    """Signs, of 64 codes."""

    def __call__(self, size, width):
        return Signs()


def books(**changes):
    """A quantizer whose codebook has these attributes changed."""
    return but(Quantizer, __call__=lambda self, size, width: but(Signs, **changes)())


def makes(change):
    """A quantizer whose codebook gives what `change` makes of what is due, the latents being its second argument."""
    return books(forward=lambda self, latents, entropy=False: change(Signs.forward(self, latents), latents))


class Objective:
    """The mean cross-entropy of what is hidden."""

    def draw(self, count, grid, schedule, chance):
        return Lots(mask_tokens(count, grid, schedule, chance("mask")))

    def __call__(self, batch, model):
        summed, right = hidden_loss(model(hide(batch.tokens, batch.hidden)), batch.tokens, batch.hidden)
        hidden = batch.hidden.flatten(1).sum(1)
        return (summed / hidden).sum() * batch.scale, {"accuracy": (right / hidden).sum() * batch.scale}


def pays(change):
    """An objective whose loss and figures are changed by `change`, which is given them, the batch and the model."""
    return but(Objective, __call__=lambda self, *given: change(*Objective.__call__(self, *given), *given))


def draws(change):
    """An objective whose lots are changed by `change`."""
    return but(Objective, draw=lambda self, *given: change(Objective.draw(self, *given)))


class Metric:
    """The mean difference."""

    meanings: ClassVar = {"difference": "the mean"}

    def __init__(self) -> None:
        self.seen = []

    def reset(self):
        self.seen.clear()

    def update(self, real, generated, prompts):
        self.seen += [(one.double() - other.double()).abs().mean() for one, other in zip(real, generated, strict=True)]

    def compute(self):
        return torch.stack(self.seen).mean()[None]


class Task:
    """Nothing to do."""

    def __call__(self, hook):
        return None


class Linear(nn.Module):
    """What the dialect below becomes: `width` is read off its file."""

    def __init__(self, *, width: int = 2) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))


PIECE = Piece(
    "scale",
    "tokenizer",
    "linear",
    "",
    (Rule(r"norm\.(\w+)\.a", r"\1"), Rule("bias", "shift")),
    lambda found: {"width": found.shapes["bias"][0]},
    drop=(r"loss\..*",),
)


class Dialect:
    """Two tensors by other names, and one that is not wanted."""

    name, pieces, copied = "two", (PIECE,), ()
    declares: ClassVar = {}
    given: ClassVar = {}
    further: ClassVar = {}
    former = None

    def recipes(self, imported):
        return {"model.yaml": imported.part("linear", "scale")}


def table(**changes: Any) -> type:
    """The dialect with these fields of its piece changed."""
    return but(Dialect, pieces=(replace(PIECE, **changes),))


class Observer:
    """Listens."""

    @hookimpl
    def muse_step(self, step):
        return None


GOOD = {
    testing.TokenizerContract: FakeTokenizer,
    testing.QuantizerContract: Quantizer,
    testing.TextEncoderContract: FakeTextEncoder,
    testing.TransformerContract: FakeTransformer,
    testing.MaskScheduleContract: FakeSchedule,
    testing.GuidanceContract: FakeGuidance,
    testing.SamplerContract: FakeSampler,
    testing.EditorContract: FakeEditor,
    testing.DatasetContract: FakeDataset,
    testing.OptimizerContract: Optimizer,
    testing.ObjectiveContract: Objective,
    testing.MetricContract: Metric,
    testing.DialectContract: Dialect,
    testing.TaskContract: Task,
    testing.ObserverContract: Observer,
}


def but(part: type, **changes: Any) -> type:
    """`part` with these attributes changed."""
    return type(f"Broken{part.__name__}", (part,), {"__doc__": "Broken.", **changes})


def tokens(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    """A record of tokens and text states, with these tensors changed."""
    grid, states = torch.zeros(2, 2, dtype=torch.int16), torch.zeros(5, 8)
    return {"tokens.base": grid, "states": states, "mask": torch.ones(5, dtype=torch.bool)} | changes


SOURCE = {"norm.scale.a": torch.ones(3), "bias": torch.zeros(3), "loss.weight": torch.zeros(1)}
"""What the dialect above reads."""


def keep(part: type, promise: str, contract: type) -> None:
    class Examined(contract):
        low_grid = (2, 2)

        def make(self):
            return part()

    if contract is testing.DialectContract:
        Examined.target = lambda self: part
        Examined.part = lambda self, piece: Linear
        Examined.source = lambda self: {"scale": SOURCE}
    getattr(Examined(), promise)()


def names(contract: type) -> list[str]:
    return [name for name in dir(contract) if name.startswith("test_")]


def after(call, change):
    """`call`, its result changed by `change`, which is given the result and then `call`'s own arguments after self."""
    return lambda self, *given: change(call(self, *given), *given)


def spoil(tensor, result=None):
    """`result`, after `tensor` was changed in place."""
    tensor.add_(1)
    return result


LITTLE = {"more": torch.zeros(1)}


def by_chance(hidden):
    return torch.rand(hidden.shape) < 0.5


def writes(self):
    open("/dev/null", "w").close()


def connects(self):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.connect(("127.0.0.1", 9))


def runs(self):
    subprocess.run(["true"], check=True)


def on_a_gpu(self):
    torch.zeros(1, device="cuda")


def any_settings(self, **settings):
    pass


def unannotated(self, steps=3):
    pass


COUNT = itertools.count()  # what differs from call to call, seed or no seed
SHARED: list[torch.Tensor] = []  # what a careless metric keeps for all of its kind
encode, decode, read = FakeTokenizer.encode, FakeTokenizer.decode, FakeTextEncoder.__call__
condition, forward = FakeTransformer.condition, FakeTransformer.forward
sample, edit, record = FakeSampler.__call__, FakeEditor.__call__, FakeDataset.__getitem__


def only_known(self, text, low=None):
    """Divides by how many low-resolution tokens are known."""
    return tuple(tensor / (low != MASK).flatten(1).sum(1, keepdim=True) for tensor in condition(self, text, low))


def drawn_globally(self, predict, tokens, schedule, generator):
    return sample(self, predict, tokens, schedule, torch.default_generator)


def shuffled_globally(self, *given):
    random.random()
    return sample(self, *given)


def permuted_globally(self, *given):
    numpy.random.permutation(3)
    return sample(self, *given)


def with_fixed_seed(self, predict, tokens, schedule, generator):
    return sample(self, predict, tokens, schedule, torch.Generator())


def carefree(self, predict, tokens, schedule, generator):
    torch.rand(1)
    return sample(self, predict, tokens, schedule, generator)


def failing(self, predict, tokens, schedule, generator):
    predict(tokens, 0.0)
    yield tokens / (1 / 0)


def in_place(self, predict, tokens, schedule, generator):
    tokens = tokens.clone()
    for grid in sample(self, predict, tokens, schedule, generator):
        tokens.copy_(grid)
        yield tokens


def forgetful(self, predict, tokens, schedule, generator):
    yield from sample(self, predict, torch.full_like(tokens, MASK), schedule, generator)


def uniform(self, predict, tokens, schedule, generator):
    yield from sample(self, testing.FakePredict(torch.zeros(*tokens.shape, 16)), tokens, schedule, generator)
    predict(tokens, 0.0)


def backwards(self, predict, tokens, schedule, generator):
    return sample(self, lambda tokens, progress: predict(tokens, 1 - progress), tokens, schedule, generator)


def careless(self, text, low=None):
    """As `condition`, but padding counts, and so does what stands in a null text."""
    bias = self.text(text.states.mean(1))
    return (bias if low is None else bias + self.low(low).mean((1, 2)),)


def by_index(self, tokens, conditioning):
    if (tokens != MASK).any():
        return forward(self, tokens, conditioning)
    return forward(self, tokens * 1, conditioning)


class Sized(FakeTransformer):
    """Takes micro-conditions, and does with them what it shouldn't."""

    takes_micro = True
    scale, unknown = 1e-3, 0.0

    def condition(self, text, low=None):
        said = torch.zeros(len(text.mask), 5) if text.micro is None else text.micro.nan_to_num(self.unknown)
        return (condition(self, text, low)[0] + said.sum(1, keepdim=True) * self.scale * torch.arange(64),)


class Idle(FakeTransformer):
    """One weight takes no part."""

    def __init__(self, *, codebook_size: int = 64, text_width: int = 8) -> None:
        super().__init__(codebook_size=codebook_size, text_width=text_width)
        self.idle = nn.Parameter(torch.zeros(3))


class Learning(nn.Module):
    """A text encoder whose weight asks for a gradient."""

    width = 8

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, prompts):
        text = read(FakeTextEncoder(), prompts)
        return text._replace(states=(text.states * self.scale).detach())


class Forgetful(torch.optim.SGD):
    """Its rate halves with every step, and state_dict does not say so."""

    def step(self, closure=None):
        self.rate = getattr(self, "rate", 0.1) / 2
        for group in self.param_groups:
            group["lr"] = self.rate
        super().step(closure)


TOKENIZER, TEXT, MODEL = testing.TokenizerContract, testing.TextEncoderContract, testing.TransformerContract
SCHEDULE, GUIDANCE, SAMPLER = testing.MaskScheduleContract, testing.GuidanceContract, testing.SamplerContract
QUANTIZER = testing.QuantizerContract
EDITOR, DATASET, OPTIMIZER, OBJECTIVE, METRIC, DIALECT, TASK, OBSERVER = (
    testing.EditorContract,
    testing.DatasetContract,
    testing.OptimizerContract,
    testing.ObjectiveContract,
    testing.MetricContract,
    testing.DialectContract,
    testing.TaskContract,
    testing.ObserverContract,
)


def call(part, function):
    return but(part, __call__=function)


BROKEN = [
    (SCHEDULE, "its_settings_can", "misspelt key", but(FakeSchedule, __init__=any_settings)),
    (SCHEDULE, "its_constructor", "writes /dev/null", but(FakeSchedule, __init__=writes)),
    (SCHEDULE, "its_constructor", "calls a server", but(FakeSchedule, __init__=connects)),
    (SCHEDULE, "its_constructor", "starts a process", but(FakeSchedule, __init__=runs)),
    (SCHEDULE, "its_constructor", "begins to use a GPU", but(FakeSchedule, __init__=on_a_gpu)),
    (SCHEDULE, "its_settings_can", "'steps' without annotation", but(FakeSchedule, __init__=unannotated)),
    (SCHEDULE, "it_says_what", "no docstring", but(FakeSchedule, __doc__=None)),
    (SCHEDULE, "all_is_masked", "at progress 0 is 1, got 0", call(FakeSchedule, lambda self, p: p)),
    (
        SCHEDULE,
        "the_masked_share_never",
        "rises by 1",
        call(FakeSchedule, lambda self, p: (p < 0.5).float() + (p > 0.9)),
    ),
    (SCHEDULE, "shape_and_dtype", "got torch.float32", call(FakeSchedule, lambda self, p: 1 - p.float())),
    (SCHEDULE, "inputs", "changed the progress", call(FakeSchedule, lambda self, p: spoil(p, 1 - p))),
    (
        TOKENIZER,
        "a_picture_becomes",
        "int64, got torch.int32",
        but(FakeTokenizer, encode=after(encode, lambda t, i: t.int())),
    ),
    (TOKENIZER, "codes_become", "clamp them", but(FakeTokenizer, decode=after(decode, lambda i, t: i * 2 - 1))),
    (TOKENIZER, "every_code", "code 0 .* not finite", but(FakeTokenizer, decode=after(decode, lambda i, t: 1 / i))),
    (
        TOKENIZER,
        "mask_given",
        "must raise ValueError",
        but(FakeTokenizer, decode=lambda self, t: decode(self, t.clamp(0))),
    ),
    (
        TOKENIZER,
        "a_picture_is_encoded",
        "others in its batch",
        but(FakeTokenizer, encode=after(encode, lambda t, i: (t + len(t)) % 64)),
    ),
    (
        TOKENIZER,
        "the_same_picture",
        "at random",
        but(FakeTokenizer, encode=after(encode, lambda t, i: torch.randint_like(t, 64))),
    ),
    (TOKENIZER, "inputs", "changed the pictures", but(FakeTokenizer, encode=after(encode, lambda t, i: spoil(i, t)))),
    (
        TOKENIZER,
        "a_size",
        "without pixels went through",
        but(FakeTokenizer, grid_shape=lambda self, h, w: (h // 4, w // 4)),
    ),
    (
        TEXT,
        "prompts_become",
        "mask is bool",
        call(FakeTextEncoder, after(read, lambda t, p: t._replace(mask=t.mask.long()))),
    ),
    (
        TEXT,
        "an_empty",
        "means no prompt",
        call(FakeTextEncoder, after(read, lambda t, p: t._replace(mask=t.mask | True))),
    ),
    (
        TEXT,
        "the_length",
        "pad and truncate",
        call(FakeTextEncoder, after(read, lambda t, p: TextEmbedding(t.states[:, : len(p[0]) + 1], t.mask))),
    ),
    (
        TEXT,
        "any_writing",
        "not finite",
        call(FakeTextEncoder, after(read, lambda t, p: t if p[0].isascii() else t._replace(states=t.states / 0))),
    ),
    (
        TEXT,
        "a_prompt_is_read",
        "others in its batch|not close",
        call(FakeTextEncoder, after(read, lambda t, p: t._replace(states=t.states * len(p)))),
    ),
    (
        TEXT,
        "the_same_prompt",
        "at random",
        call(FakeTextEncoder, after(read, lambda t, p: t._replace(states=torch.rand_like(t.states)))),
    ),
    (TEXT, "it_is_frozen", "scale asks for a gradient", Learning),
    (TEXT, "the_list", "changed the list", call(FakeTextEncoder, after(read, lambda t, p: (t, p.reverse())[0]))),
    (
        MODEL,
        "a_grid_becomes",
        r"got \(2, 64, 4, 4\)",
        but(FakeTransformer, forward=after(forward, lambda x, *_: x.movedim(-1, 1))),
    ),
    (
        MODEL,
        "conditioning",
        "must lead with 1",
        but(FakeTransformer, condition=after(condition, lambda c, *_: (c[0].T,))),
    ),
    (MODEL, "guidance", "than each by itself", but(FakeTransformer, forward=after(forward, lambda x, *_: x + len(x)))),
    (
        MODEL,
        "logits_of_one_row",
        "row 0's logits",
        but(FakeTransformer, forward=after(forward, lambda x, *_: x + x.mean(0))),
    ),
    (
        MODEL,
        "the_prompt",
        "prompts give the same",
        but(FakeTransformer, condition=after(condition, lambda c, *_: (c[0] * 0,))),
    ),
    (MODEL, "a_text_whose", "states still change", but(FakeTransformer, condition=careless)),
    (MODEL, "cross_attention", "receive a gradient", but(FakeTransformer, condition=careless)),
    (MODEL, "padding", "mask is False changes", but(FakeTransformer, condition=careless)),
    (MODEL, "micro", "all NaN", but(Sized, unknown=1.0)),
    (MODEL, "micro", "no micro-condition changes", but(Sized, scale=0.0)),
    (MODEL, "micro", "not finite", but(Sized, scale=1e38)),
    (MODEL, "low_tokens", "two different", but(FakeTransformer, condition=lambda self, t, low: condition(self, t))),
    (MODEL, "low_tokens", "not finite", but(FakeTransformer, condition=only_known)),
    (MODEL, "inputs", "changed the tokens", but(FakeTransformer, forward=after(forward, lambda x, t, c: spoil(t, x)))),
    (MODEL, "no_shape", "weigh by a mask", but(FakeTransformer, forward=by_index)),
    (MODEL, "every_weight", "idle received no gradient", Idle),
    (
        GUIDANCE,
        "logits_keep",
        r"got \(2, 3, 4\)",
        call(FakeGuidance, lambda self, ask, text, negative, at: ask(text)[0][..., 0]),
    ),
    (
        GUIDANCE,
        "the_prompt",
        "same guided logits",
        call(FakeGuidance, lambda self, ask, text, negative, at: ask(negative)[0]),
    ),
    (
        GUIDANCE,
        "where_prompt",
        "prompt and no prompt agree",
        call(FakeGuidance, lambda self, ask, text, negative, at: ask(text)[0] * 2),
    ),
    (
        GUIDANCE,
        "texts_are",
        "changed the text",
        call(FakeGuidance, lambda self, ask, text, negative, at: spoil(text.states, ask(text)[0])),
    ),
    (SAMPLER, "the_last_grid", "still MASK", call(FakeSampler, lambda *given: list(sample(*given))[:-1])),
    (SAMPLER, "every_step", "steps is 6, but 1 grids", call(FakeSampler, lambda *given: list(sample(*given))[-1:])),
    (SAMPLER, "a_grid_that", "changed after it was yielded", call(FakeSampler, in_place)),
    (SAMPLER, "known_tokens", "known at the start", call(FakeSampler, forgetful)),
    (SAMPLER, "a_grid_without", "came back changed", call(FakeSampler, forgetful)),
    (SAMPLER, "the_logits", "another was drawn", call(FakeSampler, uniform)),
    (SAMPLER, "the_seed", "global generator", call(FakeSampler, drawn_globally)),
    (SAMPLER, "the_seed", "generator of Python's random", call(FakeSampler, shuffled_globally)),
    (SAMPLER, "the_seed", "generator of numpy", call(FakeSampler, permuted_globally)),
    (SAMPLER, "the_seed", "another seed gave the same", call(FakeSampler, with_fixed_seed)),
    (SAMPLER, "progress", "rising within 0..1", call(FakeSampler, backwards)),
    (
        SAMPLER,
        "inputs",
        "changed the grid",
        call(FakeSampler, lambda self, p, t, s, g: spoil(t, list(sample(self, p, t.clone(), s, g)))),
    ),
    (
        EDITOR,
        "what_is_outside",
        "outside the region",
        call(FakeEditor, lambda self, t, r, resample, g: edit(self, t, ~r, resample, g)),
    ),
    (EDITOR, "the_last_grid", "still MASK", call(FakeEditor, lambda *given: list(edit(*given))[:1])),
    (EDITOR, "an_empty", "a token changed", call(FakeEditor, lambda self, t, r, resample, g: [t + 1])),
    (
        EDITOR,
        "the_seed",
        "global generator",
        call(FakeEditor, lambda self, t, *_: [torch.randint_like(t, 16)]),
    ),
    (EDITOR, "the_seed", "another edit", call(FakeEditor, lambda self, t, r, resample, g: [t + next(COUNT)])),
    (
        EDITOR,
        "inputs",
        "changed the region",
        call(FakeEditor, lambda self, t, r, resample, g: [r.logical_not_(), t][1:]),
    ),
    (
        DATASET,
        "a_record",
        "is uint8, got torch.int64",
        but(FakeDataset, __getitem__=after(record, lambda r, i: r | {"image": r["image"].long()})),
    ),
    (
        DATASET,
        "a_record",
        "micro-conditions are float32",
        but(FakeDataset, __getitem__=after(record, lambda r, i: r | {"micro": torch.zeros(4)})),
    ),
    (
        DATASET,
        "the_same_index",
        "two captions",
        but(FakeDataset, __getitem__=after(record, lambda r, i: r | {"caption": str(torch.rand(()))})),
    ),
    (
        DATASET,
        "a_record",
        "the mask .T., got .5, 8. and .4.",
        but(FakeDataset, __getitem__=after(record, lambda r, i: tokens(mask=torch.ones(4, dtype=torch.bool)))),
    ),
    (
        DATASET,
        "a_record",
        "tokens.base is a grid of codes",
        but(FakeDataset, __getitem__=after(record, lambda r, i: tokens(**{"tokens.base": torch.ones(2, 2)}))),
    ),
    (
        DATASET,
        "a_batch",
        "image of records .* is not that of each",
        but(
            FakeDataset,
            __getitems__=lambda self, which: {"image": record(self, 0)["image"].expand(len(which), 3, 8, 8)},
        ),
    ),
    (DATASET, "an_index", "must raise IndexError", but(FakeDataset, __getitem__=lambda self, i: record(self, i % 3))),
    (
        OPTIMIZER,
        "every_weight",
        "frozen.weight",
        call(Optimizer, lambda self, model: torch.optim.SGD(model.parameters())),
    ),
    (
        OPTIMIZER,
        "it_learns",
        "after 300 steps",
        call(Optimizer, lambda self, model: torch.optim.SGD(model.parameters(), 0.0)),
    ),
    (OPTIMIZER, "a_restored", "not in state_dict", call(Optimizer, lambda self, model: Forgetful(model.parameters()))),
    (
        QUANTIZER,
        "latents_become",
        "is no torch module",
        call(Quantizer, lambda self, size, width: type("Plain", (), {"width": 6})()),
    ),
    (QUANTIZER, "latents_become", "tokens are int64", books(tokens=lambda self, z: Signs.tokens(self, z).float())),
    (
        QUANTIZER,
        "latents_become",
        "in 0..63, got .*..127",
        books(tokens=lambda self, z: Signs.tokens(self, z) * 0 + 127),
    ),
    (QUANTIZER, "latents_become", "lookup gives", books(lookup=lambda self, tokens: Signs.lookup(self, tokens)[:, 1:])),
    (QUANTIZER, "latents_become", "look alike", books(lookup=lambda self, tokens: Signs.lookup(self, tokens // 2))),
    (QUANTIZER, "training_sees", "chooses other codes", makes(lambda made, z: made._replace(tokens=made.tokens ^ 1))),
    (QUANTIZER, "training_sees", "from the codes", makes(lambda made, z: made._replace(latents=z))),
    (
        QUANTIZER,
        "gradients",
        "never reaches",
        makes(lambda made, z: made._replace(latents=made.latents.detach() + 0 * z)),
    ),
    (QUANTIZER, "losses", r"'commitment' is float\[2", makes(lambda made, z: made._replace(losses={"commitment": z}))),
    (QUANTIZER, "losses", "'x' is nan", makes(lambda made, z: made._replace(losses={"x": z.sum() * torch.nan}))),
    (QUANTIZER, "inputs", "it changed latents", makes(lambda made, z: spoil(z, made))),
    (OBJECTIVE, "lots_are", "give contracts.Lots", draws(lambda lots: lots.hidden)),
    (OBJECTIVE, "lots_are", r"hidden is torch.uint8\[8, 3, 4\]", draws(lambda lots: Lots(lots.hidden.byte()))),
    (OBJECTIVE, "lots_are", "noise 'more' is of 1 pictures", draws(lambda lots: Lots(lots.hidden, None, LITTLE))),
    (OBJECTIVE, "the_generators", "the same generators hide other", draws(lambda lots: Lots(by_chance(lots.hidden)))),
    (OBJECTIVE, "the_generators", "hide the very same", draws(lambda lots: Lots(torch.ones_like(lots.hidden)))),
    (OBJECTIVE, "the_loss", r"the loss is float\[1\]", pays(lambda loss, figures, *_: (loss[None], figures))),
    (OBJECTIVE, "the_loss", "the loss is nan", pays(lambda loss, figures, *_: (loss * torch.nan, figures))),
    (OBJECTIVE, "the_loss", "has no gradient", pays(lambda loss, figures, *_: (loss.detach(), figures))),
    (OBJECTIVE, "the_loss", "'loss' has a gradient", pays(lambda loss, figures, *_: (loss, {"loss": loss}))),
    (OBJECTIVE, "a_step_in", "multiply sums by batch.scale", pays(lambda loss, *rest: (loss / rest[1].scale, {}))),
    (
        OBJECTIVE,
        "inputs",
        "it changed tokens",
        pays(lambda loss, figures, batch, model: spoil(batch.tokens, (loss, figures))),
    ),
    (METRIC, "it_computes", "finite numbers", but(Metric, compute=lambda self: 0.5)),
    (METRIC, "every_number", "a number for each of one, two", but(Metric, meanings={"one": "1", "two": "2"})),
    (METRIC, "computing", "second time", but(Metric, compute=lambda self: torch.rand(1))),
    (METRIC, "batches", "another order", but(Metric, compute=lambda self: self.seen[0][None])),
    (METRIC, "reset", "what it saw before", but(Metric, reset=lambda self: None)),
    (
        METRIC,
        "it_remembers",
        "another one saw",
        but(Metric, __init__=lambda self: setattr(self, "seen", SHARED)),
    ),
    (
        METRIC,
        "inputs",
        "changed the real pictures",
        but(Metric, update=lambda self, real, *_: spoil(real)),
    ),
    (DIALECT, "names_are", "name is empty", but(Dialect, name="")),
    (DIALECT, "names_are", "several pieces have the name scale", but(Dialect, pieces=(PIECE, PIECE))),
    (DIALECT, "names_are", "further has 'other'", but(Dialect, further={"other": dict})),
    (DIALECT, "every_rule", r"no regular expression: missing \)", table(rules=(Rule("(", "scale"),))),
    (DIALECT, "every_rule", r"asks for group 2 of .*which has 1", table(rules=(Rule(r"(\w+)\.a", r"\2"),))),
    (DIALECT, "every_rule", "'squeezed' is no change", table(rules=(Rule("bias", "shift", "squeezed"),))),
    (DIALECT, "every_rule", "'[*]' is no regular", table(drop=("*",))),
    (
        DIALECT,
        "names_of_today",
        "becomes a.weight, which a rule renames again",
        but(Dialect, former=FormerNames("two", ((r"c\.", "a."), (r"a\.", "b.")))),
    ),
    (DIALECT, "a_source", "not used: loss.weight", table(drop=())),
    (DIALECT, "a_source", "missing: shift", table(drop=("loss.*", "bias"))),
    (DIALECT, "a_source", "given twice: scale from each of", table(rules=(Rule("norm.*|bias", "scale"),))),
    (
        DIALECT,
        "a_source",
        "of another shape: .* makes .6., and scale is .3.",
        table(rules=(Rule("norm.*", "scale"), Rule("bias", "scale", block=1)), starts={"shift": 0.0}),
    ),
    (DIALECT, "the_rest", "shift is to be made, but further has nothing", table(made=("shift",))),
    (DIALECT, "a_stranger", "passes unseen", table(drop=(".*",))),
    (DIALECT, "another_model", "holds nothing gives {'width': 3}", table(settings=lambda found: {"width": 3})),
    (DIALECT, "its_recipes", "no recipes", but(Dialect, recipes=lambda self, imported: {})),
    (
        DIALECT,
        "its_recipes",
        "no recipe takes scale.safetensors",
        but(Dialect, recipes=lambda self, imported: {"model.yaml": {}}),
    ),
    (
        DIALECT,
        "its_recipes",
        "what YAML can't write",
        but(Dialect, recipes=lambda self, imported: {"model.yaml": {"use": torch.ones(1)}}),
    ),
    (OBSERVER, "it_has_a_hook", "no method marked", but(Observer, muse_step=lambda self, step: None)),
    (OBSERVER, "it_has_a_hook", "did you mean 'muse_step'", but(Observer, muse_stpe=Observer.muse_step)),
    (OBSERVER, "a_method_with", "no @hookimpl above it", but(Observer, muse_started=lambda self, task: None)),
    (TASK, "it_is_called", "the observers", call(Task, lambda self: None)),
]


@pytest.mark.parametrize(("contract", "start", "message", "part"), BROKEN)
def test_a_broken_part_is_caught_and_its_promise_named(contract, start, message, part):
    (name,) = [name for name in names(contract) if name.startswith(f"test_{start}")]
    with pytest.raises(BrokenPromise, match=message) as broken:
        keep(part, name, contract)
    told = broken.value
    assert told.promise == promises(contract)[name]
    assert str(told).splitlines()[1:2] == [f"  promised: {told.promise}"]
    assert told.happened in str(told) and told.where in str(told)
    assert re.search(r"test_bite\.py:\d+, in |fakes\.py:\d+, in |in Broken", told.where), told.where


def test_every_kind_has_a_broken_part():
    assert {contract for contract, *_ in BROKEN} == {
        getattr(testing, f"{kind.contract.__name__}Contract") for kind in kinds().values()
    }


def test_every_test_of_a_contract_is_named_as_a_promise():
    for contract in (*GOOD, testing.PluginContract):
        assert list(promises(contract)) == names(contract)


def line_of(function, text):
    """The place of the line in a function that has this text."""
    lines, first = inspect.getsourcelines(function)
    (at,) = [number for number, line in enumerate(lines, first) if text in line]
    return f"{__file__}:{at}, in {function.__name__}"


@pytest.mark.parametrize(
    ("contract", "name", "part", "place"),
    [
        (SCHEDULE, "test_its_constructor_is_cheap", but(FakeSchedule, __init__=writes), line_of(writes, "open(")),
        (SCHEDULE, "test_its_constructor_is_cheap", but(FakeSchedule, __init__=on_a_gpu), line_of(on_a_gpu, "cuda")),
        (SCHEDULE, "test_inputs_are_not_changed", call(FakeSchedule, lambda self, p: spoil(p)), line_of(spoil, "add_")),
        (SAMPLER, "test_the_seed_decides_and_nothing_else", call(FakeSampler, carefree), line_of(carefree, "rand")),
        (SAMPLER, "test_every_step_is_shown", call(FakeSampler, failing), line_of(failing, "1 / 0")),
    ],
)
def test_the_line_that_breaks_a_promise_is_told_where_it_is_known(contract, name, part, place):
    with pytest.raises(BrokenPromise) as broken:
        keep(part, name, contract)
    assert broken.value.where == place


def test_a_promise_that_no_line_breaks_is_told_with_the_class():
    class Still:
        """Unmasks nothing."""

        def __call__(self, progress):
            return torch.ones_like(progress)

    with pytest.raises(BrokenPromise) as broken:
        keep(Still, "test_all_is_masked_at_the_beginning_and_nothing_at_the_end", SCHEDULE)
    (at,) = [
        number
        for number, line in enumerate(Path(__file__).read_text().splitlines(), 1)
        if line.strip() == "class Still:"
    ]
    assert broken.value.where.startswith(f"{__file__}:{at}, in ")
    assert broken.value.where.endswith("Still")


def test_an_error_of_the_part_is_told_with_the_promise():
    with pytest.raises(BrokenPromise) as broken:
        keep(call(FakeSampler, failing), "test_known_tokens_stay", SAMPLER)
    assert str(broken.value) == (
        "\n  promised: what is known stays\n  happened: ZeroDivisionError: division by zero\n"
        f"  where:    {line_of(failing, '1 / 0')}"
    )


@pytest.mark.parametrize("contract", GOOD)
def test_a_good_part_keeps_every_promise(contract):
    for promise in names(contract):
        keep(GOOD[contract], promise, contract)


@pytest.mark.parametrize("contract", GOOD)
def test_every_promise_is_broken_somewhere_above(contract):
    """What all kinds promise is broken once, by schedules; a promise of its own is broken by the kind itself."""
    own = [name for name in names(contract) if contract is SCHEDULE or name not in names(testing.Contract)]
    broken = {start for tested, start, _, _ in BROKEN if tested is contract}
    unbroken = [name for name in own if not any(name.startswith(f"test_{start}") for start in broken)]
    assert not unbroken, "a test that nothing fails may be one that nothing can fail"


def test_there_is_a_contract_for_every_kind():
    named = {f"{kind.contract.__name__}Contract" for kind in kinds().values()}
    assert named == {contract.__name__ for contract in GOOD}
    assert named <= set(testing.__all__)


def test_a_contract_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match="TestMine must define make"):
        type("TestMine", (testing.SamplerContract,), {})().make()
