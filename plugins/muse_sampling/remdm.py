"""Remasking: tokens that were fixed are masked again by chance, so that more steps can mend what came early."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from muse_studio.contracts import MASK, MaskSchedule, Predict
from muse_studio.sampling.filling import ask, at, least, log_likelihood, spread, uniforms, widths
from muse_studio.sampling.settings import Filling, Scheduled


@dataclass
class ReMDM(Filling):
    """ReMDM (Wang et al., 2025, 2503.00307): `random` in which a step may take back what earlier steps fixed.

    Of N0 places masked at first, n_t are masked before a step and n_s after it: the mask schedule's numbers. In the
    paper's terms alpha_t = 1 - n_t / N0. The step masks each token that was drawn before, never one known at first,
    with the chance sigma, R of them, and fixes n_t - n_s + R of the masked places, any with equal chance. (The paper
    fixes each with the chance (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t), which has that number in the mean.) R is
    at most n_s, which is the paper's bound sigma_max = min(1, (1 - alpha_s) / alpha_t) = min(1, n_s / (N0 - n_t)); so
    the last step takes nothing back and leaves no MASK. Codes are drawn from the logits as they are.

    strategy: what sigma is (the paper's section 4, the code's `_ddpm_caching_update`).
        cap: min(eta, sigma_max).
        rescale: eta sigma_max.
        conf: eta sigma_max softmax(-psi), over the tokens that were drawn, psi being the probability that a token had
            when it was drawn: the doubtful go first. At most one goes in the mean; the code has eta = 1.
        loop: nothing is taken back until `loop_known` of the tokens are drawn; then the schedule stops for `loop_share`
            of the steps, in which sigma is min(eta, sigma_max); then it goes on as before.
    eta: 0 takes nothing back: that is `random`, token for token. The code has 0.008 (cap), 0.015 (rescale) and 0.02
        (loop) for texts, in up to thousands of steps; few steps need more.
    loop_share, loop_known: for `loop` alone. The code's t_on = 0.55, t_off = 0.05, alpha_on = 0.9 are 0.5 and 0.9 with
        a linear schedule.
    steps, sampling_temperature, top_k, top_p, early: as in `random`.

    What is taken back by `cap`, `rescale` and `loop` does not depend on what it is, so these have no bias where the
    places that a step fixes are independent. `conf` has one by design: unlikely codes are drawn again. Known tokens and
    the count of random numbers are as in `confidence`; the number that orders a masked place lets a drawn one go.
    """

    strategy: Literal["cap", "rescale", "conf", "loop"] = "cap"
    eta: float = 0.05
    loop_share: float = 0.5
    loop_known: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy not in ("cap", "rescale", "conf", "loop"):
            raise ValueError(f"strategy is {self.strategy!r}; give 'cap', 'rescale', 'conf' or 'loop'")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}; give 0 (no token is taken back) to 1")
        for name in ("loop_share", "loop_known"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give a share above 0 and below 1")

    @torch.no_grad()
    def __call__(
        self, predict: Predict, tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] with MASK where a token is wanted; yields `steps` grids like it (see the class)."""
        known = tokens != MASK
        counts, remasking = self.plan(schedule, tokens)
        at_first = before = (~known).flatten(1).sum(1)
        psi = torch.zeros(tokens.shape, device=tokens.device)
        asked = widths(predict, tokens, counts)
        for step in range(self.steps):
            progress = (step + 1) / self.steps
            uniform = uniforms(2, tokens, generator)
            if not asked[step]:
                yield tokens
                continue
            logits, places = ask(predict, tokens, progress, asked[step])
            masked = tokens == MASK
            codes = self.draw(logits, at(uniform[0], places), progress)
            drawn = spread(codes, places, tokens)
            again = self.taken_back(~masked & ~known, psi, at_first - before, counts[step], uniform[1])
            again = again & remasking[step]
            waiting = uniform[1].masked_fill(~masked, torch.inf)
            waiting = least(waiting, counts[step] - again.flatten(1).sum(1))
            if self.strategy == "conf":
                psi = torch.where(masked, spread(log_likelihood(logits, codes), places, psi).exp(), psi)
            tokens = torch.where(masked, drawn, tokens).masked_fill(waiting | again, MASK)
            before = counts[step]
            yield tokens

    def plan(self, schedule: MaskSchedule, tokens: Tensor) -> tuple[Tensor, list[bool]]:
        """How many places are masked after each step, int64[T, B], and whether the step may take tokens back."""
        if self.strategy != "loop":
            return self.counts(schedule, tokens), [True] * self.steps
        # Two steps at least go on: one comes before the loop, so that there are tokens, and one after it.
        pause = max(0, min(round(self.loop_share * self.steps), self.steps - 2))
        moving = self.steps - pause
        masked = schedule(torch.arange(1, moving + 1, dtype=torch.float64, device="cpu") / moving)
        begin = int((masked[:-1] > 1 - self.loop_known + 1e-6).sum().clamp(max=max(0, moving - 2)))
        counts = Scheduled(moving, early=self.early).counts(schedule, tokens)
        row = [*range(begin + 1), *[begin] * pause, *range(begin + 1, moving)]
        return counts[row], [begin < step <= begin + pause for step in range(self.steps)]

    def taken_back(self, drawn: Tensor, psi: Tensor, count: Tensor, left: Tensor, uniform: Tensor) -> Tensor:
        """Which of the tokens drawn, bool[B, h, w], go; a picture has `count` (int64[B]), and at most `left` go."""
        highest = (left / count.clamp(min=1)).clamp(max=1)[:, None, None]
        if self.strategy == "rescale":
            sigma = self.eta * highest
        elif self.strategy == "conf":
            doubt = (-psi).masked_fill(~drawn, torch.finfo(psi.dtype).min)
            sigma = self.eta * highest * doubt.flatten(1).softmax(1).view_as(psi)
        else:
            sigma = highest.clamp(max=self.eta)
        going = drawn & (uniform < sigma)
        count = torch.minimum(going.flatten(1).sum(1), left)
        return least((uniform / sigma).masked_fill(~going, torch.inf), count)
