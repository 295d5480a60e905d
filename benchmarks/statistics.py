"""What the tables' statements are worth, by simulation: ``python benchmarks/statistics.py [--data-sets 20000]``.

Prints the tables of docs/statistics.md: false separations and power of the comparisons between methods, before (pooled
variances, single methods and graded variances taken out by tests; commit a8d465e, frozen figures) and after (moderated
variances); family-wise error against a reference; coverage of intervals. A few CPU-minutes.

``--freeze NAME --results DIR [--suite SUITE]`` adds the spreads of a board in a results folder to ``spreads.json``, the
standard deviations over seeds that the simulations use as true ones.
"""

from __future__ import annotations

import sys

if __name__ == "statistics":
    # Every script of this folder has the folder first on its path: give those who want it the standard library's module.
    import importlib.util
    import sysconfig
    from pathlib import Path

    spec = importlib.util.spec_from_file_location("statistics", Path(sysconfig.get_path("stdlib"), "statistics.py"))
    assert spec is not None and spec.loader is not None
    sys.modules["statistics"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
else:
    import argparse
    import json
    import time
    from pathlib import Path
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from harness.results import statistics as stats
    from harness.results.statistics.ties import simultaneous

    SPREADS = Path(__file__).with_name("spreads.json")
    METHODS = 14
    BLOCK = 2.0
    CHUNK = 4000
    BEFORE: dict[str, tuple[float, ...]] = {  # 20,000 data sets a row, by the code of commit a8d465e
        "equal: 14 / 3": (5.4, 5.4),
        "equal: 14 / 5": (4.9, 5.0),
        "one tenfold among: 20 / 3": (9.3, 11.3),
        "one tenfold among: 20 / 5": (3.6, 5.6),
        "board: default-a8d465e, mnist5k / lenet / symmetric 0.4 / 3": (19.6, 21.4),
        "board: default-a8d465e, mnist5k / lenet / symmetric 0.4 / 5": (17.0, 20.0),
        "board: default-a8d465e, mnist5k / lenet / asymmetric 0.4 / 3": (19.1, 36.3),
        "board: default-a8d465e, mnist5k / lenet / asymmetric 0.4 / 5": (6.2, 18.5),
        "board: default-a8d465e, mnist5k / lenet / instance 0.4 / 3": (26.5, 34.8),
        "board: default-a8d465e, mnist5k / lenet / instance 0.4 / 5": (9.6, 18.8),
        "log-normal: 0.2 / 3": (7.9, 8.0),
        "log-normal: 0.2 / 5": (8.1, 8.4),
        "log-normal: 0.4 / 3": (14.3, 15.2),
        "log-normal: 0.4 / 5": (13.5, 15.2),
        "log-normal: 0.6 / 3": (20.2, 23.0),
        "log-normal: 0.6 / 5": (14.9, 18.8),
        "log-normal: 0.8 / 3": (23.1, 28.7),
        "log-normal: 0.8 / 5": (12.5, 18.8),
        "winner / 3": (98.5, 90.5),
        "winner / 5": (99.9, 99.1),
    }
    FloatArray = NDArray[np.float64]


def boards() -> list[dict[str, Any]]:
    """The frozen boards: name, commit, and per setting the standard deviations over seeds, in points."""
    return list(json.loads(SPREADS.read_text())["boards"])


def freeze(name: str, results: Path, suite: str | None, commit: str) -> None:
    """Add a board's spreads to the file, or replace those of that name."""
    from harness import open_store
    from harness.results.records import open_results
    from harness.results.report import read_board, scores_of

    with open_store(open_results(results, create=False)) as connection:
        scores = scores_of(read_board(connection, suite, "last"))
    std = 100 * stats.cells(scores, intervals=False).std
    made = {
        "name": name,
        "commit": commit,
        "methods": list(scores.methods),
        "seeds": len(scores.seeds),
        "spreads": {setting: [round(float(v), 4) for v in std[:, s]] for s, setting in enumerate(scores.settings)},
    }
    kept = [board for board in (boards() if SPREADS.exists() else []) if board["name"] != name]
    SPREADS.write_text(json.dumps({"boards": [*kept, made]}, indent=2) + "\n")


def spreads_of(what: str, data_sets: int, rng: np.random.Generator) -> FloatArray:
    """True standard deviations ``[data sets, methods]`` of a row."""
    kind, _, detail = what.partition(": ")
    if kind == "log-normal":
        return np.exp(float(detail) * rng.normal(size=(data_sets, METHODS)))
    if kind == "equal":
        return np.ones((data_sets, int(detail)))
    if kind == "one tenfold among":
        return np.broadcast_to(np.r_[10.0, np.ones(int(detail) - 1)], (data_sets, int(detail)))
    name, _, setting = detail.partition(", ")
    (board,) = [board for board in boards() if board["name"] == name]
    return np.broadcast_to(np.array(board["spreads"][setting]), (data_sets, len(board["methods"])))


def separations(what: str, seeds: int, data_sets: int, winner: float = 0.0) -> tuple[float, float, float, float]:
    """In percent: tables where any method is separable from the observed top; where any pair is; the share of others that
    the first method, better by ``winner``, is separable from; tables where it stands alone at the top."""
    rng = np.random.default_rng([len(what), seeds, *what.encode()])
    counts = np.zeros(4)
    for start in range(0, data_sets, CHUNK):
        many = min(CHUNK, data_sets - start)
        spread = spreads_of(what, many, rng)
        values = rng.normal(size=(*spread.shape, seeds)) * spread[..., None] + BLOCK * rng.normal(size=(many, 1, seeds))
        values[:, 0] += winner
        found = simultaneous(values, blocked=True)
        separable = np.abs(found.estimate[:, :, None] - found.estimate[:, None]) > found.half_width
        top = found.estimate.argmax(axis=1)
        alone = (top == 0) & separable[:, 0, 1:].all(axis=1)
        from_top = separable[np.arange(many), top].any(axis=1)
        counts += from_top.sum(), separable.any(axis=(1, 2)).sum(), separable[:, 0, 1:].mean(axis=1).sum(), alone.sum()
    return tuple(100 * counts / data_sets)


def families(settings: int, seeds: int, methods: int, data_sets: int) -> tuple[float, float]:
    """In percent: tables of equal methods where any 95 % interval against the first excludes 0, one by one by Student's t
    over the paired differences, and with :func:`compare_to_reference`'s arithmetic."""
    rng = np.random.default_rng([settings, seeds, methods])
    alone = together = 0
    for start in range(0, data_sets, CHUNK):
        many = min(CHUNK, data_sets - start)
        values = rng.normal(size=(many, settings, methods, seeds)) + BLOCK * rng.normal(size=(many, settings, 1, seeds))
        found = simultaneous(values, blocked=True)
        gap = (found.estimate[..., 1:] - found.estimate[..., :1]).mean(axis=1)
        squared = found.standard_error[..., 1:, 0] ** 2
        df = squared.sum(axis=1) ** 2 / (squared**2 / found.df[..., 1:, 0]).sum(axis=1)
        share = found.mean_variance[..., :1].sum(axis=1) / squared.sum(axis=1)
        t = np.abs(gap) * settings / np.sqrt(squared.sum(axis=1))
        most = (t / stats.t_quantile(0.95, df)).argmax(axis=1)
        paired = values[:, :, 1:] - values[:, :, :1]
        variance = paired.var(axis=-1, ddof=1) / seeds
        welch = variance.sum(axis=1) ** 2 / (variance**2 / (seeds - 1)).sum(axis=1)
        own = np.abs(paired.mean(axis=(1, 3))) * settings / np.sqrt(variance.sum(axis=1))
        alone += int((own > stats.t_quantile(0.95, welch)).any(axis=1).sum())
        for i, k in enumerate(most):
            together += bool(stats.dunnett_sf(t[i, k], share[i], df[i, k]) < 0.05)
    return 100 * alone / data_sets, 100 * together / data_sets


def improvement_coverage(settings: int, seeds: int, chance: float, data_sets: int) -> float:
    """In percent: how often the bootstrap interval holds the true chance that one method beats another."""
    from scipy.stats import norm

    from harness.results.statistics import pairs

    pairs.LEAST_SETTINGS = pairs.LEAST_SEEDS = pairs.LEAST_RUNS = 1  # also where the library gives no interval
    rng = np.random.default_rng([settings, seeds, int(100 * chance)])
    labels = ("a", "b"), tuple(map(str, range(settings))), tuple(range(seeds))
    covered = 0
    for _ in range(data_sets):
        values = rng.normal(size=(2, settings, seeds))
        values[0] += norm.ppf(chance) * np.sqrt(2)
        found = stats.probability_of_improvement(stats.Scores(*labels, values, step=0.0), "a", "b", resamples=500)
        assert found is not None and found.interval is not None
        covered += found.interval.low <= chance <= found.interval.high
    return 100 * covered / data_sets


def rows() -> list[str]:
    """The spreads of the false-separation table."""
    named = [f"board: {board['name']}, {setting}" for board in boards() for setting in board["spreads"]]
    return ["equal: 14", *named, *(f"log-normal: {sd}" for sd in (0.2, 0.4, 0.6, 0.8)), "one tenfold among: 20"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-sets", type=int, default=20_000)
    parser.add_argument("--freeze", metavar="NAME")
    parser.add_argument("--commit", default="")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--suite")
    chosen = parser.parse_args()
    if chosen.freeze:
        freeze(chosen.freeze, chosen.results, chosen.suite, chosen.commit)
        return
    many, start = chosen.data_sets, time.process_time()
    print(f"false separations among equal methods, % of {many} tables: from the top / any pair\n")
    print(
        "| true spreads | seeds | before: from the top | any pair | after: from the top | any pair |\n|---|---|---|---|---|---|"
    )
    for what in rows():
        for seeds in (3, 5):
            from_top, any_pair, _, _ = separations(what, seeds, many)
            before = " | ".join(f"{v:.1f}" for v in BEFORE.get(f"{what} / {seeds}", (np.nan, np.nan))[:2])
            print(f"| {what} | {seeds} | {before} | {from_top:.1f} | {any_pair:.1f} |", flush=True)
    print(f"\na winner by 5 standard deviations among 13, % of {many} tables\n")
    print(
        "| seeds | before: pairs found | alone at the top | after: pairs found | alone at the top |\n|---|---|---|---|---|"
    )
    for seeds in (3, 5):
        _, _, power, alone = separations("equal: 13", seeds, many, winner=5.0)
        before = " | ".join(f"{v:.1f}" for v in BEFORE.get(f"winner / {seeds}", (np.nan, np.nan)))
        print(f"| {seeds} | {before} | {power:.1f} | {alone:.1f} |", flush=True)
    print(f"\nany interval against the reference excludes 0, 13 equal methods and it, % of {many} tables\n")
    print("| settings | seeds | one by one | Dunnett |\n|---|---|---|---|")
    for settings, seeds in ((1, 3), (3, 3), (3, 5), (8, 3)):
        alone, together = families(settings, seeds, METHODS, many)
        print(f"| {settings} | {seeds} | {alone:.1f} | {together:.1f} |", flush=True)
    fewer = max(50, many // 40)
    print(
        f"\ncoverage of the interval of the chance to beat a method, true chance .5 / .75 / .9, % of {fewer} tables\n"
    )
    print("| settings | seeds | coverage |\n|---|---|---|")
    for settings, seeds in ((1, 3), (3, 3), (3, 5), (6, 3), (6, 5), (12, 3)):
        said = " / ".join(f"{improvement_coverage(settings, seeds, c, fewer):.0f}" for c in (0.5, 0.75, 0.9))
        print(f"| {settings} | {seeds} | {said} |", flush=True)
    print(f"\n{time.process_time() - start:.0f} CPU-seconds")


if __name__ == "__main__":
    main()
