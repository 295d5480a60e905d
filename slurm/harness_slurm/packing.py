"""Which trials share a job: as few jobs as make sense, filled evenly, seed by seed."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Iterator, Sequence


@dataclasses.dataclass(frozen=True)
class Item:
    """A trial to pack.

    Attributes:
        id: its id.
        cost: expected seconds, or any measure in proportion to them.
        affinity: trials of one affinity follow each other within a job (a worker keeps the last data set).
    """

    id: str
    cost: float = 1.0
    affinity: str = ""


def pack(items: Sequence[Item], per_job: int, longest: float = math.inf) -> list[list[Item]]:
    """Items into jobs.

    The order of ``items`` is the order in which results are wanted. It is cut into rounds, each of them a few full
    jobs, so that early jobs hold early items: with seeds outermost a partial board compares all methods. Within a
    round the largest item goes to the job with the smallest sum (longest processing time first), so no job drags.

    Args:
        items: what to pack, in order.
        per_job: most items of a job.
        longest: most cost of a job, unless it holds one item.

    Returns:
        Jobs in order, each with its items in the order to run.
    """
    jobs: list[list[Item]] = []
    for chunk in _rounds(items, per_job):
        total = sum(item.cost for item in chunk)
        count = max(math.ceil(len(chunk) / per_job), math.ceil(total / longest) if longest < math.inf else 1)
        jobs += _balance(chunk, min(count, len(chunk)), per_job)
    return jobs


def _rounds(items: Sequence[Item], per_job: int) -> Iterator[Sequence[Item]]:
    """Slices of whole jobs: long enough to balance, short enough to keep the order."""
    length = per_job * max(1, min(16, len(items) // (8 * per_job)))
    for start in range(0, len(items), length):
        yield items[start : start + length]


def _balance(chunk: Sequence[Item], count: int, per_job: int) -> list[list[Item]]:
    place = {item.id: position for position, item in enumerate(chunk)}
    loads = [(0.0, 0, number) for number in range(count)]
    filled: list[list[Item]] = [[] for _ in range(count)]
    for item in sorted(chunk, key=lambda item: -item.cost):
        load, size, number = heapq.heappop(loads)
        filled[number].append(item)
        if size + 1 < per_job:
            heapq.heappush(loads, (load + item.cost, size + 1, number))
    first = {item.affinity: place[item.id] for item in reversed(chunk)}
    filled.sort(key=lambda job: min(place[item.id] for item in job))
    return [sorted(job, key=lambda item: (first[item.affinity], place[item.id])) for job in filled]
