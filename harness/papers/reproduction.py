"""Printed numbers beside reproduced ones: which of our cells answers which of a paper's, and what the comparison says.

The table ``table2`` of the paper ``kpd`` is reproduced by the suite ``kpd/table2``; a printed cell is answered by the
cell of the same method in the setting with the same data set, noise, rate and model. This is the one place that joins
the two; the terminal, the page and the static site show what it finds.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.results.collapse import collapsed
from harness.results.quantities import find_quantity
from harness.results.report import COLLAPSE_AT, fallen
from harness.words import counted

if TYPE_CHECKING:
    import duckdb

    from harness.papers.verdict import OrderingAgreement, PublishedCheck

SCALES: Mapping[str, float] = {"percent": 100.0}
"""What recorded values are multiplied by to be in a printed unit; every other unit is recorded as printed."""


@dataclasses.dataclass(frozen=True)
class Reproduced:
    """One printed cell and our answer.

    Attributes:
        printed: the row of the store's table ``published``.
        setting: our setting that answers it; ``None`` when no suite does.
        values: our scores by seed, in the printed unit.
        check: difference, prediction interval and verdict.
        assumed_at: the epoch that ours is read at because the paper does not say; empty where it does.
        departure: in what ours was trained otherwise than the packaged suite asks for.
        reduced: whether ours was run at ``--scale quick``.
        step: the least difference of two of our scores.
        mixed: whether some of our runs collapsed or diverged and others did not.
    """

    printed: Mapping[str, Any]
    setting: str | None
    values: Mapping[int, float]
    check: PublishedCheck
    assumed_at: str = ""
    departure: str = ""
    reduced: bool = False
    step: float = 0.0
    mixed: bool = False

    @property
    def suite(self) -> str:
        """The suite that reproduces the cell's table."""
        return suite_of(self.printed)

    @property
    def mean(self) -> float | None:
        """Our mean, in the printed unit."""
        return sum(self.values.values()) / len(self.values) if self.values else None

    @property
    def text(self) -> str:
        """Our cell as ``91.20 ± 0.31 (3)``; a dash where there is none."""
        from harness.results.statistics import cell

        found = cell(list(self.values.values())) if self.values else None
        return "-" if found is None else value_text(found.mean, found.std, found.n)


def value_text(mean: float, std: float | None, n: int | None) -> str:
    """A number as papers print it, with n in brackets: ``91.20 ± 0.31 (5)``, ``91.20 (n?)`` where n is not said."""
    spread = f" ± {std:.2f}" if std is not None else ""
    return f"{mean:.2f}{spread} ({n if n is not None else 'n?'})"


def remarks(check: PublishedCheck, reason: str | None = None) -> str:
    """What a reader must know beside the verdict: the gap that an inconclusive comparison could have found, runs that
    collapsed or diverged, the reason (``reason`` in its place) and what was assumed; empty where there is nothing."""
    seen = ""
    if "inconclusive" in (check.verdict, check.by_numbers) and check.detectable is not None:
        seen = f"a gap of {check.detectable:.2g} could have been seen"
    parts = (seen, check.fallen, check.reason if reason is None else reason, *check.assumptions)
    return "; ".join(part for part in parts if part)


def summary_sentence(found: Iterable[Reproduced]) -> str:
    """Verdict counts in a sentence."""
    from harness.papers.verdict import summarise_published

    summary = summarise_published(item.check for item in found)
    compared = summary.cells - summary.not_comparable
    gap = summary.mean_absolute_difference
    mean = f" Mean absolute difference {gap:.2f} over {counted(summary.measured, 'cell')}." if gap is not None else ""
    departing = ""
    if summary.departing:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in summary.by_numbers.items())
        if bare := summary.departing - sum(summary.by_numbers.values()):
            counts += f", {bare} undecided (one seed)"
        departing = (
            f" {counted(summary.departing, 'was', 'were')} run in another configuration than the paper's suite asks for; their numbers alone "
            f"would be {counts}."
        )
    return (
        f"{compared} of {summary.cells} printed numbers compared: {summary.consistent} consistent, {summary.below} below, "
        f"{summary.above} above the printed one, {summary.inconclusive} inconclusive (a gap that matters would not have been "
        f"seen). {summary.not_comparable} not comparable or not reproduced.{departing}{mean}"
    )


def ordering_sentence(agreement: OrderingAgreement) -> str:
    """What becomes of a printed order of methods, in a sentence."""
    tau = f", Kendall's tau-b {agreement.tau_b:.2f}" if agreement.tau_b is not None else ""
    against = "; ".join(f"{better} beats {worse} here" for better, worse in agreement.disagreements)
    return (
        f"of the printed order, {counted(agreement.agree, 'pair holds', 'pairs hold')}, {counted(agreement.disagree, 'is', 'are')} "
        f"reversed, {counted(agreement.undecided, 'is', 'are')} undecided ({counted(len(agreement.methods), 'method')}{tau})"
        + (f": {against}" if against else "")
    )


