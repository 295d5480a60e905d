"""HTML from templates that escape by themselves: markup in a name or an error is shown, not obeyed.

A template (``templates/*.html``) is a module of macros, each one part of a page. :func:`part` fills one with values; only what
a macro or a chart made is taken as HTML, everything else as text.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.words import counted, duration

SCRIPTS = ("tables.js", "charts.js")
"""What the pages and the static site share: sorting and charts."""


def part(template: str, macro: str, /, **values: Any) -> Markup:
    """The HTML that a macro of a template makes of some values."""
    return Markup(getattr(_module(template), macro)(**values))


def joined(parts: Iterable[Markup]) -> Markup:
    """Parts of a page, one after the other."""
    return Markup("").join(parts)


def human_hours(hours: float | None) -> str:
    """Hours of computing, short."""
    return duration(None if hours is None else hours * 3600, "–")


def human_bytes(value: float | None) -> str:
    """``12 MB``, ``1.4 GB``."""
    if value is None:
        return "–"
    return f"{value / 1e6:,.0f} MB" if value < 1e9 else f"{value / 1e9:,.1f} GB"


def _sortable(value: float | None) -> str:
    """What a cell is sorted by; empty for what has no place."""
    return "" if value is None or not math.isfinite(value) else repr(float(value))


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("harness_leaderboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        sortable=_sortable, duration=lambda seconds: duration(seconds, "–"), hours=human_hours, bytes=human_bytes
    )
    made.globals.update(counted=counted)
    return made


@functools.cache
def _module(template: str) -> Any:
    return _environment().get_template(template).module
