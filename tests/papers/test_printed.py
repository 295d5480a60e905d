"""The typed numbers are the papers', and a file that is wrong says where."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from harness.errors import ResultsError
from harness.printed import PublishedCell, load_papers, load_published

CELLS = load_published()
PAPERS = {paper.paper.key: paper for paper in load_papers()}

# Rows times columns as counted in the papers, less what they leave unprinted.
COUNTS = {
    "cdr-aux/table1": 4 * 4 * 3,
    "cdr-aux/section-4": 1,
    "cdr-aux/section-5": 3,
    "kpd/table1": 3 * 2,
    "kpd/table2": 2 * 3 * 8 * 3 * 2,
    "kpd/section-5.2": 4,
    "kpd/table3": 3,
    "kpd/table4": 3,
    "sop/table1": 6 * 2 * 4,
    "sop/table2": 5 * 8 - 2,  # MixUp: no asymmetric noise
    "sop/table3": 6 * 3 - 2 * 2,  # CE and CORES: Clothing1M only
    "sop/table4": 6 * (6 + 2),
    "sop/table5": 6,
    "rrm/table1": 2 * 2 * 2 + 4 * 2,  # two rows with RRM in parentheses, four without
    "rrm/table2": 2 * 2 + 5,
    "rrm/table3": 2 + 4,
    "rrm/table4": 3 * 3 * 2,
    "rrm/section-4.2.1": 2,
    "rrm/table5": 5 * 5 * 2,
    "rrm/table6": 6 * 3 * 2,
    "rrm/table7": 2 * 3,
    "rrm/table8": 4 * 3 * 2,
    "rrm/appendix-c": 2,
    "rrm/table9": 10 * 10,
    "rrm/table10": 5 * 5 * 2,
    "rrm/table11": 4 * 6,
    "rrm/table12": 2 * 4 * 2,
    "rrm/necrosis": 4,
    "rrm/appendix-f.1": 5,
    "field/cifar10": 10 * 5 - 4,  # Co-teaching+, JoCoR: one rate less; PES(semi): three columns
    "field/cifar100": 10 * 4 - 2 + 2,  # JoCoR, PES(semi): one rate less; DivideMix, ELR+: also asymmetric
    "field/cifar10n": 8 * 5,
    "field/cifar100n": 8,
    "field/clothing1m": 7,
    "field/food101n": 4,
    "field/webvision": 2 * 4,
    "noisypy/readme": 11 * 8,
    "noisypy/fair": 12 * 8,
    "noisypy/study": 10,
}

# At least three cells of every table, read again from the papers: who, and what is printed.
SPOTS: dict[str, list[tuple[dict[str, object], float, float | None]]] = {
    "cdr-aux/table1": [
        ({"method": "CE", "label": "SGD", "noise": "instance", "rate": 0.7}, 29.23, None),
        ({"method": "CDR+AUX", "noise": "asymmetric", "rate": 0.7}, 71.64, None),
        ({"method": "AUX", "noise": "pairflip", "rate": 0.7}, 14.29, None),
        ({"method": "CDR", "noise": "symmetric", "rate": 0.4}, 98.55, None),
    ],
    "cdr-aux/section-4": [({"method": "CDR+AUX"}, 10, None)],
    "cdr-aux/section-5": [({"over": "CE"}, 1.44, None), ({"over": "CDR"}, 0.76, None), ({"over": "AUX"}, 0.89, None)],
    "kpd/table1": [
        ({"method": "L1"}, 4.326, 0.541),
        ({"method": "Huber + KPD", "noise": "gaussian", "model": "linear"}, 3.137, 0.711),
        ({"method": "Tukey", "label": "Tuckey Loss", "noise_std": 3.0}, 4.125, 0.732),
    ],
    "kpd/table2": [
        ({"method": "LDR-KL", "dataset": "fashion_mnist", "noise": "symmetric", "rate": 0.6}, 87.79, 1.75),
        ({"method": "AGCE + RF", "dataset": "fashion_mnist", "noise": "symmetric", "rate": 0.6}, 86.73, 2.24),
        ({"method": "CE", "dataset": "cifar10", "noise": "symmetric", "rate": 0.4}, 75.44, 6.40),
        ({"method": "NCE + KPD", "dataset": "cifar10", "noise": "symmetric", "rate": 0.4}, 82.42, 0.05),
        ({"method": "eps-softmax + KPD", "dataset": "cifar100", "noise": "symmetric", "rate": 0.4}, 50.49, 0.02),
        ({"method": "NCE + KPD", "dataset": "fashion_mnist", "noise": "asymmetric", "rate": 0.4}, 77.26, 2.52),
        ({"method": "SCE + KPD", "dataset": "cifar10", "noise": "asymmetric", "rate": 0.6}, 71.76, 12.10),
        ({"method": "DMI + RF", "dataset": "cifar100", "noise": "superclass", "rate": 0.6}, 18.62, 0.02),
        ({"method": "LDR-KL + RF", "dataset": "cifar100", "noise": "superclass", "rate": 0.4}, 34.27, 1.12),
        ({"method": "eps-softmax + RF", "dataset": "cifar100", "noise": "superclass", "rate": 0.6}, 19.14, 1.85),
    ],
    "kpd/section-5.2": [
        ({"method": "NCE + KPD"}, 4.44, None),
        ({"method": "eps-softmax + KPD"}, 12.48, None),
        ({"metric": "count", "rate": 0.6}, 45, None),
    ],
    "kpd/table3": [({"rank": 20}, 58.68, 4.34), ({"rank": 50}, 70.93, 3.29), ({"rank": 100}, 75.44, 6.40)],
    "kpd/table4": [({"patch": 2}, 79.80, 3.45), ({"patch": 4}, 75.44, 6.40), ({"patch": 8}, 74.23, 1.36)],
    "sop/table1": [
        ({"method": "SOP", "dataset": "cifar10", "rate": 0.2}, 93.18, 0.57),
        ({"method": "Forward", "dataset": "cifar100", "rate": 0.8}, 8.99, 0.58),
        ({"method": "SCE", "label": "SL", "dataset": "cifar10", "rate": 0.8}, 68.12, 0.81),
        ({"method": "ELR", "dataset": "cifar100", "rate": 0.4}, 68.28, 0.31),
    ],
    "sop/table2": [
        ({"method": "CE", "dataset": "cifar10", "noise": "asymmetric"}, 82.2, None),
        ({"method": "MixUp", "dataset": "cifar100", "rate": 0.2}, 69.9, None),
        ({"method": "ELR+", "dataset": "cifar100", "noise": "superclass", "rate": 0.4}, 77.5, None),
        ({"method": "SOP+", "dataset": "cifar100", "rate": 0.8, "model": "preact_resnet18"}, 63.3, None),
    ],
    "sop/table3": [
        ({"method": "CORES2"}, 73.2, None),
        ({"method": "Co-teaching", "evaluated_on": "imagenet"}, 61.5, None),
        ({"method": "SOP", "column": "WEBVISION"}, 76.6, None),
    ],
    "sop/table4": [
        ({"method": "CE", "annotation": "random2"}, 86.46, 1.79),
        ({"method": "CORES*", "annotation": "worse"}, 91.66, 0.09),
        ({"method": "SOP+", "dataset": "cifar100n", "noise": "human"}, 67.81, 0.23),
        ({"method": "Forward", "dataset": "cifar100", "noise": "none"}, 76.18, 0.37),
    ],
    "sop/table5": [
        ({"method": "CE"}, 0.9, None),
        ({"method": "DivideMix"}, 5.4, None),
        ({"method": "SOP+"}, 2.1, None),
    ],
    "rrm/table1": [
        ({"method": "ProMix + RRM", "dataset": "cifar100n"}, 74.19, None),
        ({"method": "DivideMix", "dataset": "cifar10n", "interval": 0.42}, 92.56, None),
        ({"method": "SOP", "dataset": "cifar100n"}, 67.87, None),
        ({"method": "Co-teaching+", "dataset": "cifar10n"}, 83.26, None),
    ],
    "rrm/table2": [
        ({"method": "CC + RRM"}, 75.69, None),
        ({"method": "CE + RRM", "interval": 0.25}, 71.48, None),
        ({"method": "Meta-Weight-Net"}, 73.72, None),
    ],
    "rrm/table3": [
        ({"method": "CE"}, 81.67, None),
        ({"method": "CE + RRM"}, 84.21, None),
        ({"method": "SURE"}, 88, None),
    ],
    "rrm/table4": [
        ({"method": "MAE + RRM", "rate": 0.3}, 82.98, 6.55),
        ({"method": "CE", "rate": 0.2}, 86.98, 0.44),
        ({"method": "MSE + RRM", "rate": 0.1}, 93.04, 0.17),
    ],
    "rrm/section-4.2.1": [({"iterations": 1}, 3.88, None), ({"iterations": 12}, 46.56, None)],
    "rrm/table5": [
        ({"method": "AT", "rate": 0.3, "epsilon": 0.1}, 20, None),
        ({"method": "A-RRM", "rate": 0.1, "epsilon": 0.0}, 97, None),
        ({"method": "AT", "rate": 0.0, "epsilon": 1.0, "noise": "none"}, 86, None),
        ({"method": "A-RRM", "rate": 0.3, "epsilon": 0.5}, 80, None),
    ],
    "rrm/table6": [
        ({"label": "~ 0", "iteration": 1, "samples": "contaminated"}, 8844, None),
        ({"label": "(-2.08, -1.56]", "iteration": 49, "samples": "contaminated"}, 9286, None),
        ({"label": "(-1.56, -1.04]", "iteration": 10, "samples": "clean"}, 174, None),
    ],
    "rrm/table7": [
        ({"margin": 0.1, "rate": 0.1}, 91.73, 0.28),
        ({"margin": 0.1, "rate": 0.3}, 88.47, 0.73),
        ({"margin": 0.05, "rate": 0.2}, 91.29, 0.41),
    ],
    "rrm/table8": [
        ({"method": "ELR", "rate": 0.65}, 82, None),
        ({"method": "CE + RRM", "rate": 0.6}, 96, None),
        ({"method": "MSE", "rate": 0.65}, 45, None),
    ],
    "rrm/appendix-c": [({"iterations": 1}, 2.86, None), ({"iterations": 10}, 28.6, None)],
    "rrm/table9": [
        ({"original": 5, "contaminated": 3}, 0.6271, None),
        ({"original": 0, "contaminated": 6}, 0.3846, None),
        ({"original": 9, "contaminated": 2}, 0, None),
        ({"original": 4, "contaminated": 9}, 0.2593, None),
    ],
    "rrm/table10": [
        ({"method": "AT", "rate": 0.2, "epsilon": 0.0}, 32.2, None),
        ({"method": "A-RRM", "rate": 0.1, "epsilon": 0.25}, 86.3, None),
        ({"method": "A-RRM", "rate": 0.3, "epsilon": 1.0}, 77.8, None),
    ],
    "rrm/table11": [
        ({"method": "ERM", "split": "train", "rate": 0.2}, 0.0920, None),
        ({"method": "RRM", "split": "test", "rate": 0.01}, 0.6705, None),
        ({"method": "RRM", "split": "train", "rate": 0.07}, 0.3805, None),
    ],
    "rrm/table12": [
        ({"method": "RRM", "rate": 0.45, "at": "selected"}, 76.9, None),
        ({"method": "RRM", "rate": 0.45, "at": "best"}, 82.6, None),
        ({"method": "ERM", "rate": 0.4, "at": "best"}, 86.6, None),
    ],
    "rrm/necrosis": [
        ({"method": "RRM", "at": "selected"}, 74.6, None),
        ({"method": "RRM", "at": "best"}, 77.2, None),
        ({"method": "ERM", "at": "best"}, 73.2, None),
    ],
    "rrm/appendix-f.1": [
        ({"label": "never weighted zero"}, 37058, None),
        ({"label": "weighted zero at the end"}, 626, None),
        ({"label": "clean-labelled"}, 38400, None),
    ],
    "field/cifar10": [
        ({"method": "DivideMix", "rate": 0.9, "at": "best"}, 76.0, None),
        ({"method": "ProMix", "noise": "asymmetric", "at": "last"}, 96.51, None),
        ({"method": "JoCoR", "rate": 0.8}, 27.8, None),
        ({"method": "LongReMix", "noise": "asymmetric"}, 94.7, None),
        ({"method": "ELR+", "rate": 0.9}, 78.7, None),
    ],
    "field/cifar100": [
        ({"method": "PES(semi)", "rate": 0.8}, 61.6, None),
        ({"method": "DivideMix", "noise": "asymmetric", "source": "SOP's table 2"}, 72.1, None),
        ({"method": "ProMix", "rate": 0.9, "at": "best"}, 42.93, None),
    ],
    "field/cifar10n": [
        ({"method": "DivideMix", "annotation": "aggregate", "at": "best"}, 95.01, 0.71),
        ({"method": "ELR+", "annotation": "worse"}, 91.09, 1.60),
        ({"method": "ProMix", "annotation": "random3"}, 97.52, 0.09),
        ({"method": "PES(semi)", "annotation": "random2"}, 95.19, 0.23),
    ],
    "field/cifar100n": [
        ({"method": "DivideMix"}, 71.13, 0.48),
        ({"method": "CORES*"}, 55.72, 0.42),
        ({"method": "PES(semi)"}, 70.36, 0.33),
    ],
    "field/clothing1m": [
        ({"method": "CC"}, 75.40, None),
        ({"method": "ProMix"}, 74.94, None),
        ({"method": "LRA-diffusion"}, 75.7, None),
    ],
    "field/food101n": [
        ({"method": "SURE", "at": "best"}, 88.0, None),
        ({"method": "CleanNet"}, 83.95, None),
        ({"method": "LongReMix"}, 87.39, None),
    ],
    "field/webvision": [
        ({"method": "DivideMix", "metric": "accuracy", "evaluated_on": None}, 77.32, None),
        ({"method": "DivideMix", "metric": "top5_accuracy", "evaluated_on": "ilsvrc12"}, 90.84, None),
        ({"method": "ELR+", "metric": "accuracy", "evaluated_on": "ilsvrc12"}, 70.29, None),
    ],
    "noisypy/readme": [
        ({"method": "CE", "annotation": "worse"}, 83.91, 0.08),
        ({"method": "VolMinNet", "annotation": "aggregate"}, 90.47, 0.17),
        ({"method": "CAL", "dataset": "cifar100n"}, 60.13, 0.33),
        ({"method": "SOP", "dataset": "cifar100", "noise": "none"}, 72.97, 1.15),
        ({"method": "PES(semi)", "label": "PES (semi)", "annotation": "random3"}, 95.20, 0.11),
    ],
    "noisypy/fair": [
        ({"method": "DISC", "annotation": "worse"}, 83.04, 0.13),
        ({"method": "ProMix", "dataset": "cifar100n"}, 55.67, 0.10),
        ({"method": "CE", "dataset": "cifar10", "noise": "none"}, 85.50, 0.25),
    ],
    "noisypy/study": [
        ({"method": "CAL"}, 91.97, 0.32),
        ({"method": "VolMinNet"}, 89.70, 0.21),
        ({"method": "ELR"}, 92.38, 0.64),
    ],
}


def select(suite: str, **said: object) -> list[PublishedCell]:
    """The cells of a table that have all these values, attributes included."""

    def has(cell: PublishedCell, key: str, value: object) -> bool:
        known = json.loads(cell.extra)
        return bool((known[key] if key in known else getattr(cell, key, None)) == value)

    return [c for c in CELLS if c.suite == suite and all(has(c, key, value) for key, value in said.items())]


def mean(suite: str, **said: object) -> float:
    (cell,) = select(suite, **said)
    return cell.mean


# --- the papers' numbers ---


def test_every_table_has_the_cells_that_the_paper_prints() -> None:
    assert Counter(cell.suite for cell in CELLS) == COUNTS


def test_every_table_is_spot_checked() -> None:
    assert SPOTS.keys() == COUNTS.keys()
    assert all(len(spots) >= min(3, COUNTS[suite]) for suite, spots in SPOTS.items())


@pytest.mark.parametrize(
    ("suite", "who", "printed", "spread"), [(suite, *spot) for suite, spots in SPOTS.items() for spot in spots]
)
def test_spot(suite: str, who: dict[str, object], printed: float, spread: float | None) -> None:
    (cell,) = select(suite, **who)
    assert (cell.mean, cell.std) == (printed, spread)


def test_numbers_are_finite_and_percentages_are_percentages() -> None:
    for cell in CELLS:
        assert math.isfinite(cell.mean)
        assert cell.std is None or (math.isfinite(cell.std) and cell.std >= 0)
        if cell.unit == "percent":
            assert 0 <= cell.mean <= 100
        if cell.unit == "fraction":
            assert 0 <= cell.mean <= 1


def test_cells_of_results_tables_say_what_they_are_of() -> None:
    for cell in CELLS:
        if cell.printed == "table" and cell.suite != "rrm/table9":
            assert cell.method
            assert cell.dataset
        if cell.noise == "none":
            assert cell.rate == 0
        elif cell.noise not in (None, "human", "gaussian", "kernel"):
            assert cell.rate is not None


def test_seeds_and_epochs_are_only_given_where_the_paper_gives_them() -> None:
    seeds = {cell.suite: cell.n for cell in CELLS if cell.n is not None}
    assert seeds == {
        "kpd/table1": 5,
        "kpd/table2": 3,
        "kpd/table3": 3,
        "kpd/table4": 3,
        "sop/table1": 5,
        "sop/table4": 5,
        "rrm/table4": 5,
        "rrm/table7": 5,
        "noisypy/readme": 3,
        "noisypy/fair": 3,
        "noisypy/study": 5,
    }
    selected = {cell.suite for cell in CELLS if cell.at is not None}
    kpd = {"kpd/table1", "kpd/table2", "kpd/table3", "kpd/table4"}
    field = {f"field/{name}" for name in ("cifar10", "cifar100", "cifar10n", "cifar100n", "food101n", "webvision")}
    noisypy = {f"noisypy/{name}" for name in ("readme", "fair", "study")}
    assert selected == kpd | field | noisypy | {"rrm/table5", "rrm/table10", "rrm/table12", "rrm/necrosis"}


# --- what the papers compute from their own numbers ---


def test_cdr_aux_average_gains_are_those_of_table1() -> None:
    ours = [cell.mean for cell in select("cdr-aux/table1", method="CDR+AUX")]
    for other in ("CE", "CDR", "AUX"):
        theirs = [cell.mean for cell in select("cdr-aux/table1", method=other)]
        gain = sum(a - b for a, b in zip(ours, theirs, strict=True)) / 12
        assert round(gain, 2) == mean("cdr-aux/section-5", over=other)


def test_cdr_aux_claims_a_lead_that_table1_does_not_show() -> None:
    at = {"noise": "asymmetric", "rate": 0.7}
    ours = mean("cdr-aux/table1", method="CDR+AUX", **at)
    gains = [round(ours - mean("cdr-aux/table1", method=m, **at), 2) for m in ("CE", "CDR", "AUX")]
    (claim,) = select("cdr-aux/section-4")
    assert gains == [7.78, 7.97, 9.31]
    assert all(f"{gain:.2f}" in str(claim.flag) for gain in gains)
    assert max(gains) < claim.mean


@pytest.mark.parametrize("rate", [0.4, 0.6])
def test_kpd_counts_the_rows_that_its_factorizations_improve(rate: float) -> None:
    better = 0
    for cell in select("kpd/table2", rate=rate):
        if cell.method and " + " not in cell.method:
            said = {"dataset": cell.dataset, "noise": cell.noise, "rate": rate}
            factored = [mean("kpd/table2", method=f"{cell.method} + {name}", **said) for name in ("KPD", "RF")]
            better += max(factored) > cell.mean
    assert better == mean("kpd/section-5.2", metric="count", rate=rate)


def test_kpd_gains_of_the_text_follow_from_table2_but_for_the_misprint() -> None:
    def gain(method: str, dataset: str) -> float:
        said = {"dataset": dataset, "noise": "symmetric", "rate": 0.4}
        return round(
            mean("kpd/table2", method=f"{method} + KPD", **said) - mean("kpd/table2", method=method, **said), 2
        )

    assert gain("NCE", "cifar10") == mean("kpd/section-5.2", method="NCE + KPD") == 4.44
    assert gain("eps-softmax", "cifar100") == 12.84
    assert "12.84" in str(select("kpd/section-5.2", method="eps-softmax + KPD")[0].flag)


@pytest.mark.parametrize("iteration", [1, 10, 49])
def test_rrm_table6_counts_every_training_sample_once(iteration: int) -> None:
    for samples, total in (("contaminated", 9600), ("clean", 38400)):
        assert sum(c.mean for c in select("rrm/table6", iteration=iteration, samples=samples)) == total


def test_rrm_table9_rows_are_rounded_fractions_of_the_known_totals() -> None:
    totals = [13, 9, 31, 8, 27, 59, 17, 40, 28, 47]  # row sums of the confusion matrix behind the table
    for digit, total in enumerate(totals):
        row = [cell.mean for cell in select("rrm/table9", original=digit)]
        counts = [round(p * total) for p in row]
        assert sum(counts) == total
        assert row[digit] == 0
        assert [round(count / total, 4) for count in counts] == row
        assert 0.99965 <= sum(row) <= 1.00015


def test_rrm_times_and_close_calls_add_up() -> None:
    assert 12 * mean("rrm/section-4.2.1", iterations=1) == pytest.approx(mean("rrm/section-4.2.1", iterations=12))
    assert 10 * mean("rrm/appendix-c", iterations=1) == pytest.approx(mean("rrm/appendix-c", iterations=10))
    clean, never, some, end, close = (cell.mean for cell in select("rrm/appendix-f.1"))
    assert never + some == clean
    assert end + close == some


def test_rrm_best_is_never_below_selected() -> None:
    for suite in ("rrm/table12", "rrm/necrosis"):
        for cell in select(suite, at="selected"):
            assert mean(suite, method=cell.method, rate=cell.rate, at="best") >= cell.mean


# --- misprints ---


def flagged(suite: str, words: str) -> set[tuple[str | None, str | None, str | None, float | None]]:
    return {(c.dataset, c.noise, c.method, c.rate) for c in select(suite) if words in (c.flag or "")}


def test_numbers_that_kpd_table2_repeats_are_flagged() -> None:
    rates = (0.4, 0.6)
    assert flagged("kpd/table2", "copy error") == {
        ("cifar10", noise, method, rate)
        for noise in ("symmetric", "asymmetric")
        for method in ("Truncated Lq", "Truncated Lq + KPD")
        for rate in rates
    }
    for method in ("Truncated Lq", "Truncated Lq + KPD"):
        for rate in rates:
            pair = select("kpd/table2", dataset="cifar10", method=method, rate=rate)
            assert len({(cell.mean, cell.std) for cell in pair}) == 1
    losses = ("SCE", "NCE", "Truncated Lq", "DMI")
    assert flagged("kpd/table2", "near-duplicates") == {
        ("cifar100", "symmetric", loss + form, rate)
        for loss in losses
        for form in ("", " + KPD", " + RF")
        for rate in rates
    }
    assert flagged("kpd/table2", "repeats the standard deviation of the SCE row") == {
        ("cifar10", "asymmetric", method, rate) for method in ("DMI", "DMI + KPD") for rate in rates
    }
    assert flagged("kpd/table2", "NCE and L_dmi rows have equal means") == {
        ("fashion_mnist", "symmetric", method, rate) for method in ("NCE + RF", "DMI + RF") for rate in rates
    }
    assert flagged("kpd/table2", "degenerate") == {
        ("cifar100", "superclass", method, rate) for method in ("DMI", "DMI + KPD") for rate in rates
    }


def test_every_number_that_kpd_table2_prints_twice_is_flagged() -> None:
    printed: dict[tuple[float, float | None], list[PublishedCell]] = {}
    for cell in select("kpd/table2"):
        printed.setdefault((cell.mean, cell.std), []).append(cell)
    twice = [cell for cells in printed.values() if len(cells) > 1 for cell in cells]
    assert len(twice) == 10
    assert all(cell.flag for cell in twice)


def test_kpd_ablations_print_the_dense_model_as_kpd() -> None:
    dense = select("kpd/table2", dataset="cifar10", noise="symmetric", method="CE", rate=0.4)
    ablated = [*select("kpd/table3", rank=100), *select("kpd/table4", patch=4)]
    assert {(cell.mean, cell.std) for cell in [*dense, *ablated]} == {(75.44, 6.40)}
    assert all(str(cell.flag).startswith("misprint:") and not cell.comparable for cell in ablated)
    assert dense[0].comparable


def test_implausible_regression_errors_are_flagged() -> None:
    assert not any(cell.comparable for cell in select("kpd/table1"))


def test_cdr_aux_defects_are_flagged_and_leave_the_numbers_comparable() -> None:
    bold = [cell for cell in select("cdr-aux/table1") if "bold" in (cell.flag or "")]
    assert [(c.noise, c.rate, c.method) for c in bold] == [("asymmetric", 0.2, "AUX")]
    assert mean("cdr-aux/table1", noise="asymmetric", rate=0.2, method="CDR") > bold[0].mean
    assert all("60 %" in str(cell.flag) for cell in select("cdr-aux/table1", rate=0.7))
    assert all(cell.comparable for cell in select("cdr-aux/table1"))
    assert not select("cdr-aux/section-4")[0].comparable


def test_a_number_that_rrm_quotes_wrongly_is_flagged() -> None:
    (quoted,) = select("rrm/table1", method="SOP", dataset="cifar100n")
    (source,) = select("sop/table4", method="SOP+", dataset="cifar100n")
    assert quoted.mean != source.mean
    assert str(quoted.flag).startswith("misprint:")
    for method in ("SOP", "ELR+"):
        (quoted,) = select("rrm/table1", method=method, dataset="cifar10n")
        (source,) = select("sop/table4", method="SOP+" if method == "SOP" else method, annotation="worse")
        assert (quoted.mean, json.loads(quoted.extra)["interval"]) == (source.mean, source.std)


def test_no_other_number_is_called_wrong() -> None:
    wrong = Counter(cell.suite for cell in CELLS if not cell.comparable)
    assert wrong == {
        "cdr-aux/section-4": 1,
        "kpd/table1": 6,
        "kpd/table2": 8 + 24 + 4 + 4 + 4,
        "kpd/section-5.2": 1,
        "kpd/table3": 1,
        "kpd/table4": 1,
        "rrm/table1": 1,
        "field/cifar10": 5 + 4 + 4 + 5 + 5,
        "field/cifar100": 4 + 4 + 3 + 4 + 1 + 5,
        "field/cifar10n": 5,
        "field/cifar100n": 1,
        "field/webvision": 2 * 4,
        "noisypy/fair": 12 * 8,
    }


# --- numbers that others quote ---


def test_what_is_quoted_says_its_source_and_has_no_page() -> None:
    for cell in CELLS:
        assert (cell.page is None) == (cell.printed == "quoted") == (cell.paper in ("field", "noisypy"))
        if cell.printed == "quoted":
            assert json.loads(cell.extra)["source"]


def test_what_is_from_memory_is_never_compared_with() -> None:
    remembered = [cell for cell in CELLS if json.loads(cell.extra).get("source") == "memory"]
    assert {(cell.suite, cell.method) for cell in remembered} == {
        ("field/cifar10", "DivideMix"),
        ("field/cifar100", "DivideMix"),
        ("field/webvision", "DivideMix"),
        ("field/webvision", "ELR+"),
    }
    assert all(not cell.ordered and "memory" in str(cell.flag) for cell in remembered)


def test_what_is_quoted_twice_is_quoted_alike() -> None:
    pairs = {
        ("rrm/table2", "field/clothing1m"): {
            "DivideMix",
            "ELR+",
            "CC",
            "LRA-diffusion",
            "Knockoffs-SPR",
            "Meta-Weight-Net",
        },
        ("rrm/table3", "field/food101n"): {"LRA-diffusion", "SURE", "LongReMix", "CleanNet"},
    }
    for (paper, field), methods in pairs.items():
        for method in methods:
            assert mean(paper, method=method) == mean(field, method=method)
    for annotation in ("random1", "random2", "random3", "aggregate", "worse"):
        for method in ("CE", "Forward", "ELR+", "CORES*"):
            (one,) = select("sop/table4", method=method, annotation=annotation)
            (other,) = select("field/cifar10n", method=method, annotation=annotation)
            assert (one.mean, one.std, one.model) == (other.mean, other.std, other.model)
    for method in ("CE", "Co-teaching+", "ELR+", "DivideMix", "PES(semi)"):
        (one,) = select("noisypy/study", method=method)
        (other,) = select("field/cifar10n", method=method, annotation="aggregate")
        assert (one.mean, one.std, one.at) == (other.mean, other.std, other.at)


# --- hyper-parameters ---


def test_sop_hyperparameters_are_those_of_table_a1() -> None:
    (table,) = PAPERS["sop"].hyperparameters
    values = {(row.name, column): v for row in table.rows for column, v in zip(table.columns, row.cells, strict=True)}
    assert values["training epochs", "CIFAR-10 ResNet34"] == 120
    assert values["training epochs", "CIFAR-100 ResNet34"] == 150
    assert values["alpha_v asymmetric", "CIFAR-100 PreActResNet18"] == 100
    assert values["alpha_u symmetric", "CIFAR-100 ResNet34"] == 1
    assert values["lambda_C", "CIFAR-10 PreActResNet18"] == 0.9
    assert values["weight decay", "Clothing-1M"] == 1e-3
    assert {flag.reason.split(":")[0] for flag in table.flags} == {"note"}


def test_every_results_table_states_its_protocol() -> None:
    for paper in PAPERS.values():
        for table in paper.table:
            assert table.printed == "text" or table.protocol, f"{paper.paper.key}/{table.id}"


# --- reading ---

GOOD = """
[paper]
key = "p"
title = "t"
authors = "a"
pages = "by hand"

