"""Tables and texts as HTML, the same on the page and in the static site. Every text from outside goes through `text`."""

from __future__ import annotations

import itertools
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.papers.claims import JudgedClaim, claims_sentence, here_text, printed_text, why
from harness.papers.reproduction import Reproduced, remarks, value_text
from harness.results.board import TIES, WORDS, BoardCell, Mark, mark_of, shorten
from harness.results.quantities import MOMENTS, QUANTITIES, Quantity, curve_charts, find_quantity, moment
from harness.results.statistics import Interval
from harness.words import counted
from harness_leaderboard import charts
from harness_leaderboard.progress import Progress, TrialState
from harness_leaderboard.queries import TrialFacts
from harness_leaderboard.views import Comparison, Leaderboard, MethodCost, Standing

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
    "missing": ("", "·"),
    "stale": ("warn", "↻"),
}
MOST_ROWS = 300


def text(value: object) -> str:
    """Anything as HTML text: markup in it is shown, not obeyed."""
    return escape(str(value), quote=True)


def link(href: str, body: str, title: str = "") -> str:
    """A link that the page follows within its session; ``body`` is HTML."""
    hint = f' title="{text(title)}"' if title else ""
    return f'<a href="{text(href)}" data-go{hint}>{body}</a>'


def trial_link(trial_id: str) -> str:
    """Where a trial is shown by the app."""
    return f"trial?trial={trial_id}"


def table(heads: Sequence[str], body: Iterable[str], name: str) -> str:
    """A table that scrolls sideways by itself and can be reached and named by a screen reader."""
    rows = "".join(body)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(name)}"><table><caption class="sr">{text(name)}'
        f"</caption><thead><tr>{''.join(heads)}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def head(title: str, *, first: str = "descending", left: bool = False, hint: str = "", leading: bool = False) -> str:
    """A column head that sorts; ``first`` is the direction of the first click."""
    kinds = " ".join(kind for kind, on in (("text", left), ("first", leading)) if on)
    named = f' title="{text(hint)}"' if hint else ""
    return f'<th scope="col" class="{kinds}" data-first="{first}"{named}><button data-sort>{text(title)}</button></th>'


def number(value: float | None, shown: str, kind: str = "") -> str:
    """A cell that sorts by its number."""
    sort = "" if value is None or not math.isfinite(value) else repr(float(value))
    return f'<td class="{kind}" data-v="{sort}">{shown}</td>'


def difference_text(metric: Quantity, value: float | None) -> str:
    """A difference in the shown unit, always with its sign."""
    if value is None:
        return "–"
    return f"{100 * value:+.2f}" if metric.percent else f"{value:+.4g}"


def interval_text(metric: Quantity, interval: Interval | None) -> str:
    """An interval in the shown unit, for tooltips and small print."""
    return "" if interval is None else f"[{metric.show(interval.low)}, {metric.show(interval.high)}]"


