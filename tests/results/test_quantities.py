"""Every quantity is said once: the store's columns, the words, the order and the charts follow from one table."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.results.quantities import (
    MOMENTS,
    QUANTITIES,
    Quantity,
    by_curve,
    curve_charts,
    epoch_columns,
    find_quantity,
    metric_help,
    metric_word,
    offered,
    parse_metric,
)
from harness.results.store import TABLES
from harness.tasks import HEADLINES, TASKS, headline_of

SPARSITY = Quantity("sparsity", "share of zero weights", unit="%", percent=True, group="Accuracy", label="zero")


def test_the_columns_of_the_store_are_those_of_the_quantities() -> None:
    assert list(TABLES["epochs"]) == ["trial", "epoch", *epoch_columns()]
    assert len(set(epoch_columns())) == len(epoch_columns())


def test_every_task_ranks_by_known_quantities_and_selects_by_a_column() -> None:
    for facts in TASKS.values():
        assert all(QUANTITIES[name].moments == tuple(MOMENTS) and QUANTITIES[name].column for name in facts.metrics)
        assert facts.selection in epoch_columns() and set(facts.curves) <= set(epoch_columns())
    assert len(set(HEADLINES)) == len(TASKS)


@pytest.mark.parametrize("name", [*QUANTITIES, "fgsm_accuracy@0.1", "sparsity"])
@pytest.mark.parametrize("at", MOMENTS)
def test_a_metric_and_its_word_are_inverse(name: str, at: str) -> None:
    word = metric_word(name, at, "accuracy")
    found, when = parse_metric(word)
    assert (found or "accuracy", when) == (name, at)


def test_what_is_recorded_of_a_quantity_gives_it_back() -> None:
    for quantity in (*QUANTITIES.values(), SPARSITY):
        assert Quantity.from_json(quantity.to_json()) == quantity
    assert Quantity.from_json({**SPARSITY.to_json(), "of_a_later_harness": 1}) == SPARSITY


def test_metrics_are_offered_by_the_table_the_headline_first_and_a_plugins_last() -> None:
    recorded = [
        ("sparsity", "last"),
        ("recovery", "last"),
        ("accuracy", "best"),
        ("accuracy", "last10"),
        ("other", "last"),
    ]
    recorded += [("fgsm_accuracy@0.2", "selected"), ("fgsm_accuracy@0.2", "last"), ("memorisation", "last")]
    words = [
        metric_word(*pair, "accuracy") for pair in offered(recorded, "accuracy", {**QUANTITIES, "sparsity": SPARSITY})
    ]
    assert words == [
        *("last", "last10", "best", "memorisation", "recovery", "fgsm_accuracy@0.2", "fgsm_accuracy@0.2@selected"),
        *("sparsity", "other"),
    ]


def test_a_family_is_found_by_its_member_and_the_unknown_shows_plainly() -> None:
    assert find_quantity("fgsm_accuracy@0.1").title == "test accuracy under FGSM 0.1"
    assert find_quantity("fgsm_accuracy@0.1").percent
    assert find_quantity("mine").title == "mine"
    assert by_curve("accuracy") is by_curve("test_accuracy") is QUANTITIES["accuracy"]
    assert by_curve("parameters") is None and by_curve("nothing") is None


def test_a_registered_quantity_joins_the_chart_that_it_names_and_else_has_its_own() -> None:
    plain = curve_charts()
    joined = curve_charts({**QUANTITIES, "sparsity": SPARSITY})
    assert [chart.title for chart in joined] == [chart.title for chart in plain]
    assert joined[0].curves[-1] is SPARSITY
    alone = Quantity("gap", "the gap", group="")
    assert curve_charts({**QUANTITIES, "gap": alone})[-1].to_json() == {
        "title": "The gap", "unit": "", "factor": 1.0, "curves": [["gap", "the gap"]]
    }  # fmt: skip


def test_a_number_that_is_no_share_is_not_drawn_on_an_axis_of_percent() -> None:
    odd = Quantity("odd", "a loss", group="Accuracy")
    first, *_, last = curve_charts({**QUANTITIES, "odd": odd})
    assert odd not in first.curves and last.curves == (odd,) and last.factor == 1.0


def test_the_help_names_every_moment_and_the_quantities_with_pages() -> None:
    assert all(at in metric_help() for at in MOMENTS)
    assert "memorisation" in metric_help() and "fgsm_accuracy@0.1" in metric_help()


def test_the_headline_of_a_suite_is_that_of_its_task() -> None:
    assert headline_of(["accuracy", "test_loss"]) == "accuracy"
    assert headline_of(["mae", "rmse"]) == "mae"
    assert headline_of([]) == "accuracy"


def test_reading_the_table_imports_nothing_heavy() -> None:
    script = (
        "import sys, harness.results.quantities as q; q.metric_help(); "
        "print([m for m in ('torch', 'duckdb', 'numpy', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
