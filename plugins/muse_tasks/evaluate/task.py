"""The task `evaluate`: how good a model is, in one table, one JSON file and one contact sheet."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import torch

from muse_studio.contracts import NO_RUN, Dataset, Metric, RunContext, TextEncoder
from muse_studio.errors import SettingError
from muse_studio.images.pixels import to_bytes
from muse_studio.images.provenance import Provenance
from muse_studio.images.sheets import Section, contact_sheet
from muse_studio.registry.events import ProgressBar
from muse_studio.runtime.device import choose_device, move_to_device
from muse_studio.sampling.cascade import count_steps, decode, make_ready, sample
from muse_studio.sampling.stage import Stage, check_fit
from muse_tasks.evaluate.collection import Collection, read
from muse_tasks.evaluate.measures import counting, perplexity, usage
from muse_tasks.evaluate.metrics import PictureMetrics
from muse_tasks.evaluate.output import open_folder, write
from muse_tasks.evaluate.real_pictures import ANOTHER, NONE, REFINED, RIGHT, Real
from muse_tasks.evaluate.records import stream
from muse_tasks.evaluate.report import Evaluation
from muse_tasks.evaluate.retrieval import Gallery, features
from muse_tasks.evaluate.shown.prompted import COMPOSITION, FREE_WORDS, Found, Prompted, check_offers
from muse_tasks.evaluate.shown.recognition import DRAWN, Judge, as_judge, check_knows, check_named
from muse_tasks.evaluate.totals import Totals, mean
from muse_tasks.generate.batching import batched, encode
from muse_tasks.generate.drawing import timed
from muse_tasks.generate.reporting import report_to


@dataclass
class Evaluate:
    """Measure a model: tokenizer, masked-token prediction, and retrieval of the right picture by the drawn one.

    Of a stage that refines another one, also how much it heeds the other's tokens, and how near to the real picture it
    comes from the real ones.

    Writes metrics.json, with each number's meaning in words, and sheet.png, real beside generated; both replace those
    of an evaluation before. The same seed, n and batch give the same numbers.

    dataset: one with `evaluation(split)` (`records.Evaluable`); of another, all pictures count as seen.
    n: captions of each split, drawn at random; all of them where there are fewer.
    batch: pictures drawn at once, from one generator: another batch draws other pictures, as good as these.
    mask_ratios: the shares of tokens, above 0 and up to 1, at which the transformer is asked for the rest.
    shown: pairs of each split on the contact sheet.
    real: whether real pictures are measured too: through the tokenizer, masked, refined. None of that depends on how
        pictures are sampled, so that a comparison of samplers saves its time by false, which leaves the retrieval by
        drawn pictures; these are the same either way.
    metrics: by names of your own, metrics of the last stage's drawn pictures, each held against the real one of its
        caption; every split is measured alone. None by default: they take networks and time.
    reconstruction_metrics: the same of real pictures through the last stage's tokenizer, held against themselves.
    recogniser: a metric that names what a picture shows, such as `recognition`: then each stage's pictures are
        recognised, real ones, through the tokenizer, refined and drawn. The data set must say what its pictures show.
    compositions: canvases of each kind that are drawn too, by a data set's captions of which count, colour and place
        are known, and looked at by the rules of `shown.objects`; 0 is none. They take a recogniser, and so do phrases.
    phrases: whether pictures are drawn too for the data set's phrases that no caption is, and recognised.
    """

    stages: dict[str, Stage]
    text_encoder: TextEncoder
    dataset: Dataset
    n: int = 512
    seed: int = 0
    out: str = "out/evaluate"
    device: str = "auto"
    batch: int = 32
    mask_ratios: list[float] = field(default_factory=lambda: [0.25, 0.5, 0.75, 1.0])
    shown: int = 24
    real: bool = True
    metrics: dict[str, Metric] = field(default_factory=dict)
    reconstruction_metrics: dict[str, Metric] = field(default_factory=dict)
    recogniser: Metric | None = None
    compositions: int = 0
    phrases: bool = False
    collection: Collection | None = field(default=None, init=False, repr=False)
    """The data set's pictures, read at the first call; where another evaluation on the same data set has read them,
    it may be set to that one's."""

    def __post_init__(self) -> None:
        check_fit(self.stages, self.text_encoder)
        for name in ("n", "batch", "shown"):
            if getattr(self, name) < 1:
                raise SettingError(name, f"{name} is {getattr(self, name)}; give at least 1")
        if self.seed < 0:
            raise SettingError("seed", f"seed is {self.seed}; give 0 or more")
        if not self.mask_ratios or not all(0 < ratio <= 1 for ratio in self.mask_ratios):
            raise SettingError(
                "mask_ratios", f"mask_ratios is {self.mask_ratios}; give one or more shares above 0 and up to 1"
            )
        if self.reconstruction_metrics and not self.real:
            raise SettingError(
                "reconstruction_metrics",
                "reconstruction_metrics measure real pictures, which real=false leaves out; leave out either",
            )
        if self.compositions < 0:
            raise SettingError("compositions", f"compositions is {self.compositions}; give 0 or more")
        if as_judge(self.recogniser) is None and (self.compositions or self.phrases):
            raise SettingError("recogniser", "compositions and phrases take a recogniser; give one, or leave out both")

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> Evaluation:
        """Measure, and write both files; `hook` hears of each sampling step.

        Raises UserError where `out` can't be written or the device is missing, before any picture is read, and where
        a metric lacks its network or needs more pictures, before any is drawn.
        """
        out = open_folder(self.out, "evaluation")
        device, last = choose_device(self.device), list(self.stages.values())[-1]
        make_ready(self.stages, self.text_encoder, device)
        judge = self._judge(device)
        if self.collection is None:
            self.collection = read(self.dataset)
        splits, gallery, starts = self.collection.splits, self.collection.gallery, self.collection.starts
        chosen = {split: self._choose(split, len(records)) for split, records in splits.items()}
        batches = sum(-(-len(indices) // self.batch) for indices in chosen.values())
        picture_metrics = PictureMetrics(self.metrics, self.reconstruction_metrics, device)
        picture_metrics.check({split: len(indices) for split, indices in chosen.items()})
        by_split: dict[str, Totals] = {}
        seconds: list[float] = []
        forwards: dict[str, list[int]] = defaultdict(list)
        with ProgressBar(batches * count_steps(self.stages)) as bar:
            for split, records in splits.items():
                check_named(judge, records)
                totals = by_split[split] = Totals(self.stages, judge)
                picture_metrics.start(split)
                noise, refining, drawing = (stream(self.seed, split, purpose) for purpose in ("mask", "refine", "draw"))
                real = Real(self.stages, self.mask_ratios, noise, refining, device)
                watch = report_to(hook, bar, f"{split} pictures")
                for indices in batched(chosen[split], self.batch):
                    batch = [records[index] for index in indices]
                    totals.targets += [starts[split] + index for index in indices]
                    text = encode(self.text_encoder, [record["caption"] for record in batch], device)
                    if self.real:
                        again = real.measure(totals, batch, text)
                        picture_metrics.add_reconstructed(batch, last, again)
                    with counting(self.stages, forwards), timed(seconds, len(batch)):
                        finished = sample(self.stages, text, drawing, watch=watch)
                        drawn = [to_bytes(decode(self.stages[name], finished[name])).cpu() for name in finished]
                    for name, pictures in zip(finished, drawn, strict=True):
                        totals.features[name, "generated"].append(features(pictures))
                        totals.recognised.add(name, DRAWN, pictures, batch)
                    picture_metrics.add_drawn(batch, last, drawn[-1])
                    totals.keep(batch, drawn, self.shown)
                picture_metrics.finish()
        metrics = self._metrics(by_split, gallery) | picture_metrics.found
        metrics["forwards"] = {name: sum(each) / len(each) for name, each in forwards.items()}
        sections = _sections(by_split, list(self.stages))
        for name, (found, section) in self._prompted(judge, device, hook).items():
            metrics[name] = found
            sections.append(section)
        sheet = contact_sheet(sections, side=96)
        result = Evaluation(metrics, sheet, seconds, picture_metrics.meanings)
        result.paths = write(result, out, Provenance(context.recipe, context.plugins, edited=True))
        return result

    def _judge(self, device: torch.device) -> Judge | None:
        """The recogniser, ready; UserError where its network or something of the data set is missing."""
        check_offers(self.dataset, self.compositions, self.phrases)
        judge = as_judge(self.recogniser)
        if judge is not None:
            move_to_device(self.recogniser, device)
            check_knows(judge)
        return judge

    def _prompted(self, judge: Judge | None, device: torch.device, hook: Any) -> dict[str, Found]:
        """What is drawn for captions of its own: its numbers and its part of the sheet, by name."""
        if judge is None:
            return {}
        prompted = Prompted(self.stages, self.text_encoder, judge, device, self.seed, self.batch, self.shown, hook)
        found = {}
        if self.compositions:
            found[COMPOSITION] = prompted.compositions(self.dataset, self.compositions)
        if self.phrases:
            found[FREE_WORDS] = prompted.free_words(self.dataset)
        return found

    def _choose(self, split: str, total: int) -> list[int]:
        return torch.randperm(total, generator=stream(self.seed, split, "choice"))[: self.n].tolist()

    def _metrics(self, by_split: dict[str, Totals], gallery: Gallery) -> dict[str, Any]:
        metrics: dict[str, Any] = {
            "seed": self.seed,
            "n": {split: len(totals.targets) for split, totals in by_split.items()},
            "batch": self.batch,
            "gallery": gallery.sizes,
        }
        metrics |= {kind: {} for kind in ("tokenizer", "masked_tokens", "refinement", "retrieval")}
        for name in self.stages:
            metrics["retrieval"][name] = {split: totals.retrieval(gallery, name) for split, totals in by_split.items()}
            if self.recogniser is not None:
                found = {split: totals.recognised.shares(name) for split, totals in by_split.items()}
                metrics.setdefault("recognition", {})[name] = found
        for place, (name, stage) in enumerate(self.stages.items() if self.real else ()):
            counts = torch.stack([totals.codes[name] for totals in by_split.values()]).sum(0)
            metrics["tokenizer"][name] = {
                "psnr_db": {split: mean(totals.psnr[name, "tokenizer"]) for split, totals in by_split.items()},
                "codebook_size": stage.tokenizer.codebook_size,
                "codebook_usage": usage(counts),
                "perplexity": perplexity(counts),
            }
            metrics["masked_tokens"][name] = {split: self._masked(name, totals) for split, totals in by_split.items()}
            if place > 0:
                metrics["refinement"][name] = {split: self._refined(name, totals) for split, totals in by_split.items()}
        return metrics

    def _masked(self, name: str, totals: Totals) -> dict[str, dict[str, float]]:
        return {
            f"{ratio:g}": {
                "accuracy": mean(totals.right[name, ratio]),
                "cross_entropy": mean(totals.loss[name, ratio, RIGHT]),
            }
            for ratio in self.mask_ratios
        }

    def _refined(self, name: str, totals: Totals) -> dict[str, Any]:
        return {
            "psnr_db": {of: mean(totals.psnr[name, of]) for of in REFINED},
            "cross_entropy": {
                f"{ratio:g}": {
                    which: mean(totals.loss[name, ratio, which])
                    for which in (RIGHT, ANOTHER, NONE)
                    if totals.loss[name, ratio, which]
                }
                for ratio in self.mask_ratios
            },
        }


def _sections(by_split: dict[str, Totals], stages: list[str]) -> list[Section]:
    columns = ["real", *(stages if len(stages) > 1 else ["generated"])]
    return [Section(f"{split} pairs", totals.tiles, columns) for split, totals in by_split.items()]