def human_duration(seconds: float | None) -> str:
    """``45 s``, ``3 min``, ``2.5 h``."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def human_bytes(value: float | None) -> str:
    """``12 MB``, ``1.4 GB``."""
    if value is None:
        return "–"
    return f"{value / 1e6:,.0f} MB" if value < 1e9 else f"{value / 1e9:,.1f} GB"


def human_hours(hours: float | None) -> str:
    """Hours of computing, short."""
    return "–" if hours is None else human_duration(hours * 3600)


# --- the leaderboard --------------------------------------------------------------------------------------------------


def leaderboard_head(view: Leaderboard) -> str:
    """The conclusion and what the table shows, above it."""
    board = view.board
    parts = []
    if board.conclusion:
        parts.append(f'<p class="lead">{text(board.conclusion)}.</p>')
    if board.caution:
        parts.append(f"<p><strong>{text(board.caution)}</strong></p>")
    unit = f" ({board.metric.unit_shown})" if board.metric.unit_shown else ""
    notes = [f"{board.title[:1].upper()}{board.title[1:]}{unit}"]
    notes.append("higher is better" if board.higher_is_better else "lower is better")
    notes.append(counted(len(view.settings), "setting"))
    if len(view.shown) < len(view.settings):
        notes.append(f"columns for the first {len(view.shown)}, filter to see others; everything else counts them all")
    if board.at == "best":
        notes.append("⚠ the best epoch is chosen on test data: an oracle, not a result")
    if not board.comparable:
        notes.append("⚠ run at --scale quick: not comparable with published numbers")
    said = "; ".join(notes)
    tuning = f" {board.tuning}" if board.tuning else ""
    return "".join([*parts, f'<p class="note">{text(said)}.{text(tuning)}</p>'])


def leaderboard_table(
    view: Leaderboard,
    trials: Mapping[tuple[str, str], str],
    extra: Sequence[tuple[str, str, Mapping[str, tuple[float, str]]]] = (),
    to: Link = trial_link,
) -> str:
    """The ranking: one row per method, a cell per setting that leads to its trials.

    Args:
        view: from :func:`rank_methods`.
        trials: the first trial of every cell.
        extra: plugins' columns: title, help, and ``{method: (value, shown)}``.
        to: a trial's address.
    """
    board, metric = view.board, view.board.metric
    several = len(view.settings) > 1
    short = shorten(view.shown)
    heads = [head("Method", first="ascending", left=True, leading=True)]
    heads.append(head("Tier", first="ascending", hint="Methods of one tier cannot be told from its best one."))
    heads.append(
        head(
            "Rank",
            first="ascending",
            hint="Position by mean; beside it where it may lie, by the intervals that make the tiers.",
        )
    )
    searched = bool(board.tuning)
    if searched:
        heads.append(head("Tries", first="ascending", hint="Configurations that the search tried for this method."))
    if several:
        heads.append(head("Mean", hint="Mean over the settings with its 95 % interval."))
    if view.reference is not None:
        hint = "Mean difference; the 95 % intervals of all methods hold together, by Dunnett's adjustment."
        heads.append(head(f"vs {view.reference}, 95 % for all together (Dunnett)", hint=hint))
    if several:
        heads.append(head("Settings", hint="Settings in which no run is missing, of those compared."))
    heads.append(head("Time", first="ascending", hint="Computing time of all seeds of the shown settings."))
    heads += [head(title, hint=hint) for title, hint, _ in extra]
    heads += [head(short[s], hint=s) for s in view.shown]
    reach = [abs(e) for s in view.standings for e in (s.difference_interval or (s.difference or 0.0,))]
    widest = _span(reach)
    body, before = [], None
    for standing in view.standings:
        kinds = ["unranked"] if standing.row.rank is None else []
        if before is not None and standing.tier is not None and standing.tier > before:
            kinds.append("tier")
        before = max(before or 0, standing.tier or 0) or before
        cells = [_method_cell(standing, board.owners.get(standing.method, ()), trials, view.shown, to)]
        cells.append(number(standing.tier, "–" if standing.tier is None else str(standing.tier)))
        cells.append(_rank_cell(standing))
        if searched:
            cells.append(number(standing.row.tries, str(standing.row.tries)))
        if several:
            cells.append(_mean_cell(standing, metric))
        if view.reference is not None:
            cells.append(_difference_cell(standing, view, widest))
        if several:
            cells.append(number(standing.row.covered, f"{standing.row.covered}/{len(view.settings)}"))
        cells.append(number(standing.hours, human_hours(standing.hours)))
        for _, _, values in extra:
            value, shown = values.get(standing.method, (math.nan, "–"))
            cells.append(number(value, text(shown)))
        for setting in view.shown:
            where = (standing.method, setting)
            mark = mark_of(board, standing.method, setting)
            cell = standing.row.cells.get(setting)
            gap = board.gaps.get(setting, {}).get(standing.method) if mark == "undecided" else None
            cells.append(_score_cell(cell, metric, mark, gap, view.heat.get(where), trials.get(where), to))
        body.append(f'<tr class="{" ".join(kinds)}">{"".join(cells)}</tr>')
    return table(heads, body, f"Leaderboard of {board.suite}")


def _span(reach: Sequence[float]) -> float:
    """What small intervals are drawn to: the largest but far outliers, which end at the edge."""
    ordered = sorted(reach)
    if not ordered:
        return 0.0
    usual = 3 * ordered[len(ordered) // 2]
    return max((value for value in ordered if value <= usual), default=ordered[-1]) or ordered[-1]


def _method_cell(
    standing: Standing,
    owners: Sequence[str],
    trials: Mapping[tuple[str, str], str],
    settings: Sequence[str],
    to: Link,
) -> str:
    first = next((trials[standing.method, s] for s in settings if (standing.method, s) in trials), None)
    name = text(standing.method)
    tags = ' <span class="tag" title="is given the noise rate or matrix">° oracle</span>' if standing.row.oracle else ""
    for owner in owners:
        tags += f' <span class="tag" title="its components come from {text(owner)}">by {text(Path(owner).name)}</span>'
    return f'<th scope="row">{link(to(first), name) if first else name}{tags}</th>'


def _rank_cell(standing: Standing) -> str:
    rank, span = standing.row.rank, standing.rank_interval
    if rank is None:
        return number(None, f'<span class="sd" title="{text(standing.row.withheld)}">–</span>')
    interval = (
        "" if span is None or span.low == span.high else f' <span class="sd">{span.low:.0f}–{span.high:.0f}</span>'
    )
    return number(rank, f'<span class="rank">{rank}</span>{interval}')


def _mean_cell(standing: Standing, metric: Quantity) -> str:
    mean = standing.row.mean
    lost = _notes(standing.row.notes)
    if mean is None:
        return number(None, f'<small class="warn">withheld: {text(standing.row.withheld)}</small>{lost}')
    span = interval_text(metric, standing.mean_interval)
    return number(mean, f'{metric.show(mean)} <span class="sd">{span}</span>{lost}')


def _difference_cell(standing: Standing, view: Leaderboard, widest: float) -> str:
    metric = view.board.metric
    if standing.method == view.reference:
        return '<td data-v="0"><span class="sd">reference</span></td>'
    if standing.difference is None:
        return number(None, "–")
    interval = standing.difference_interval
    shown = difference_text(metric, standing.difference)
    words = (
        f"{shown} [{difference_text(metric, interval.low)}, {difference_text(metric, interval.high)}]"
        if interval
        else shown
    )
    low, high = interval if interval is not None else (None, None)
    mark = charts.interval_mark(low, standing.difference, high, widest, words)
    over = counted(standing.difference_settings, "setting")
    part = "" if standing.difference_settings == len(view.settings) else f' <span class="sd">on {over}</span>'
    body = f'<span class="both" title="{text(words)}">{mark}<span>{shown}{part}</span></span>'
    return number(standing.difference, body)


def _notes(notes: Sequence[str]) -> str:
    """What a mean does not say, in small lines under it."""
    return "".join(f'<br><small class="warn">{text(note)}</small>' for note in notes)


MARK_SIGNS: Mapping[Mark, str] = {"best": "★", "equal": "=", "undecided": "?"}


def _score_cell(
    cell: BoardCell | None,
    metric: Quantity,
    mark: Mark | None,
    gap: float | None,
    heat: float | None,
    trial: str | None,
    to: Link,
) -> str:
    if cell is None or cell.mean is None:
        shown = '<span class="bad">✕ failed</span>' if cell is not None and cell.failed else '<span class="sd">–</span>'
        return f'<td class="cell" data-v="">{link(to(trial), shown) if trial else shown}</td>'
    value = metric.show(cell.mean)
    spread = f" ± {metric.show(cell.std)}" if cell.std is not None else ""
    count = "" if cell.n == cell.expected else f" ({cell.n}/{cell.expected})"
    small = f"<small>{spread}{count}</small>" if spread or count else ""
    kind = "cell best" if mark == "best" else "cell"
    sign = MARK_SIGNS.get(mark) if mark is not None else None
    if mark in TIES:
        value = f"<u>{value}</u>"
    said = f'<i aria-hidden="true">{sign}</i><span class="sr">{WORDS[mark]}</span>' if mark and sign else "<i></i>"
    # A table has thousands of these: nothing is written that most of them do not need.
    body = f"{value}{small}{said}{_notes(cell.notes)}"
    inner = link(to(trial), body) if trial else body
    seen = f' title="{text(_seen(metric, gap))}"' if gap is not None else ""
    return f'<td class="{kind}"{seen} data-v="{cell.mean:.6g}" style="--heat:{heat or 0:.2f}">{inner}</td>'


def _seen(metric: Quantity, gap: float) -> str:
    return f"too noisy to tell: a gap of {metric.show(gap)} is found with a chance of 0.8, a smaller one with less"


def leaderboard_questions(view: Leaderboard) -> str:
    """What a reader may ask: which gaps would have been seen, and what methods without a rank are estimated at."""
    metric, parts = view.board.metric, []
    if view.top is not None and view.top.detectable is not None:
        over = [("all settings", view.top.detectable)] if len(view.settings) > 1 else []
        short = shorten(view.shown)
        over += [
            (short[s], Interval(min(gaps.values()), max(gaps.values()))) for s, gaps in view.board.gaps.items() if gaps
        ]
        rows = [
            f'<tr><th scope="row">{text(name)}</th>{number(reach.low, metric.show(reach.low))}'
            f"{number(reach.high, metric.show(reach.high))}</tr>"
            for name, reach in over
        ]
        heads = [head("Over", first="ascending", left=True, leading=True), head("smallest gap"), head("largest gap")]
        parts.append(
            "<details><summary>Which gaps would have been seen?</summary><p>The least gap between a method and the best that "
            "this number of seeds finds with a chance of 0.8; it differs between methods, because they differ in spread. What is "
            f"not separable is <i>equal</i> where this gap is at most {metric.show(view.top.margin)}, else <i>too noisy to tell</i>. "
            f"<code>harness board --power</code> says how many more seeds would separate two methods.</p>"
            f"{table(heads, rows, 'Gaps that would have been seen')}</details>"
        )
    if view.estimates:
        rows = [
            f'<tr><th scope="row">{text(name)}</th>{number(value, metric.show(value))}'
            f"{number(error, '–' if error is None else metric.show(error))}</tr>"
            for name, value, error in view.estimates
        ]
        heads = [head("Method", first="ascending", left=True, leading=True), head("estimate"), head("standard error")]
        parts.append(
            "<details><summary>What might the methods without a rank reach?</summary><p>The mean over all settings by the additive "
            "model <i>method + setting</i>, from the cells that lack no run. It is biased where a method lacks the settings that "
            "suit it least or best: not a result, and ranked nowhere.</p>"
            f"{table(heads, rows, 'Estimates of methods without a rank')}</details>"
        )
    return "".join(parts)


LEGEND = (
    f'<p class="note">★ {WORDS["best"]}; = {WORDS["equal"]}; ? {WORDS["undecided"]}; ° is given the noise rate or matrix (an '
    "oracle); deeper blue is better within a column; ± sample standard deviation over seeds; (2/3) seeds present of those "
    "asked for.</p>"
)


# --- compare ----------------------------------------------------------------------------------------------------------


def comparison_tables(found: Comparison, metric: Quantity, names: Mapping[str, str]) -> str:
    """Summary per method, then every setting."""
    heads = [head(f"against {found.reference}", first="ascending", left=True, leading=True), head("Mean difference")]
    heads += [
        head("95 % for all together (Dunnett)", hint="The intervals of all methods of this table hold together."),
        head(
            "IQM of differences", hint="Inter-quartile mean, with a stratified bootstrap interval over enough settings."
        ),
        head("Chance to beat it", hint="Probability of improvement"),
    ]
    body = []
    for method in found.methods:
        summary, chance = found.summaries[method], found.improvements[method]
        cells = [
            f'<th scope="row">{text(method)}</th>',
            number(summary.difference, difference_text(metric, summary.difference)),
        ]
        cells.append(number(None, _interval(metric, summary.difference_interval)))
        iqm = f"{difference_text(metric, summary.iqm)} {_interval(metric, summary.iqm_interval)}"
        cells.append(number(summary.iqm, "–" if summary.iqm is None else iqm))
        if chance is None or chance.interval is None:
            cells.append(number(None, f'<span class="sd">{"–" if chance is None else text(chance.reason)}</span>'))
        else:
            words = f"[{100 * chance.interval.low:.0f}, {100 * chance.interval.high:.0f}]"
            cells.append(number(chance.probability, f"{100 * chance.probability:.0f} % {words}"))
        body.append(f"<tr>{''.join(cells)}</tr>")
    first = table(heads, body, f"Summary of differences to {found.reference}")
    reach = [abs(v) for p in found.pairs for v in (p.comparison.interval or (p.comparison.difference or 0.0,))]
    widest = _span(reach)
    heads = [head("Setting", first="ascending", left=True, leading=True), head("Method", first="ascending", left=True)]
    heads += [head("Difference"), head("95 % interval"), '<th scope="col"><span class="sr">drawn</span></th>']
    heads += [
        head("p", first="ascending", hint="One planned comparison: not adjusted for looking at several."),
        head("n"),
    ]
    body = []
    for pair in found.pairs:
        made = pair.comparison
        low, high = made.interval if made.interval is not None else (None, None)
        drawn = charts.interval_mark(low, made.difference, high, widest, difference_text(metric, made.difference))
        cells = [
            f'<th scope="row">{text(names.get(pair.setting, pair.setting))}</th><td class="text">{text(pair.method)}</td>'
        ]
        cells.append(number(made.difference, difference_text(metric, made.difference)))
        cells.append(number(None, _interval(metric, made.interval)) + f"<td>{drawn}</td>")
        cells.append(
            number(
                made.p_value,
                "–" if made.p_value is None else f"{made.p_value:.3f}" if made.p_value >= 0.001 else "< 0.001",
            )
        )
        cells.append(number(made.n, f"{made.n}" if made.paired else f"{made.n} <span class='sd'>unpaired</span>"))
        body.append(f"<tr>{''.join(cells)}</tr>")
    second = table(heads, body, f"Paired differences to {found.reference} in every setting")
    return f"{first}<h2>In every setting</h2>{second}"


def _interval(metric: Quantity, interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"[{difference_text(metric, interval.low)}, {difference_text(metric, interval.high)}]"


def profile_chart(found: Comparison, metric: Quantity) -> str:
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
) -> str:
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
            drawn.append(_figure(chart.title, charts.lines(series, chart.title, "epoch", chart.unit, x_range=span)))
    return f'<div class="charts">{"".join(drawn)}</div>' if drawn else '<p class="note">No epoch has been recorded.</p>'


def _points(
    quantity: Quantity, epochs: Sequence[Mapping[str, Any]], further: Mapping[str, Sequence[tuple[int, float]]]
) -> Sequence[tuple[Any, Any]]:
    """What a quantity was at every epoch at which it was taken."""
    if not quantity.column:
        return further.get(quantity.name, ())
    return [(e["epoch"], e[quantity.column]) for e in epochs if e.get(quantity.column) is not None]


def _figure(title: str, chart: str) -> str:
    return f"<div><figcaption>{text(title)}</figcaption>{chart}</div>"


def diagnostics(found: Mapping[str, Sequence[tuple[int, float]]], known: Mapping[str, Quantity]) -> str:
    """What the algorithms recorded, a chart each; what is a quantity stands among the curves."""
    parts = []
    for name, points in found.items():
        if name in known:
            continue
        series = charts.Series(name, [float(x) for x, _ in points], [float(y) for _, y in points])
        parts.append(_figure(name, charts.lines([series], name, "epoch", "")))
    return f'<div class="charts">{"".join(parts)}</div>' if parts else ""


def transition_chart(counts: Sequence[Sequence[int]] | None) -> str:
    """How the training labels were corrupted: shares of the given class for every clean class."""
    if not counts:
        return '<p class="note">Not recorded (regression, more than 100 classes, or an older record).</p>'
    shares = [[value / max(1, sum(line)) for value in line] for line in counts]
    return charts.heatmap(shares, "Transition matrix of the training labels, %", "clean class", "given class")


def histogram_charts(histograms: Mapping[str, Any] | None) -> str:
    """Per-sample scores of clean and of corrupted samples."""
    parts = []
    for name, found in (histograms or {}).items():
        edges = found.get("edges")
        low, high = found.get("range", (None, None))
        reach = "" if low is None else f" (outermost bins: from {low:.3g}, to {high:.3g})"
        x = found["values"] if edges is None else [(a + b) / 2 for a, b in itertools.pairwise(edges)]
        series = []
        for kind in ("clean", "corrupted"):
            total = sum(found[kind]) or 1
            series.append(charts.Series(kind, [float(v) for v in x], [100 * count / total for count in found[kind]]))
        parts.append(
            _figure(f"Score {name}", charts.lines(series, f"Histogram of {name}", name + reach, "share of samples, %"))
        )
    return f'<div class="charts">{"".join(parts)}</div>' if parts else ""


def seeds_chart(
    rows: Sequence[Mapping[str, Any]], shown: str, metric: Quantity, at: str, interval: Interval | None, to: Link
) -> str:
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


def seed_chips(rows: Sequence[Mapping[str, Any]], shown: str, to: Link) -> str:
    """The seeds as links, with their status in words and signs."""
    items = []
    for row in rows:
        status = row["status"] or "missing"
        if status == "missing":
            items.append(f'<li><span class="missing">seed {text(row["seed"])} missing</span></li>')
            continue
        here = ' aria-current="page"' if row["trial"] == shown else ""
        kind = ' class="failed"' if status == "failed" else ""
        said = "" if status == "done" else f" {text(status)}"
        items.append(
            f'<li><a href="{text(to(row["trial"]))}" data-go{kind}{here}>seed {text(row["seed"])}{said}</a></li>'
        )
    return f'<ul class="chips">{"".join(items)}</ul>'


def facts_list(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and values; what is not known is left out."""
    items = [f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs if value not in (None, "", {})]
    return f"<dl>{''.join(items)}</dl>"


