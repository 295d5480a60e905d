"""What the pages say: the statistics of a filtered board, arranged for showing. No user interface, no SQL, no HTML."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from harness.results import statistics
from harness.results.board import Board, narrow, scores_of, ties_in
from harness.results.statistics import Interval, Pairwise, Scores
from harness.words import counted
from harness_leaderboard.queries import CellCost, SettingFacts

SHOWN_SETTINGS = 24
"""Columns of the leaderboard at most: beyond, nobody reads them and a browser cannot lay them out at once."""
FEW_COVERED = {2: 84, 3: 89}
"""What the 95 % bootstrap interval of a difference covers over few settings, in %: simulated with three seeds."""
_DRAWS = 40_000_000


@dataclasses.dataclass(frozen=True)
class Filters:
    """What a board is narrowed to; an empty tuple filters nothing."""

    datasets: tuple[str, ...] = ()
    noises: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()
    models: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    common: bool = False

    def keeps(self, facts: SettingFacts) -> bool:
        """Whether a setting passes."""
        wanted: tuple[tuple[tuple[Any, ...], Any], ...] = (
            (self.datasets, facts.dataset),
            (self.noises, facts.noise),
            (self.rates, facts.rate),
            (self.models, facts.model),
        )
        return all(not among or value in among for among, value in wanted)

    def words(self) -> tuple[str, ...]:
        """The filters as a caption says them."""
        parts = (
            ("data set", self.datasets),
            ("noise", self.noises),
            ("rate", tuple(f"{rate:g}" for rate in self.rates)),
            ("model", self.models),
            ("methods", self.methods),
        )
        said = [f"{name} {', '.join(values)}" for name, values in parts if values]
        return tuple([*said, "settings that every method has"] if self.common else said)


def filtered(board: Board, facts: Iterable[SettingFacts], filters: Filters) -> Board:
    """The part of a board that passes; the whole board itself when nothing is filtered."""
    if filters == Filters():
        return board
    settings = [fact.setting for fact in facts if filters.keeps(fact)]
    part = narrow(board, filters.methods or None, settings, filters.words())
    if filters.common:
        has = [{name for name, cell in row.cells.items() if cell.n} for row in part.rows]
        shared = set.intersection(*has) if has else set()
        part = narrow(part, None, shared, filters.words())
    return part


# --- the leaderboard --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Standing:
    """One method's row. Numbers are in recorded units; ``None`` is shown as missing, never as zero.

    ``tier`` 1 is the top group; ``estimate`` is the additive model's mean of a method that lacks settings. The interval of
    ``difference`` is the bootstrap's, over a single setting that of :func:`statistics.compare_pair`.
    """

    method: str
    oracle: bool
    tries: int
    tier: int | None
    rank: int | None
    rank_interval: Interval | None
    mean: float | None
    mean_interval: Interval | None
    difference: float | None
    difference_interval: Interval | None
    difference_settings: int
    coverage: str
    complete: bool
    estimate: float | None
    hours: float | None


@dataclasses.dataclass(frozen=True)
class Leaderboard:
    """A filtered board with its conclusions.

    Attributes:
        board: as filtered, with ties per shown setting.
        standings: ranked methods first.
        settings: those in which anybody has a result; ``shown`` the ones that have a column.
        reference: the method that differences are to; ``None`` without one.
        conclusion: what can be concluded, in a sentence.
        heat: position of every shown cell between the worst (0) and the best (1) of its setting.
    """

    board: Board
    standings: tuple[Standing, ...]
    settings: tuple[str, ...]
    shown: tuple[str, ...]
    reference: str | None
    conclusion: str
    test: str
    heat: dict[tuple[str, str], float]


def rank_methods(board: Board, references: Sequence[str], costs: Iterable[CellCost] = ()) -> Leaderboard:
    """Tiers, ranks, means and differences over the settings of a board in which anybody has a result.

    Args:
        board: already filtered.
        references: methods that may serve as reference, the best first.
        costs: of the cells, for hours.
    """
    begun = tuple(s for s in board.settings if any(s in row.cells and row.cells[s].n for row in board.rows))
    present = {row.method for row in board.rows}
    reference = next((method for method in references if method in present), None)
    rows = {row.method: row for row in board.rows}
    hours = _hours(costs, set(board.settings))
    if not begun:
        standings = [_unranked(row.method, row.oracle, row.tries, len(board.settings), hours) for row in board.rows]
        return Leaderboard(board, tuple(standings), (), board.settings[:SHOWN_SETTINGS], reference, "", "no test", {})
    scores = scores_of(dataclasses.replace(board, settings=begun))
    pairwise = statistics.compare_over_settings(scores)
    resamples = int(min(2000, max(200, _DRAWS / max(1, scores.values.size))))
    across = statistics.compare_across_settings(scores, reference, resamples=resamples, iqm=False)
    tier = {m: number for number, tied in enumerate(statistics.tiers(pairwise), 1) for m in tied}
    intervals = statistics.mean_over_settings(scores)
    standings = []
    for summary in across.methods:
        row = rows[summary.method]
        complete = summary.rank is not None
        pair = _in_one_setting(scores, summary.method, across)
        difference, interval = (
            (summary.difference, summary.difference_interval) if pair is None else (pair.difference, pair.interval)
        )
        standings.append(
            Standing(
                method=summary.method,
                oracle=row.oracle,
                tries=row.tries,
                tier=tier.get(summary.method) if len(pairwise.methods) > 1 else None,
                rank=summary.rank,
                rank_interval=summary.rank_interval,
                mean=summary.mean,
                mean_interval=intervals[scores.method_index(summary.method)] if complete else None,
                difference=None if summary.method == reference else difference,
                difference_interval=None if summary.method == reference else interval,
                difference_settings=summary.difference_settings,
                coverage=str(summary.coverage),
                complete=complete,
                estimate=summary.estimate if summary.estimated else None,
                hours=hours.get(summary.method),
            )
        )
    shown = begun[:SHOWN_SETTINGS]
    ties = ties_in(scores, shown)
    conclusion = conclude(pairwise, scores, board)
    with_ties = dataclasses.replace(board, ties=ties, conclusion=conclusion)
    return Leaderboard(
        with_ties, tuple(standings), begun, shown, reference, conclusion, pairwise.test, _heat(board, shown)
    )


def _in_one_setting(
    scores: Scores, method: str, across: statistics.AcrossSettings
) -> statistics.PairedComparison | None:
    """The difference to the reference where it is over one setting; ``None`` elsewhere. See docs/statistics.md."""
    if across.reference is None:
        return None
    ours, theirs = (scores.values[scores.method_index(m)] for m in (method, across.reference))
    counts = [(~np.isnan(runs)).sum(axis=1) >= across.min_seeds for runs in (ours, theirs)]
    both = np.flatnonzero(counts[0] & counts[1])
    return statistics.compare_pair(ours[both[0]], theirs[both[0]]) if len(both) == 1 else None


def few_settings(counts: Iterable[int]) -> str:
    """A sentence for differences whose bootstrap interval covers less than it says; empty where none is over two or three.

    Args:
        counts: over how many settings each difference is.
    """
    few = sorted({count for count in counts if count in FEW_COVERED})
    if not few:
        return ""
    covered = " and ".join(f"{FEW_COVERED[count]} % over {counted(count, 'setting')}" for count in few)
    return f"Few settings: the 95 % intervals of differences cover about {covered} (simulated, 3 seeds)"


def conclude(pairwise: Pairwise, scores: Scores, board: Board) -> str:
    """What can be concluded over all settings, in a sentence without its full stop."""
    most = int((~np.isnan(scores.values)).sum(axis=2).max(initial=0))
    if most < 2:
        return "One seed per cell says nothing about spread: the order below is that of single runs"
    if not pairwise.methods:
        return "No method has two runs in every setting, so none is ranked by a test"
    incomplete = [f"{method} ({why} settings)" for method, why in pairwise.not_comparable]
    if len(pairwise.methods) == 1:
        said = f"Only {pairwise.methods[0]} has two runs in every setting: nothing can be compared over all of them"
    else:
        said = statistics.describe(statistics.top_group(dataclasses.replace(pairwise, not_comparable=())))
    if not incomplete:
        return said
    names = ", ".join(incomplete[:4]) + (f" and {len(incomplete) - 4} more" if len(incomplete) > 4 else "")
    return f"{said}. Without two runs in every setting, and so outside the comparison: {names}"


def _unranked(method: str, oracle: bool, tries: int, settings: int, hours: dict[str, float]) -> Standing:
    return Standing(
        method,
        oracle,
        tries,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        0,
        f"0/{settings}",
        False,
        None,
        hours.get(method),
    )


def _hours(costs: Iterable[CellCost], settings: set[str]) -> dict[str, float]:
    spent: dict[str, float] = {}
    for cost in costs:
        if cost.setting in settings and cost.seconds is not None:
            spent[cost.method] = spent.get(cost.method, 0.0) + cost.seconds / 3600
    return spent


def _heat(board: Board, shown: Sequence[str]) -> dict[tuple[str, str], float]:
    heat = {}
    for setting in shown:
        means = {row.method: row.cells[setting].mean for row in board.rows if setting in row.cells}
        known = {method: mean for method, mean in means.items() if mean is not None and math.isfinite(mean)}
        if not known:
            continue
        sign = 1.0 if board.higher_is_better else -1.0
        ordered = sorted(sign * mean for mean in known.values())
        lower, upper = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
        # One method that collapsed must not make all others look alike.
        low, high = max(ordered[0], lower - 1.5 * (upper - lower)), ordered[-1]
        for method, mean in known.items():
            heat[method, setting] = max(0.0, (sign * mean - low) / (high - low)) if high > low else 1.0
    return heat


# --- compare ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class PairInSetting:
    """One method against the reference in one setting."""

    method: str
    setting: str
    comparison: statistics.PairedComparison


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two to six methods: paired differences per setting, probability of improvement, performance profile.

    Where a method shares one setting with the reference its summary says what the pair says, without an inter-quartile
    mean.
    """

    reference: str
    methods: tuple[str, ...]
    pairs: tuple[PairInSetting, ...]
    summaries: dict[str, statistics.MethodSummary]
    improvements: dict[str, statistics.Improvement | None]
    profile: statistics.PerformanceProfile
    settings: tuple[str, ...]


