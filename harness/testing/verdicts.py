"""What a check is and what it may find: each has a name, a reason and a remedy, and belongs to some kinds of components."""

from __future__ import annotations

import dataclasses
import unittest
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from harness.testing.subject import Subject

if TYPE_CHECKING:
    from harness.testing.bench import Bench

Status = Literal["ok", "fault", "skip"]
TRAINED = ("loss", "algorithm", "transform", "model")


class Fault(Exception):
    """What a check found wrong, with a remedy more exact than the check's own, if there is one."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class Skip(unittest.SkipTest):
    """A check that does not apply, with the reason. pytest shows it as skipped."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One check of a component.

    Attributes:
        name: as ``harness plugin check`` prints it.
        kinds: of components that it is for.
        reason: why it matters.
        remedy: what to do when it fails.
        function: raises :class:`Fault` or :class:`Skip`; returns a remark, or nothing.
    """

    name: str
    kinds: tuple[str, ...]
    reason: str
    remedy: str
    function: Callable[[Subject, Bench], str | None]


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of one check."""

    subject: str
    check: str
    status: Status
    message: str = ""
    reason: str = ""
    remedy: str = ""


CHECKS: dict[str, Check] = {}


def check(*kinds: str, reason: str, remedy: str) -> Callable[[Callable[[Subject, Bench], str | None]], Check]:
    """Add a function to the catalogue under its own name."""

    def add(function: Callable[[Subject, Bench], str | None]) -> Check:
        made = Check(function.__name__.rstrip("_"), kinds, reason, remedy, function)
        CHECKS[made.name] = made
        return made

    return add


def checks_of(kind: str) -> list[Check]:
    """The checks for a kind, in the order in which they run."""
    return [one for one in CHECKS.values() if kind in one.kinds]
