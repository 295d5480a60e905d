"""What the pages say: the statistics of a filtered board, arranged for showing. No user interface, no SQL, no HTML."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.results import statistics
from harness.results.report import Board, BoardRow, narrow, over_settings, scores_of, with_ties
from harness.results.statistics import Interval
from harness_leaderboard.queries import CellCost, SettingFacts

SHOWN_SETTINGS = 24
"""Columns of the leaderboard at most: beyond, nobody reads them and a browser cannot lay them out at once."""


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
class RankedMethod:
    """One method's row. Numbers are in recorded units; ``None`` is shown as missing, never as zero.

    Rank and mean are the board's. ``tier`` 1 is the top group. The intervals of all ``difference`` hold
    together (Dunnett).
    """

    row: BoardRow
    tier: int | None = None
    rank_interval: Interval | None = None
    mean_interval: Interval | None = None
    difference: float | None = None
    difference_interval: Interval | None = None
    difference_settings: int = 0
    hours: float | None = None

    @property
    def method(self) -> str:
        return self.row.method


@dataclasses.dataclass(frozen=True)
class Leaderboard:
    """A filtered board with its conclusions.

    Attributes:
        board: as filtered, with marks per shown setting and the conclusion.
        standings: in the board's order.
        settings: those in which anybody has a result; ``shown`` the ones that have a column.
        reference: the method that differences are to; ``None`` without one.
        top: the comparison with the best over all settings; ``None`` without one.
        estimates: of methods without a rank: name, the additive model's mean and its standard error.
        heat: position of every shown cell between the worst (0) and the best (1) of its setting.
    """

    board: Board
    standings: tuple[RankedMethod, ...]
    settings: tuple[str, ...]
    shown: tuple[str, ...]
    reference: str | None
    heat: dict[tuple[str, str], float]
    top: statistics.TopGroup | None = None
    estimates: tuple[tuple[str, float, float | None], ...] = ()


def rank_methods(board: Board, references: Sequence[str], costs: Iterable[CellCost] = ()) -> Leaderboard:
    """Tiers, rank spans and differences over the settings of a board in which anybody has a result.

    Args:
        board: already filtered.
        references: methods that may serve as reference, the best first.
        costs: of the cells, for hours.
    """
    begun = board.begun
    present = {row.method for row in board.rows}
    reference = next((method for method in references if method in present), None)
    hours = _hours(costs, set(board.settings))
    if not begun:
        standings = [RankedMethod(row, hours=hours.get(row.method)) for row in board.rows]
        return Leaderboard(board, tuple(standings), (), board.settings[:SHOWN_SETTINGS], reference, {})
    pairwise = over_settings(board)
    scores = scores_of(board, complete=True).select(settings=begun)
    # Cells that lack a run are left out, so that one run counts where nobody has more.
    across = statistics.compare_across_settings(scores, reference, min_seeds=1, iqm=False, estimates=True)
    summaries = {summary.method: summary for summary in across.methods}
    tier = {m: number for number, tied in enumerate(statistics.tiers(pairwise), 1) for m in tied} if pairwise else {}
    intervals = dict(zip(scores.methods, statistics.mean_over_settings(scores), strict=True))
    standings = []
    for row in board.rows:
        summary = summaries[row.method]
        standings.append(
            RankedMethod(
                row,
                tier=tier.get(row.method) if len(tier) > 1 else None,
                rank_interval=summary.rank_interval if row.rank is not None else None,
                mean_interval=intervals[row.method] if row.rank is not None else None,
                difference=None if row.method == reference else summary.difference,
                difference_interval=None if row.method == reference else summary.difference_interval,
                difference_settings=summary.difference_settings,
                hours=hours.get(row.method),
            )
        )
    shown = begun[:SHOWN_SETTINGS]
    marked = with_ties(board, settings=shown, pairwise=pairwise)
    estimates = tuple(
        (row.label, estimate, summaries[row.method].estimate_error)
        for row in board.rows
        if row.rank is None and (estimate := summaries[row.method].estimate) is not None
    )
    top = statistics.top_group(pairwise) if pairwise is not None else None
    return Leaderboard(marked, tuple(standings), begun, shown, reference, _heat(board, shown), top, estimates)


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
class MethodComparison:
    """Two to six methods: paired differences per setting, probability of improvement, performance profile.

    A pair is one planned comparison in one setting; the summaries' differences hold for all methods together (Dunnett).
    """

    reference: str
    methods: tuple[str, ...]
    pairs: tuple[PairInSetting, ...]
    summaries: dict[str, statistics.MethodSummary]
    improvements: dict[str, statistics.Improvement | None]
    profile: statistics.PerformanceProfile
    settings: tuple[str, ...]


def compare(board: Board, methods: Sequence[str]) -> MethodComparison | None:
    """The first of ``methods`` against each other one; ``None`` when they share no setting."""
    part = narrow(board, methods)
    begun = tuple(s for s in part.settings if all(s in row.cells and row.cells[s].complete for row in part.rows))
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
    return MethodComparison(
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
    """A method's mean score beside what it costs, over the settings that all shown methods have.

    Attributes:
        method: its name, with the sign of an oracle.
        score, per_epoch: means over settings, with their 95 % intervals.
        front: whether no other method's means are both as cheap and as good.
        certainty: whether the runs decide so.
    """

    method: str
    score: float
    score_interval: Interval | None
    per_epoch: float | None
    per_epoch_interval: Interval | None
    memory: float | None
    parameters: float | None
    hours: float | None
    front: bool
    certainty: statistics.Certainty


def method_costs(board: Board, times: Board | None, costs: Iterable[CellCost]) -> list[MethodCost]:
    """Score against seconds per epoch for the ranked methods, with the Pareto front and what is certain of it.

    Args:
        board: of the score, filtered.
        times: of the seconds per epoch, filtered alike; ``None`` where none were recorded.
        costs: of the cells.
    """
    by_cell = {(cost.method, cost.setting): cost for cost in costs}
    ranked = [row for row in board.rows if row.rank is not None]
    spans, seconds_spans = _mean_intervals(board), _mean_intervals(times)
    seconds = {row.method: row.mean for row in times.rows} if times is not None else {}
    price = [math.nan if (value := seconds.get(row.method)) is None else value for row in ranked]
    merit = [math.nan if row.mean is None else row.mean for row in ranked]
    front = statistics.pareto_front(price, merit, higher_is_better=board.higher_is_better)
    names = [row.method for row in ranked]
    certain = statistics.front_certainty(_ahead(times, names), _ahead(board, names))
    found = []
    for row, cost, score, leads, sure in zip(ranked, price, merit, front, certain, strict=True):
        mine = [by_cell[row.method, s] for s in row.cells if row.cells[s].n and (row.method, s) in by_cell]
        spent = [c.seconds for c in mine if c.seconds is not None]
        found.append(
            MethodCost(
                row.label,
                score,
                spans.get(row.method),
                None if math.isnan(cost) else cost,
                seconds_spans.get(row.method),
                max((c.memory for c in mine if c.memory is not None), default=None),
                max((c.parameters for c in mine if c.parameters is not None), default=None),
                sum(spent) / 3600 if spent else None,
                bool(leads),
                "perhaps" if math.isnan(cost) and sure == "on" else sure,
            )
        )
    return found


def _mean_intervals(board: Board | None) -> dict[str, Interval | None]:
    """The interval of every ranked method's mean."""
    if board is None or not board.begun:
        return {}
    scores = scores_of(board, complete=True).select(settings=board.begun)
    return dict(zip(scores.methods, statistics.mean_over_settings(scores), strict=True))


def _ahead(board: Board | None, methods: Sequence[str]) -> NDArray[np.bool_]:
    """``[N, N]`` True where the row's method is separably ahead of the column's; nothing is known of others."""
    ahead = np.zeros((len(methods), len(methods)), dtype=bool)
    pairwise = over_settings(board) if board is not None else None
    if pairwise is None:
        return ahead
    sign = 1.0 if pairwise.higher_is_better else -1.0
    known = [(i, pairwise.methods.index(m)) for i, m in enumerate(methods) if m in pairwise.methods]
    lead = pairwise.separable & (sign * pairwise.difference > 0)
    for i, row in known:
        for j, column in known:
            ahead[i, j] = lead[row, column]
    return ahead
