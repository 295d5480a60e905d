"""What plugin authors test with: named checks for each kind of component.

    import pytest
    from harness.testing import cases

    @pytest.mark.parametrize("case", cases("my_package"), ids=str)
    def test_contract(case):
        case()

``harness plugin check`` runs the same checks and prints them. ``-p harness.testing.pytest_plugin`` offers them as the
fixture ``harness_check``. A component declines a check that cannot hold for it with its reason:
``declines = {"gradients": "the weight is a constant, as in the paper"}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.testing import catalogue
from harness.testing.catalogue import Case, loading
from harness.testing.subject import Checked, Subject, read_plugin, subjects_of
from harness.testing.verdicts import CHECKS, Check, Fault, Finding, Skip, checks_of

__all__ = [
    "CHECKS",
    "Case",
    "Check",
    "Checked",
    "Fault",
    "Finding",
    "Skip",
    "Subject",
    "cases",
    "check_plugin",
    "checks_of",
    "loading",
    "read_plugin",
    "subjects_of",
]


def cases(
    target: str | Path | Checked | Sequence[Subject],
    *,
    params: Mapping[str, Any] | None = None,
    setting: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
) -> list[Case]:
    """The checks of a plugin's components, each of them callable.

    Args:
        target: a plugin's file, module or distribution; or what :func:`read_plugin` or :func:`subjects_of` gave.
        params: parameters to test with, ``{"q": 0.5}`` for all or ``{"losses.gce.q": 0.5}`` for one component.
        setting: keys of the setting to test in, such as ``{"dataset": "digits"}``.
        only: names of checks; all when empty.
        without: names of checks to leave out.

    Raises:
        HarnessError: when there is no such plugin or check.
        AssertionError: when the plugin is broken, so that it has no components to check.
    """
    if isinstance(target, (str, Path)):
        checked = read_plugin(target, params, setting)
        first = loading(checked)
        if first.status == "fault":
            raise AssertionError(f"{first.message}\n  why: {first.reason}\n  remedy: {first.remedy}")
        target = checked
    return catalogue.cases(target, only, without)


def check_plugin(
    target: str | Path,
    *,
    params: Mapping[str, Any] | None = None,
    setting: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
) -> list[Finding]:
    """Run the checks of a plugin and return what they found, the plugin's own checks first."""
    return list(catalogue.findings(read_plugin(target, params, setting), only, without))
