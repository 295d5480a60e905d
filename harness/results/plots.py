"""Pictures of the store, ready for a paper: curves, sweeps, histograms of scores, and the maps of SOP's theory.

Each kind is a function from a read-only connection to a matplotlib ``Figure``; :func:`draw` finds it by name. Figures
are built without pyplot, so no state is shared and no display is needed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import statistics
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ResultsError, unknown, writing
from harness.foreign import printable
from harness.results.metrics import METRICS, find_metric, parse_metric
from harness.results.store import TABLES
from harness.suite.select import flatten

if TYPE_CHECKING:
    import duckdb
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
"""Okabe and Ito's palette: told apart by colour-blind readers."""
MARKERS = "osD^vP*X"
LINES: Any = ("-", (0, (4, 1.2)), (0, (1, 1)), (0, (4, 1, 1, 1)))
MARKED = 6
"""Points of a curve that carry its marker, at most."""
MOST_INSIDE, WIDEST_INSIDE = 5, 20
"""Entries of a legend and characters of one that fit into a panel; a larger legend stands below the panels."""
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "harness",
    "text.usetex": False,
}
PANEL = (2.6, 2.1)
"""Inches of one panel; two fill a text column of most proceedings."""
MOST_PANELS = 12
TITLE_WIDTH, LABEL_WIDTH = 34, 26
"""Characters of a title that fit over a panel, and of a label that fit beside it."""
TITLES: Mapping[str, str] = {
    "test_accuracy": "test accuracy",
    "validation_accuracy": "noisy validation accuracy",
    "train_accuracy": "training accuracy (given labels)",
    "clean_accuracy": "training accuracy (clean samples)",
    "memorisation": "memorised corrupted samples",
    "recovery": "recovered corrupted samples",
    "train_loss": "training loss",
    "mae": "test MAE",
    "train_mae": "training MAE (given targets)",
    "lr": "learning rate",
}
_PAIR = re.compile(r"^(theta|s)_difference@alpha=(.+)@lam=(.+)$")
_RECOVERY = re.compile(r"^(theta|s)_(error|success)@lam=(.+)$")
_CENSUS = re.compile(r"^(.+)@(\d+)$")


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


