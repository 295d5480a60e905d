"""What stands in tables and beside them, the same on the page and in the static site; templates write it as HTML."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

from harness.papers.claims import JudgedClaim, claims_sentence, here_text, printed_text, why
from harness.papers.reproduction import Reproduced, ordering_sentence, remarks, value_text
from harness.papers.verdict import OrderingAgreement
from harness.results.quantities import MOMENTS, QUANTITIES, SAMPLE_GROUPS, Quantity, curve_charts, find_quantity, moment
from harness.results.report import TIES, WORDS, Mark, mark_of, shorten
from harness.results.statistics import Interval
from harness.words import counted, duration
from harness_leaderboard import charts
from harness_leaderboard.progress import SuiteProgress
from harness_leaderboard.queries import TrialFacts
from harness_leaderboard.render import human_bytes, joined, part
from harness_leaderboard.views import Leaderboard, MethodComparison, MethodCost, RankedMethod

Link = Callable[[str], str]
VERDICTS = {
    "consistent": ("good", "✓"),
    "inconclusive": ("", "?"),
    "below": ("bad", "▼"),
    "above": ("warn", "▲"),
    "not comparable": ("", "∅"),
}
OUTCOMES = {
    "holds": ("good", "✓"),
    "inconclusive": ("", "?"),
    "does not hold": ("bad", "✕"),
    "not comparable": ("", "∅"),
}
STATES = {
    "done": ("good", "✓"),
    "diverged": ("bad", "∞"),
    "failed": ("bad", "✕"),
    "running": ("", "▶"),
    "queued": ("", "…"),
    "lost": ("warn", "?"),
    "missing": ("", "·"),
    "stale": ("warn", "↻"),
    "quarantined": ("bad", "⚠"),
}
MOST_ROWS = 300


def trial_link(trial_id: str) -> str:
    """Where a trial is shown by the app."""
    return f"trial?trial={trial_id}"


def lead(said: str) -> Markup:
    """A paragraph that a page begins with."""
    return part("macros.html", "lead", said=said)


def note(said: str) -> Markup:
    """A paragraph in small print."""
    return part("macros.html", "note", said=said)


def code(value: str) -> Markup:
    """Text as it is, in a box that scrolls."""
    return part("macros.html", "code", value=value)


def difference_text(metric: Quantity, value: float | None) -> str:
    """A difference in the shown unit, always with its sign."""
    if value is None:
        return "–"
    return f"{100 * value:+.2f}" if metric.percent else f"{value:+.4g}"


def interval_text(metric: Quantity, interval: Interval | None) -> str:
    """An interval in the shown unit, for tooltips and small print."""
    return "" if interval is None else f"[{metric.show(interval.low)}, {metric.show(interval.high)}]"


# --- the leaderboard --------------------------------------------------------------------------------------------------


def leaderboard_head(ranked: Leaderboard) -> Markup:
    """The conclusion and what the table shows, above it."""
    board = ranked.board
    unit = f" ({board.metric.unit_shown})" if board.metric.unit_shown else ""
    notes = [f"{board.title[:1].upper()}{board.title[1:]}{unit}"]
    notes.append("higher is better" if board.higher_is_better else "lower is better")
    notes.append(counted(len(ranked.settings), "setting"))
    if len(ranked.shown) < len(ranked.settings):
        notes.append(
            f"columns for the first {len(ranked.shown)}, filter to see others; everything else counts them all"
        )
    if board.at == "best":
        notes.append("⚠ the best epoch is chosen on test data: an oracle, not a result")
    if not board.comparable:
        notes.append("⚠ run at --scale quick: not comparable with published numbers")
    return part("board.html", "head", board=board, said="; ".join(notes))


def leaderboard_table(
    ranked: Leaderboard,
    trials: Mapping[tuple[str, str], str],
    extra: Sequence[tuple[str, str, Mapping[str, tuple[float, str]]]] = (),
    to: Link = trial_link,
) -> Markup:
    """The ranking: one row per method, a cell per setting that leads to its trials.

    Args:
        ranked: from :func:`rank_methods`.
        trials: the first trial of every cell.
        extra: plugins' columns: title, help, and ``{method: (value, shown)}``.
        to: a trial's address.
    """
    reach = [abs(e) for s in ranked.standings for e in (s.difference_interval or (s.difference or 0.0,))]
    widest = _span(reach)
    rows, before = [], None
    for standing in ranked.standings:
        kinds = ["unranked"] if standing.row.rank is None else []
        if before is not None and standing.tier is not None and standing.tier > before:
            kinds.append("tier")
        before = max(before or 0, standing.tier or 0) or before
        rows.append({"kinds": " ".join(kinds), **_row(standing, ranked, trials, extra, widest, to)})
    searched = bool(ranked.board.tuning)
    return part(
        "board.html", "table", ranked=ranked, rows=rows, extra=extra, short=shorten(ranked.shown), searched=searched
    )


def _row(
    standing: RankedMethod,
    ranked: Leaderboard,
    trials: Mapping[tuple[str, str], str],
    extra: Sequence[tuple[str, str, Mapping[str, tuple[float, str]]]],
    widest: float,
    to: Link,
) -> dict[str, Any]:
    """What stands in a method's row."""
    board, metric = ranked.board, ranked.board.metric
    first = next((trials[standing.method, s] for s in ranked.shown if (standing.method, s) in trials), None)
    span, interval = standing.rank_interval, standing.difference_interval
    shown = words = difference_text(metric, standing.difference)
    low, high = interval if interval is not None else (None, None)
    if interval is not None:
        words = f"{shown} {_interval(metric, interval)}"
    whole = standing.difference_settings == len(ranked.settings)
    return {
        "standing": standing,
        "first": to(first) if first else "",
        "owners": [(Path(owner).name, owner) for owner in board.owners.get(standing.method, ())],
        "span": "" if span is None or span.low == span.high else f"{span.low:.0f}–{span.high:.0f}",
        "mean_span": interval_text(metric, standing.mean_interval),
        "is_reference": standing.method == ranked.reference,
        "shown": shown,
        "words": words,
        "drawn": charts.interval_mark(low, standing.difference, high, widest, words),
        "over": "" if whole else counted(standing.difference_settings, "setting"),
        "extra": [values.get(standing.method, (math.nan, "–")) for _, _, values in extra],
        "cells": [
            _score(standing, ranked, setting, trials.get((standing.method, setting)), to) for setting in ranked.shown
        ],
    }


