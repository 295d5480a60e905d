"""How well the noise is estimated, and what HOC costs: ``HARNESS_DATA=... python benchmarks/estimators.py [DATASET ...]``.

The error of T is the mean over classes of ``sum_j |T_ij - t_ij|``, where t are the shares of the given labels among the samples
of each true class in the drawn labels: 0 is exact, 2 is the most. Mean and standard deviation over seeds, of the same labels
for every estimator. A data set is given by its name; its inputs are the features (pixels, or ``features:NAME``, which
``harness data embed`` makes). ``--cost`` times HOC on 50,000 random features of width 1,280 instead, on two threads.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import numpy as np
import torch
from history import History
from torch import Tensor

import harness
from harness import LabelledData

ESTIMATORS = ("hoc", "confident", "anchors")
NOISE: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("symmetric 20 %", "symmetric", {"rate": 0.2}),
    ("symmetric 40 %", "symmetric", {"rate": 0.4}),
    ("asymmetric 40 %", "asymmetric", {"rate": 0.4}),
    ("instance 40 %", "instance", {"rate": 0.4}),
)
MOST_SECONDS, MOST_MIB = 120, 2048


def drawn_matrix(clean: Tensor, given: Tensor, num_classes: int) -> Tensor:
    """(K, K) float64 shares of the given labels among the samples of each true class."""
    counts = torch.zeros(num_classes, num_classes, dtype=torch.float64)
    counts.index_put_((clean, given), torch.ones(len(clean), dtype=torch.float64), accumulate=True)
    return counts / counts.sum(1, keepdim=True)


def departure(estimate: Tensor, truth: Tensor) -> float:
    """Mean over the rows of two (K, K) matrices of the sum of absolute differences."""
    return float((estimate - truth).abs().sum(1).mean())


def errors(data: LabelledData, seeds: int) -> dict[tuple[str, str], list[float]]:
    """Departures by noise and estimator, one for each seed."""
    features = data.inputs.reshape(len(data), -1).float()
    classes = int(data.num_classes or 0)
    found: dict[tuple[str, str], list[float]] = {}
    for words, kind, params in NOISE:
        for seed in range(seeds):
            given = harness.create("noise", kind, **params)(data, rng=np.random.default_rng(seed))
            truth = drawn_matrix(data.targets, given, classes)
            for name in ESTIMATORS:
                report = harness.create("estimator", name)(features, given, classes, rng=np.random.default_rng(seed))
                found.setdefault((words, name), []).append(departure(report.T, truth))
    return found


def table(dataset: str, found: dict[tuple[str, str], list[float]]) -> str:
    """A Markdown table of a data set's errors."""
    lines = [f"| {dataset} | {' | '.join(ESTIMATORS)} |", "|---" * (1 + len(ESTIMATORS)) + "|"]
    for words, _, _ in NOISE:
        cells = []
        for name in ESTIMATORS:
            values = found[words, name]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}")
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cost(history: History, samples: int, width: int) -> None:
    """HOC on random features, whose neighbours cost what any features' do."""
    torch.set_num_threads(2)
    features = torch.randn(samples, width, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(10, (samples,), generator=torch.Generator().manual_seed(1))
    started = time.perf_counter()
    harness.create("estimator", "hoc")(features, labels, 10, rng=np.random.default_rng(0))
    seconds = time.perf_counter() - started
    whole = (samples, width) == (50_000, 1_280)
    what = f"HOC, {samples:,} features of width {width:,}"
    history.row(what, seconds, "s", MOST_SECONDS if whole else None)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    history.row(f"peak memory of the process, {what}", most, "MiB", MOST_MIB if whole else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="*", default=["mnist5k"], metavar="DATASET")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cost", action="store_true", help="time and memory of HOC in place of errors")
    parser.add_argument("--samples", type=int, default=50_000, help="of --cost")
    parser.add_argument("--width", type=int, default=1_280, help="of --cost")
    arguments = parser.parse_args()
    history = History("estimators")
    if arguments.cost:
        cost(history, arguments.samples, arguments.width)
    else:
        for dataset in arguments.datasets:
            found = errors(harness.create("dataset", dataset).train, arguments.seeds)
            print(table(dataset, found), flush=True)
            for (words, name), values in found.items():
                history.row(f"error of T, {dataset}, {words}, {name}", statistics.mean(values), "L1 of a row")
    print(f"\nkept in {history.keep()}")


if __name__ == "__main__":
    main()
