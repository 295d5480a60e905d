"""Charts as descriptions in HTML, which ``charts.js`` draws in the browser, on the pages and in the static site.

The static site's script makes the same descriptions of a trial's data: thousands of trials drawn here would take minutes.
A mark in a table's cell alone is drawn here.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from harness_leaderboard.render import part

FAR = 1e300
"""For infinite ends of an interval, which JSON cannot hold; the script clips them to the chart."""
MARK = 104
EDGE = 6


@dataclasses.dataclass(frozen=True)
class Series:
    """A curve. ``low`` and ``high``, when given, are a band around it; values that are ``None`` leave a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()

    def to_json(self) -> dict[str, Any]:
        """As the script reads it."""
        band = {"low": _plain(self.low), "high": _plain(self.high)} if self.low and self.high else {}
        return {"name": self.name, "x": _plain(self.x), "y": _plain(self.y), **band}


@dataclasses.dataclass(frozen=True)
class Point:
    """A mark. ``text`` is its tooltip, ``label`` is written beside it, ``href`` is where it leads.

    ``x_span`` and ``y_span`` are intervals around it. In a scatter ``front`` marks are joined by a staircase, ``open`` says
    that a place on it is not decided.
    """

    x: float
    y: float
    text: str
    label: str = ""
    href: str = ""
    front: bool = False
    open: bool = False
    x_span: tuple[float, float] | None = None
    y_span: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """As the script reads it."""
        said = {"x": self.x, "y": self.y, "text": self.text, "label": self.label, "href": self.href}
        return {
            **said,
            "front": self.front,
            "open": self.open,
            "xSpan": _span(self.x_span),
            "ySpan": _span(self.y_span),
        }


def _plain(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None or not math.isfinite(value) else value for value in values]


def _span(span: tuple[float, float] | None) -> list[float] | None:
    if span is None or any(map(math.isnan, span)):
        return None
    return [max(-FAR, min(FAR, end)) for end in span]


def _chart(kind: str, name: str, something: bool, **described: Any) -> Markup:
    """A figure of what is described; a note where there is nothing to draw."""
    chart = json.dumps({"kind": kind, "name": name, **described}, allow_nan=False, separators=(",", ":"))
    return (
        part("charts.html", "chart", name=name, chart=chart) if something else part("charts.html", "nothing", name=name)
    )


def lines(
    series: Sequence[Series], name: str, x_title: str, y_title: str, *, x_range: tuple[float, float] | None = None
) -> Markup:
    """Curves over a common x, with their bands."""
    drawn = [one.to_json() for one in series]
    something = any(value is not None for one in drawn for value in one["y"])
    return _chart("lines", name, something, x=x_title, y=y_title, series=drawn, span=x_range)


def scatter(points: Sequence[Point], name: str, x_title: str, y_title: str, *, log_x: bool = False) -> Markup:
    """Marks with labels and their intervals as whiskers; those on the front are joined by a staircase."""
    drawn = [p.to_json() for p in points if math.isfinite(p.x) and math.isfinite(p.y) and (p.x > 0 or not log_x)]
    return _chart("scatter", name, bool(drawn), x=x_title, y=y_title, log=log_x, points=drawn)


def dots(
    points: Sequence[Point], name: str, x_title: str, interval: tuple[float, float] | None, mean: float | None
) -> Markup:
    """Values on one axis with their mean and interval; ``y`` of a point is not used, ``front`` marks the one shown."""
    drawn = [p.to_json() for p in points]
    return _chart("dots", name, bool(drawn), x=x_title, points=drawn, interval=_span(interval), mean=mean)


def heatmap(matrix: Sequence[Sequence[float]], name: str, row_title: str, column_title: str) -> Markup:
    """A square matrix of shares; numbers are written where there is room."""
    return _chart("heatmap", name, bool(matrix), rows=row_title, columns=column_title, shares=matrix)


def interval_mark(low: float | None, middle: float | None, high: float | None, span: float, text: str) -> Markup:
    """A small interval around zero for a table cell; ``span`` is the largest absolute value of the whole column."""
    if middle is None or not span:
        return Markup()

    def clip(value: float) -> float:
        return max(2.0, min(MARK - 2.0, MARK / 2 + value / span * (MARK / 2 - EDGE)))

    interval = (clip(low), clip(high)) if low is not None and high is not None else None
    beyond = 0 if abs(middle) <= span else math.copysign(1, middle)
    return part("charts.html", "mark", width=MARK, text=text, interval=interval, middle=clip(middle), beyond=beyond)
