"""What is recorded is described for drawing, however little of it there is; ``test_browser`` looks at what is drawn."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from typing import Any

from harness_leaderboard import charts, tables
from harness_leaderboard.charts import FAR, Point, Series

HOSTILE = """<script>alert("x")</script>'"""


def described(html: str) -> list[dict[str, Any]]:
    """The charts of a piece of HTML, as a browser reads them."""
    found: list[dict[str, Any]] = []

    class Figures(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            found.extend(json.loads(value or "") for name, value in attributes if name == "data-chart")

    Figures().feed(html)
    return found


def test_a_quantity_measured_at_the_last_epoch_only_is_a_series_of_its_own_length() -> None:
    epochs = [{"epoch": i, "test_accuracy": 0.5, "train_accuracy": 0.6 if i == 20 else None} for i in range(1, 21)]
    (chart,) = described(tables.curves(epochs))
    assert [(len(s["x"]), s["y"][-1]) for s in chart["series"]] == [(20, 50.0), (1, 60.0)]
    assert chart["span"] == [1.0, 20.0]


def test_what_is_not_finite_is_a_gap_and_an_endless_interval_ends_far_away() -> None:
    (chart,) = described(charts.lines([Series("a", [1.0, 2.0], [math.nan, 3.0])], "Loss", "epoch", ""))
    assert chart["series"][0]["y"] == [None, 3.0]
    spans = {"x_span": (-math.inf, 1.0), "y_span": (math.nan, 1.0)}
    (chart,) = described(
        charts.scatter([Point(1.0, 2.0, "a", **spans), Point(0.0, 2.0, "b")], "n", "x", "y", log_x=True)
    )  # type: ignore[arg-type]
    (point,) = chart["points"]
    assert point["xSpan"] == [-FAR, 1.0] and point["ySpan"] is None


def test_where_nothing_is_recorded_a_line_says_so() -> None:
    for html in (
        charts.lines([Series("a", [1.0], [math.nan])], "Loss", "epoch", ""),
        charts.scatter([Point(math.nan, 1.0, "a")], "Loss", "x", "y"),
        charts.dots([], "Loss", "x", None, None),
        charts.heatmap([], "Loss", "clean", "given"),
    ):
        assert html == '<p class="note">Loss: nothing recorded</p>'


def test_names_are_text() -> None:
    html = charts.dots([Point(1.0, 0.0, HOSTILE, HOSTILE)], HOSTILE, HOSTILE, (0.0, 2.0), 1.0)
    assert "<script" not in html
    (chart,) = described(html)
    assert chart["name"] == chart["points"][0]["text"] == HOSTILE


def test_a_small_interval_is_clipped_to_its_cell() -> None:
    inside = charts.interval_mark(-1.0, 0.5, 1.0, 1.0, HOSTILE)
    assert 'd="M6.0 10H98.0"' in inside and 'cx="75.0"' in inside and "<script" not in inside
    assert "M2 10l7" in charts.interval_mark(-9.0, -8.0, -7.0, 1.0, "")
    assert "M102 10l-7" in charts.interval_mark(7.0, 8.0, 9.0, 1.0, "")
    assert charts.interval_mark(None, None, None, 1.0, "") == ""
