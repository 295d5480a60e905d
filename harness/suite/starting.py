"""A suite to start with, for data of the user's own: what a plugin writes for them (``harness_start_suite``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import SuiteError
from harness.plugins import load_host


def start_suite(kind: str, data: Mapping[str, Any], name: str, methods: Sequence[str] = (), seeds: int = 3) -> str:
    """The text of a suite.

    Args:
        kind: ``images``, ``table`` or ``text``.
        data: the parameters of a data set of that kind.
        name: of the suite.
        methods: losses and algorithms by name; none: the usual ones.
        seeds: how many.

    Raises:
        HarnessError: for data that cannot be read, an unknown method, or a kind that no plugin knows.
    """
    text = load_host().manager.hook.harness_start_suite(kind=kind, data=data, name=name, methods=methods, seeds=seeds)
    if not isinstance(text, str):
        raise SuiteError(f"no plugin starts a suite for {kind}", "init", "`harness plugins` says what is installed")
    return text
