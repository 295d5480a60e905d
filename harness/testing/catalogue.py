"""The checks of a plugin and of its components: chosen by name, run one after the other, with what each found."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import signal
import tempfile
import threading
import traceback
import unittest
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.testing.subject import Checked, Subject
from harness.testing.verdicts import CHECKS, Check, Fault, Finding, Skip, checks_of
from harness.words import counted

LIMIT_S = 120.0


@dataclasses.dataclass(frozen=True)
class Case:
    """One check on one component; call it to run it. A failed one raises ``AssertionError`` with reason and remedy."""

    subject: Subject
    check: Check

    def __str__(self) -> str:
        return f"{self.subject.label}-{self.check.name}"

    def __call__(self) -> None:
        finding = self.find()
        if finding.status == "skip":
            raise Skip(finding.message)
        if finding.status == "fault":
            raise AssertionError(f"{finding.message}\n  why: {finding.reason}\n  remedy: {finding.remedy}")

    def find(self) -> Finding:
        """Run the check and say what it found; nothing is raised."""
        subject, one = self.subject, self.check
        try:
            declined = subject.declines.get(one.name)
        except HarnessError:
            declined = None  # what cannot be loaded has its own check
        if declined is not None:
            return Finding(subject.label, one.name, "skip", f"declined: {declined}")
        message, remedy = "", one.remedy
        try:
            with tempfile.TemporaryDirectory() as folder, _global_state_kept(), _time_limit(LIMIT_S):
                from harness.testing.bench import Bench

                message = one.function(subject, Bench(subject, Path(folder))) or ""
            return Finding(subject.label, one.name, "ok", message)
        except unittest.SkipTest as skip:
            return Finding(subject.label, one.name, "skip", str(skip))
        except Fault as fault:
            message, remedy = fault.what, fault.remedy or one.remedy
        except HarnessError as error:
            message, remedy = str(error), error.remedy or one.remedy
        except Exception as error:
            message = f"{type(error).__name__}: {error}{_place(error, subject)}"
        return Finding(subject.label, one.name, "fault", message, one.reason, remedy)


def loading(checked: Checked) -> Finding:
    """Whether the plugin itself was admitted: it imports, its hooks exist and fit, the harness is new enough."""
    plugin = checked.plugin
    reason = "a plugin that is refused registers nothing; `harness plugins` lists it as broken"
    if plugin.error:
        return Finding(plugin.name, "loads", "fault", plugin.error, reason, plugin.remedy)
    if not checked.subjects:
        remedy = "register one: @hookimpl def harness_register_losses(register): register('name', Factory)"
        return Finding(plugin.name, "loads", "fault", "it registers no component", reason, remedy)
    return Finding(plugin.name, "loads", "ok", counted(len(checked.subjects), "component"))


def cases(checked: Checked | Sequence[Subject], names: Sequence[str] = (), without: Sequence[str] = ()) -> list[Case]:
    """The checks of some subjects, all of them or those named."""
    import harness.testing.checks  # noqa: F401 -- fills the catalogue

    subjects = checked.subjects if isinstance(checked, Checked) else checked
    for name in (*names, *without):
        if name not in CHECKS and name != "loads":
            from harness.errors import unknown

            raise HarnessError(unknown("check", name, [*CHECKS, "loads"]))
    return [
        Case(subject, one)
        for subject in subjects
        for one in checks_of(subject.kind)
        if (not names or one.name in names) and one.name not in without
    ]


def findings(checked: Checked, only: Sequence[str] = (), without: Sequence[str] = ()) -> Iterator[Finding]:
    """The checks of a plugin as they are run: the plugin's own first, and no more where it does not load.

    Raises:
        HarnessError: when there is no check of a name, before any is run.
    """
    from harness.testing.checks.contract import listing

    own = ("listing", "loads")
    names = [name for name in only if name not in own]
    selected = cases(checked, names, [name for name in without if name not in own]) if names or not only else []

    def found() -> Iterator[Finding]:
        yield (first := loading(checked))
        if first.status == "fault":
            return
        if (not only or "listing" in only) and "listing" not in without:
            yield listing(checked)
        for case in selected:
            yield case.find()

    return found()


def _place(error: Exception, subject: Subject) -> str:
    """Where in the subject's own file an exception came from."""
    source = subject.component.source()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if source is not None and Path(frame.filename) == source:
            return f" ({source.name}, line {frame.lineno}, in {frame.name})"
    return ""


@contextlib.contextmanager
def _global_state_kept() -> Iterator[None]:
    """Checks seed the global generators; what runs after them must not notice."""
    import numpy as np
    import torch

    states = (torch.get_rng_state(), np.random.get_state(), random.getstate(), torch.get_num_threads())  # noqa: NPY002
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
        torch.set_num_threads(states[3])


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """A check that hangs is a fault, where signals arrive (main thread of a Unix process)."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def expire(number: int, frame: Any) -> None:
        raise Fault(
            f"still running after {seconds:g} s", "look for an endless loop; a trial with `timeout_s` would be killed"
        )

    before = signal.signal(signal.SIGALRM, expire)
    delay, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, delay, interval)
        signal.signal(signal.SIGALRM, before)
