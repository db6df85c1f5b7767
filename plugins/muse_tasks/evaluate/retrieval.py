"""Retrieval: is a drawn picture nearest, among all real ones of its group, to the one that its caption names?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 16
"""Pictures are compared by the mean colours of 16 x 16 fields: what is where, in which colour, without the detail."""


def features(images: Tensor) -> Tensor:
    """uint8[B, 3, H, W] of any size to float32[B, 768]: average-pooled to 16 x 16, RGB in 0..1."""
    return F.adaptive_avg_pool2d(images.float() / 255, SIDE).flatten(1)


class Gallery:
    """All real pictures, by group.

    features: float32[R, F], one row a picture; groups: R names.
    """

    def __init__(self, features: Tensor, groups: Sequence[str]) -> None:
        self.groups = list(groups)
        members = defaultdict(list)
        for index, group in enumerate(self.groups):
            members[group].append(index)
        self._members = {group: torch.tensor(indices) for group, indices in members.items()}
        self._features = features

    @property
    def sizes(self) -> dict[str, int]:
        """How many pictures each group has."""
        return {group: len(indices) for group, indices in self._members.items()}

    def ranks(self, queries: Tensor, targets: Sequence[int]) -> Tensor:
        """How many other pictures of the target's group are at least as near as the target: 0 is a hit at 1.

        queries: float32[Q, F]; targets: Q row numbers of the gallery. Returns int64[Q]. The distance is Euclidean. A
        tie counts against the query, and so does a true duplicate of its target: no order of the gallery can flatter.
        """
        ranks = torch.empty(len(targets), dtype=torch.int64)
        asked = defaultdict(list)
        for query, target in enumerate(targets):
            asked[self.groups[target]].append(query)
        for group, rows in asked.items():
            members = self._members[group]
            # Without the matrix product, which rounds: equal pictures must be at equal distances, or ties are missed.
            distances = torch.cdist(queries[rows], self._features[members], compute_mode="donot_use_mm_for_euclid_dist")
            wanted = torch.tensor([targets[row] for row in rows])
            own = distances.gather(1, torch.searchsorted(members, wanted)[:, None])
            ranks[rows] = (distances <= own).sum(1) - 1  # less the target itself
        return ranks

    def chance(self, targets: Sequence[int], k: int) -> float:
        """The recall at k of a guess: the mean of k / (size of the target's group)."""
        sizes = self.sizes
        return sum(min(1.0, k / sizes[self.groups[target]]) for target in targets) / len(targets)


def recall(ranks: Tensor, k: int) -> float:
    """R@k: the share of queries with fewer than k pictures at least as near as the right one."""
    return (ranks < k).double().mean().item()