def _span(reach: Sequence[float]) -> float:
    """What small intervals are drawn to: the largest but far outliers, which end at the edge."""
    ordered = sorted(reach)
    if not ordered:
        return 0.0
    usual = 3 * ordered[len(ordered) // 2]
    return max((value for value in ordered if value <= usual), default=ordered[-1]) or ordered[-1]


MARK_SIGNS: Mapping[Mark, str] = {"best": "★", "equal": "=", "undecided": "?"}


@dataclasses.dataclass(slots=True)
class Score:
    """What stands in the cell of a method and a setting: its ``value`` (empty where there is none), what it leads to, how it is
    marked and sorted, and what is said under it."""

    value: str
    href: str
    failed: bool = False
    kind: str = "cell"
    seen: str = ""
    sort: str = ""
    heat: str = ""
    tied: bool = False
    small: str = ""
    sign: str | None = None
    word: str = ""
    notes: tuple[str, ...] = ()


def _score(standing: RankedMethod, ranked: Leaderboard, setting: str, trial: str | None, to: Link) -> Score:
    metric, cell = ranked.board.metric, standing.row.cells.get(setting)
    href = to(trial) if trial else ""
    if cell is None or cell.mean is None:
        return Score("", href, failed=cell is not None and bool(cell.failed))
    mark = mark_of(ranked.board, standing.method, setting)
    gap = ranked.board.gaps.get(setting, {}).get(standing.method) if mark == "undecided" else None
    spread = f" ± {metric.show(cell.std)}" if cell.std is not None else ""
    count = "" if cell.n == cell.expected else f" ({cell.n}/{cell.expected})"
    return Score(
        metric.show(cell.mean),
        href,
        kind="cell best" if mark == "best" else "cell",
        seen=_seen(metric, gap) if gap is not None else "",
        sort=f"{cell.mean:.6g}",
        heat=f"{ranked.heat.get((standing.method, setting)) or 0:.2f}",
        tied=mark in TIES,
        small=spread + count,
        sign=MARK_SIGNS.get(mark) if mark is not None else None,
        word=WORDS[mark] if mark is not None else "",
        notes=cell.notes,
    )


def _seen(metric: Quantity, gap: float) -> str:
    return f"too noisy to tell: a gap of {metric.show(gap)} is found with a chance of 0.8, a smaller one with less"


def leaderboard_questions(ranked: Leaderboard) -> Markup:
    """What a reader may ask: which gaps would have been seen, and what methods without a rank are estimated at."""
    gaps: list[tuple[str, Interval]] = []
    margin = None
    if ranked.top is not None and ranked.top.detectable is not None:
        margin, short = ranked.top.margin, shorten(ranked.shown)
        gaps += [("all settings", ranked.top.detectable)] if len(ranked.settings) > 1 else []
        gaps += [
            (short[setting], Interval(min(found.values()), max(found.values())))
            for setting, found in ranked.board.gaps.items()
            if found
        ]
    return part(
        "board.html", "questions", metric=ranked.board.metric, margin=margin, gaps=gaps, estimates=ranked.estimates
    )


def leaderboard_legend(ranked: Leaderboard) -> Markup:
    """What the signs mean that its table may hold."""
    estimated = any(standing.row.estimated for standing in ranked.standings)
    methods, short = {standing.row.method for standing in ranked.standings}, shorten(ranked.shown)
    rates = [
        (f"{method}, {short[setting]}" if len(short) > 1 else method, *pair)
        for (method, setting), pair in ranked.board.rates.items()
        if method in methods and setting in short
    ]
    return part("board.html", "legend", words=WORDS, estimated=estimated, rates=rates)


# --- compare ----------------------------------------------------------------------------------------------------------


def comparison_tables(
    found: MethodComparison, metric: Quantity, names: Mapping[str, str], labels: Mapping[str, str]
) -> Markup:
    """Summary per method, then every setting; ``names`` are those of settings, ``labels`` those of methods."""
    summaries = []
    for method in found.methods:
        summary, chance = found.summaries[method], found.improvements[method]
        known = chance.interval if chance is not None else None
        summaries.append(
            {
                "method": labels[method],
                "difference": summary.difference,
                "shown": difference_text(metric, summary.difference),
                "interval": _interval(metric, summary.difference_interval),
                "iqm": summary.iqm,
                "iqm_shown": "–"
                if summary.iqm is None
                else f"{difference_text(metric, summary.iqm)} {_interval(metric, summary.iqm_interval)}",
                "chance": chance.probability if chance is not None and known is not None else None,
                "chance_shown": f"{100 * chance.probability:.0f} % [{100 * known.low:.0f}, {100 * known.high:.0f}]"
                if chance is not None and known is not None
                else "",
                "why": "–" if chance is None else chance.reason,
            }
        )
    reach = [abs(v) for p in found.pairs for v in (p.comparison.interval or (p.comparison.difference or 0.0,))]
    widest = _span(reach)
    pairs = []
    for pair in found.pairs:
        made = pair.comparison
        low, high = made.interval if made.interval is not None else (None, None)
        shown = difference_text(metric, made.difference)
        small = "< 0.001" if made.p_value is not None and made.p_value < 0.001 else ""
        pairs.append(
            {
                "setting": names.get(pair.setting, pair.setting),
                "method": labels[pair.method],
                "difference": made.difference,
                "shown": shown,
                "interval": _interval(metric, made.interval),
                "drawn": charts.interval_mark(low, made.difference, high, widest, shown),
                "p": made.p_value,
                "p_shown": "–" if made.p_value is None else small or f"{made.p_value:.3f}",
                "n": made.n,
                "paired": made.paired,
            }
        )
    return part("compare.html", "tables", reference=labels[found.reference], summaries=summaries, pairs=pairs)


def _interval(metric: Quantity, interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"[{difference_text(metric, interval.low)}, {difference_text(metric, interval.high)}]"


def profile_chart(found: MethodComparison, metric: Quantity) -> Markup:
    """Share of runs that reach a score, one curve per method."""
    scale = metric.factor

    def plain(values: Iterable[float]) -> list[float | None]:
        return [None if math.isnan(v) else 100 * float(v) for v in values]

    profile = found.profile
    series = [
        charts.Series(
            method,
            [float(scale * t) for t in profile.tau],
            plain(profile.fraction[i]),
            plain(profile.low[i]),
            plain(profile.high[i]),
        )
        for i, method in enumerate(profile.methods)
    ]
    return charts.lines(series, "Performance profile", metric.axis, "share of runs beyond it, %")


# --- one trial --------------------------------------------------------------------------------------------------------


def curves(
    epochs: Sequence[Mapping[str, Any]],
    further: Mapping[str, Sequence[tuple[int, float]]] = MappingProxyType({}),
    known: Mapping[str, Quantity] = QUANTITIES,
) -> Markup:
    """The training curves that a trial has.

    Args:
        epochs: rows of the table ``epochs``.
        further: by name, what has no column there, as (epoch, value).
        known: the quantities of the store.
    """
    drawn = []
    span = (float(epochs[0]["epoch"]), float(epochs[-1]["epoch"])) if epochs else None
    for chart in curve_charts(known):
        series = []
        for quantity in chart.curves:
            points = _points(quantity, epochs, further)
            if points:
                values = [chart.factor * float(y) for _, y in points]
                series.append(charts.Series(quantity.label or quantity.title, [float(x) for x, _ in points], values))
        if series:
            drawn.append((chart.title, charts.lines(series, chart.title, "epoch", chart.unit, x_range=span)))
    return _side_by_side(drawn, "No epoch has been recorded.")


def _points(
    quantity: Quantity, epochs: Sequence[Mapping[str, Any]], further: Mapping[str, Sequence[tuple[int, float]]]
) -> Sequence[tuple[Any, Any]]:
    """What a quantity was at every epoch at which it was taken."""
    if not quantity.column:
        return further.get(quantity.name, ())
    return [(e["epoch"], e[quantity.column]) for e in epochs if e.get(quantity.column) is not None]


def _side_by_side(drawn: Sequence[tuple[str, Markup]], otherwise: str = "") -> Markup:
    """Charts with their titles; a note where there is none."""
    return part("trial.html", "charts", drawn=drawn, otherwise=otherwise)


def diagnostics(
    found: Mapping[str, Sequence[tuple[int, float]]],
    known: Mapping[str, Quantity],
    histograms: Mapping[str, Any] | None,
) -> Markup:
    """What the algorithms recorded, a chart each (what is a quantity stands among the curves), and scores of clean and of
    corrupted samples."""
    drawn = []
    for name, points in found.items():
        if name not in known:
            series = charts.Series(name, [float(x) for x, _ in points], [float(y) for _, y in points])
            drawn.append((name, charts.lines([series], name, "epoch", "")))
    return joined([_side_by_side(drawn), _side_by_side(_histograms(histograms or {}))])


def _histograms(histograms: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    drawn = []
    for name, found in histograms.items():
        edges = found.get("edges")
        low, high = found.get("range", (None, None))
        reach = "" if low is None else f" (outermost bins: from {low:.3g}, to {high:.3g})"
        x = found["values"] if edges is None else [(a + b) / 2 for a, b in itertools.pairwise(edges)]
        series = []
        for kind in (kind for kind in SAMPLE_GROUPS if kind in found):
            total = sum(found[kind]) or 1
            series.append(charts.Series(kind, [float(v) for v in x], [100 * count / total for count in found[kind]]))
        chart = charts.lines(series, f"Histogram of {name}", name + reach, "share of samples, %")
        drawn.append((f"Score {name}", chart))
    return drawn


def transition_chart(counts: Sequence[Sequence[int]] | None) -> Markup:
    """How the training labels were corrupted: shares of the given class for every clean class."""
    if not counts:
        return note("Not recorded (nobody knows the truth, regression, more than 100 classes, or an older record).")
    shares = [[value / max(1, sum(line)) for value in line] for line in counts]
    chart = charts.heatmap(shares, "Transition matrix of the training labels, %", "clean class", "given class")
    return _side_by_side([("", chart)])


def seeds_chart(
    rows: Sequence[Mapping[str, Any]], shown: str, metric: Quantity, at: str, interval: Interval | None, to: Link
) -> Markup:
    """The seeds of a cell as dots, with mean and interval; a dot leads to its trial."""
    scale = metric.factor
    points = [
        charts.Point(
            scale * row["value"], 0.0, f"seed {row['seed']}: {metric.show(row['value'])}", f"{row['seed']}",
            to(row["trial"]), front=row["trial"] == shown,
        )
        for row in rows
        if row["value"] is not None
    ]  # fmt: skip
    mean = sum(p.x for p in points) / len(points) if points else None
    span = (scale * interval.low, scale * interval.high) if interval is not None else None
    return charts.dots(points, "Seeds of this cell", f"{metric.words(at)} {metric.unit}".strip(), span, mean)


def seed_chips(rows: Sequence[Mapping[str, Any]], shown: str, to: Link) -> Markup:
    """The seeds as links, with their status in words and signs."""
    return part("trial.html", "chips", rows=rows, shown=shown, to=to)


def trial_facts(found: TrialFacts) -> list[tuple[str, object]]:
    """Where a trial's numbers come from: commit, versions, machine; what is not known is left out."""
    environment, row = found.environment, found.trial
    final = next((a for a in found.attempts if a["final"]), {})
    versions = environment.get("versions") or {}
    machine = [environment.get(key) for key in ("host", "device_name", "cpu", "platform")]
    device = environment.get("device")
    pairs = [
        ("trial", row["trial"]),
        ("status", row["status"]),
        ("attempts", f"{row['attempts']} (shown: {row['attempt']})" if row["attempts"] else "none"),
        ("commit", environment.get("commit") or final.get("commit")),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("python", environment.get("python")),
        ("machine", ", ".join(str(part) for part in machine if part)),
        ("device", f"{device}, {counted(environment.get('threads') or 1, 'thread')}" if device else None),
        ("executor", environment.get("executor")),
        ("job", environment.get("job")),
        ("took", duration(final.get("seconds")) if final.get("seconds") is not None else None),
        ("label digest", row["label_digest"]),
        ("corrupted labels", f"{100 * row['corrupted']:.2f} %" if row["corrupted"] is not None else None),
        ("clean labels known of", row["truth_known"] and counted(row["truth_known"], "training sample")),
        ("test labels", {True: "trusted", False: "as given, not trusted"}.get(row["test_trusted"])),
        ("selected epoch", row["selected_epoch"]),
    ]
    return [(name, value) for name, value in pairs if value not in (None, "", {})]


def metric_rows(found: TrialFacts, known: Mapping[str, Quantity]) -> Markup:
    """All metrics of a trial: a row each, a column for every moment at which one was taken."""
    moments = [at for at in MOMENTS if any(taken == at for _, taken in found.metrics)]
    moments += sorted({at for _, at in found.metrics} - set(moments))
    rows = []
    for name in dict.fromkeys(name for name, _ in found.metrics):
        metric = find_quantity(name, known)
        title = f"{metric.title} ({metric.unit_shown})" if metric.unit_shown else metric.title
        cells = []
        for at in moments:
            value = found.metrics.get((name, at))
            shown = "" if value is None else human_bytes(value) if name == "peak_memory" else metric.show(value)
            cells.append((value, shown))
        rows.append((title, cells))
    return part("trial.html", "metrics", moments=[moment(at) for at in moments], rows=rows)


def configuration(identity: Mapping[str, Any], options: Mapping[str, Any] | None) -> Markup:
    """The full configuration, defaults filled in."""
    return code(json.dumps({"identity": identity, "options": options or {}}, indent=2, ensure_ascii=False))


def difference_list(rows: Sequence[tuple[str, object, object]]) -> list[tuple[str, str, str]]:
    """Keys in which two configurations differ, as text."""
    return [(key, _json(here), _json(there)) for key, here, there in rows]


def _json(value: object) -> str:
    return "absent" if value is ... else json.dumps(value, ensure_ascii=False)


# --- published --------------------------------------------------------------------------------------------------------


def _faced(printed: Mapping[str, Any]) -> str:
    """What a printed cell is about: data set, noise, rate and what else tells it apart."""
    rate = "" if printed["rate"] is None else f" {printed['rate']:g}"
    noise = [] if printed["noise"] is None else [f"{printed['noise']}{rate}"]
    extra = [f"{key} {value}" for key, value in json.loads(printed["extra"] or "{}").items()]
    return ", ".join([part for part in (printed["dataset"],) if part] + noise + extra)


def published_table(found: Sequence[Reproduced]) -> Markup:
    """Printed against reproduced with a forest plot of the differences."""
    reach = [abs(v) for item in found for v in (item.check.interval or ())]
    reach += [
        abs(item.check.difference) for item in found if item.check.difference is not None and not item.check.interval
    ]
    widest = _span(reach)
    rows = [_printed(item, widest) for item in found[:MOST_ROWS]]
    return part("published.html", "table", rows=rows, more=max(0, len(found) - MOST_ROWS))


def _printed(item: Reproduced, widest: float) -> dict[str, Any]:
    """What stands in the row of a printed number."""
    printed, check = item.printed, item.check
    kind, sign = VERDICTS[check.verdict]
    bare = check.reason == "not reproduced"
    low, high = check.interval if check.interval is not None else (None, None)
    shown = "–" if check.difference is None else f"{check.difference:+.2f}"
    span = f" [{low:+.2f}, {high:+.2f}]" if low is not None and high is not None else ""
    alone = f"by numbers {check.by_numbers}" if check.by_numbers is not None else ""
    epoch = f"epoch not said: {item.assumed_at}" if item.assumed_at and item.values else ""
    why = "; ".join(part for part in (alone, remarks(check, "" if bare else None), epoch) if part)
    return {
        "method": printed["method"] or printed["label"],
        "where": f"{printed['column']}, {printed['block']}" if printed.get("block") else printed["column"],
        "about": _faced(printed),
        "printed": printed["mean"],
        "printed_shown": value_text(printed["mean"], printed["std"], printed["n"]),
        "here": item.mean,
        "here_shown": item.text if item.values else "–",
        "difference": check.difference,
        "difference_shown": shown,
        "span": span,
        "drawn": charts.interval_mark(low, check.difference, high, widest, shown + span),
        "kind": kind,
        "sign": sign,
        "verdict": check.reason if bare else check.verdict,
        "note": textwrap.shorten(why, 160) if why else printed["flag"] or "",
        "suite": item.suite,
        "place": f"p. {printed['page']}" if printed["page"] else "quoted",
    }


def claims_list(claims: Sequence[JudgedClaim]) -> Markup:
    """What papers claim of their tables as a whole, with our value and the verdict; empty where none is reproduced."""
    rows = []
    for one in claims:
        if one.covered:
            kind, sign = OUTCOMES[one.verdict]
            rows.append(
                {
                    "says": one.claim.says,
                    "about": f"{one.claim.place}, p. {one.claim.page}" + (f"; {one.setting}" if one.setting else ""),
                    "printed": one.printed,
                    "printed_shown": printed_text(one),
                    "here": one.here,
                    "here_shown": here_text(one),
                    "kind": kind,
                    "sign": sign,
                    "verdict": one.verdict,
                    "note": textwrap.shorten(why(one), 240),
                    "suite": one.claim.suite,
                }
            )
    return part("published.html", "claims", said=claims_sentence(claims), rows=rows) if rows else Markup()


def printed_order(agreements: Mapping[str, OrderingAgreement]) -> Markup:
    """What becomes of the order in which papers print their methods."""
    return part(
        "published.html", "order", pairs=[(label, ordering_sentence(found)) for label, found in agreements.items()]
    )


# --- cost -------------------------------------------------------------------------------------------------------------


CERTAINTY = {"on": "● on it", "perhaps": "○ perhaps", "off": ""}


def cost_head(found: Sequence[MethodCost]) -> Markup:
    """Who is on the Pareto front, and of whom the runs do not decide it."""
    on, perhaps = ([cost.method for cost in found if cost.certainty == kind] for kind in ("on", "perhaps"))
    said = [f"On the Pareto front: {', '.join(on)}"] if on else []
    said += [f"{'perhaps' if on else 'Perhaps on the Pareto front'}: {', '.join(perhaps)}"] if perhaps else []
    return part("cost.html", "head", timed=any(cost.per_epoch for cost in found), said="; ".join(said))


def cost_chart(found: Sequence[MethodCost], metric: Quantity) -> Markup:
    """Score against seconds per epoch, the time axis logarithmic."""
    scale = metric.factor
    points = [
        charts.Point(
            cost.per_epoch,
            scale * cost.score,
            f"{cost.method}: {metric.show(cost.score)} {metric.unit}, {cost.per_epoch:.3g} s per epoch, Pareto front: "
            + {"on": "on it", "perhaps": "perhaps", "off": "off"}[cost.certainty],
            textwrap.shorten(cost.method, 22, placeholder="…") or cost.method[:22],
            front=cost.front,
            open=cost.certainty == "perhaps",
            x_span=cost.per_epoch_interval,
            y_span=cost.score_interval and (scale * cost.score_interval.low, scale * cost.score_interval.high),
        )
        for cost in found
        if cost.per_epoch
    ]
    title = metric.axis
    return charts.scatter(
        points, f"{metric.title} against time", "seconds per epoch, without evaluation (log)", title, log_x=True
    )


def cost_table(found: Sequence[MethodCost], metric: Quantity) -> Markup:
    """Time, memory and parameters of every ranked method."""
    return part("cost.html", "table", rows=[(cost, CERTAINTY[cost.certainty]) for cost in found], metric=metric)


# --- progress ---------------------------------------------------------------------------------------------------------


def progress_bar(found: SuiteProgress) -> Markup:
    """How many trials stand where, as a bar and in words."""
    total = len(found.states)
    counts = {status: found.count(status) for status in STATES}
    words = ", ".join(f"{STATES[status][1]} {count} {status}" for status, count in counts.items() if count)
    remaining = found.remaining()
    return part(
        "progress.html",
        "bar",
        finished=counts["done"] + counts["diverged"] + counts["stale"],
        total=total,
        parts=[(status, f"{100 * count / max(1, total):.2f}") for status, count in counts.items() if count],
        words=words,
        left=f"; about {duration(remaining)} of single-process time remain" if remaining else "",
    )


def progress_tables(found: SuiteProgress, to: Link = trial_link) -> Markup:
    """What runs, what failed or is in quarantine and why, what is missing."""
    of = {status: [s for s in found.states if s.status == status] for status in STATES}
    ended = (("Failed", of["failed"]), ("In quarantine", of["quarantined"]))
    groups: dict[tuple[str, str], list[int]] = {}
    for state in (*of["missing"], *of["lost"], *of["queued"]):
        groups.setdefault((state.method, state.setting), []).append(state.seed)
    return part(
        "progress.html",
        "tables",
        running=of["running"],
        ended=[(title, [(state, textwrap.shorten(state.error, 400)) for state in states]) for title, states in ended],
        missing=[(method, setting, seeds) for (method, setting), seeds in groups.items()],
        most=MOST_ROWS,
        to=to,
    )
