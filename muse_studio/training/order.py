"""The order in which records are seen: computed from (seed, step), so that resuming needs the step alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from muse_studio.errors import UserError

ROUNDS = 4
NO_RECORD = "the data set has no record to train on; check its path, its split, and what it leaves out"


def permuted(index: int, length: int, key: int) -> int:
    """Where `index` of range(length) goes in the permutation that `key` chooses, in constant memory.

    A Feistel network over the next power of four, walked until it lands inside (Black and Rogaway, 2002).
    """
    half = max(1, (max(length - 1, 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(ROUNDS):
            left, right = right, left ^ (_mix(right, key, turn) & mask)
        index = left << half | right
        if index < length:
            return index


def _mix(value: int, key: int, turn: int) -> int:
    """splitmix64's finalizer over what is mixed."""
    z = (value + 0x9E3779B97F4A7C15 * (turn + 1) + key) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return z ^ (z >> 31)


def key_of(*parts: object) -> int:
    """A 64-bit key from anything that prints the same each time."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


class Order:
    """A batch sampler: the records of each step, every record once an epoch, each epoch in another order.

    length: records in all. batch: records a step. start, stop: the first step, and the one after the last.
    rows: which of a step's records are wanted, as when several processes share a step; all by default.
    repeated: the first step's records at every step.
    """

    def __init__(
        self,
        length: int,
        batch: int,
        seed: int,
        start: int,
        stop: int,
        rows: slice = slice(None),
        repeated: bool = False,
    ) -> None:
        if length < 1:
            raise UserError(NO_RECORD)
        self.length, self.batch, self.seed, self.start, self.stop = length, batch, seed, start, stop
        self.rows, self.repeated = range(batch)[rows], repeated

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.stop):
            first = 0 if self.repeated else step * self.batch
            yield [self._record(first + place) for place in self.rows]

    def _record(self, position: int) -> int:
        epoch, index = divmod(position, self.length)
        return permuted(index, self.length, key_of(self.seed, epoch))
