"""Charts as SVG text, on the pages and in the tables and cost charts of the static site: no library, no request, themed by CSS.

Series differ by dash and marker as well as colour, every mark has a ``<title>``, every chart an accessible name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from html import escape

from markupsafe import Markup

WIDTH, HEIGHT = 400, 236
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 38
DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 2 1 2 1 2", "12 4")
DOT_ROOM = 17
MARK = 104
MOST_MARKED = 16
"""Points of a curve up to which each has a marker; beyond, they would hide the line, and only one between gaps has."""
MARKERS = ("circle", "square", "diamond", "triangle", "cross", "ring")


@dataclasses.dataclass(frozen=True)
class Series:
    """A curve. ``low`` and ``high``, when given, are a band around it; values that are ``None`` leave a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


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


@dataclasses.dataclass(frozen=True)
class Scale:
    """Data to pixels, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (
            (math.log10(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values inside the range, some five of them."""
        if self.log and self.high / self.low > 4:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if math.log10(self.high / self.low) < 2.5 else (1,)
            return [s * 10.0**p for p in powers for s in steps if self.low <= s * 10.0**p <= self.high]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        step = 10.0 ** math.floor(math.log10(span / 4))
        step *= next(m for m in (1, 2, 5, 10) if span / (m * step) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 12) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def scale(values: Sequence[float], start: float, end: float, *, log: bool = False, pad: float = 0.06) -> Scale:
    """A scale over some values with room at both ends."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if log:
        return Scale(low / 1.4, high * 1.4, start, end, True)
    room = (high - low) * pad or abs(high) * 0.05 or 0.5
    return Scale(low - room, high + room, start, end)


def _nothing(name: str) -> Markup:
    return Markup('<p class="note">{}: nothing recorded</p>').format(name)


def _number(value: float) -> str:
    return f"{value:.6g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _frame(x: Scale, y: Scale, x_title: str, y_title: str, height: int) -> str:
    bottom, right = height - BOTTOM, WIDTH - RIGHT
    parts = [f'<g class="grid">{"".join(f"""<path d="M{LEFT} {y(t):.1f}H{right}"/>""" for t in y.ticks())}</g>']
    parts += [
        f'<text class="tick" x="{LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{_number(t)}</text>' for t in y.ticks()
    ]
    parts += [
        f'<text class="tick" x="{x(t):.1f}" y="{bottom + 16}" text-anchor="middle">{_number(t)}</text>'
        for t in x.ticks()
    ]
    middle = (TOP + bottom) / 2
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>')
    parts.append(
        f'<text class="title" x="{(LEFT + right) / 2}" y="{height - 4}" text-anchor="middle">{escape(x_title)}</text>'
    )
    parts.append(
        f'<text class="title" transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">{escape(y_title)}</text>'
    )
    return "".join(parts)


def _svg(body: str, name: str, height: int = HEIGHT, width: int = WIDTH) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(name, quote=True)}">'
        f"<title>{escape(name)}</title>{body}</svg>"
    )


def marker(kind: int, x: float, y: float, size: float = 4.5) -> str:
    """A marker's path; its form depends on ``kind``, so that groups differ without colour."""
    name, r = MARKERS[kind % len(MARKERS)], size
    if name == "circle" or name == "ring":
        hollow = ' fill="none" stroke-width="2"' if name == "ring" else ""
        return f'<circle class="s{kind % 8}" cx="{x:.1f}" cy="{y:.1f}" r="{r}"{hollow}/>'
    shapes = {
        "square": f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z",
        "diamond": f"M{x:.1f} {y - 1.3 * r:.1f}l{1.3 * r} {1.3 * r}l{-1.3 * r} {1.3 * r}l{-1.3 * r} {-1.3 * r}z",
        "triangle": f"M{x:.1f} {y - 1.2 * r:.1f}l{1.2 * r} {2.2 * r}h{-2.4 * r}z",
        "cross": f"M{x - r:.1f} {y - r:.1f}l{2 * r} {2 * r}m0 {-2 * r}l{-2 * r} {2 * r}",
    }
    hollow = ' fill="none" stroke-width="2.4"' if name == "cross" else ""
    return f'<path class="s{kind % 8}" d="{shapes[name]}"{hollow}/>'


