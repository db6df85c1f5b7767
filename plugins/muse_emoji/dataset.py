"""Emoji art with captions that say exactly what is drawn: one thing, one in another colour, several, two placed."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from torch.utils.data import Dataset

from muse_emoji import canvas, captions, render, sources
from muse_emoji.compositions import compose
from muse_emoji.edits import compose_edits
from muse_emoji.pairs import Pair, find_pairs
from muse_emoji.phrases import read_phrases
from muse_studio.images.pixels import from_image

LARGEST = 1024
"""Pixels of a side: ten thousand drawings of that size fill 40 GB."""


class Emoji(Dataset):
    """Seven styles of emoji art, captioned: "a red apple, noto style", "three red apples", "a cat above a car".

    Every index gives one record, always the same; `variants` records a drawing, the first of them plain on white under
    its label and style, the others drawn by lot. Pairs of emoji and style family that a hash holds out (5%) are in no
    record of the "train" split; "held-out" has those alone.

    root: a folder with the npm packages; None fetches them with npm into the cache, once.
    size: pixels a side.
    styles: which of noto, blob, twemoji, fluent flat, fluent, fluent 3d, emojione; all by default. By name alone, too:
    streamline, which the embedded model has not seen.
    limit: only so many drawings are for training, chosen by lot; all others are then held out.
    variants: records a drawing; background, recoloured, scenes: shares of the drawn-by-lot ones that have a coloured
    background, another colour, or several things.
    """

    def __init__(
        self,
        size: int = 64,
        root: str | None = None,
        styles: list[str] | None = None,
        split: Literal["train", "held-out", "all"] = "train",
        variants: int = 8,
        background: float = 0.3,
        recoloured: float = 0.15,
        scenes: float = 0.15,
        seed: int = 0,
        limit: int | None = None,
    ) -> None:
        if not 8 <= size <= LARGEST:
            raise ValueError(f"size is {size}; give the pixels of a side, from 8 to {LARGEST}")
        if variants < 1:
            raise ValueError(f"variants is {variants}; give 1 record a drawing or more")
        if min(background, recoloured, scenes) < 0 or recoloured + scenes > 1 or background > 1:
            raise ValueError(
                "background, recoloured and scenes are shares from 0 to 1, the last two at most 1 together"
            )
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; give 1 drawing or more, or null for all")
        known = [source.style for source in (*sources.SOURCES, *sources.FURTHER)]
        unknown = [style for style in styles or [] if style not in known]
        if unknown:
            raise ValueError(f"no style {', '.join(unknown)}; there are {', '.join(known)}")
        self.size, self.root, self.split, self.variants, self.seed = size, root, split, variants, seed
        self.background, self.recoloured, self.scenes = background, recoloured, scenes
        self.styles, self.limit = tuple(styles or sources.STYLES), limit

    @cached_property
    def _loaded(self) -> tuple[list[Pair], NDArray[np.uint8]]:
        sets = sources.sources_of(self.styles)
        modules = sources.find_packages(self.root, sets)
        found = find_pairs(modules, sets)
        pictures = render.load_rendered(modules, found, self.size, sets)
        return [pair for pair, _ in found], pictures

    @cached_property
    def _splits(self) -> dict[str, list[int]]:
        """The rows of each split, in order."""
        rows = [row for row, pair in enumerate(self._loaded[0]) if pair.style in self.styles]
        train = [row for row in rows if not self._loaded[0][row].held_out]
        if self.limit is not None and self.limit < len(train):
            train = sorted(np.random.default_rng(self.seed).choice(train, self.limit, replace=False).tolist())
        seen = set(train)
        return {"train": train, "held-out": [row for row in rows if row not in seen], "all": rows}

    @cached_property
    def _rows(self) -> list[int]:
        return self._splits[self.split]

    @cached_property
    def _countable(self) -> dict[str, list[int]]:
        """The rows of each style that can be one thing of a scene."""
        countable = [row for row in self._rows if captions.countable(self._loaded[0][row])]
        return {style: [row for row in countable if self._loaded[0][row].style == style] for style in self.styles}

    def __len__(self) -> int:
        return len(self._rows) * self.variants

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`{"image": uint8[3, size, size], "caption": str}`."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        variant, place = divmod(index, len(self._rows))
        row = self._rows[place]
        if variant == 0:
            return self._plain(row)
        return self._record(*self._random_variant(row, np.random.default_rng([self.seed, index])))

    def evaluation(self, split: Literal["seen", "held-out"]) -> list[dict[str, Any]]:
        """Every drawing of a split, plain on white under label and style; "group" is the style, "thing" the label."""
        return [self._named(row) for row in self._splits["train" if split == "seen" else split]]

    def wordings(self, count: int, seed: int) -> list[dict[str, str]]:
        """Further captions of the drawings that training may see, `count` of each: `{"caption", "thing", "group"}`.

        One, several, in a colour or on a background, as captions of records are, and by its bare label first.
        """
        found = []
        for row in self._splits["train"]:
            pair, random = self._loaded[0][row], np.random.default_rng([seed, row])
            named = {"thing": pair.label, "group": pair.style}
            said = [pair.label, *(captions.wording_of(pair, random) for _ in range(count - 1))][:count]
            found += [named | {"caption": caption} for caption in said]
        return found

    def edits(self, n: int, seed: int) -> list[dict[str, Any]]:
        """n pairs of pictures of which one attribute differs, with what an edit from one to the other must give.

        Each is {"kind": "colour", "object" or "background", in turn; "before", "after": uint8[3, size, size];
        "others": uint8[5, 3, size, size], the same with five other colours, things or backgrounds; "prompt_before",
        "prompt_after": captions}. Drawings are those of the split, turned or put on a background by the seed.
        """
        return compose_edits(*self._loaded, self._rows, n, seed)

    def compositions(self, n: int, seed: int) -> list[dict[str, Any]]:
        """n canvases of each kind of which everything is known, on white; a larger n begins with those of a smaller.

        Each is {"kind": "count", "colour", "position" or "count and colour", in turn; "image": uint8[3, size, size];
        "caption": all of it in words; "things": the labels of what is drawn, two where they are placed; "count": how
        many there are; "colour": what they were turned to, or None; "direction": where the first of two lies of the
        second, steps to the right and down, or None; "hues": what each colour's hue is, in degrees}. Drawings are those
        of the split whose labels name no colour; things are of one piece each, and do not touch.
        """
        return compose(*self._loaded, self._rows, n, seed)

    def phrases(self, seed: int) -> list[dict[str, Any]]:
        """Phrases that no caption is, as {"caption"; "things": the labels that count as right; "image": one drawing}.

        The drawing is one that training may see, of any right emoji and style, drawn by the seed. A phrase none of
        whose emoji is among the split's drawings is left out.
        """
        pairs = self._loaded[0]
        found = []
        for index, (phrase, labels) in enumerate(read_phrases()):
            rows = [row for row in self._rows if pairs[row].label in labels]
            if rows:
                row = int(np.random.default_rng([seed, index]).choice(rows))
                found.append({"caption": phrase, "things": labels, "image": self._plain(row)["image"]})
        return found

    def _named(self, row: int) -> dict[str, Any]:
        pair = self._loaded[0][row]
        return self._plain(row) | {"group": pair.style, "thing": pair.label}

    def _plain(self, row: int) -> dict[str, Any]:
        pair, picture = self._loaded[0][row], self._loaded[1][row]
        return self._record(canvas.flatten(picture), captions.plain_caption(pair))

    def _random_variant(self, row: int, random: Generator) -> tuple[NDArray[np.uint8], str]:
        pair, picture = self._loaded[0][row], self._loaded[1][row]
        choice = random.random()
        backdrop = random.choice(list(canvas.BACKGROUNDS)) if random.random() < self.background else None
        ground = canvas.WHITE if backdrop is None else canvas.BACKGROUNDS[backdrop]
        if choice < self.scenes and captions.countable(pair):
            return self._scene(row, random, ground, backdrop)
        recoloured = self.scenes <= choice < self.scenes + self.recoloured
        colour = self._other_colour(row, random) if recoloured else None
        if colour is not None:
            picture = canvas.recolour(picture, colour)
        return canvas.flatten(picture, ground), captions.caption_of(pair, random, colour, backdrop)

    def _other_colour(self, row: int, random: Generator) -> str | None:
        pair, picture = self._loaded[0][row], self._loaded[1][row]
        if captions.coloured(pair.label) or not canvas.tinted(picture):
            return None  # "a blue red apple" says nothing, and a grey thing can't be turned
        return str(random.choice(list(canvas.HUES)))

    def _scene(
        self, row: int, random: Generator, ground: tuple[int, int, int], backdrop: str | None
    ) -> tuple[NDArray[np.uint8], str]:
        pair, picture = self._loaded[0][row], self._loaded[1][row]
        behind = "" if backdrop is None else f" on {captions.with_article(backdrop)} background"
        style = random.random() < 0.8
        if random.random() < 0.5:
            count = int(random.integers(2, 5))
            colour = self._other_colour(row, random) if random.random() < self.recoloured else None
            if colour is not None:
                picture = canvas.recolour(picture, colour)
            image = canvas.scatter([picture] * count, canvas.boxes_of_several(count, random), ground)
            return image, captions.caption_of_several(pair, count, colour, style, behind)
        other = int(random.choice(self._countable[pair.style]))
        where = str(random.choice(captions.POSITIONS))
        image = canvas.scatter([picture, self._loaded[1][other]], canvas.boxes_of_two(where), ground)
        second = self._loaded[0][other]
        nouns = captions.random_noun(pair, random), captions.random_noun(second, random)
        return image, captions.caption_of_two(nouns, where, pair.style if style else None, behind)

    @staticmethod
    def _record(image: NDArray[np.uint8], caption: str) -> dict[str, Any]:
        return {"image": from_image(image), "caption": caption}
