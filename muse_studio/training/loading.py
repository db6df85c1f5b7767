"""Batches of records, read here or by workers, whose errors are told as if there were none of these."""

from __future__ import annotations

import multiprocessing
import threading
import traceback
from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader, default_collate, get_worker_info

from muse_studio.errors import PluginError, UserError
from muse_studio.training.stopping import ignore_signals, signals_later

GRACE = 0.5
"""Seconds that a worker has to end by itself, once no batch is wanted any more."""


def batches(
    dataset: Any,
    order: Iterable[list[int]],
    collate: Callable[[Any], Any] | None = None,
    workers: int = 0,
    patience: float = 0.0,
) -> Generator[Any]:
    """The batches of the records that `order` gives, collated: by torch's own way where None.

    workers: processes that read them. patience: seconds to wait for a batch of theirs, 0 for ever.

    What a worker can't read is read here once more, so that the error comes with its own type and frames: it is the
    same as without workers, and so is what is said of it.
    """
    reading = _Reading(dataset, collate or default_collate)
    loader: DataLoader[Any] = DataLoader(
        reading,  # type: ignore[arg-type]  # a batch at once is all that is asked of it
        batch_sampler=order,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=ignore_signals,
        timeout=patience if workers else 0,
    )
    others = set(multiprocessing.active_children())
    try:
        with signals_later():
            loaded = iter(loader)
        for batch in loaded:
            yield reading.again(batch) if isinstance(batch, _Failed) else batch
    finally:
        _end_soon(set(multiprocessing.active_children()) - others)


def _end_soon(workers: Collection[BaseProcess]) -> None:
    """End those that hang in a record: torch asks each to end, and waits five seconds for it."""

    def end() -> None:
        for each in workers:
            each.terminate()

    if workers:
        timer = threading.Timer(GRACE, end)  # not now, as one that torch tells to end may hold a lock for it
        timer.daemon = True
        timer.start()


@dataclass
class _Failed:
    """What came of a batch in a worker: its records, the error's kind and words, and its traceback."""

    records: list[int]
    kind: str
    words: str
    report: str


class _Reading:
    """A data set that gives whole batches, collated."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any]) -> None:
        self.dataset, self.collate = dataset, collate

    def __getitems__(self, records: list[int]) -> Any:
        if get_worker_info() is None:
            return self._read(records)
        try:
            return self._read(records)
        except Exception as error:
            report = "".join(traceback.format_exception(error))
            return _Failed(list(records), type(error).__name__, str(error), report)

    def _read(self, records: list[int]) -> Any:
        if hasattr(self.dataset, "__getitems__"):
            return self.collate(self.dataset.__getitems__(records))
        return self.collate([self.dataset[each] for each in records])

    def again(self, failed: _Failed) -> Any:
        """Raises what reading the same records raises here, else what it was in the worker."""
        self._read(failed.records)
        for kind in (UserError, PluginError):
            if failed.kind == kind.__name__:
                raise kind(failed.words)
        raise RuntimeError(
            f"a worker could not read the records {failed.records}, which can be read without: {failed.report}"
        )


def _as_it_is(batch: Any) -> Any:
    return batch