def published_rows(connection: duckdb.DuckDBPyConnection, suite: str | None = None) -> list[dict[str, Any]]:
    """The printed cells of one suite's table, or all of them, in the order of the papers."""
    where = "WHERE paper || '/' || \"table\" = ?" if suite is not None else ""
    found = connection.execute(f"SELECT * FROM published {where}", [suite] if suite is not None else [])
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


EPOCHS = ("last", "selected", "best", "last10")
"""What a paper that does not say its epoch may be read at."""


def reproduce(connection: duckdb.DuckDBPyConnection, suite: str | None = None, at: str = "last") -> list[Reproduced]:
    """Every printed cell (of the table that ``suite`` reproduces, or of all) with our answer.

    ``at`` (one of ``EPOCHS``) is where ours is read when the paper does not say. A cell that several of our settings answer,
    since the paper leaves open in what they differ, is there once for each.
    """
    printed = published_rows(connection, suite)
    suites = sorted({suite_of(row) for row in printed})
    ours, departures = _ours(connection, suites), _departures(connection, suites)
    return [item for row in printed for item in _answers(row, ours.get(suite_of(row), {}), departures, at)]


def suite_of(printed: Mapping[str, Any]) -> str:
    """The suite that reproduces a printed cell's table."""
    return f"{printed['paper']}/{printed['table']}"


Where = tuple[str | None, str | None, float | None, str | None, str | None, str | None]
HUMAN_LABELS: Mapping[str, str] = {"fine": "noisy"}
"""What papers call a set of human labels -> what its data set calls them, where that differs."""


@dataclasses.dataclass
class Runs:
    """Our runs of one method in one setting, at one epoch and metric.

    Attributes:
        values: by seed, as recorded.
        collapsed, diverged: how many of them.
        samples: test samples of the runs, in which an accuracy is counted; ``None`` where that was not recorded.
    """

    values: dict[int, float] = dataclasses.field(default_factory=dict)
    collapsed: int = 0
    diverged: int = 0
    samples: set[int | None] = dataclasses.field(default_factory=set)

    @property
    def fallen(self) -> str:
        """``1 of 3 collapsed``; empty where none is."""
        return ", ".join(fallen(self.collapsed, self.diverged, len(self.values)))

    @property
    def mixed(self) -> bool:
        """Whether some runs fell and others did not."""
        return 0 < self.collapsed + self.diverged < len(self.values)


Ours = dict[tuple[str, str, str], dict[tuple[Where, str], Runs]]


def _ours(connection: duckdb.DuckDBPyConnection, suites: list[str]) -> dict[str, dict[str, Any]]:
    """By suite: ``cells[method, metric, at][place, setting]``, our runs, and whether it ran at full scale."""
    lines = connection.execute(
        """
        SELECT s.suite, s.method, m.metric, m.at, t.dataset, t.noise, t.rate, t.model,
               json_extract_string(t.identity, '$.noise.params.labels'),
               json_extract_string(t.identity, '$.dataset.params.test'), s.setting, s.seed, m.value, s.comparable,
               t.status, t.num_classes, t.test_samples, p.value
        FROM compared s JOIN trials t USING (trial) JOIN metrics m USING (trial)
        LEFT JOIN metrics p ON p.trial = s.trial AND p.metric = 'predicted_share' AND p.at = m.at
        WHERE t.status IN ('done', 'diverged') AND m.value IS NOT NULL
          AND s.suite IN (SELECT unnest(?::VARCHAR[]))
        """,
        [suites],
    ).fetchall()
    found: dict[str, dict[str, Any]] = {}
    for suite, method, metric, at, *place, setting, seed, value, comparable, status, classes, samples, share in lines:
        of_suite = found.setdefault(suite, {"cells": {}, "comparable": True})
        of_suite["comparable"] &= bool(comparable)
        by_place = of_suite["cells"].setdefault((method, metric, at), {})
        runs = by_place.setdefault((tuple(place), setting), Runs())
        runs.values[int(seed)] = float(value)
        runs.diverged += status == "diverged"
        runs.samples.add(samples)
        if status == "done" and metric == "accuracy" and at in COLLAPSE_AT and classes is not None:
            runs.collapsed += collapsed(float(value), share, int(classes), samples)
    return found


def _departures(connection: duckdb.DuckDBPyConnection, suites: list[str]) -> dict[tuple[str, str, str], str]:
    """By suite, method and setting: in what our trials depart from the packaged suite."""
    from harness.papers.departure import departure

    lines = connection.execute(
        """
        SELECT s.suite, s.method, s.setting, any_value(t.identity)
        FROM compared s JOIN trials t USING (trial)
        WHERE t.status = 'done' AND s.suite IN (SELECT unnest(?::VARCHAR[]))
        GROUP BY ALL
        """,
        [suites],
    ).fetchall()
    return {(s, method, setting): departure(s, method, json.loads(identity)) for s, method, setting, identity in lines}