def trials_of(connection: duckdb.DuckDBPyConnection, request: Request) -> list[Drawn]:
    """The suite's finished trials in its own order.

    Raises:
        ResultsError: when there is none, or a method or setting has no such name.
    """
    lines = connection.execute(
        """
        SELECT s.trial, s.method, s.setting, s.seed, t.identity, t.histograms, s.comparable
        FROM suite_trials s JOIN trials t USING (trial)
        WHERE s.suite = ? AND s.newest AND NOT s.tuning AND t.status = 'done'
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
    regression = trials[0].identity["loss"]["name"] in ("l1", "l2", "huber", "tukey")
    metrics = request.metrics or (("train_mae", "mae") if regression else ("test_accuracy",))
    columns = [name for name in TABLES["epochs"] if name not in ("trial", "epoch")]
    for metric in metrics:
        if metric not in columns:
            raise ResultsError(unknown("curve", metric, columns), "--metric")
    settings = list(dict.fromkeys(item.setting for item in trials))
    methods = list(dict.fromkeys(item.method for item in trials))
    figure, panels = _panels(len(metrics), len(settings))
    heads = _heads(settings)
    chosen = ", ".join(f'"{metric}"' for metric in metrics)
    for column, setting in enumerate(settings):
        for number, method in enumerate(methods):
            mine = [item.trial for item in trials if item.setting == setting and item.method == method]
            lines = connection.execute(
                f"SELECT epoch, {chosen} FROM epochs WHERE trial IN (SELECT unnest(?::VARCHAR[])) ORDER BY epoch",
                [mine],
            ).fetchall()
            for row, metric in enumerate(metrics):
                by_epoch: dict[int, list[float]] = defaultdict(list)
                for epoch, *values in lines:
                    if values[row] is not None:
                        by_epoch[epoch].append(_scale(metric) * values[row])
                _band(
                    panels[row][column], by_epoch, _label(method), number, 0.2 if len(methods) <= MOST_INSIDE else 0.08
                )
    for row, metric in enumerate(metrics):
        unit = " [%]" if _scale(metric) > 1 else ""
        panels[row][0].set_ylabel(_label(TITLES.get(metric, find_metric(metric).title) + unit, LABEL_WIDTH))
    for column, setting in enumerate(settings):
        panels[0][column].set_title(_label(heads[setting], TITLE_WIDTH))
        panels[-1][column].set_xlabel("epoch")
    _legend(figure, panels[0][:1], panels)
    return _noted(figure, trials)


def _band(axes: Axes, points: Mapping[int, list[float]], label: str, number: int, alpha: float) -> None:
    epochs = sorted(points)
    if not epochs:
        return
    means = [statistics.mean(points[epoch]) for epoch in epochs]
    step = math.ceil(len(epochs) / MARKED)
    look = _look(number)
    axes.plot(epochs, means, label=label, markevery=(number % step, step), **look)
    if max(len(points[epoch]) for epoch in epochs) > 1:
        spread = [statistics.stdev(points[epoch]) if len(points[epoch]) > 1 else 0.0 for epoch in epochs]
        low = [mean - std for mean, std in zip(means, spread, strict=True)]
        high = [mean + std for mean, std in zip(means, spread, strict=True)]
        axes.fill_between(epochs, low, high, color=look["color"], alpha=alpha, linewidth=0)


def _scale(metric: str) -> float:
    """100 for shares, which are recorded in [0, 1]."""
    base = {"test_accuracy": "accuracy"}.get(metric, metric)
    return 100.0 if base in METRICS and METRICS[base].percent else 1.0


# --- sweep ----------------------------------------------------------------------------------------------------------


def sweep(connection: duckdb.DuckDBPyConnection, request: Request) -> Figure:
    """A metric over a parameter: a line for each setting (and kind of stack), means over seeds with their deviation."""
    trials = trials_of(connection, request)
    views = {item.trial: flatten({k: v for k, v in item.identity.items() if k != "schema"}) for item in trials}
    known = sorted({key for view in views.values() for key, value in view.items() if _is_number(value)})
    if request.x not in known:
        varying = [key for key in known if len({views[item.trial].get(key) for item in trials}) > 1]
        where = "--x"
        raise ResultsError(
            unknown("parameter", request.x, known) if request.x else "which parameter?",
            where,
            f"these vary: {', '.join(varying)}",
        )
    name, at = parse_metric(request.metrics[0] if request.metrics else "last")
    main = name or "accuracy"
    rows = dict(
        connection.execute(
            'SELECT trial, value FROM metrics WHERE metric = ? AND "at" = ? AND value IS NOT NULL', [main, at]
        ).fetchall()
    )
    metric = find_metric(main)
    lines: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for item in trials:
        value = views[item.trial].get(request.x)
        if item.trial in rows and _is_number(value):
            stack = "+".join(_stack(item.identity))
            lines[stack, item.setting][float(value or 0)].append((100 if metric.percent else 1) * rows[item.trial])
    if not lines:
        raise ResultsError(f"no trial has both {request.x} and {main} at {at}", "--metric")
    figure, panels = _panels(1, 1, width=1.6, height=1.3)
    axes = panels[0][0]
    stacks = {stack for stack, _ in lines}
    heads = _heads(list(dict.fromkeys(setting for _, setting in lines)))
    for number, ((stack, setting), points) in enumerate(lines.items()):
        places = sorted(points)
        means = [statistics.mean(points[place]) for place in places]
        spread = [statistics.stdev(points[place]) if len(points[place]) > 1 else 0.0 for place in places]
        label = _label(heads[setting] if len(stacks) == 1 else f"{stack}: {heads[setting]}")
        axes.errorbar(places, means, yerr=spread if any(spread) else None, label=label, capsize=2, **_look(number))
    values = sorted({place for points in lines.values() for place in points})
    if values[0] > 0 and values[-1] / values[0] >= 10:
        axes.set_xscale("log", base=2 if all(math.log2(v).is_integer() for v in values) else 10)
    axes.set_xlabel(_label(request.x))
    axes.set_ylabel(_label(metric.title + (" [%]" if metric.percent else "") + ("" if at == "last" else f", {at}")))
    _legend(figure, [axes], panels)
    return _noted(figure, trials)


def _stack(identity: Mapping[str, Any]) -> Iterator[str]:
    yield identity["loss"]["name"]
    for key in ("transforms", "algorithms"):
        yield from (part["name"] for part in identity[key])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# --- per-sample scores ----------------------------------------------------------------------------------------------


def histogram(connection: duckdb.DuckDBPyConnection, request: Request) -> Figure:
    """How a per-sample score spreads over clean and corrupted training samples after the last epoch, one seed.

    A panel for each method and setting that has the score. Counts are on a logarithmic axis.
    """
    trials = trials_of(connection, request)
    scores = list(dict.fromkeys(name for item in trials for name in item.histograms if not _CENSUS.match(name)))
    score = request.score or (scores[0] if scores else "")
    if score not in scores:
        raise ResultsError(unknown("score", score, scores) if scores else "no method here scores samples", "--score")
    seed = trials[0].seed if request.seed is None else request.seed
    shown = [item for item in trials if score in item.histograms and item.seed == seed]
    if not shown:
        raise ResultsError(f"no trial with seed {seed} has the score {score}", "--seed")
    figure, panels = _panels(1, len(shown))
    heads = _heads(list(dict.fromkeys(item.setting for item in shown)))
    for axes, item in zip(panels[0], shown, strict=True):
        found = item.histograms[score]
        if "values" in found:
            places = range(len(found["values"]))
            axes.bar([p - 0.2 for p in places], found["clean"], 0.4, color=COLOURS[0], label="clean")
            axes.bar([p + 0.2 for p in places], found["corrupted"], 0.4, color=COLOURS[1], label="corrupted")
            axes.set_xticks(places, [f"{value:.3g}" for value in found["values"]], rotation=45)
        else:
            axes.stairs(found["clean"], found["edges"], color=COLOURS[0], fill=True, alpha=0.5, label="clean")
            axes.stairs(found["corrupted"], found["edges"], color=COLOURS[1], linewidth=1.4, label="corrupted")
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(bottom=0)
        reach = found.get("range")
        outer = "" if reach is None else f" (outermost bins: from {reach[0]:.3g}, to {reach[1]:.3g})"
        axes.set_xlabel(_label(score) + outer)
        names = (_label(name, TITLE_WIDTH) for name in (item.method, heads[item.setting]))
        axes.set_title("\n".join(dict.fromkeys(names)))
    panels[0][0].set_ylabel("training samples")
    panels[0][0].legend()
    return _noted(figure, trials)


RANGES = ("$u>0$", "0", "(-¼, 0)", "(-½, -¼]", "(-¾, -½]", "[-1, -¾]")
"""The ranges of RRM's table 6, of N u."""


def census(connection: duckdb.DuckDBPyConnection, request: Request) -> Figure:
    """Clean and corrupted samples in each range of a score, after the epochs that `score_census` kept, one seed."""
    trials = trials_of(connection, request)
    kept = [
        (item, int(found.group(2)), histogram)
        for item in trials
        for name, histogram in item.histograms.items()
        if (found := _CENSUS.match(name))
        and found.group(1) == (request.score or found.group(1))
        and item.seed == trials[0].seed
    ]
    if not kept:
        raise ResultsError("no method here took a census of a score", "--score", "put score_census into its algorithms")
    figure, panels = _panels(1, len(kept), width=1.25)
    for axes, (item, epoch, found) in zip(panels[0], kept, strict=True):
        parts = item.identity["algorithms"]
        edges = next(part["params"]["edges"] for part in parts if part["name"] == "score_census")
        names = RANGES if len(edges) + 1 == len(RANGES) else tuple(map(str, range(len(edges) + 1)))
        for shift, group, colour in ((-0.2, "corrupted", COLOURS[1]), (0.2, "clean", COLOURS[0])):
            counts = dict(zip((int(value) for value in found["values"]), found[group], strict=True))
            heights = [counts.get(number, 0) for number in range(len(names))]
            places = [number + shift for number in range(len(names))]
            bars = axes.bar(places, heights, 0.4, color=colour, label=group)
            axes.bar_label(bars, fontsize=5, padding=1, rotation=90)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(0, 12 * max(*found["clean"], *found["corrupted"]))
        axes.set_xticks(range(len(names)), names, rotation=45)
        axes.set_xlabel("N u" if names is RANGES else "range")
        axes.set_title(_label(f"{item.method}, epoch {epoch}", TITLE_WIDTH))
    panels[0][0].set_ylabel("training samples")
    panels[0][0].legend()
    return _noted(figure, trials)


# --- SOP's theory ---------------------------------------------------------------------------------------------------


def differences(connection: duckdb.DuckDBPyConnection, request: Request) -> Figure:
    """SOP's figure 2: how far gradient descent (alpha) is from the convex program (lambda), with the line of eq. 23."""
    trials = trials_of(connection, request)
    item = trials[0]
    grids: dict[str, dict[tuple[float, float], float]] = {"theta": {}, "s": {}}
    for name, value in _last_diagnostics(connection, item.trial).items():
        if found := _PAIR.match(name):
            grids[found.group(1)][float(found.group(2)), float(found.group(3))] = value
    if not grids["theta"]:
        raise ResultsError(
            "the suite has no differences to the convex program", "plot", "harness run suite:sop/figure2"
        )
    parts = {part["name"]: part["params"] for part in item.identity["algorithms"]}
    gamma = float(parts["sop_linear"]["gamma"])
    figure, panels = _panels(1, 2, width=1.15)
    for axes, (what, title) in zip(panels[0], (("theta", r"$\theta$"), ("s", "$s$")), strict=True):
        alphas = sorted({alpha for alpha, _ in grids[what]})
        lams = sorted({lam for _, lam in grids[what]})
        values = [[grids[what][alpha, lam] for lam in lams] for alpha in alphas]
        mesh = axes.pcolormesh(lams, alphas, values, shading="nearest", cmap="viridis", vmin=0, vmax=1, rasterized=True)
        ends = [lam for lam in lams if alphas[0] <= -math.log(gamma) / (2 * lam) <= alphas[-1]]
        axes.plot(ends, [-math.log(gamma) / (2 * lam) for lam in ends], color="#56B4E9", linewidth=1.6)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(r"$\lambda$")
        axes.set_title(f"relative difference of {title}")
    panels[0][0].set_ylabel(r"$\alpha$")
    panels[0][0].plot([], [], color="#56B4E9", label=r"$\alpha=-\log\gamma\,/\,2\lambda$")
    panels[0][0].legend(loc="lower left", labelcolor="white")
    figure.colorbar(mesh, ax=panels[0], shrink=0.9)
    return _noted(figure, trials)


@dataclasses.dataclass(frozen=True)
class RecoveryPoint:
    """Relative errors and success rates of one (r, k) by lambda: ``values[what, measure][lam]``."""

    rank: int
    corrupted: int
    values: Mapping[tuple[str, str], Mapping[float, float]]


def recovery_points(connection: duckdb.DuckDBPyConnection, trials: Sequence[Drawn]) -> list[RecoveryPoint]:
    """What `sparse_recovery` found in every trial."""
    points = []
    for item in trials:
        values: dict[tuple[str, str], dict[float, float]] = defaultdict(dict)
        for name, value in _last_diagnostics(connection, item.trial).items():
            if found := _RECOVERY.match(name):
                values[found.group(1), found.group(2)][float(found.group(3))] = value
        if values:
            dataset, noise = item.identity["dataset"]["params"], item.identity["noise"]["params"]
            points.append(RecoveryPoint(dataset["rank"], round(noise["rate"] * dataset["samples"]), values))
    if not points:
        raise ResultsError("the suite has no recovery errors", "plot", "harness run suite:sop/figure3")
    return points


def recovery(connection: duckdb.DuckDBPyConnection, request: Request) -> Figure:
    """SOP's figure 3: relative errors over lambda; above the rank is fixed, below the sparsity."""
    trials = trials_of(connection, request)
    points = recovery_points(connection, trials)
    ranks, sparsities = [p.rank for p in points], [p.corrupted for p in points]
    fixed_rank = max(set(ranks), key=lambda r: len({p.corrupted for p in points if p.rank == r}))
    fixed_sparsity = max(set(sparsities), key=lambda k: len({p.rank for p in points if p.corrupted == k}))
    rows = [
        (sorted((p for p in points if p.rank == fixed_rank), key=lambda p: p.corrupted), f"r = {fixed_rank}", "k"),
        (
            sorted((p for p in points if p.corrupted == fixed_sparsity), key=lambda p: p.rank),
            f"k = {fixed_sparsity}",
            "r",
        ),
    ]
    rows = [row for row in rows if len(row[0]) > 1] or rows[:1]
    figure, panels = _panels(len(rows), 2)
    for row, (of_row, fixed, varying) in enumerate(rows):
        for column, (what, symbol) in enumerate((("theta", r"\theta"), ("s", "s"))):
            axes = panels[row][column]
            for number, point in enumerate(of_row):
                curve = sorted(point.values[what, "error"].items())
                label = f"{varying} = {point.corrupted if varying == 'k' else point.rank}"
                places = [max(error, 1e-12) for _, error in curve]
                axes.plot([lam for lam, _ in curve], places, label=label, **_look(number))
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel(r"$\lambda$")
            axes.set_ylabel(rf"$\|{symbol}-{symbol}_\star\|\,/\,\|{symbol}_\star\|$")
            axes.set_title(fixed)
    _legend(figure, [row[0] for row in panels], panels)
    return _noted(figure, trials)


def phase(connection: duckdb.DuckDBPyConnection, request: Request) -> Figure:
    """SOP's figure 4: the share of random problems that are recovered, over rank and sparsity."""
    trials = trials_of(connection, request)
    points = recovery_points(connection, trials)
    ranks, sparsities = sorted({p.rank for p in points}), sorted({p.corrupted for p in points})
    where = {(p.rank, p.corrupted): p for p in points}
    lams = sorted({lam for p in points for lam in p.values["theta", "success"]})
    figure, panels = _panels(1, 2, width=1.1)
    for axes, (what, symbol) in zip(panels[0], (("theta", r"$\theta$"), ("s", "$s$")), strict=True):
        shares = [
            [where[r, k].values[what, "success"][lams[-1]] if (r, k) in where else math.nan for r in ranks]
            for k in sparsities
        ]
        mesh = axes.pcolormesh(
            ranks, sparsities, shares, shading="nearest", cmap="gray", vmin=0, vmax=1, rasterized=True
        )
        axes.set_xlabel("rank r")
        axes.set_title(rf"success for {symbol}, $\lambda$ = {lams[-1]:g}")
    panels[0][0].set_ylabel("corrupted samples k")
    figure.colorbar(mesh, ax=panels[0], shrink=0.9)
    return _noted(figure, trials)


def _last_diagnostics(connection: duckdb.DuckDBPyConnection, trial: str) -> dict[str, float]:
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
    "census": census,
    "differences": differences,
    "recovery": recovery,
    "phase": phase,
}


