"""What mask schedules and guidance promise."""

from __future__ import annotations

import torch
from torch import Tensor

from muse_studio.contracts import Guidance, MaskSchedule, Question, TextEmbedding
from muse_studio.testing.contract import Contract
from muse_studio.testing.fakes import embedding
from muse_studio.testing.promise import SHAPES, UNCHANGED, promise
from muse_studio.testing.watching import unchanged


class MaskScheduleContract(Contract):
    """Promises of a `contracts.MaskSchedule` (MaskGIT, section 3.3)."""

    def make(self) -> MaskSchedule:
        """The schedule."""
        return super().make()

    @promise("all is masked at progress 0, and nothing at 1")
    def test_all_is_masked_at_the_beginning_and_nothing_at_the_end(self) -> None:
        start, end = self.make()(torch.tensor([0.0, 1.0])).tolist()
        assert abs(start - 1) < 1e-5, f"the masked share at progress 0 is 1, got {start}"
        assert abs(end) < 1e-5, f"the masked share at progress 1 is 0, got {end}"

    @promise("the masked share never rises, and stays within 0 and 1")
    def test_the_masked_share_never_rises_and_stays_within_0_and_1(self) -> None:
        shares = self.make()(torch.linspace(0, 1, 1001))
        assert shares.isfinite().all(), "a share is not finite"
        assert shares.min() >= 0 and shares.max() <= 1, f"shares are in 0..1, got {shares.min()}..{shares.max()}"
        rise = float(shares.diff().max())
        assert rise <= 1e-6, f"the masked share rises by {rise} somewhere: known tokens would be masked again"

    @promise(SHAPES)
    def test_shape_and_dtype_are_those_of_the_progress(self) -> None:
        schedule = self.make()
        for progress in (torch.tensor(0.3), torch.rand(2, 3), torch.rand(4, dtype=torch.float64)):
            shares = schedule(progress)
            assert (shares.shape, shares.dtype) == (progress.shape, progress.dtype), (
                f"expected {progress.dtype}{list(progress.shape)}, got {shares.dtype}{list(shares.shape)}"
            )

    @promise(UNCHANGED)
    def test_inputs_are_not_changed(self) -> None:
        progress = torch.rand(7)
        schedule = self.make()
        with unchanged({"the progress that it was given": progress}):
            schedule(progress)


class GuidanceContract(Contract):
    """Promises of a `contracts.Guidance` (Muse, section 2.7)."""

    def make(self) -> Guidance:
        """The guidance."""
        return super().make()

    def guide(
        self, progress: float, prompted: Tensor, unprompted: Tensor
    ) -> tuple[Tensor, list[TextEmbedding | Question | None]]:
        """The guided logits where the prompt and its absence give these, and what was asked for.

        Another model, of a guidance that asks one, says of the prompt what this one says of its absence.
        """
        text = embedding(len(prompted))
        negative = text.null()
        asked: list[TextEmbedding | Question | None] = []

        def ask(*questions: TextEmbedding | Question | None) -> tuple[Tensor, ...]:
            texts = [each.text if isinstance(each, Question) else each for each in questions]
            assert texts, "guidance asked for no text at all"
            assert not asked, "guidance asked twice; ask(text, negative) gives both in one batched forward"
            for each in texts:
                assert each is None or each is text or each is negative, (
                    "guidance asked for a text of its own making; what is known of a text is kept for the very "
                    "objects `text` and `negative`, and None asks for no prompt"
                )
            asked.extend(questions)
            return tuple((prompted if each is text else unprompted).clone() for each in questions)

        return self.make()(ask, text, negative, progress), asked

    @promise(SHAPES)
    def test_logits_keep_their_shape_at_every_progress(self) -> None:
        prompted, unprompted = _logits(0), _logits(1)
        for progress in (0.0, 0.5, 1.0):
            guided, asked = self.guide(progress, prompted, unprompted)
            assert asked, "guidance asked for no logits"
            assert guided.shape == prompted.shape, f"expected {tuple(prompted.shape)}, got {tuple(guided.shape)}"
            assert guided.isfinite().all(), f"guided logits at progress {progress} are not finite"

    @promise("the prompt matters")
    def test_the_prompt_matters(self) -> None:
        unprompted = _logits(1)
        one, _ = self.guide(0.5, _logits(0), unprompted)
        other, _ = self.guide(0.5, _logits(2), unprompted)
        assert not torch.allclose(one, other), "two different prompts give the same guided logits"

    @promise("where prompt and no prompt agree, nothing changes")
    def test_where_prompt_and_no_prompt_agree_nothing_changes(self) -> None:
        same = _logits(0)
        for progress in (0.0, 0.5, 1.0):
            guided, _ = self.guide(progress, same, same)
            torch.testing.assert_close(
                guided.softmax(-1),
                same.softmax(-1),
                msg=lambda detail: f"guidance changes logits on which prompt and no prompt agree\n{detail}",
            )

    @promise(UNCHANGED)
    def test_texts_are_not_changed(self) -> None:
        text = embedding()
        guidance = self.make()
        with unchanged({f"the text's {name} that it was given": part for name, part in text._asdict().items()}):
            guidance(lambda *texts: tuple(_logits(0) for _ in texts), text, text.null(), 0.5)


def _logits(seed: int) -> Tensor:
    return torch.randn(2, 3, 4, 16, generator=torch.Generator().manual_seed(seed))