def trial_facts(found: TrialFacts) -> list[tuple[str, object]]:
    """Where a trial's numbers come from: commit, versions, machine."""
    environment, row = found.environment, found.trial
    final = next((a for a in found.attempts if a["final"]), {})
    versions = environment.get("versions") or {}
    machine = [environment.get(key) for key in ("host", "device_name", "cpu", "platform")]
    device = environment.get("device")
    return [
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
        ("took", human_duration(final.get("seconds")) if final.get("seconds") is not None else None),
        ("label digest", row["label_digest"]),
        ("corrupted labels", f"{100 * row['corrupted']:.2f} %" if row["corrupted"] is not None else None),
        ("selected epoch", row["selected_epoch"]),
    ]


def metric_rows(found: TrialFacts, known: Mapping[str, Quantity]) -> str:
    """All metrics of a trial: a row each, a column for every moment at which one was taken."""
    moments = [at for at in MOMENTS if any(taken == at for _, taken in found.metrics)]
    moments += sorted({at for _, at in found.metrics} - set(moments))
    heads = [head("Metric", first="ascending", left=True, leading=True), *(head(moment(at)) for at in moments)]
    body = []
    for name in dict.fromkeys(name for name, _ in found.metrics):
        metric = find_quantity(name, known)
        title = f"{metric.title} ({metric.unit_shown})" if metric.unit_shown else metric.title
        cells = [f'<th scope="row">{text(title)}</th>']
        for at in moments:
            value = found.metrics.get((name, at))
            shown = "" if value is None else human_bytes(value) if name == "peak_memory" else metric.show(value)
            cells.append(number(value, text(shown)))
        body.append(f"<tr>{''.join(cells)}</tr>")
    return table(heads, body, "Metrics of this trial") if body else '<p class="note">No metric has been recorded.</p>'


