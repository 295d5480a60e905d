"""What a paper claims of a table as a whole, judged like a cell: average gains, and how often a method is ahead.

It takes the printed cells that a claim is about with their answers (:mod:`~.reproduction`) and asks what a repetition of the
paper's experiment would print, as our seeds predict it: does the printed value lie in there, and would its absence have shown?
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from harness.errors import ResultsError, unknown
from harness.papers.reproduction import EPOCHS, Reproduced, published_rows, reproduce, suite_of
from harness.papers.verdict import reach
from harness.printed import Comparison, PublishedCell, PublishedClaim, load_claims
from harness.results.quantities import find_quantity
from harness.results.report import suites_in
from harness.results.statistics.scores import Interval, scipy_special

if TYPE_CHECKING:
    import duckdb

Outcome = Literal["holds", "inconclusive", "does not hold", "not comparable"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("holds", "inconclusive", "does not hold", "not comparable")
_LOWER_IS_BETTER: Final = frozenset({"hours", "seconds", "target"})


@dataclass(frozen=True)
class JudgedClaim:
    """A claim and what our trials say of it.

    Attributes:
        claim: as the paper makes it.
        printed: its value, from the text or else from the printed cells: a mean gain (better is positive), or a count.
        here: the same of our means, over the comparisons that are reproduced; None where none is.
        interval: what a repetition of the paper's experiment would print in 95 % of cases, as our seeds predict it; None where
            that is not known.
        verdict: ``does not hold`` when the printed value lies above that interval; ``inconclusive`` when it does not but no gain
            at all could not be told from it either, and where a cell has one seed or some of its runs collapsed; else ``holds``, more than printed included.
        reason: why it is not comparable or cannot be judged, or in what ours was trained otherwise.
        by_numbers: the verdict of the numbers alone where ours was trained otherwise than the packaged suite asks for.
        detectable: the least gain that would have been found with a power of 80 %.
        covered: how many of the comparisons are reproduced.
        setting: our setting where several answer one printed place.
        assumptions: what had to be assumed because the paper does not print it.
    """

    claim: PublishedClaim
    printed: float
    here: float | None
    interval: Interval | None
    verdict: Outcome
    reason: str = ""
    by_numbers: Outcome | None = None
    detectable: float | None = None
    covered: int = 0
    setting: str | None = None
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Gap:
    """One comparison here: ours minus the other's, better positive; the variance of the difference to a repetition of the
    printed one in independent parts with their degrees of freedom, empty where there is one seed."""

    mean: float
    parts: tuple[tuple[float, float], ...] = ()
    assumptions: tuple[str, ...] = field(default=())


Key = tuple[object, ...]
_SAID: Final = ("paper", "table", "label", "method", "column", "dataset", "noise", "rate", "metric", "at", "extra")
"""What tells the printed cells of a table apart."""


def judge_claims(claims: Iterable[PublishedClaim], found: Iterable[Reproduced]) -> list[JudgedClaim]:
    """Every claim with what our trials say of it; once for each of our settings where several answer one printed place."""
    answers: dict[Key, list[Reproduced]] = {}
    for item in found:
        answers.setdefault(tuple(item.printed[key] for key in _SAID), []).append(item)
    return [judged for claim in claims for judged in _readings(claim, answers)]


def _readings(claim: PublishedClaim, answers: Mapping[Key, list[Reproduced]]) -> list[JudgedClaim]:
    cells = [cell for comparison in claim.comparisons for cell in (*comparison.methods, *comparison.over)]
    ours = {_of(cell): answers.get(_of(cell), []) for cell in cells}
    most = max((len(items) for items in ours.values()), default=1)
    if most <= 1:
        return [_judge(claim, {key: items[0] for key, items in ours.items() if items}, None)]
    settings = dict.fromkeys(item.setting for items in ours.values() for item in items if item.setting)
    of_setting = ({k: i for k, items in ours.items() for i in items if i.setting == s} for s in settings)
    return [_judge(claim, chosen, setting) for setting, chosen in zip(settings, of_setting, strict=True)]


def _of(cell: PublishedCell) -> Key:
    return tuple(getattr(cell, key) for key in _SAID)


def printed_value(claim: PublishedClaim) -> float:
    """The value that the text prints, else the one that follows from the printed cells."""
    if claim.value is not None:
        return claim.value
    gaps = [_printed_gap(comparison) for comparison in claim.comparisons]
    return float(sum(gap > 0 for gap in gaps)) if claim.kind == "count" else float(np.mean(gaps))


def _printed_gap(comparison: Comparison) -> float:
    sign = _sign(comparison)
    return max(sign * c.mean for c in comparison.methods) - max(sign * c.mean for c in comparison.over)


def _sign(comparison: Comparison) -> float:
    cell = comparison.methods[0]
    lower = cell.unit in _LOWER_IS_BETTER or not find_quantity(cell.metric).higher_is_better
    return -1.0 if lower else 1.0


def _judge(claim: PublishedClaim, ours: Mapping[Key, Reproduced], setting: str | None) -> JudgedClaim:
    printed = printed_value(claim)
    total = len(claim.comparisons)
    used: list[Reproduced] = []
    gaps = [gap for comparison in claim.comparisons if (gap := _gap(comparison, ours, used)) is not None]
    here = None
    if gaps:
        here = float(sum(g.mean > 0 for g in gaps)) if claim.kind == "count" else float(np.mean([g.mean for g in gaps]))
    reason = ""
    if len(gaps) < total:
        reason = f"{len(gaps)} of {total} comparisons reproduced" if gaps else "not reproduced"
    elif any(item.reduced for item in used):
        reason = "run at --scale quick"
    if reason:
        return JudgedClaim(claim, printed, here, None, "not comparable", reason, covered=len(gaps), setting=setting)
    departure = next((item.departure for item in used if item.departure), "")
    single = sum(not gap.parts for gap in gaps)
    fallen = dict.fromkeys(
        f"{item.printed['method']} in {item.setting}: {item.check.fallen}" for item in used if item.mixed
    )
    if single or fallen:
        # Neither one run nor runs of two heights have a spread that an interval could stand on.
        reason = f"{single} of {total} comparisons have one seed" if single else "; ".join(fallen)
        verdict: Outcome = "inconclusive"
        interval, detectable = None, None
    else:
        judge = _count if claim.kind == "count" else _gain
        verdict, interval, detectable = judge(claim, printed, gaps)
    assumptions = tuple(dict.fromkeys(itertools.chain.from_iterable(gap.assumptions for gap in gaps)))
    return JudgedClaim(
        claim,
        printed,
        here,
        interval,
        "not comparable" if departure else verdict,
        "; ".join(part for part in (departure, reason) if part),
        verdict if departure else None,
        detectable,
        len(gaps),
        setting,
        assumptions,
    )


def _gap(comparison: Comparison, ours: Mapping[Key, Reproduced], used: list[Reproduced]) -> _Gap | None:
    """What a comparison gives here; the answers of the two cells are added to ``used``."""
    sign = _sign(comparison)
    sides = []
    for cells in (comparison.methods, comparison.over):
        answered = [(cell, ours[_of(cell)]) for cell in cells if _of(cell) in ours and ours[_of(cell)].values]
        if len(answered) < len(cells):
            return None
        sides.append(max(answered, key=lambda pair: sign * float(np.mean(list(pair[1].values.values())))))
    (cell, item), (other_cell, other) = sides
    used += [item, other]
    mine, theirs = item.values, other.values
    mean = sign * float(np.mean(list(mine.values())) - np.mean(list(theirs.values())))
    floor = max(item.step, other.step) ** 2 / 12
    one, two = _variance(mine, floor), _variance(theirs, floor)
    if one is None or two is None:
        return _Gap(mean)
    shared = sorted(mine.keys() & theirs.keys())
    parts = [(one / len(mine), len(mine) - 1.0), (two / len(theirs), len(theirs) - 1.0)]
    if len(shared) == len(mine) == len(theirs):  # the same noisy labels seed by seed
        paired = max(float(np.var([mine[s] - theirs[s] for s in shared], ddof=1)), 2 * floor)
        parts = [(paired / len(shared), len(shared) - 1.0)]
    runs = cell.n or 1
    if cell.std is not None and other_cell.std is not None and runs > 1:
        parts += [(max(c.std or 0.0, floor**0.5) ** 2 / runs, runs - 1.0) for c in (cell, other_cell)]
        return _Gap(mean, tuple(parts))
    assumed = ["std not printed: the reproduced one assumed"] + ["n not printed: 1 assumed"] * (cell.n is None)
    # The borrowed variance is as uncertain as ours: it is no part of its own.
    parts = [(v + (one + two) / runs / len(parts), df) for v, df in parts]
    return _Gap(mean, tuple(parts), tuple(assumed))


def _variance(values: Mapping[int, float], floor: float) -> float | None:
    return max(float(np.var(list(values.values()), ddof=1)), floor) if len(values) > 1 else None


def _gain(claim: PublishedClaim, printed: float, gaps: Sequence[_Gap]) -> tuple[Outcome, Interval, float]:
    """A mean gain: Welch's interval around ours for what a repetition would print."""
    size = len(gaps)
    parts = [(variance / size**2, df) for gap in gaps for variance, df in gap.parts]
    # A gain that follows from two printed means is off by half a unit of each.
    of_cells = 10.0 ** -claim.comparisons[0].methods[0].decimals
    rounding = of_cells if claim.decimals is None else 0.5 * 10.0**-claim.decimals
    found = reach(parts, rounding=rounding)
    here = float(np.mean([gap.mean for gap in gaps]))
    interval = Interval(here - found.half, here + found.half)
    if printed > interval.high:
        return "does not hold", interval, found.detectable
    shown = found.detectable <= abs(printed) or printed < interval.low
    return "holds" if shown and here > 0 else "inconclusive", interval, found.detectable


