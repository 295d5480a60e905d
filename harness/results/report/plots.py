"""Pictures of the store, ready for a paper: curves, sweeps, histograms of scores, and what plugins add.

Each kind is a function from a read-only connection to a matplotlib ``Figure``; :func:`draw` finds it by name.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import ResultsError, unknown
from harness.plugins import Host, load_host
from harness.results.quantities import SAMPLE_GROUPS, Quantity, by_curve, find_quantity, parse_metric, quantities_in
from harness.results.report import main_metric, shorten
from harness.results.report.figure import (
    COLOURS,
    LABEL_WIDTH,
    MARKED,
    MOST_INSIDE,
    STYLE,
    TITLE_WIDTH,
    add_legend,
    line_look,
    make_panels,
    noted,
    spelled,
)
from harness.tasks import TASKS
from harness.trial import flatten

if TYPE_CHECKING:
    import duckdb
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Request:
    """What to draw.

    Attributes:
        suite: name of the suite.
        metrics: of curves (columns of the table ``epochs``) or of a sweep (as ``harness board --metric``); the main
            ones when empty.
        x: of a sweep: a parameter, such as ``algorithms.aux.lam``.
        score: of a histogram: a per-sample score, such as ``rrm.u``; the first one recorded when empty.
        methods, settings: names to draw; all when empty.
        seed: of a histogram; the suite's first when ``None``.
    """

    suite: str
    metrics: tuple[str, ...] = ()
    x: str = ""
    score: str = ""
    methods: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    seed: int | None = None


@dataclasses.dataclass(frozen=True)
class Drawn:
    """One finished trial of the suite."""

    trial: str
    method: str
    setting: str
    seed: int
    identity: Mapping[str, Any]
    histograms: Mapping[str, Any]
    comparable: bool


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What the first finished trial of a suite has recorded besides metrics: names of diagnostics and of histograms."""

    diagnostics: frozenset[str]
    histograms: frozenset[str]


def whole(trials: Iterable[Drawn]) -> bool:
    """Whether all of them ran at full scale."""
    return all(item.comparable for item in trials)


def trials_of(connection: duckdb.DuckDBPyConnection, request: Request) -> list[Drawn]:
    """The suite's finished trials in its own order.

    Raises:
        ResultsError: when there is none, or a method or setting has no such name.
    """
    lines = connection.execute(
        """
        SELECT s.trial, s.method, s.setting, s.seed, t.identity, t.histograms, s.comparable
        FROM compared s JOIN trials t USING (trial)
        WHERE s.suite = ? AND t.status = 'done'
        ORDER BY s.setting_position, s.method_position, s.seed
        """,
        [request.suite],
    ).fetchall()
    found = [
        Drawn(trial, method, setting, seed, json.loads(identity), json.loads(histograms or "{}"), bool(comparable))
        for trial, method, setting, seed, identity, histograms, comparable in lines
    ]
    if not found:
        raise ResultsError(
            f"no finished trial of suite {request.suite!r}", "plot", f"harness run suite:{request.suite}"
        )
    for wanted, option, known in (
        (request.methods, "--method", {item.method for item in found}),
        (request.settings, "--setting", {item.setting for item in found}),
    ):
        for name in wanted:
            if name not in known:
                raise ResultsError(unknown(option.strip("-"), name, sorted(known)), option)
    return [
        item
        for item in found
        if (not request.methods or item.method in request.methods)
        and (not request.settings or item.setting in request.settings)
    ]


# --- curves ---------------------------------------------------------------------------------------------------------


def curves(connection: duckdb.DuckDBPyConnection, request: Request) -> Figure:
    """Quantities over epochs: a column of panels for each setting, a row for each metric, a line for each method.

    A line is the mean over seeds, the band one sample standard deviation to either side.
    """
    trials = trials_of(connection, request)
    drawn = _with_curves(connection, request)
    settings = list(dict.fromkeys(item.setting for item in trials))
    methods = list(dict.fromkeys(item.method for item in trials))
    figure, panels = make_panels(len(drawn), len(settings))
    heads = shorten(tuple(settings))
    alpha = 0.2 if len(methods) <= MOST_INSIDE else 0.08
    for column, setting in enumerate(settings):
        for number, method in enumerate(methods):
            mine = [item.trial for item in trials if item.setting == setting and item.method == method]
            for row, quantity in enumerate(drawn):
                points = _by_epoch(connection, quantity, mine)
                _band(panels[row][column], points, spelled(method), number, alpha)
    for row, quantity in enumerate(drawn):
        panels[row][0].set_ylabel(spelled(quantity.title + _unit(quantity), LABEL_WIDTH))
    for column, setting in enumerate(settings):
        panels[0][column].set_title(spelled(heads[setting], TITLE_WIDTH))
        panels[-1][column].set_xlabel("epoch")
    add_legend(figure, panels[0][:1], panels)
    return noted(figure, whole(trials))