def code(value: str) -> str:
    """Text as it is, in a box that scrolls."""
    return f'<pre tabindex="0">{text(value)}</pre>'


def configuration(identity: Mapping[str, Any], options: Mapping[str, Any] | None) -> str:
    """The full configuration, defaults filled in."""
    return code(json.dumps({"identity": identity, "options": options or {}}, indent=2, ensure_ascii=False))


def difference_list(rows: Sequence[tuple[str, object, object]], theirs: str) -> str:
    """Keys in which two configurations differ."""
    if not rows:
        return f'<p class="note">The same as {text(theirs)}.</p>'
    heads = [head("Key", first="ascending", left=True, leading=True), head("here", left=True), head(theirs, left=True)]
    body = [
        f'<tr><th scope="row">{text(key)}</th><td class="wrap">{text(_json(here))}</td><td class="wrap">{text(_json(there))}</td></tr>'
        for key, here, there in rows
    ]
    return table(heads, body, f"Differences to {theirs}")


def _json(value: object) -> str:
    return "absent" if value is ... else json.dumps(value, ensure_ascii=False)


# --- published --------------------------------------------------------------------------------------------------------


def _faced(printed: Mapping[str, Any]) -> str:
    """What a printed cell is about: data set, noise, rate and what else tells it apart."""
    rate = "" if printed["rate"] is None else f" {printed['rate']:g}"
    noise = [] if printed["noise"] is None else [f"{printed['noise']}{rate}"]
    extra = [f"{key} {value}" for key, value in json.loads(printed["extra"] or "{}").items()]
    return ", ".join([part for part in (printed["dataset"],) if part] + noise + extra)