def _count(claim: PublishedClaim, printed: float, gaps: Sequence[_Gap]) -> tuple[Outcome, Interval, None]:
    """A count: each comparison of a repetition comes out ahead with the chance that its gap gives it; their sum is
    Poisson-binomial."""
    chances = np.ones(1)
    for gap in gaps:
        ahead = _chance(gap)
        chances = np.convolve(chances, [1 - ahead, ahead])
    below = np.cumsum(chances)
    low = int(np.searchsorted(below, 0.025, side="right"))
    high = int(np.searchsorted(below, 0.975, side="left"))
    interval = Interval(float(low), float(min(high, len(gaps))))
    if printed > interval.high:
        return "does not hold", interval, None
    return "holds" if interval.low > len(gaps) / 2 else "inconclusive", interval, None


def _chance(gap: _Gap) -> float:
    """How probably a repetition prints the method ahead."""
    variance = sum(part for part, _ in gap.parts)
    if not variance > 0:
        return 0.5 + 0.5 * float(np.sign(gap.mean))
    df = variance**2 / sum(part**2 / degrees for part, degrees in gap.parts)
    return float(scipy_special().stdtr(df, gap.mean / math.sqrt(variance)))


def read_published(
    connection: duckdb.DuckDBPyConnection, suite: str | None, at: str
) -> tuple[list[Reproduced], list[JudgedClaim]]:
    """The printed cells and claims of one suite, or of all suites here that reproduce a table.

    Raises:
        ResultsError: for an epoch that no number is read at, a suite that reproduces nothing printed, or none here that does.
    """
    if at not in EPOCHS:
        raise ResultsError(f"printed numbers are read at {', '.join(EPOCHS)}, got {at!r}", "--metric")
    known = sorted({suite_of(row) for row in published_rows(connection)})
    if suite is not None and suite not in known:
        raise ResultsError(unknown("published table", suite, known), "--suite")
    wanted = [suite] if suite is not None else [name for name in suites_in(connection) if name in known]
    if not wanted:
        raise ResultsError(
            "no suite here reproduces a paper's table", "--published", "`harness suites` lists those that do"
        )
    found = [item for name in wanted for item in reproduce(connection, name, at)]
    return found, judge_claims((claim for claim in load_claims() if claim.suite in wanted), found)