def _with_curves(connection: duckdb.DuckDBPyConnection, request: Request) -> list[Quantity]:
    """The quantities that are asked for by name or column, else those of the suite's task."""
    known = quantities_in(connection)
    headline = main_metric(connection, request.suite)
    usual = next(facts.curves for facts in TASKS.values() if facts.headline == headline)
    found = []
    for word in request.metrics or usual:
        quantity = by_curve(word, known)
        if quantity is None:
            words = [q.column or q.name for q in known.values() if by_curve(q.name, known) is not None]
            raise ResultsError(unknown("curve", word, words), "--metric")
        found.append(quantity)
    return found


def _by_epoch(connection: duckdb.DuckDBPyConnection, quantity: Quantity, trials: list[str]) -> dict[int, list[float]]:
    """The values of some trials at every epoch, as they are shown."""
    if quantity.column:
        query = f'SELECT epoch, "{quantity.column}" FROM epochs WHERE trial IN (SELECT unnest($trials::VARCHAR[]))'
        values: dict[str, Any] = {"trials": trials}
    else:
        query = (
            "SELECT epoch, value FROM diagnostics WHERE name = $name AND trial IN (SELECT unnest($trials::VARCHAR[]))"
        )
        values = {"trials": trials, "name": quantity.name}
    points: dict[int, list[float]] = defaultdict(list)
    for epoch, value in connection.execute(query, values).fetchall():
        if value is not None:
            points[epoch].append(quantity.factor * value)
    return points


def _unit(quantity: Quantity) -> str:
    return " [%]" if quantity.percent else ""


def _band(axes: Axes, points: Mapping[int, list[float]], label: str, number: int, alpha: float) -> None:
    epochs = sorted(points)
    if not epochs:
        return
    means = [statistics.mean(points[epoch]) for epoch in epochs]
    step = math.ceil(len(epochs) / MARKED)
    look = line_look(number)
    axes.plot(epochs, means, label=label, markevery=(number % step, step), **look)
    if max(len(points[epoch]) for epoch in epochs) > 1:
        spread = [statistics.stdev(points[epoch]) if len(points[epoch]) > 1 else 0.0 for epoch in epochs]
        low = [mean - std for mean, std in zip(means, spread, strict=True)]
        high = [mean + std for mean, std in zip(means, spread, strict=True)]
        axes.fill_between(epochs, low, high, color=look["color"], alpha=alpha, linewidth=0)


# --- sweep ----------------------------------------------------------------------------------------------------------


def sweep(connection: duckdb.DuckDBPyConnection, request: Request) -> Figure:
    """A metric over a parameter: a line for each setting (and kind of stack), means over seeds with their deviation."""
    trials = trials_of(connection, request)
    flat = {item.trial: flatten({k: v for k, v in item.identity.items() if k != "schema"}) for item in trials}
    known = sorted({key for keys in flat.values() for key, value in keys.items() if _is_number(value)})
    if request.x not in known:
        varying = [key for key in known if len({flat[item.trial].get(key) for item in trials}) > 1]
        where = "--x"
        raise ResultsError(
            unknown("parameter", request.x, known) if request.x else "which parameter?",
            where,
            f"these vary: {', '.join(varying)}",
        )
    name, at = parse_metric(request.metrics[0] if request.metrics else "last")
    main = name or main_metric(connection, request.suite)
    rows = dict(
        connection.execute(
            'SELECT trial, value FROM metrics WHERE metric = ? AND "at" = ? AND value IS NOT NULL', [main, at]
        ).fetchall()
    )
    quantity = find_quantity(main, quantities_in(connection))
    lines: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for item in trials:
        value = flat[item.trial].get(request.x)
        if item.trial in rows and _is_number(value):
            stack = "+".join(_stack(item.identity))
            lines[stack, item.setting][float(value or 0)].append(quantity.factor * rows[item.trial])
    if not lines:
        raise ResultsError(f"no trial has both {request.x} and {main} at {at}", "--metric")
    figure, panels = make_panels(1, 1, width=1.6, height=1.3)
    axes = panels[0][0]
    stacks = {stack for stack, _ in lines}
    heads = shorten(tuple(dict.fromkeys(setting for _, setting in lines)))
    for number, ((stack, setting), points) in enumerate(lines.items()):
        places = sorted(points)
        means = [statistics.mean(points[place]) for place in places]
        spread = [statistics.stdev(points[place]) if len(points[place]) > 1 else 0.0 for place in places]
        label = spelled(heads[setting] if len(stacks) == 1 else f"{stack}: {heads[setting]}")
        axes.errorbar(places, means, yerr=spread if any(spread) else None, label=label, capsize=2, **line_look(number))
    values = sorted({place for points in lines.values() for place in points})
    if values[0] > 0 and values[-1] / values[0] >= 10:
        axes.set_xscale("log", base=2 if all(math.log2(v).is_integer() for v in values) else 10)
    axes.set_xlabel(spelled(request.x))
    axes.set_ylabel(spelled(quantity.title + _unit(quantity) + ("" if at == "last" else f", {at}")))
    add_legend(figure, [axes], panels)
    return noted(figure, whole(trials))


