"""The benchmark harness for learning with noisy labels.

The names in ``__all__`` and the hooks in :mod:`harness.hookspecs` are the public interface. They are imported on first
use, so that ``import harness`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import board, compare, create, open_store, plan, run, suspects
    from harness.declarations import Declares
    from harness.errors import HarnessError
    from harness.hookspecs import hookimpl
    from harness.suite.load import Suite, load_suite
    from harness.suite.plan import Plan
    from harness.training.data import DataSplits, LabelledData
    from harness.training.drive import drive
    from harness.training.noise_report import NoiseReport
    from harness.training.passes import Pass
    from harness.training.run import Run, Step
    from harness.trial import Trial

__all__ = [
    "DataSplits",
    "Declares",
    "HarnessError",
    "LabelledData",
    "NoiseReport",
    "Pass",
    "Plan",
    "Run",
    "Step",
    "Suite",
    "Trial",
    "board",
    "compare",
    "create",
    "drive",
    "hookimpl",
    "load_suite",
    "open_store",
    "plan",
    "run",
    "suspects",
]

_HOMES = {
    "DataSplits": "harness.training.data",
    "Declares": "harness.declarations",
    "HarnessError": "harness.errors",
    "LabelledData": "harness.training.data",
    "NoiseReport": "harness.training.noise_report",
    "Pass": "harness.training.passes",
    "Plan": "harness.suite.plan",
    "Run": "harness.training.run",
    "Step": "harness.training.run",
    "Suite": "harness.suite.load",
    "Trial": "harness.trial",
    "board": "harness.api",
    "compare": "harness.api",
    "create": "harness.api",
    "drive": "harness.training.drive",
    "hookimpl": "harness.hookspecs",
    "load_suite": "harness.suite.load",
    "open_store": "harness.api",
    "plan": "harness.api",
    "run": "harness.api",
    "suspects": "harness.api",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
