"""What the samplers' settings mean: one spelling, one check and one use for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from muse_studio.contracts import MASK, MaskSchedule
from muse_studio.sampling.noise import choose


@dataclass
class Steps:
    """How many steps there are."""

    steps: int = 12
    rowwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; give 1 or more")


@dataclass
class Scheduled(Steps):
    """How many tokens are left open after each step, by the mask schedule.

    early: whether the last place may be fixed before the last step, from which on nothing is asked any more. By default
        it may where places are known, as in an edit; a whole picture keeps one open to the end, as in MaskGIT's code.
    """

    early: bool | None = field(default=None, kw_only=True)

    def counts(self, schedule: MaskSchedule, tokens: Tensor) -> Tensor:
        """How many places of int64[B, h, w] are masked after each step, if those of now are before it: int64[T, B]."""
        counts = masked_counts(schedule, self.steps, tokens[0].numel(), self.early).to(tokens.device)
        return counts[:, (tokens == MASK).flatten(1).sum(1)]


@dataclass
class Order(Scheduled):
    """How random the order is in which a sampler fixes places, where it goes by confidence."""

    temperature: float | list[float] = 4.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature("temperature", self.temperature)

    def order_temperature(self, progress: float) -> float:
        """What the noise on the confidence is scaled by: a number falls to 0, [from, to] goes to its end."""
        falling = self.temperature if isinstance(self.temperature, list) else [self.temperature, 0.0]
        return between(falling, progress)


@dataclass
class Codes(Steps):
    """How the codes themselves are drawn from the logits."""

    sampling_temperature: float | list[float] = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampling_temperature is not None:  # null passes for the sampler whose annotation has it
            check_temperature("sampling_temperature", self.sampling_temperature)
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; give 1 or more, or null for every code")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; give a share above 0, at most 1, or null for every code")

    def code_temperature(self, progress: float) -> float:
        """What the logits are divided by: a number is constant, [from, to] goes to its end."""
        given = self.sampling_temperature
        return between(given, progress) if isinstance(given, list) else given

    def draw(self, logits: Tensor, uniform: Tensor, progress: float) -> Tensor:
        """float32[B, n, K] and float32[B, n] in 0..1 (1 excluded) to codes int64[B, n]."""
        chosen = partial(draw, temperature=self.code_temperature(progress), top_k=self.top_k, top_p=self.top_p)
        return each_picture(chosen, logits, uniform)


@dataclass
class Filling(Codes, Scheduled):
    """What `filling.fill` takes: how many places a step fixes, and with what."""


def between(ends: list[float], progress: float) -> float:
    """From the first to the second, by progress; step i of T has (i + 1) / T, so the last step has the second.

    So [4.5, 0] is MaskGIT's falling temperature, 4.5 * (1 - r), to the last bit.
    """
    return ends[0] * (1 - progress) + ends[1] * progress


def check_temperature(name: str, value: float | list[float]) -> None:
    """ValueError where it is neither a number that is 0 or more nor [from, to] of such numbers."""
    ends = value if isinstance(value, list) else [value, value]
    if len(ends) != 2 or not all(0 <= each < math.inf for each in ends):
        raise ValueError(f"{name} is {value}; give 0 or more, or [from, to] of such numbers")


def masked_counts(schedule: MaskSchedule, steps: int, size: int, early: bool | None = None) -> Tensor:
    """How many tokens are masked after each step: int64[steps, size + 1], the column being how many were at first.

    max(1, min(masked - 1, floor(N0 m))) as in MaskGIT's code: each step fixes at least one token, but one stays open
    until the last step, which fixes all; `early` ones (see `Scheduled`) may fix it before. Counted on the CPU in
    float64, so that every device gets the same.
    """
    progress = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    at_first = torch.arange(size + 1)
    # 10 x 0.7 must not become 6 by rounding (256 cos(pi/3) becomes 127 in float32): a millionth is far below what
    # separates real counts
    wanted = (schedule(progress)[:, None] * at_first + 1e-6).floor().to(torch.int64)
    soon = at_first < size if early is None else torch.full_like(at_first, early, dtype=torch.bool)
    return each_step_fixes(wanted, at_first, soon)


def each_step_fixes(wanted: Tensor, at_first: Tensor, early: Tensor) -> Tensor:
    """How many are masked after each step, int64[T, n], of int64[n] at first, where int64[T, n] would be by the curve.

    Each step fixes at least one, but one stays open until the last step, which fixes all, whatever is wanted of it.
    early: bool[n], where none need stay open.
    """
    rows, masked, open_to_the_end = [], at_first, (~early).to(at_first.dtype)
    for row in wanted[:-1]:
        masked = torch.minimum(torch.minimum(masked - 1, row), at_first).maximum(open_to_the_end.minimum(at_first))
        rows.append(masked)
    return torch.stack([*rows, torch.zeros_like(at_first)])


def draw(logits: Tensor, uniform: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """float32[..., K] and float32[...] in 0..1 (1 excluded) to codes int64[...].

    Temperature first, then top-k, then top-p, as is usual; temperature 0 takes the most likely code.
    """
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    return choose(logits, uniform)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """-inf for all but the k largest of float[..., K]; of equal ones the first are kept, on every device."""
    least = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    above, equal = logits > least, logits == least
    room = k - above.sum(-1, keepdim=True)
    return logits.masked_fill(~above & ~(equal & (equal.cumsum(-1) <= room)), -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """-inf for all but the fewest codes of float[..., K] whose probabilities reach p together; one at least stays."""
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(dropped, -torch.inf)


def each_picture(compute: Callable[..., Tensor], logits: Tensor, *others: Tensor) -> Tensor:
    """What `compute` makes of float32[B, n, K], and of others that lead with B; to it no row matters to another.

    On a CPU picture by picture: one's probabilities over the codes stay in its cache, and the next one's take their
    memory, where those of eight pictures of aMUSEd are new pages for the kernel to hand out. Elsewhere all at once.
    """
    if logits.device.type != "cpu":
        return compute(logits, *others)
    return torch.cat([compute(*rows) for rows in zip(*(each.split(1) for each in (logits, *others)), strict=True)])
