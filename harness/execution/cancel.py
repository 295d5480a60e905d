"""Stopping trials that another process has in hand: workers on this machine by signal, the rest by their executor."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from harness.execution.queues import queueing
from harness.results.records import cancel, standing, trial_folder
from harness.suite.load import Suite


def cancel_trials(suite: Suite, results: Path, ids: Sequence[str]) -> int:
    """Tell the owners of running trials to stop with a checkpoint, and every executor to drop queued ones.

    A local worker gets SIGTERM: it stops its trial at the next batch boundary. Every trial is noted as cancelled, so that
    runs under way do not start it.

    Returns:
        How many running trials were told.
    """
    told = 0
    for trial_id in ids:
        cancel(results, trial_id)
    for trial_id in ids:
        found = standing(trial_folder(results, trial_id))
        if found.status == "running" and found.host == socket.gethostname() and not found.job and found.pid:
            with contextlib.suppress(OSError):
                os.kill(found.pid, signal.SIGTERM)
                told += 1
    for executor in queueing(suite.host, suite.executors)[0]:
        told += executor.cancel_queued(list(ids), results)
    return told