def suitable_kind(connection: duckdb.DuckDBPyConnection, request: Request) -> str:
    """The kind that what the suite recorded asks for; curves where nothing special was."""
    trials = trials_of(connection, request)
    names = _last_diagnostics(connection, trials[0].trial)
    if any(_PAIR.match(name) for name in names):
        return "differences"
    if recovered := [name for name in names if _RECOVERY.match(name)]:
        return "recovery" if len({name.rpartition("=")[2] for name in recovered}) > 1 else "phase"
    return "census" if any(_CENSUS.match(name) for name in trials[0].histograms) else "curves"


def draw(connection: duckdb.DuckDBPyConnection, kind: str, request: Request) -> Figure:
    """The picture of a kind.

    Raises:
        ResultsError: for an unknown kind, or when the store has not what it shows.
    """
    import matplotlib

    if kind not in KINDS:
        raise ResultsError(unknown("kind of picture", kind, KINDS), "plot")
    with matplotlib.rc_context(STYLE):
        return KINDS[kind](connection, request)


def save(figure: Figure, path: Path, dpi: int = 300) -> None:
    """Write a figure in the format of its ending; the same figure gives the same file.

    Raises:
        ResultsError: for another ending, or a folder that cannot be written.
    """
    import matplotlib

    if path.suffix.lower() not in FORMATS:
        raise ResultsError(
            f"cannot write a picture as {path.suffix or 'nothing'!r}", str(path), f"end it in {', '.join(FORMATS)}"
        )
    metadata: dict[str, Any] = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(STYLE):
            figure.savefig(path, dpi=dpi, metadata=metadata[path.suffix.lower()])


