"""Which detector finds wrong labels best: ``HARNESS_DATA=... python benchmarks/detectors.py [DATASET ...]``.

Every detector judges the same features and the same drawn labels. A data set is given by its name; its inputs are the
features (pixels, or ``features:NAME``, which ``harness data embed`` makes), of which each seed draws some samples. With ``n``
wrong labels:

- AUROC and average precision of the scores;
- precision at n: of the n most suspect labels the share that is wrong;
- false-negative rate at the noise rate: of the wrong labels the share that is not among as many as the noise rate says are
  wrong. The rate is that of the drawn labels, so this is 1 less the precision at n;
- precision and false-negative rate of the detector's own flags.

The means over noises and seeds are compared as a board's methods are (docs/statistics.md), by blocks of seeds and for all pairs
together. Bold is what no other detector is separably better than.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from estimators import NOISE
from history import History
from torch import Tensor

import harness
from harness import LabelledData, NoiseReport
from harness.plugins import load_host
from harness.results.statistics import (
    Pairwise,
    Scores,
    cells,
    compare_in_settings,
    compare_over_settings,
    describe,
    top_group,
)
from harness.training.measures import auroc, average_precision


def hits(scores: Tensor, wrong: Tensor, count: int) -> float:
    """How many of the ``count`` most suspect are wrong; of those that tie for the last places the expected number."""
    least = scores.topk(count).values[-1]
    above, tied = scores > least, scores == least
    places = count - int(above.sum())
    return float(wrong[above].sum()) + places * float(wrong[tied].double().mean())


def precision_at(scores: Tensor, wrong: Tensor, count: int) -> float:
    """Share of the ``count`` most suspect that is wrong."""
    return hits(scores, wrong, count) / count


def missed_at(scores: Tensor, wrong: Tensor, rate: float) -> float:
    """Share of the wrong ones that is not among the most suspect ``rate`` of all samples."""
    return 1 - hits(scores, wrong, round(rate * len(wrong))) / float(wrong.sum())


def flag_precision(flags: Tensor, wrong: Tensor) -> float:
    """Share of the flagged that is wrong; NaN where nothing is flagged."""
    return float(wrong[flags].double().mean()) if bool(flags.any()) else math.nan


def flag_missed(flags: Tensor, wrong: Tensor) -> float:
    """Share of the wrong ones that is not flagged."""
    return float((~flags)[wrong].double().mean())


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number that says how good a report is: of the report and (N,) which labels are wrong."""

    title: str
    higher_is_better: bool
    of: Callable[[NoiseReport, Tensor], float]


HEADLINE = Measure("average precision", True, lambda r, wrong: float(average_precision(r.score[None], wrong[None])))
MEASURES = (
    Measure("AUROC", True, lambda r, wrong: float(auroc(r.score, wrong))),
    HEADLINE,
    Measure("precision at n", True, lambda r, wrong: precision_at(r.score, wrong, int(wrong.sum()))),
    Measure(
        "false negatives at the rate", False, lambda r, wrong: missed_at(r.score, wrong, float(wrong.double().mean()))
    ),
    Measure("precision of flags", True, lambda r, wrong: flag_precision(r.flags, wrong)),
    Measure("false negatives of flags", False, lambda r, wrong: flag_missed(r.flags, wrong)),
)


def measured(data: LabelledData, detectors: Iterable[str], samples: int, seeds: int) -> dict[Measure, Scores]:
    """A table of detectors, noises and seeds for every measure."""
    rows: list[tuple[str, str, int]] = []
    values: dict[Measure, list[float]] = {measure: [] for measure in MEASURES}
    for seed in range(seeds):
        drawing, flipping, judging = np.random.SeedSequence(seed).spawn(3)  # no draw of one is a draw of another
        order = np.random.default_rng(drawing).permutation(len(data))[:samples]
        part = data.subset(torch.from_numpy(order))
        features = part.inputs.reshape(len(part), -1).float()
        for words, kind, params in NOISE:
            given = harness.create("noise", kind, **params)(part, rng=np.random.default_rng(flipping))
            if not bool((given != part.targets).any()):
                raise SystemExit(f"no label is wrong under {words}; draw more with --samples")
            for name in detectors:
                judge = harness.create("detector", name)
                report = judge(features, given, int(part.num_classes or 0), rng=np.random.default_rng(judging))
                rows.append((name, words, seed))
                for measure in MEASURES:
                    values[measure].append(measure.of(report, given != part.targets))
    columns = [list(column) for column in zip(*rows, strict=True)]
    return {
        measure: Scores.from_columns(
            *columns, values[measure], higher_is_better=measure.higher_is_better, bounds=(0.0, 1.0)
        )
        for measure in MEASURES
    }


def best(compared: Pairwise) -> set[str]:
    """Those than which no other is separably better."""
    return set(top_group(compared).not_separable)


def table(title: str, order: Iterable[str], columns: dict[str, tuple[dict[str, str], set[str]]]) -> str:
    """A Markdown table of detectors: of each column its words by detector, and whose are bold."""
    lines = [f"| {title} | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for name in order:
        shown = [f"**{words[name]}**" if name in bold else words[name] for words, bold in columns.values()]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def over_noises(dataset: str, order: Iterable[str], tables: dict[Measure, Scores]) -> str:
    """Means over noises and seeds, a column for each measure."""
    columns = {}
    for measure, scores in tables.items():
        means = cells(scores, intervals=False).mean.mean(1)
        words = {name: f"{mean:.3f}" for name, mean in zip(scores.methods, means, strict=True)}
        columns[measure.title] = words, best(compare_over_settings(scores))
    return table(dataset, order, columns)


def by_noise(title: str, order: Iterable[str], scores: Scores) -> str:
    """Means and standard deviations over seeds of one measure, a column for each noise."""
    found = cells(scores, intervals=False)
    columns = {}
    for place, compared in enumerate(compare_in_settings(scores, scores.settings)):
        words = {
            name: f"{found.mean[row, place]:.3f} ± {found.std[row, place]:.3f}"
            for row, name in enumerate(scores.methods)
        }
        columns[scores.settings[place]] = words, best(compared)
    return table(title, order, columns)


def trusted(compared: Pairwise, title: str) -> str:
    """Whom to trust, and what that rests on."""
    group = top_group(compared)
    return f"Trust {' or '.join(group.not_separable) or 'none'}, by {title}: {describe(group)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", default=["mnist5k"], metavar="DATASET")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=2000, help="drawn for each seed")
    arguments = parser.parse_args()
    detectors = load_host().registry.names("detector")
    history = History("detectors")
    for dataset in arguments.datasets:
        data = harness.create("dataset", dataset).train
        tables = measured(data, detectors, arguments.samples, arguments.seeds)
        compared = compare_over_settings(tables[HEADLINE])
        order = [compared.methods[place] for place in compared.order]
        order += [name for name, _ in compared.not_comparable]
        print(f"{over_noises(dataset, order, tables)}\n")
        print(f"{by_noise(f'{dataset}, {HEADLINE.title}', order, tables[HEADLINE])}\n")
        print(f"{trusted(compared, HEADLINE.title)}\n", flush=True)
        for name, mean in zip(compared.methods, compared.estimate, strict=True):
            history.row(f"{HEADLINE.title}, {dataset}, {name}", float(mean), "of 1")
    print(f"\nkept in {history.keep()}")


if __name__ == "__main__":
    main()
