"""Whose turn it is: jobs that wait, one of each owner after the other."""

from __future__ import annotations

from collections import OrderedDict, deque

from muse_server.work.jobs import Job


class Turns:
    """Jobs in the order in which they will be done; it has no lock."""

    def __init__(self) -> None:
        self._owners: OrderedDict[str, deque[Job]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._owners.values()))

    def count(self, owner: str) -> int:
        """How many jobs of an owner wait."""
        return len(self._owners.get(owner, ()))

    def add(self, job: Job, now: Job | None) -> None:
        """A job that waits from now on; `now` is being done, and its owner's next one comes after all others' first."""
        if job.owner in self._owners:
            self._owners[job.owner].append(job)
            return
        self._owners[job.owner] = deque([job])
        if now is not None and now.owner in self._owners:
            self._owners.move_to_end(now.owner)

    def take(self) -> Job:
        """The job whose turn it is, which no longer waits; its owner then comes last. KeyError where there is none."""
        owner, jobs = self._owners.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self._owners[owner] = jobs
        return job

    def remove(self, job: Job) -> None:
        """Forget a job that waits; ValueError where it is none."""
        jobs = self._owners[job.owner]
        jobs.remove(job)
        if not jobs:
            del self._owners[job.owner]

    def order(self) -> list[Job]:
        """All jobs, as they will be taken where none is added."""
        rounds: list[list[Job]] = []
        for jobs in self._owners.values():
            for number, job in enumerate(jobs):
                if number == len(rounds):
                    rounds.append([])
                rounds[number].append(job)
        return [job for each in rounds for job in each]
