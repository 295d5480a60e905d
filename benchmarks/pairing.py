"""Interleaved timing: two pieces of work in turn, A B A B ..., and the ratio pair by pair.

Shared machines drift, so a ratio of neighbours says what a ratio of averages cannot. A control row (the same work on
both sides) says how far to trust the others.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

Work = Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Median and quartiles of the paired ratios A / B, and the median seconds of each."""

    name: str
    median: float
    low: float
    high: float
    seconds_a: float
    seconds_b: float
    bound: float | None = None

    @property
    def holds(self) -> bool:
        return self.bound is None or self.median <= self.bound

    def line(self) -> str:
        bound = "" if self.bound is None else f"<= {self.bound:.2f} {'ok' if self.holds else 'MISSED'}"
        spread = f"[{self.low:.3f}, {self.high:.3f}]"
        return f"{self.name:44} {self.median:7.3f}  {spread:18} {1e3 * self.seconds_a:9.1f} {1e3 * self.seconds_b:9.1f}  {bound}"


HEAD = f"{'A / B':44} {'median':>7}  {'quartiles':18} {'A ms':>9} {'B ms':>9}  bound"


def in_turn(works: Sequence[Work], rounds: int) -> list[list[float]]:
    """Seconds of each piece of work in every round, after one uncounted round; every other round runs them backwards."""
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    pairs = list(zip(works, times, strict=True))
    for number in range(rounds):
        for work, taken in pairs if number % 2 == 0 else reversed(pairs):
            started = time.perf_counter()
            work()
            taken.append(time.perf_counter() - started)
    return times


def ratio(name: str, times_a: Sequence[float], times_b: Sequence[float], bound: float | None = None) -> Ratio:
    """The ratio of two rows of times, round by round."""
    ratios = sorted(x / y for x, y in zip(times_a, times_b, strict=True))
    low, _, high = statistics.quantiles(ratios, n=4)
    medians = (statistics.median(times_a), statistics.median(times_b))
    return Ratio(name, statistics.median(ratios), low, high, *medians, bound)


def paired(name: str, a: Work, b: Work, pairs: int = 11, bound: float | None = None) -> Ratio:
    """Time ``a`` and ``b`` in turn, which goes first alternating, after one uncounted round each."""
    return ratio(name, *in_turn((a, b), pairs), bound)