# --- in words ---------------------------------------------------------------------------------------------------------


def printed_text(judged: JudgedClaim) -> str:
    """What the paper prints: ``+1.44``, ``11 of 12``."""
    if judged.claim.kind == "count":
        return f"{judged.printed:.0f} of {len(judged.claim.comparisons)}"
    return f"{judged.printed:+.2f}"


def here_text(judged: JudgedClaim) -> str:
    """The same of ours, with what a repetition would print in 95 % of cases: ``+1.03 [+0.20, +1.86]``, ``8 of 12 [6, 11]``."""
    if judged.here is None:
        return "-"
    if judged.claim.kind == "count":
        return f"{judged.here:.0f} of {judged.covered} {interval_of(judged)}".strip()
    return f"{judged.here:+.2f} {interval_of(judged)}".strip()


def interval_of(judged: JudgedClaim) -> str:
    """The interval of a claim as ``[+0.20, +1.10]`` or ``[3, 9]``; empty where there is none."""
    if judged.interval is None:
        return ""
    low, high = judged.interval
    return f"[{low:.0f}, {high:.0f}]" if judged.claim.kind == "count" else f"[{low:+.2f}, {high:+.2f}]"


def why(judged: JudgedClaim) -> str:
    """What a reader must know beside the verdict: numbers alone, reasons, assumptions, what could have been seen."""
    alone = f"by numbers: {judged.by_numbers}" if judged.by_numbers is not None else ""
    seen = ""
    if "inconclusive" in (judged.verdict, judged.by_numbers) and judged.detectable is not None:
        seen = f"a gain of {judged.detectable:.2g} could have been seen"
    parts = (alone, seen, judged.reason, *judged.assumptions, judged.claim.flag or "")
    return "; ".join(part for part in parts if part)