def published_table(found: Sequence[Reproduced]) -> str:
    """Printed against reproduced with a forest plot of the differences."""
    reach = [abs(v) for item in found for v in (item.check.interval or ())]
    reach += [
        abs(item.check.difference) for item in found if item.check.difference is not None and not item.check.interval
    ]
    widest = _span(reach)
    heads = [head("Method", first="ascending", left=True, leading=True), head("Column", first="ascending", left=True)]
    heads += [head("Printed"), head("Here"), head("Difference"), '<th scope="col"><span class="sr">drawn</span></th>']
    heads += [head("Verdict", first="ascending", left=True), head("Table", first="ascending", left=True)]
    body = []
    for item in found[:MOST_ROWS]:
        printed, check = item.printed, item.check
        kind, sign = VERDICTS[check.verdict]
        bare = check.reason == "not reproduced"
        verdict = check.reason if bare else check.verdict
        low, high = check.interval if check.interval is not None else (None, None)
        shown = "–" if check.difference is None else f"{check.difference:+.2f}"
        span = f" [{low:+.2f}, {high:+.2f}]" if low is not None and high is not None else ""
        drawn = charts.interval_mark(low, check.difference, high, widest, shown + span)
        alone = f"by numbers {check.by_numbers}" if check.by_numbers is not None else ""
        why = "; ".join(part for part in (alone, remarks(check, "" if bare else None)) if part)
        if item.assumed_at and item.values:
            why = f"{why}; epoch not said: {item.assumed_at}" if why else f"epoch not said: {item.assumed_at}"
        where = f"{printed['column']}, {printed['block']}" if printed.get("block") else str(printed["column"])
        note = f"<br><span class='sd'>{text(textwrap.shorten(why, 160))}</span>" if why else ""
        flagged = f"<br><span class='sd'>{text(printed['flag'])}</span>" if printed["flag"] and not why else ""
        cells = [
            f'<th scope="row">{text(printed["method"] or printed["label"])}</th>'
            f'<td class="wrap narrow">{text(where)}<br><span class="sd">{text(_faced(printed))}</span></td>'
        ]
        cells.append(number(printed["mean"], text(value_text(printed["mean"], printed["std"], printed["n"]))))
        cells.append(number(item.mean, text(item.text) if item.values else "–"))
        cells.append(number(check.difference, f"{shown}<span class='sd'>{span}</span>") + f"<td>{drawn}</td>")
        cells.append(f'<td class="wrap"><span class="{kind}">{sign} {text(verdict)}</span>{note}{flagged}</td>')
        cells.append(f'<td class="text">{text(item.suite)}<span class="sd"> p. {text(printed["page"])}</span></td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    more = "" if len(found) <= MOST_ROWS else f'<p class="note">{len(found) - MOST_ROWS} more: filter to see them.</p>'
    return table(heads, body, "Printed against reproduced numbers") + more


def claims_list(claims: Sequence[JudgedClaim]) -> str:
    """What papers claim of their tables as a whole, with our value and the verdict; empty where none is reproduced."""
    heads = [head("Claim", first="ascending", left=True, leading=True), head("Printed"), head("Here")]
    heads += [head("Verdict", first="ascending", left=True), head("Table", first="ascending", left=True)]
    body = []
    for one in claims:
        if not one.covered:
            continue
        kind, sign = OUTCOMES[one.verdict]
        note = why(one)
        about = f"{one.claim.place}, p. {one.claim.page}" + (f"; {one.setting}" if one.setting else "")
        shown = f"<br><span class='sd'>{text(textwrap.shorten(note, 240))}</span>" if note else ""
        cells = [f'<th scope="row" class="wrap">{text(one.claim.says)}<br><span class="sd">{text(about)}</span></th>']
        cells.append(number(one.printed, text(printed_text(one))))
        cells.append(number(one.here, text(here_text(one))))
        cells.append(f'<td class="wrap"><span class="{kind}">{sign} {text(one.verdict)}</span>{shown}</td>')
        cells.append(f'<td class="text">{text(one.claim.suite)}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    if not body:
        return ""
    lead = f'<p class="lead">{text(claims_sentence(claims))}</p>'
    return f"<h2>Do the claims hold?</h2>{lead}" + table(heads, body, "Claims against reproduced numbers")


# --- cost -------------------------------------------------------------------------------------------------------------


CERTAINTY = {"on": "● on it", "perhaps": "○ perhaps", "off": ""}


def cost_head(found: Sequence[MethodCost]) -> str:
    """Who is on the Pareto front, and of whom the runs do not decide it."""
    on, perhaps = ([cost.method for cost in found if cost.certainty == kind] for kind in ("on", "perhaps"))
    if not any(cost.per_epoch for cost in found):
        return '<p class="lead">No time was recorded.</p>'
    said = [f"On the Pareto front: {', '.join(on)}"] if on else []
    said += [f"{'perhaps' if on else 'Perhaps on the Pareto front'}: {', '.join(perhaps)}"] if perhaps else []
    return (
        f'<p class="lead">{text("; ".join(said))}.</p>'
        '<p class="note">A filled blue mark is on the front: against every other method it is separably faster or separably '
        "better. An open one may be: the runs do not decide. A grey one is off: another method is separably faster and "
        "better. The dashed line joins the front of the means; whiskers are 95 % intervals of the means over seeds.</p>"
    )


def cost_chart(found: Sequence[MethodCost], metric: Quantity) -> str:
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


def cost_table(found: Sequence[MethodCost], metric: Quantity) -> str:
    """Time, memory and parameters of every ranked method."""
    heads = [
        head("Method", first="ascending", left=True, leading=True),
        head("Mean"),
        head("s per epoch", first="ascending"),
    ]
    heads += [
        head("Peak memory", first="ascending"),
        head("Parameters", first="ascending"),
        head("Total time", first="ascending"),
    ]
    heads.append(head("Pareto front", left=True))
    body = []
    for cost in found:
        cells = [f'<th scope="row">{text(cost.method)}</th>', number(cost.score, metric.show(cost.score))]
        cells.append(number(cost.per_epoch, "–" if cost.per_epoch is None else f"{cost.per_epoch:.3g}"))
        cells.append(number(cost.memory, human_bytes(cost.memory)))
        cells.append(number(cost.parameters, "–" if cost.parameters is None else f"{cost.parameters:,.0f}"))
        cells.append(number(cost.hours, human_hours(cost.hours)))
        cells.append(f'<td class="text">{CERTAINTY[cost.certainty]}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    return table(heads, body, "Cost of every method")


# --- progress ---------------------------------------------------------------------------------------------------------


def progress_bar(found: Progress) -> str:
    """Done, failed, running and missing as a bar and in words."""
    total = len(found.states)
    counts = {status: found.count(status) for status in ("done", "stale", "diverged", "failed", "running", "missing")}
    counts["done"] += counts.pop("stale")
    parts = "".join(
        f'<span class="{status}" style="width:{100 * count / max(1, total):.2f}%"></span>'
        for status, count in counts.items()
        if count
    )
    words = ", ".join(f"{STATES[status][1]} {count} {status}" for status, count in counts.items() if count)
    remaining = found.remaining()
    left = f"; about {human_duration(remaining)} of single-process time remain" if remaining else ""
    return (
        f'<p class="lead">{counts["done"] + counts["diverged"]} of {counted(total, "trial is", "trials are")} done</p>'
        f'<div class="bar" role="img" aria-label="{text(words)}">{parts}</div><p class="note">{text(words + left)}</p>'
    )


def progress_tables(found: Progress, to: Link = trial_link) -> str:
    """What runs, what failed and why, what is missing."""
    parts = []
    running = [s for s in found.states if s.status == "running"]
    if running:
        heads = [
            head("Method", first="ascending", left=True, leading=True),
            head("Setting", left=True),
            head("Seed"),
            head("Epoch"),
        ]
        heads += [head("Running for"), head("Remaining"), head("Host", left=True)]
        body = [
            f"<tr>{_who(s, to)}{number(s.epoch, f'{s.epoch}/{s.epochs}')}{number(s.running_for, human_duration(s.running_for))}"
            f'{number(s.remaining, human_duration(s.remaining))}<td class="text">{text(s.host)}</td></tr>'
            for s in running
        ]
        parts.append("<h2>Running</h2>" + table(heads, body, "Running trials"))
    failed = [s for s in found.states if s.status == "failed"]
    if failed:
        heads = [head("Method", first="ascending", left=True, leading=True), head("Setting", left=True), head("Seed")]
        heads.append(head("Error", left=True))
        body = [
            f'<tr>{_who(s, to)}<td class="wrap bad">✕ {text(textwrap.shorten(s.error, 400))}</td></tr>'
            for s in failed[:MOST_ROWS]
        ]
        parts.append("<h2>Failed</h2>" + table(heads, body, "Failed trials") + _more(len(failed)))
    missing = [s for s in found.states if s.status == "missing"]
    if missing:
        groups: dict[tuple[str, str], list[int]] = {}
        for state in missing:
            groups.setdefault((state.method, state.setting), []).append(state.seed)
        heads = [
            head("Method", first="ascending", left=True, leading=True),
            head("Setting", left=True),
            head("Seeds", left=True),
        ]
        body = [
            f'<tr><th scope="row">{text(m)}</th><td class="text">{text(s)}</td><td class="text">{text(", ".join(map(str, seeds)))}</td></tr>'
            for (m, s), seeds in list(groups.items())[:MOST_ROWS]
        ]
        parts.append("<h2>Missing</h2>" + table(heads, body, "Missing trials") + _more(len(groups)))
    return "".join(parts)


def _who(state: TrialState, to: Link) -> str:
    return (
        f'<th scope="row">{link(to(state.trial), text(state.method))}</th><td class="text">{text(state.setting)}</td>'
        f"{number(state.seed, str(state.seed))}"
    )


def _more(count: int) -> str:
    return f'<p class="note">{count - MOST_ROWS} more are not listed.</p>' if count > MOST_ROWS else ""