[[table]]
id = "table1"
page = 3
title = "t"
metric = "accuracy"
unit = "percent"
seeds = 5
spread = "std"
model = "lenet"
noise = "symmetric"
attributes = { epsilon = "step" }
columns = [{ name = "A", rate = 0.2 }, { name = "B", rate = 0.4, method = "{row} + X", epsilon = 0.1 }]
flags = [{ column = "B", reason = "misprint: seen" }, { method = ["CE + X"], reason = "note: too" }]

[[table.block]]
name = "upper"
dataset = "mnist"
rows = [{ method = "CE", cells = [[90, 0.5], [80.5]] }]

[[table.block]]
name = "lower"
dataset = "cifar10"
rows = [{ method = "GCE", label = "Lq", noise = "pairflip", model = "linear", at = "last", cells = [[], 70] }]
"""


def write(folder: Path, text: str, name: str = "p.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_cell_collects_what_table_block_column_and_row_say(tmp_path: Path) -> None:
    first, second, third = load_published(write(tmp_path, GOOD))
    assert first == PublishedCell(
        paper="p", table="table1", page=3, printed="table", block="upper", label="CE", method="CE", column="A",
        dataset="mnist", noise="symmetric", rate=0.2, model="lenet", extra="{}", metric="accuracy", at=None,
        unit="percent", mean=90.0, std=0.5, n=5, flag=None, decimals=1,
    )  # fmt: skip
    assert (second.method, second.mean, second.std, second.extra) == ("CE + X", 80.5, None, '{"epsilon": 0.1}')
    assert second.flag == "misprint: seen | note: too"
    assert (third.label, third.method, third.block) == ("Lq", "GCE + X", "lower")
    assert (third.noise, third.model, third.at, third.mean) == ("pairflip", "linear", "last", 70.0)
    assert first.suite == "p/table1"
    assert [cell.comparable for cell in (first, second, third)] == [True, False, False]


def test_a_spread_that_is_no_standard_deviation_is_not_called_one(tmp_path: Path) -> None:
    first, *_ = load_published(write(tmp_path, GOOD.replace('spread = "std"', 'spread = "interval"')))
    assert first.std is None
    assert json.loads(first.extra) == {"interval": 0.5}


def test_a_folder_is_read_file_by_file_and_other_files_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, GOOD.replace('key = "p"', 'key = "q"'), "q.toml")
    write(tmp_path, "not = [toml", "notes.md")
    assert [cell.paper for cell in load_published(tmp_path)] == ["p"] * 3 + ["q"] * 3
    assert load_published(str(tmp_path)) == load_published(tmp_path / "p.toml", tmp_path / "q.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('key = "p"', "key = ", ["p.toml: not TOML", "line 3"]),
        ('title = "t"\nauthors', "authors", ["p.toml: paper.title: missing"]),
        ("page = 3\n", "", ["p.toml: table1: a table has a page, unless it is quoted"]),
        ("page = 3", 'page = 3\nprinted = "quoted"', ["p.toml: table1: a table has a page, unless it is quoted"]),
        ("page = 3", 'printed = "quoted"', ["column 'A': a quoted number has no source"]),
        ("page = 3", "page = 0", ["p.toml: table1.page:", "greater than or equal to 1"]),
        ("page = 3", 'page = "3"', ["p.toml: table1.page:", "integer"]),
        ('unit = "percent"', 'unit = "percents"', ["p.toml: table1.unit:", "'percent'"]),
        ("rate = 0.2", "rate = 20", ["p.toml: table1.columns[0].rate:", "less than or equal to 1"]),
        (
            'dataset = "mnist"',
            'datset = "mnist"',
            ["table1, block 'upper': unknown key 'datset'", "did you mean 'dataset'"],
        ),
        ("epsilon = 0.1", "epsilon = [0.1]", ["table1, column 'B'.epsilon: an attribute is one string or number"]),
        ("[[90, 0.5], [80.5]]", '[[90, 0.5], "80.5"]', ["table1.block[0].rows[0].cells[1]: a cell is a number"]),
        ("[[90, 0.5], [80.5]]", "[[90, 0.5, 1], [80.5]]", ["table1.block[0].rows[0].cells[0]: a cell is a number"]),
        ("[[90, 0.5], [80.5]]", "[nan, [80.5]]", ["cells[0]: a printed number is finite"]),
        ("[[90, 0.5], [80.5]]", "[[90, 0.5]]", ["table1, block 'upper', row 'CE': 1 cells under 2 columns"]),
        ("[[90, 0.5], [80.5]]", "[900, [80.5]]", ["row 'CE', column 'A': 900 is no percent"]),
        ("[[90, 0.5], [80.5]]", "[[90, -0.5], [80.5]]", ["column 'A': -0.5 is no spread"]),
        ('spread = "std"\n', "", ["column 'A': a spread is printed", 'spread = "std"']),
        ('metric = "accuracy"\n', "", ["column 'A': neither metric nor unit may be missing"]),
        ('noise = "symmetric"', 'noise = "none"', ["column 'A': no noise, yet a rate of 0.2"]),
        ('{ name = "A", rate = 0.2 }', '{ name = "B", rate = 0.2 }', ["table1.columns: two columns have one name"]),
        ('rows = [{ method = "CE"', 'row = [{ method = "CE"', ["table1.block[0].rows: missing"]),
        ('rows = [{ method = "CE"', 'rows = []\nx = [{ method = "CE"', ["table1.block[0].rows:", "at least 1 item"]),
        (
            'name = "B", rate = 0.4, method = "{row} + X", epsilon = 0.1',
            'name = "B", rate = 0.2',
            ["two cells say the same"],
        ),
        ('method = "CE", cells', 'label = "CE", cells', ["column 'B': the column builds on the row's method"]),
        ('method = "CE", cells', "cells", ["block 'upper': a row has neither method nor label"]),
        ('column = "B", reason', 'column = "C", reason', ["table1.flags[0]: a flag means no cell"]),
        (
            'column = "B", reason',
            'colum = "B", reason',
            ["table1.flags[0]: unknown key 'colum'", "did you mean 'column'"],
        ),
        ('column = "B", reason', "reason", ["table1.flags[0]: a flag selects no cell"]),
        ("misprint: seen", "seen", ["table1.flags[0].reason:", "misprint|suspect|level|note"]),
    ],
)
def test_a_wrong_file_names_file_key_and_fault_in_one_line(tmp_path: Path, old: str, new: str, said: list[str]) -> None:
    assert GOOD.count(old) >= 1
    path = write(tmp_path, GOOD.replace(old, new, 1))
    for load in (load_published, load_papers):
        with pytest.raises(ResultsError) as raised:
            load(path)
        message = str(raised.value)
        assert message.startswith("p.toml: ")
        assert "\n" not in message
        assert all(words in message for words in said), message


def test_a_paper_or_a_table_given_twice_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    with pytest.raises(ResultsError, match=r"q\.toml: paper\.key: paper 'p' is already in p\.toml"):
        load_published(path, write(tmp_path, GOOD, "q.toml"))
    tables = GOOD[GOOD.index("[[table]]") :]
    with pytest.raises(ResultsError, match=r"p\.toml: table1: two tables have this id"):
        load_published(write(tmp_path, GOOD + tables))


def test_a_table_has_rows_or_blocks(tmp_path: Path) -> None:
    rows = 'rows = [{ method = "CE", cells = [1, 2] }]\nflags = '
    with pytest.raises(ResultsError, match=r"p\.toml: table1: a table has either rows or blocks"):
        load_published(write(tmp_path, GOOD.replace("flags = ", rows)))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("cells = [1, 2]", "cells = [1]", r"p\.toml: tableA, row 'lr': 1 cells under 2 columns"),
        ('column = "y"', 'column = "z"', r"p\.toml: tableA\.flags\[0\]: a flag means no cell"),
        ('title = "h"', 'title = "h"\ntitel = "h"', r"p\.toml: tableA\.titel: unknown key"),
    ],
)
def test_a_wrong_hyperparameter_table_names_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    table = """
[[hyperparameters]]
id = "tableA"
page = 9
title = "h"
columns = ["x", "y"]
rows = [{ name = "lr", cells = [1, 2] }]
flags = [{ name = "lr", column = "y", reason = "note: n" }]
"""
    assert len(load_papers(write(tmp_path, GOOD + table))[0].hyperparameters) == 1
    with pytest.raises(ResultsError, match=said):
        load_papers(write(tmp_path, GOOD + table.replace(old, new)))


def test_a_missing_or_empty_place_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"nowhere: no such file or folder"):
        load_published(tmp_path / "nowhere")
    with pytest.raises(ResultsError, match=r"no \.toml file in this folder"):
        load_published(tmp_path)


def test_loading_imports_neither_torch_nor_the_store() -> None:
    code = (
        "import sys; from harness.printed import load_published; load_published();"
        "print({'torch', 'duckdb', 'scipy', 'pandas', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"