def compare(board: Board, methods: Sequence[str]) -> Comparison | None:
    """The first of ``methods`` against each other one; ``None`` when they share no setting."""
    part = narrow(board, methods)
    begun = tuple(s for s in part.settings if all(s in row.cells and row.cells[s].n for row in part.rows))
    if not begun or len(part.rows) < 2:
        return None
    scores = scores_of(dataclasses.replace(part, settings=begun)).select(methods=methods)
    reference, others = methods[0], tuple(methods[1:])
    across = statistics.compare_across_settings(scores, reference)
    pairs = tuple(
        PairInSetting(m, s, statistics.compare_pair(scores.runs(m, s), scores.runs(reference, s)))
        for s in begun
        for m in others
    )
    summaries = {summary.method: summary for summary in across.methods}
    for summary in across.methods:
        pair = _in_one_setting(scores, summary.method, across)
        if pair is not None:
            summaries[summary.method] = dataclasses.replace(
                summary, difference=pair.difference, difference_interval=pair.interval, iqm=None, iqm_interval=None
            )
    return Comparison(
        reference,
        others,
        pairs,
        summaries,
        {m: statistics.probability_of_improvement(scores, m, reference) for m in others},
        statistics.performance_profile(scores),
        begun,
    )


# --- cost -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class MethodCost:
    """A method's mean score beside what it costs, over the settings that all shown methods have."""

    method: str
    score: float
    per_epoch: float | None
    memory: float | None
    parameters: float | None
    hours: float | None
    front: bool


def method_costs(board: Board, costs: Iterable[CellCost]) -> list[MethodCost]:
    """Score against seconds per epoch for the ranked methods, with the Pareto front."""
    by_cell = {(cost.method, cost.setting): cost for cost in costs}
    found = []
    for row in board.rows:
        if row.mean is None:
            continue
        mine = [by_cell[row.method, s] for s in row.cells if row.cells[s].n and (row.method, s) in by_cell]
        seconds = [c.per_epoch for c in mine if c.per_epoch is not None]
        memory = [c.memory for c in mine if c.memory is not None]
        parameters = [c.parameters for c in mine if c.parameters is not None]
        spent = [c.seconds for c in mine if c.seconds is not None]
        found.append(
            MethodCost(
                row.method,
                row.mean,
                sum(seconds) / len(seconds) if seconds else None,
                max(memory, default=None),
                max(parameters, default=None),
                sum(spent) / 3600 if spent else None,
                False,
            )
        )
    price = [math.nan if cost.per_epoch is None else cost.per_epoch for cost in found]
    front = statistics.pareto_front(price, [cost.score for cost in found], higher_is_better=board.higher_is_better)
    return [dataclasses.replace(cost, front=bool(on)) for cost, on in zip(found, front, strict=True)]
