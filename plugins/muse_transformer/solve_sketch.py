"""The task `solve-sketch`: fills the tables of a sketch from a data set, and writes weights to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from muse_studio.contracts import NO_RUN, Dataset, RunContext, TextEncoder
from muse_studio.errors import SettingError, UserError
from muse_studio.images.pixels import scaled
from muse_studio.registry.events import ProgressBar
from muse_studio.runtime import weights
from muse_studio.runtime.device import choose_device, move_to_device
from muse_studio.runtime.files import open_folder, path_of
from muse_studio.sampling.stage import Stage
from muse_transformer.options import fold_cells
from muse_transformer.sketch import UNKNOWN, pool
from muse_transformer.solving import discriminant, factorise
from muse_transformer.trunk import Trunk

BATCH = 64
"""Pictures or captions that are encoded at once."""
ROUNDS = 12
"""Of alternating least squares; what is left between factors and pictures hardly falls after ten."""


@runtime_checkable
class Grouped(Protocol):
    """What a data set offers: its pictures by split, each with what it shows and in which group, such as a style."""

    def evaluation(self, split: Any) -> Sequence[Any]:
        """`{"image": uint8[3, H, W], "caption": str, "thing": str, "group": str}` of each picture of "seen"."""


@runtime_checkable
class Worded(Protocol):
    """What a data set may offer beside: other captions of the pictures that training may see."""

    def wordings(self, count: int, seed: int) -> Sequence[Any]:
        """`{"caption": str, "thing": str, "group": str}`, `count` for each picture."""


@dataclass
class Solved:
    """The weights that were written, and what the sketch alone knows of the pictures that it was solved from.

    things, manners: how many. meant: the share of captions whose thing and manner it finds. explained: the share of the
    codes' variance. right: the share of tokens whose code is the likeliest by it.
    """

    path: Path
    things: int
    manners: int
    meant: float
    explained: float
    right: float

    def summary(self) -> str:
        """What the command line prints."""
        return (
            f"{self.things:,} things in {self.manners} manners; of their own captions {self.meant:.1%} are understood\n"
            f"{self.explained:.1%} of what the codes vary by is remembered, {self.right:.1%} of the tokens\n{self.path}"
        )


class SolveSketch:
    """Fill the tables of a transformer's sketch by least squares, and write weights that `train` may start from.

    All else in the file is as a new transformer's. Nothing is learned by gradients.

    stage: which one of `stages`; needed where there are several. Its transformer has `options.sketch`, its tokenizer
        codes that are vectors.
    dataset: one whose `evaluation("seen")` names "thing" and "group" of each picture; the groups are the manners.
    wordings: so many further captions of each picture tell what a text means, where the data set has them.
    sureness: what the log-odds of things and manners are multiplied by. Captions of one data set are much alike, so
        that the odds by their spread are too extreme for anyone else's words.
    ridge: what large factors cost; out: the file to write. dtype: of the file.
    """

    def __init__(
        self,
        stages: dict[str, Stage],
        text_encoder: TextEncoder,
        dataset: Dataset,
        stage: str | None = None,
        out: str = "runs/sketch.safetensors",
        wordings: int = 4,
        sureness: float = 0.3,
        ridge: float = 1.0,
        seed: int = 0,
        device: str = "auto",
        dtype: Literal["float32", "float16"] = "float16",
    ) -> None:
        if stage is None and len(stages) == 1:
            stage = next(iter(stages))
        if stage not in stages:
            raise SettingError("stage", f"stage is {stage!r}; say which one has the sketch: {', '.join(stages)}")
        if wordings < 0:
            raise SettingError("wordings", f"wordings is {wordings}; give a number of captions, or 0 for none")
        if sureness <= 0 or ridge <= 0:
            raise ValueError(f"sureness is {sureness} and ridge {ridge}; both must be above 0")
        if not out.endswith(".safetensors"):
            raise SettingError("out", f"out is {out!r}; name a file that ends in .safetensors")
        self.stage, self.text_encoder, self.dataset = stages[stage], text_encoder, dataset
        transformer = self.stage.transformer
        if not isinstance(transformer, Trunk) or transformer.sketch is None:
            raise SettingError(
                f"stages.{stage}.transformer", f"the transformer of {stage!r} has no sketch; give it options.sketch"
            )
        self.transformer, self.sketch = transformer, transformer.sketch
        self.out, self.wordings, self.sureness, self.ridge = out, wordings, sureness, ridge
        self.seed, self.device, self.dtype = seed, device, dtype

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> Solved:
        """Solve and write. UserError where pictures have no names, there are other numbers of them, or no vectors."""
        path = path_of(self.out)
        open_folder(path.parent, "out")
        move_to_device([self.stage.tokenizer, self.text_encoder], choose_device(self.device))
        codes = self._codes()
        records = self._records()
        captions = [*records, *self._further()]
        things, manners = _numbers(records, "thing"), _numbers(records, "group")
        self._check_counts(len(things), len(manners))
        captions = [each for each in captions if each["thing"] in things and each["group"] in manners]
        thing = torch.tensor([things[each["thing"]] for each in captions])
        manner = torch.tensor([manners[each["group"]] for each in captions])
        steps = len(records) + len(captions) + ROUNDS * BATCH
        with ProgressBar(steps, hook) as bar:
            tokens = self._tokens(records, bar)
            pooled = self._pooled(captions, bar)
            self._name(pooled, thing, manner)
            count = len(records)
            pictures = self._cells(codes[tokens])
            factors = factorise(
                pictures,
                thing[:count],
                manner[:count],
                self.sketch.sizes.rank,
                self.ridge,
                ROUNDS,
                torch.Generator().manual_seed(self.seed),
                lambda: bar.advance("least squares", BATCH),
            )
        self.sketch.known.fill_(UNKNOWN)
        self.sketch.known[thing[:count], manner[:count]] = 0
        for name, table in {**factors._asdict(), "codes": codes}.items():
            self.sketch.get_buffer(name).copy_(table.reshape(self.sketch.get_buffer(name).shape))
        weights.save(self._narrowed(), path, weights.portable(context.recipe or {}))
        return self._solved(path, pooled[:count], thing[:count], manner[:count], tokens, pictures)

    def _codes(self) -> Tensor:
        """float[K, D]: the vector of each code, of length 1 in the mean."""
        quantizer = getattr(self.stage.tokenizer, "quantizer", None)
        if quantizer is None or not hasattr(quantizer, "lookup"):
            raise UserError(
                f"the tokenizer {type(self.stage.tokenizer).__name__} has no vectors of its codes, which a sketch is "
                "solved in; take one that has, such as vqgan"
            )
        every = torch.arange(self.stage.tokenizer.codebook_size, device=choose_device(self.device)).view(1, 1, -1)
        with torch.inference_mode():
            vectors: Tensor = quantizer.lookup(every)[0].flatten(1).T.float().cpu()
        if vectors.shape[1] != self.sketch.sizes.code_width:
            raise UserError(
                f"options.sketch.code_width is {self.sketch.sizes.code_width}, the tokenizer's codes have "
                f"{vectors.shape[1]} numbers; set it to that"
            )
        return vectors / vectors.norm(dim=-1).mean()

    def _records(self) -> Sequence[Any]:
        records = self.dataset.evaluation("seen") if isinstance(self.dataset, Grouped) else []
        if not records or not {"thing", "group"} <= records[0].keys():
            raise UserError("dataset: it doesn't say what its pictures show; give one that does, such as emoji")
        return records

    def _further(self) -> Sequence[Any]:
        if not self.wordings or not isinstance(self.dataset, Worded):
            return []
        return self.dataset.wordings(self.wordings, self.seed)

    def _check_counts(self, things: int, manners: int) -> None:
        sizes = self.sketch.sizes
        if (things, manners) != (sizes.things, sizes.manners):
            raise UserError(
                f"the data set shows {things} things in {manners} groups, options.sketch has {sizes.things} and "
                f"{sizes.manners}; set options.sketch.things to {things} and options.sketch.manners to {manners}"
            )

    @torch.inference_mode()
    def _tokens(self, records: Sequence[Any], bar: ProgressBar) -> Tensor:
        """int64[M, h, w] of the pictures, at the stage's size."""
        device, found = choose_device(self.device), []
        for start in range(0, len(records), BATCH):
            images = torch.stack([record["image"] for record in records[start : start + BATCH]]).float()
            images = scaled(images, (self.stage.height, self.stage.width)).clamp(0, 255) / 255
            found.append(self.stage.tokenizer.encode(images.to(device)).cpu())
            bar.advance("encoding pictures", len(images))
        return torch.cat(found)

    @torch.inference_mode()
    def _pooled(self, captions: Sequence[Any], bar: ProgressBar) -> Tensor:
        """float[N, D]: each caption as a whole."""
        found = []
        for start in range(0, len(captions), BATCH):
            part = [each["caption"] for each in captions[start : start + BATCH]]
            text = self.text_encoder(part)
            found.append(pool(text.states, text.mask).cpu())
            bar.advance("reading captions", len(part))
        return torch.cat(found)

    def _name(self, pooled: Tensor, thing: Tensor, manner: Tensor) -> None:
        """Fill what tells things and manners apart."""
        for name, classes in (("thing", thing), ("manner", manner)):
            found = discriminant(pooled, classes, len(self.sketch.get_buffer(name)))
            for end, table in zip(("", "_bias"), found, strict=True):
                self.sketch.get_buffer(name + end).copy_(self.sureness * table)

    def _cells(self, vectors: Tensor) -> Tensor:
        """float[M, h, w, D] to float[M, N, cell]."""
        return fold_cells(vectors, self.sketch.fold).flatten(1, 2)

    def _narrowed(self) -> dict[str, Tensor]:
        """The transformer's tensors in the file's number type; UserError where a number is too large for it."""
        kept = {name: each.to(getattr(torch, self.dtype)) for name, each in self.transformer.state_dict().items()}
        for name, each in kept.items():
            if not each.isfinite().all():
                raise UserError(f"{name} has numbers that are too large for {self.dtype}; set dtype to float32")
        return kept

    @torch.inference_mode()
    def _solved(
        self, path: Path, pooled: Tensor, thing: Tensor, manner: Tensor, tokens: Tensor, pictures: Tensor
    ) -> Solved:
        """What the sketch knows of the pictures that it was solved from."""
        sketch = self.sketch.eval()
        meant, right, left, whole = 0.0, 0.0, 0.0, 0.0
        for rows in torch.arange(len(pooled)).split(BATCH):
            things, hands, _ = sketch.understand(pooled[rows])
            meant += ((things.argmax(-1) == thing[rows]) & (hands.argmax(-1) == manner[rows])).sum().item()
            cells = sketch.draw(things, hands)
            likeliest = (sketch.spread(cells) @ sketch.codes.T).argmax(-1)
            right += (likeliest == tokens[rows].flatten(1)).float().mean(1).sum().item()
            left += (cells - pictures[rows]).square().sum().item()
            whole += (pictures[rows] - sketch.usual[manner[rows]]).square().sum().item()
        count = len(pooled)
        sizes = sketch.sizes
        return Solved(path, sizes.things, sizes.manners, meant / count, 1 - left / whole, right / count)


def _numbers(records: Sequence[Any], key: str) -> dict[str, int]:
    """A number for each name that the records have under a key, in the order of the alphabet."""
    return {name: number for number, name in enumerate(sorted({record[key] for record in records}))}