def legend(names: Sequence[str], *, marked: Sequence[bool]) -> str:
    """What is what, as a list with samples, with a marker where ``marked``; empty for a single series."""
    if len(names) < 2:
        return ""
    items = []
    for i, (name, with_marker) in enumerate(zip(names, marked, strict=True)):
        line = f'<path class="l{i % 8}" d="M0 7H28" stroke-dasharray="{DASHES[i % len(DASHES)]}"/>'
        line += marker(i, 14, 7, 3.2) if with_marker else ""
        items.append(
            f'<li><svg viewBox="0 0 28 14" width="28" height="14" aria-hidden="true">{line}</svg>{escape(name)}</li>'
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _marked(points: Sequence[tuple[float, float] | None]) -> list[tuple[float, float]]:
    """The points of a curve that get a marker: all of few, else those that no line reaches."""
    around = [None, *points, None]
    known = [p for p in points if p is not None]
    alone = [
        p for a, p, b in zip(around, points, around[2:], strict=False) if p is not None and a is None and b is None
    ]
    return known if len(known) <= MOST_MARKED else alone


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    parts, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
        else:
            parts.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
            pen = "L"
    return "".join(parts)


def lines(
    series: Sequence[Series], name: str, x_title: str, y_title: str, *, x_range: tuple[float, float] | None = None
) -> Markup:
    """Curves over a common x, with their bands; a note where there is nothing to draw."""
    xs = [x for s in series for x, y in zip(s.x, s.y, strict=True) if y is not None]
    ys = [y for s in series for part in (s.y, s.low, s.high) for y in part if y is not None]
    if not ys:
        return _nothing(name)
    x, y = scale([*xs, *(x_range or ())], LEFT, WIDTH - RIGHT, pad=0.02), scale(ys, HEIGHT - BOTTOM, TOP)
    body = [_frame(x, y, x_title, y_title, HEIGHT)]
    marked = []
    for i, s in enumerate(series):
        if s.low and s.high:
            band = [
                (a, low, high)
                for a, low, high in zip(s.x, s.low, s.high, strict=True)
                if low is not None and high is not None
            ]
            edge = [(x(a), y(high)) for a, _, high in band] + [(x(a), y(low)) for a, low, _ in reversed(band)]
            body.append(f'<path class="band b{i % 8}" d="{_path(edge)}Z"/>')
        points = [None if b is None else (x(a), y(b)) for a, b in zip(s.x, s.y, strict=True)]
        last = next((b for b in reversed(s.y) if b is not None), None)
        hint = f"{s.name}: {_number(last)} at the end" if last is not None else s.name
        marks = "".join(marker(i, *p, 3.2) for p in _marked(points))
        marked.append(bool(marks))
        body.append(
            f'<g><path class="line l{i % 8}" d="{_path(points)}" stroke-dasharray="{DASHES[i % len(DASHES)]}"/>{marks}'
            f"<title>{escape(hint)}</title></g>"
        )
    return Markup(f"<figure>{_svg(''.join(body), name)}{legend([s.name for s in series], marked=marked)}</figure>")


def scatter(points: Sequence[Point], name: str, x_title: str, y_title: str, *, log_x: bool = False) -> Markup:
    """Marks with labels and their intervals as whiskers; those on the front are joined by a staircase."""
    points = [p for p in points if math.isfinite(p.x) and math.isfinite(p.y) and (p.x > 0 or not log_x)]
    if not points:
        return _nothing(name)
    height = 320
    x = scale([p.x for p in points], LEFT, WIDTH - RIGHT - 30, log=log_x)
    low, high = _body([p.y for p in points])
    y = scale([p.y for p in points if low <= p.y <= high], height - BOTTOM - 10, TOP + 8, pad=0.1)
    body = [_frame(x, y, x_title, y_title, height)]
    front = sorted((p for p in points if p.front and low <= p.y <= high), key=lambda p: p.x)
    if front:
        path = "".join(
            f"M{x(p.x):.1f} {y(p.y):.1f}" if i == 0 else f"H{x(p.x):.1f}V{y(p.y):.1f}" for i, p in enumerate(front)
        )
        body.append(f'<path class="front" d="{path}H{WIDTH - RIGHT}"/>')
    at = {id(p): (x(p.x), height - BOTTOM - 6 if p.y < low else TOP + 4 if p.y > high else y(p.y)) for p in points}
    taken = [(px - 7, py, 14.0) for px, py in at.values()]
    for p in points:
        px, py = at[id(p)]
        if p.x_span is not None:
            left, right = (min(max(x(max(v, x.low)), LEFT), WIDTH - RIGHT) for v in p.x_span)
            body.append(f'<path class="whisker" d="M{left:.1f} {py:.1f}H{right:.1f}"/>')
        if p.y_span is not None and low <= p.y <= high:
            bottom, top = (min(max(y(v), TOP), height - BOTTOM) for v in p.y_span)
            body.append(f'<path class="whisker" d="M{px:.1f} {bottom:.1f}V{top:.1f}"/>')
    for p in sorted(points, key=lambda p: not p.front):
        px, py = at[id(p)]
        drawn = f'<circle class="open" cx="{px:.1f}" cy="{py:.1f}" r="5"/>' if p.open else ""
        drawn = drawn or marker(0 if p.front else 5, px, py, 5.5)
        body.append(_linked(f"<g>{drawn}<title>{escape(p.text)}</title></g>", p.href))
        away = " ↓" if p.y < low else " ↑" if p.y > high else ""
        label = f"{p.label} {_number(round(p.y, 2))}{away}" if away else p.label
        wide = 7.2 * len(label)
        # Below right keeps clear of the staircase, which leaves every point to the right and arrives from below.
        for start, ly in (
            (px + 9, py + 4),
            (px + 7, py + 17),
            (px - 9 - wide, py + 4),
            (px + 7, py - 9),
            (px - wide, py - 9),
        ):
            inside = start > LEFT and start + wide < WIDTH and TOP < ly < height - BOTTOM
            crosses = p.front and start > px and ly == py + 4
            if (
                inside
                and not crosses
                and all(abs(ly - 4 - b) > 11 or start > a + w or start + wide < a for a, b, w in taken)
            ):
                taken.append((start, ly - 4, wide))
                body.append(f'<text class="label" x="{start:.1f}" y="{ly:.1f}">{escape(label)}</text>')
                break
    return Markup(f"<figure>{_svg(''.join(body), name, height)}</figure>")


def _body(values: Sequence[float]) -> tuple[float, float]:
    """The range without far outliers (three times the inter-quartile range away): one collapsed method squeezes no chart."""
    ordered = sorted(values)
    if len(ordered) < 4:
        return ordered[0], ordered[-1]
    low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    reach = 3 * (high - low)
    return (low - reach, high + reach) if reach > 0 else (ordered[0], ordered[-1])


def _linked(body: str, href: str) -> str:
    return f'<a href="{escape(href, quote=True)}" data-go>{body}</a>' if href else body


def dots(
    points: Sequence[Point], name: str, x_title: str, interval: tuple[float, float] | None, mean: float | None
) -> Markup:
    """Values on one axis with their mean and interval; ``y`` of a point is not used, ``front`` marks the one shown."""
    if not points:
        return _nothing(name)
    x = scale([p.x for p in points] + list(interval or ()), LEFT, WIDTH - RIGHT - 20)
    placed: list[tuple[float, int, Point]] = []
    for p in sorted(points, key=lambda p: p.x):
        taken = {row for at, row, _ in placed if x(p.x) - at < DOT_ROOM}
        placed.append((x(p.x), next(row for row in range(len(points)) if row not in taken), p))
    level = 26 + DOT_ROOM * max(row for _, row, _ in placed)
    height = level + 66
    bottom = height - BOTTOM
    body = [f'<path class="axis" d="M{LEFT} {bottom}H{WIDTH - RIGHT}"/>']
    body += [
        f'<text class="tick" x="{x(t):.1f}" y="{bottom + 16}" text-anchor="middle">{_number(t)}</text>'
        for t in x.ticks()
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    body.append(f'<text class="title" x="{middle}" y="{height - 4}" text-anchor="middle">{escape(x_title)}</text>')
    if interval is not None:
        body.append(f'<path class="interval" d="M{x(interval[0]):.1f} {level + 14}H{x(interval[1]):.1f}"/>')
    if mean is not None:
        body.append(f'<path class="mean" d="M{x(mean):.1f} {level + 8}V{level + 20}"/>')
    for at, row, p in placed:
        y = level - DOT_ROOM * row
        label = f'<text class="tick" x="{at + 9:.1f}" y="{y + 4:.1f}">{escape(p.label)}</text>'
        shape = marker(0 if p.front else 5, at, y, 5.5)
        body.append(_linked(f"<g>{shape}{label}<title>{escape(p.text)}</title></g>", p.href))
    return Markup(f"<figure>{_svg(''.join(body), name, height)}</figure>")


def heatmap(matrix: Sequence[Sequence[float]], name: str, row_title: str, column_title: str) -> Markup:
    """A square matrix of shares; numbers are written where there is room."""
    count = len(matrix)
    cell = min(36.0, 380.0 / max(1, count))
    left, top = 54.0, 34.0
    width, height = round(left + count * cell + 10), round(top + count * cell + 10)
    body = [
        f'<text class="title" x="{left + count * cell / 2}" y="12" text-anchor="middle">{escape(column_title)}</text>',
        f'<text class="title" transform="translate(12 {top + count * cell / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(row_title)}</text>",
    ]
    every = max(1, math.ceil(14 / cell))
    for i in range(0, count, every):
        at = (i + 0.5) * cell
        body.append(f'<text class="tick" x="{left - 6}" y="{top + at + 4:.1f}" text-anchor="end">{i}</text>')
        body.append(f'<text class="tick" x="{left + at:.1f}" y="{top - 6}" text-anchor="middle">{i}</text>')
    for i, line in enumerate(matrix):
        for j, share in enumerate(line):
            if share <= 0 and count > 20:
                continue
            px, py = left + j * cell, top + i * cell
            body.append(
                f'<rect class="heat" x="{px:.1f}" y="{py:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}" '
                f'fill-opacity="{share:.3f}"><title>{escape(row_title)} {i}, {escape(column_title)} {j}: {100 * share:.1f} %</title></rect>'
            )
            if cell >= 26 and share >= 0.005:
                tone = " strong" if share > 0.55 else ""
                body.append(
                    f'<text class="number{tone}" x="{px + cell / 2:.1f}" y="{py + cell / 2 + 4:.1f}" text-anchor="middle">'
                    f"{100 * share:.0f}</text>"
                )
    return Markup(f"<figure>{_svg(''.join(body), name, height, width)}</figure>")


def interval_mark(low: float | None, middle: float | None, high: float | None, span: float, text: str) -> Markup:
    """A small interval around zero for a table cell; ``span`` is the largest absolute value of the whole column."""
    if middle is None or not span:
        return Markup()
    x = Scale(-span, span, 6, MARK - 6)

    def clip(value: float) -> float:
        return max(2.0, min(MARK - 2.0, x(value)))

    body = f'<path class="zero" d="M{MARK / 2} 2V18"/>'
    if low is not None and high is not None:
        body += f'<path class="interval" d="M{clip(low):.1f} 10H{clip(high):.1f}"/>'
    if abs(middle) <= span:
        body += f'<circle class="s0" cx="{clip(middle):.1f}" cy="10" r="4"/>'
    else:
        arrow = "M2 10l7 -5v10z" if middle < 0 else f"M{MARK - 2} 10l-7 -5v10z"
        body += f'<path class="s0" d="{arrow}"/>'
    return Markup(
        f'<svg class="mark" viewBox="0 0 {MARK} 20" width="{MARK}" height="20" role="img" '
        f'aria-label="{escape(text, quote=True)}">{body}</svg>'
    )