def claims_sentence(judged: Sequence[JudgedClaim]) -> str:
    """What becomes of the claims that are reproduced, in a sentence; empty where none is."""
    told = [one for one in judged if one.covered]
    if not told:
        return ""
    counts = {outcome: sum(one.verdict == outcome for one in told) for outcome in OUTCOMES}
    alone = [one.by_numbers for one in told if one.by_numbers is not None]
    plural = "claims" if len(told) > 1 else "claim"
    text = (
        f"{len(told)} {plural} of the text reproduced: {counts['holds']} hold, {counts['does not hold']} do not, "
        f"{counts['inconclusive']} inconclusive, {counts['not comparable']} not comparable."
    )
    if alone:
        numbers = ", ".join(f"{alone.count(outcome)} {word}" for outcome, word in _WORDS.items())
        text += f" {len(alone)} were run in another configuration; by their numbers {numbers}."
    return text


_WORDS: Final[dict[Outcome, str]] = {"holds": "hold", "does not hold": "do not", "inconclusive": "are inconclusive"}


def claim_lines(judged: Sequence[JudgedClaim]) -> list[str]:
    """One line for each claim that has an answer: what is claimed, what is here, and the verdict."""
    lines = []
    for one in judged:
        if one.covered:
            note = why(one)
            ours = f" [{one.setting}]" if one.setting else ""
            lines.append(
                f"{one.claim.suite}{ours}: {one.claim.says} ({one.claim.place}, p. {one.claim.page}): printed {printed_text(one)}, "
                f"here {here_text(one)}: {one.verdict}" + (f" ({note})" if note else "")
            )
    return lines
