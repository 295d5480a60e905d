"""What is recorded is drawn, however little of it there is."""

from __future__ import annotations

import re

from harness_leaderboard import charts, tables
from harness_leaderboard.charts import MOST_MARKED, Series

MANY = [float(i) for i in range(1, MOST_MARKED + 5)]


def marks(svg: str, number: int) -> int:
    """Markers of a series in the chart; its sample in the legend is not one."""
    groups = re.findall(r"<g><path class=\"line.*?</g>", svg.partition("</svg>")[0])
    return groups[number].count(f'class="s{number}"')


def test_a_series_of_one_value_is_a_point_beside_a_long_one() -> None:
    svg = charts.lines([Series("test", MANY, MANY), Series("train", MANY[-1:], [3.0])], "Accuracy", "epoch", "%")
    assert marks(svg, 0) == 0
    assert marks(svg, 1) == 1
    legend = svg.partition("<ul")[2]
    assert 'class="s0"' not in legend
    assert 'class="s1"' in legend


def test_every_series_is_marked_by_its_own_length() -> None:
    svg = charts.lines([Series("test", MANY, MANY), Series("train", MANY[::5], MANY[::5])], "Accuracy", "epoch", "%")
    assert marks(svg, 0) == 0
    assert marks(svg, 1) == len(MANY[::5])


def test_a_value_between_gaps_is_a_point() -> None:
    values: list[float | None] = [*MANY]
    values[1] = None
    assert marks(charts.lines([Series("test", MANY, values)], "Accuracy", "epoch", "%"), 0) == 1


def test_a_quantity_measured_at_the_last_epoch_only_is_seen_on_the_trial_page() -> None:
    epochs = [{"epoch": i, "test_accuracy": 0.5, "train_accuracy": 0.6 if i == 20 else None} for i in range(1, 21)]
    assert marks(tables.curves(epochs), 1) == 1