def _panels(rows: int, columns: int, width: float = 1.0, height: float = 1.0) -> tuple[Figure, list[list[Axes]]]:
    from matplotlib.figure import Figure

    if columns > MOST_PANELS:
        raise ResultsError(f"{columns} panels side by side are too many", "plot", "choose with --setting and --method")
    figure = Figure(figsize=(PANEL[0] * columns * width, PANEL[1] * rows * height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in axes]


def _look(number: int) -> dict[str, Any]:
    """Colour, line and marker of the n-th line: line and marker alone, as in grey, tell 32 apart, with colour 256."""
    count, more = len(COLOURS), number // (len(COLOURS) * len(LINES))
    return {
        "color": COLOURS[number % count],
        "linestyle": LINES[number // count % len(LINES)],
        "marker": MARKERS[(number + more) % len(MARKERS)],
        "markersize": 3,
    }


def _legend(figure: Figure, homes: Sequence[Axes], panels: Sequence[Sequence[Axes]]) -> None:
    """What is what: inside the panels ``homes`` where it is small, else once below all, for which the figure grows."""
    if len(homes) == 1:
        entries = [_entries(axes for row in panels for axes in row)]
    else:
        entries = [_entries([axes]) for axes in homes]
    if all(len(found) <= MOST_INSIDE and max(map(len, found), default=0) <= WIDEST_INSIDE for found in entries):
        for axes, found in zip(homes, entries, strict=True):
            axes.legend(list(found.values()), list(found))
        return
    every = {label: line for found in entries for label, line in found.items()}
    count = len(every)
    for rows in range(1, count + 1):
        legend = figure.legend(
            list(every.values()),
            ["\n".join(textwrap.wrap(label, TITLE_WIDTH)) for label in every],
            loc="outside lower center",
            ncols=math.ceil(count / rows),
            handlelength=3,
        )
        box = legend.get_window_extent()
        if box.width <= figure.bbox.width or rows == count:
            break
        legend.remove()
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + box.height / figure.dpi)


def _entries(panels: Iterable[Axes]) -> dict[str, Any]:
    """The labelled lines of some panels, one for each label: a method may be in some settings only."""
    found: dict[str, Any] = {}
    for axes in panels:
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, line)
    return found


def _label(name: str, width: int | None = None) -> str:
    """A name as matplotlib draws it letter by letter: ``$`` starts no formula, a leading ``_`` hides no line.

    Every word that this file has not written itself passes here; ``width`` wraps it.
    """
    shown = printable(name)
    lines = textwrap.wrap(shown, width) if width is not None else [shown]
    return ("\u2009" if name.startswith("_") else "") + "\n".join(lines).replace("$", r"\$")


def _heads(settings: Sequence[str]) -> dict[str, str]:
    from harness.results.board import shorten

    return shorten(tuple(settings))


def _noted(figure: Figure, trials: Sequence[Drawn]) -> Figure:
    """A line under pictures of shrunken runs, so that nobody takes them for the paper's scale."""
    if all(item.comparable for item in trials):
        return figure
    note, grey = "run at --scale quick", "#7F7F7F"
    for legend in figure.legends:  # it has the place of the line: matplotlib would print one over the other
        legend.set_title(note)
        legend.get_title().set(fontsize=6, color=grey)
    if not figure.legends:
        figure.supxlabel(note, fontsize=6, color=grey, x=0.99, ha="right")
    return figure