def _stack(identity: Mapping[str, Any]) -> Iterator[str]:
    yield identity["loss"]["name"]
    for key in ("transforms", "algorithms"):
        yield from (part["name"] for part in identity[key])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# --- per-sample scores ----------------------------------------------------------------------------------------------


def histogram(connection: duckdb.DuckDBPyConnection, request: Request) -> Figure:
    """How a per-sample score spreads over clean and corrupted training samples, and those of which nobody knows it, after
    the last epoch, one seed.

    A panel for each method and setting that has the score. Counts are on a logarithmic axis.
    """
    trials = trials_of(connection, request)
    scores = list(dict.fromkeys(name for item in trials for name in item.histograms if "@" not in name))
    score = request.score or (scores[0] if scores else "")
    if score not in scores:
        raise ResultsError(unknown("score", score, scores) if scores else "no method here scores samples", "--score")
    seed = trials[0].seed if request.seed is None else request.seed
    shown = [item for item in trials if score in item.histograms and item.seed == seed]
    if not shown:
        raise ResultsError(f"no trial with seed {seed} has the score {score}", "--seed")
    figure, panels = make_panels(1, len(shown))
    heads = shorten(tuple(dict.fromkeys(item.setting for item in shown)))
    for axes, item in zip(panels[0], shown, strict=True):
        found = item.histograms[score]
        kinds = [kind for kind in SAMPLE_GROUPS if kind in found]
        if "values" in found:
            places = range(len(found["values"]))
            width = 0.8 / len(kinds)
            for number, kind in enumerate(kinds):
                shift = (number - (len(kinds) - 1) / 2) * width
                axes.bar([p + shift for p in places], found[kind], width, color=COLOURS[number], label=kind)
            axes.set_xticks(places, [f"{value:.3g}" for value in found["values"]], rotation=45)
        else:
            for number, kind in enumerate(kinds):
                look: dict[str, Any] = {"linewidth": 1.4} if number else {"fill": True, "alpha": 0.5}
                axes.stairs(found[kind], found["edges"], color=COLOURS[number], label=kind, **look)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(bottom=0)
        reach = found.get("range")
        outer = "" if reach is None else f" (outermost bins: from {reach[0]:.3g}, to {reach[1]:.3g})"
        axes.set_xlabel(spelled(score) + outer)
        names = (spelled(name, TITLE_WIDTH) for name in (item.method, heads[item.setting]))
        axes.set_title("\n".join(dict.fromkeys(names)))
    panels[0][0].set_ylabel("training samples")
    panels[0][0].legend()
    return noted(figure, whole(trials))


def last_diagnostics(connection: duckdb.DuckDBPyConnection, trial: str) -> dict[str, float]:
    lines = connection.execute(
        "SELECT name, value FROM diagnostics WHERE trial = ? AND value IS NOT NULL "
        "AND epoch = (SELECT max(epoch) FROM diagnostics WHERE trial = ?)",
        [trial, trial],
    )
    return dict(lines.fetchall())


# --- what all share -------------------------------------------------------------------------------------------------

KINDS: Mapping[str, Callable[[duckdb.DuckDBPyConnection, Request], Figure]] = {
    "curves": curves,
    "sweep": sweep,
    "histogram": histogram,
}
"""The kinds that every suite has; plugins add more through ``harness_register_plots``."""


def kinds(host: Host | None = None) -> list[str]:
    """All kinds of pictures by name; of the installed plugins where no other host is given."""
    return [*KINDS, *(host or load_host()).registry.names("plot")]


def suitable_kind(connection: duckdb.DuckDBPyConnection, request: Request, host: Host | None = None) -> str:
    """The kind that what the suite recorded asks for; curves where nothing special was.

    A plugin's picture says by its attribute ``suits``, a function of what the suite's first trial has recorded, whether
    it is the one to draw.
    """
    first = trials_of(connection, request)[0]
    recorded = Recorded(frozenset(last_diagnostics(connection, first.trial)), frozenset(first.histograms))
    for component in (host or load_host()).registry.components("plot"):
        suits = getattr(component.load(), "suits", None)
        if suits is not None and suits(recorded):
            return component.name
    return "curves"


def draw(connection: duckdb.DuckDBPyConnection, kind: str, request: Request, host: Host | None = None) -> Figure:
    """The picture of a kind.

    Raises:
        ResultsError: for an unknown kind, or when the store has not what it shows.
    """
    import matplotlib

    if kind not in (known := kinds(host)):
        raise ResultsError(unknown("kind of picture", kind, known), "plot")
    function = KINDS.get(kind) or (host or load_host()).registry.find("plot", kind)[0].load()
    with matplotlib.rc_context(STYLE):
        return function(connection, request)