def _answers(
    printed: dict[str, Any], ours: dict[str, Any], departures: Mapping[tuple[str, str, str], str], unsaid: str
) -> list[Reproduced]:
    from harness.papers.verdict import compare_with_published

    extra = json.loads(printed["extra"] or "{}")
    metric = printed["metric"] or ""
    if metric == "fgsm_accuracy" and "epsilon" in extra:
        metric = f"{metric}@{float(extra['epsilon']):g}"
    at = printed["at"] or unsaid
    cells: Ours = ours.get("cells", {})
    by_place = cells.get((printed["method"] or "", metric, at), {})
    found: list[tuple[str | None, Runs]] = [
        (setting, runs) for (place, setting), runs in by_place.items() if _matches(printed, place)
    ]
    scale = SCALES.get(printed["unit"] or "", 1.0)
    steps: dict[str, float] = ours.setdefault("steps", {})
    if metric not in steps:
        steps[metric] = _step(cells, metric, scale)
    reduced = not ours.get("comparable", True)
    answers = []
    for setting, runs in found or [(None, Runs())]:
        values = runs.values
        reason = "" if printed["comparable"] else _flagged(str(printed["flag"] or ""))
        if not values:
            reason = reason or "not reproduced"
        elif reduced:
            reason = reason or "run at --scale quick"
        scaled = {seed: scale * value for seed, value in sorted(values.items())}
        departure = departures.get((suite_of(printed), printed["method"], setting or ""), "")
        check = compare_with_published(
            list(scaled.values()),
            printed["mean"],
            printed["std"],
            printed["n"],
            decimals=printed["decimals"],
            step=steps[metric],
            gap=gap_that_matters(metric, printed["unit"] or "", printed["mean"]),
            not_comparable=reason,
            departure=departure,
            fallen=runs.fallen,
            mixed=runs.mixed,
        )
        unsaid_at = "" if printed["at"] else at
        answers.append(
            Reproduced(
                printed,
                setting,
                scaled,
                check,
                unsaid_at,
                departure,
                reduced and bool(values),
                steps[metric],
                runs.mixed,
            )
        )
    return answers


def gap_that_matters(metric: str, unit: str, printed: float) -> float:
    """How far from a printed number ours may lie unseen: for a gain that the paper prints the gain itself, else one point of
    accuracy, and a tenth of the printed value where the metric is another one."""
    from harness.papers.verdict import POINT, SHARE

    if unit == "points":
        return abs(printed)
    if "accuracy" in metric:
        return POINT if unit == "percent" else POINT / 100
    return SHARE * abs(printed)


def _step(cells: Ours, metric: str, scale: float) -> float:
    """The least difference between two of our scores: what one more right prediction is worth where the number of test
    samples is known, else the least one seen."""
    runs = [runs for (_, name, _), places in cells.items() if name == metric for runs in places.values()]
    samples = set().union(*(each.samples for each in runs))
    if metric == "accuracy" and samples and None not in samples:
        return scale / max(size or 1 for size in samples)
    found = sorted({value for each in runs for value in each.values.values()})
    gaps = [scale * (b - a) for a, b in itertools.pairwise(found) if b - a > 1e-9]
    return min(gaps, default=0.0)


def _matches(printed: Mapping[str, Any], place: Where) -> bool:
    """Whether all that the paper says of a cell's place holds; what it leaves open may be anything."""
    dataset, noise, rate, model, labels, tested = place
    same_rate = (
        printed["rate"] is None
        or (rate is None and not printed["rate"])
        or (rate is not None and abs(rate - printed["rate"]) < 1e-9)
    )
    extra = json.loads(printed["extra"] or "{}")
    annotation = extra.get("annotation")
    said = (
        (printed["dataset"], dataset),
        (printed["noise"], noise),
        (printed["model"], model),
        (HUMAN_LABELS.get(annotation, annotation), labels),
        (extra.get("evaluated_on"), tested),
    )
    return same_rate and all(theirs is None or theirs == ours for theirs, ours in said)


def _flagged(flag: str) -> str:
    parts = [part for part in flag.split(" | ") if part.startswith(("misprint:", "suspect:", "level:"))]
    return parts[0] if parts else flag


def orderings(connection: duckdb.DuckDBPyConnection, found: Iterable[Reproduced]) -> dict[str, OrderingAgreement]:
    """For every reproduced setting: does the printed order of methods hold here?"""
    from harness.papers.verdict import ordering_agreement
    from harness.results.statistics import Scores, compare_in_setting

    by_setting: dict[tuple[str, str], list[Reproduced]] = {}
    for item in found:
        if item.setting is not None and item.printed["ordered"] and item.printed["method"]:
            extra = json.loads(item.printed["extra"] or "{}")
            label = f"{item.suite}: {item.setting}" + (f", epsilon {extra['epsilon']:g}" if "epsilon" in extra else "")
            by_setting.setdefault((label, item.printed["metric"]), []).append(item)
    agreements = {}
    for (label, metric), items in by_setting.items():
        if len(items) < 2:
            continue
        printed = {item.printed["method"]: float(item.printed["mean"]) for item in items}
        rows = {(item.printed["method"], "here", seed): value for item in items for seed, value in item.values.items()}
        scores = Scores.from_rows(
            ((*key, value) for key, value in rows.items()), higher_is_better=find_quantity(metric).higher_is_better
        )
        agreement = ordering_agreement(printed, compare_in_setting(scores, "here"))
        if len(agreement.methods) > 1:
            agreements[label] = agreement
    return agreements
