"""Figures of the SOP paper: how far gradient descent is from the convex program, and which problems are recovered."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.errors import ResultsError
from harness.results.report.figure import add_legend, line_look, make_panels, noted
from harness.results.report.plots import Drawn, Recorded, Request, last_diagnostics, trials_of, whole

if TYPE_CHECKING:
    import duckdb
    from matplotlib.figure import Figure

_PAIR = re.compile(r"^(theta|s)_difference@alpha=(.+)@lam=(.+)$")
_RECOVERY = re.compile(r"^(theta|s)_(error|success)@lam=(.+)$")


def differences(connection: duckdb.DuckDBPyConnection, request: Request) -> Figure:
    """SOP's figure 2: how far gradient descent (alpha) is from the convex program (lambda), with the line of eq. 23."""
    trials = trials_of(connection, request)
    item = trials[0]
    grids: dict[str, dict[tuple[float, float], float]] = {"theta": {}, "s": {}}
    for name, value in last_diagnostics(connection, item.trial).items():
        if found := _PAIR.match(name):
            grids[found.group(1)][float(found.group(2)), float(found.group(3))] = value
    if not grids["theta"]:
        raise ResultsError(
            "the suite has no differences to the convex program", "plot", "harness run suite:sop/figure2"
        )
    parts = {part["name"]: part["params"] for part in item.identity["algorithms"]}
    gamma = float(parts["sop_linear"]["gamma"])
    figure, panels = make_panels(1, 2, width=1.15)
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
    return noted(figure, whole(trials))


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
        for name, value in last_diagnostics(connection, item.trial).items():
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
    figure, panels = make_panels(len(rows), 2)
    for row, (of_row, fixed, varying) in enumerate(rows):
        for column, (what, symbol) in enumerate((("theta", r"\theta"), ("s", "s"))):
            axes = panels[row][column]
            for number, point in enumerate(of_row):
                curve = sorted(point.values[what, "error"].items())
                label = f"{varying} = {point.corrupted if varying == 'k' else point.rank}"
                places = [max(error, 1e-12) for _, error in curve]
                axes.plot([lam for lam, _ in curve], places, label=label, **line_look(number))
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel(r"$\lambda$")
            axes.set_ylabel(rf"$\|{symbol}-{symbol}_\star\|\,/\,\|{symbol}_\star\|$")
            axes.set_title(fixed)
    add_legend(figure, [row[0] for row in panels], panels)
    return noted(figure, whole(trials))


def phase(connection: duckdb.DuckDBPyConnection, request: Request) -> Figure:
    """SOP's figure 4: the share of random problems that are recovered, over rank and sparsity."""
    trials = trials_of(connection, request)
    points = recovery_points(connection, trials)
    ranks, sparsities = sorted({p.rank for p in points}), sorted({p.corrupted for p in points})
    where = {(p.rank, p.corrupted): p for p in points}
    lams = sorted({lam for p in points for lam in p.values["theta", "success"]})
    figure, panels = make_panels(1, 2, width=1.1)
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
    return noted(figure, whole(trials))


def _lambdas(recorded: Recorded) -> set[str]:
    """The lambdas at which recovery was measured."""
    return {name.rpartition("=")[2] for name in recorded.diagnostics if _RECOVERY.match(name)}


differences.suits = lambda recorded: any(_PAIR.match(name) for name in recorded.diagnostics)  # type: ignore[attr-defined]
recovery.suits = lambda recorded: len(_lambdas(recorded)) > 1  # type: ignore[attr-defined]
phase.suits = lambda recorded: len(_lambdas(recorded)) == 1  # type: ignore[attr-defined]
