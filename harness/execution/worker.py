"""A worker process: starts once, runs many trials, tells its parent what happens.

    python -m harness.execution.worker RESULTS [--plugin FILE ...]

It reads JSON lines on standard input (``{"run": id, "options": {...}}``) and writes JSON lines on what was standard
output; what trials print goes to their ``log.txt``. It stops at a batch boundary, with a checkpoint, on SIGTERM, or
when its parent is gone (end of input). SIGINT is the parent's to handle.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from harness.errors import HarnessError
from harness.plugins import Host, load_host
from harness.results.records import Attempt, claim, read_trial


class Worker:
    """Runs trials one after the other, with the data set of the last one kept."""

    def __init__(self, results: Path, host: Host, say: TextIO) -> None:
        self.results = results
        self.host = host
        self.stop = threading.Event()
        self._say = say
        self._cache: dict[str, Any] = {}

    def say(self, **event: Any) -> None:
        """Tell the parent; a parent that is gone is no error, the end of input says the same."""
        with contextlib.suppress(OSError):
            self._say.write(json.dumps(event) + "\n")
            self._say.flush()

    def run(self, trial_id: str, *, rerun: bool = False, facts: Mapping[str, Any] | None = None) -> None:
        """Claim and run one trial; whatever happens to it is told and recorded, never raised."""
        from harness.training.trial import run_trial

        try:
            trial = read_trial(self.results, trial_id)
            attempt = claim(self.results, trial_id, job=os.environ.get("HARNESS_JOB"), rerun=rerun)
            if attempt is None:
                self.say(event="busy", id=trial_id)
                return
        except (HarnessError, OSError) as error:
            self.say(event="error", id=trial_id, message=str(error))
            return
        epochs = int(trial.identity["training"]["epochs"])
        self.say(event="start", id=trial_id, attempt=attempt.path.name, epochs=epochs)
        with _prints_to(attempt):
            result = run_trial(
                trial,
                attempt,
                self.host,
                cache=self._cache,
                should_stop=self.stop.is_set,
                on_epoch=lambda record: self.say(event="epoch", id=trial_id, epoch=record["epoch"], epochs=epochs),
                facts=facts,
            )
        if result is None:
            self.say(event="interrupted", id=trial_id)
        else:
            self.say(event=result["status"], id=trial_id, error=(result["error"] or {}).get("message"))


@contextlib.contextmanager
def _prints_to(attempt: Attempt) -> Any:
    """Standard output and error of the process into the attempt's log, also from C code."""
    saved = [os.dup(1), os.dup(2)]
    log = os.open(attempt.path / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        for stream in (1, 2):
            os.dup2(log, stream)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, fd in zip((1, 2), saved, strict=True):
            os.dup2(fd, stream)
            os.close(fd)
        os.close(log)


def serve(results: Path, plugins: list[str]) -> int:
    """The worker's main loop."""
    say = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.captureWarnings(True)
    worker = Worker(results, load_host(plugins), say)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, all_threads=False)  # the parent asks where a trial hangs
    orders: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            orders.put(json.loads(line))
        worker.stop.set()
        orders.put(None)

    threading.Thread(target=listen, name="orders", daemon=True).start()
    import torch

    torch.set_num_threads(1)
    worker.say(event="ready", pid=os.getpid())
    while (order := orders.get()) is not None and not worker.stop.is_set():
        worker.run(order["run"], rerun=bool(order.get("rerun")), facts=order.get("facts"))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="harness.execution.worker")
    parser.add_argument("results", type=Path)
    parser.add_argument("--plugin", action="append", default=[])
    arguments = parser.parse_args()
    return serve(arguments.results, arguments.plugin)


if __name__ == "__main__":
    sys.exit(main())
