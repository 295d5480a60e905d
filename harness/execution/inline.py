"""The executor ``inline``: every trial in this process, one after the other. Good for notebooks and debuggers."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.execution.executor import Executor
from harness.results.records import cancelled_since, claim, read_trial
from harness.suite.plan import Plan


class Inline(Executor):
    """Run trials in this process.

    It needs no further process and no table in the suite. ``timeout_s`` interrupts Python code, not a hung extension.
    """

    capabilities = frozenset({"waits"})

    def __init__(self) -> None:
        self._stop = threading.Event()

    def submit(
        self, trial_ids: Sequence[str], results: Path, plan: Plan | None = None, rerun: frozenset[str] = frozenset()
    ) -> set[str]:
        """Run the trials and return the ids that did not reach a result."""
        from harness.plugins import load_host
        from harness.training.guard import Guard
        from harness.training.trial import run_trial, warm_up

        warm_up()
        began = time.time()
        unfinished: set[str] = set()
        cache: dict[str, Any] = {}
        for trial_id in trial_ids:
            if self._stop.is_set() or cancelled_since(results, trial_id, began):
                unfinished.add(trial_id)
                continue
            trial = read_trial(results, trial_id)
            host = plan.suite.host if plan is not None else load_host(trial.options["plugins"])
            attempt = claim(results, trial_id, rerun=trial_id in rerun)
            if attempt is None:
                unfinished.add(trial_id)
                continue
            epochs = int(trial.identity["training"]["epochs"])
            self.on_event({"event": "start", "id": trial_id, "epochs": epochs, "attempt": attempt.path.name})

            def told(record: Any, trial_id: str = trial_id, epochs: int = epochs) -> None:
                self.on_event({"event": "epoch", "id": trial_id, "epoch": record["epoch"], "epochs": epochs})

            guard = Guard()
            with _limit(trial.options.get("execution", {}).get("timeout_s")):
                result = run_trial(
                    trial,
                    attempt,
                    host,
                    cache=cache,
                    should_stop=self._stop.is_set,
                    on_epoch=told,
                    facts={"executor": "inline"},
                    guard=guard,
                )
            if result is None:
                unfinished.add(trial_id)
                self.on_event({"event": "interrupted", "id": trial_id})
            else:
                error = (result["error"] or {}).get("message")
                self.on_event({"event": result["status"], "id": trial_id, "error": error})
            if guard.beyond_repair:
                raise HarnessError(
                    f"{guard.beyond_repair[0]}, cannot be put back in this process, so the run stops here",
                    f"trial {trial_id}",
                    "mend the component, or use the executor local, which replaces its workers",
                )
        return unfinished

    def interrupt(self) -> None:
        """Stop at the next batch boundary, with a checkpoint."""
        self._stop.set()


@contextlib.contextmanager
def _limit(seconds: float | None) -> Iterator[None]:
    """Raise inside the trial when it runs longer than ``seconds`` (main thread only, where signals arrive)."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    from harness.errors import TrialTimeout

    def expire(*_: Any) -> None:
        raise TrialTimeout(f"still running after timeout_s = {seconds:g}")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
