"""A suite to start with, for data of the user's own: what a plugin writes for them.

The entry points of the group ``harness.starts`` are functions ``(data, name, methods, seeds) -> str`` by kind of data. They
read the data and raise a ``HarnessError`` for what is wrong with them.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import SuiteError, unknown

GROUP = "harness.starts"


def start_suite(kind: str, data: Mapping[str, Any], name: str, methods: Sequence[str] = (), seeds: int = 3) -> str:
    """The text of a suite.

    Args:
        kind: ``images``, ``table`` or ``text``, or another one that a plugin knows.
        data: the parameters of a data set of that kind: ``root`` and ``csv``, or ``file``, and what else is given.
        name: of the suite.
        methods: losses and algorithms by name; none: the usual ones.
        seeds: how many.

    Raises:
        HarnessError: for data that cannot be read, an unknown method, or a kind that no plugin knows.
    """
    known = {found.name: found for found in importlib.metadata.entry_points(group=GROUP)}
    if kind not in known:
        raise SuiteError(unknown("kind of data", kind, known), "init", "`harness plugins` says what is installed")
    text: str = known[kind].load()(data, name, methods, seeds)
    return text
