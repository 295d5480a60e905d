"""A worker process: starts once, runs many trials, tells its parent what happens.

    python -m harness.execution.worker RESULTS [--plugin FILE ...]

It reads JSON lines on standard input (``{"run": id, "rerun": false, "facts": {...}, "key": "..."}``) and writes JSON lines
on what was standard output, with the trial's key; what trials print goes to their ``log.txt``. It stops at a batch
boundary, with a checkpoint, on SIGTERM, or when its parent is gone (end of input). SIGINT is the parent's to handle.

A trial that leaves something behind which cannot be undone is this worker's last: it says so with the trial's result
(``"leaving": true``) and ends, and the parent starts a fresh one.
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
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from harness.errors import HarnessError, said
from harness.plugins import Host, load_host
from harness.results.records import claim, read_trial


class Worker:
    """Runs trials one after the other, with the data set of the last one kept."""

    def __init__(self, results: Path, host: Host, say: TextIO) -> None:
        self.results = results
        self.host = host
        self.stop = threading.Event()
        self.spoiled = False
        self._say = say
        self._pipe = os.fstat(say.fileno()) if _has_file(say) else None
        self._key: Any = None
        self._cache: dict[str, Any] = {}

    def say(self, **event: Any) -> None:
        """Tell the parent; a parent that is gone is no error, the end of input says the same."""
        with contextlib.suppress(OSError, ValueError):
            self._say.write(json.dumps(event if self._key is None else {**event, "key": self._key}) + "\n")
            self._say.flush()

    @property
    def heard(self) -> bool:
        """Whether the pipe to the parent is still the one that was given."""
        if self._pipe is None:
            return True
        try:
            now = os.fstat(self._say.fileno())
        except (OSError, ValueError):
            return False
        return (now.st_dev, now.st_ino) == (self._pipe.st_dev, self._pipe.st_ino)

    def run(
        self, trial_id: str, *, rerun: bool = False, facts: Mapping[str, Any] | None = None, key: str | None = None
    ) -> None:
        """Claim and run one trial; whatever happens to it is told and recorded, never raised."""
        from harness.training.guard import Guard
        from harness.training.log import printing_to
        from harness.training.trial import run_trial

        self._key = key
        try:
            trial = read_trial(self.results, trial_id)
            attempt = claim(self.results, trial_id, job=os.environ.get("HARNESS_JOB"), rerun=rerun)
            if attempt is None:
                self.say(event="busy", id=trial_id)
                return
        except (HarnessError, OSError) as error:
            self.say(event="error", id=trial_id, message=said(error))
            return
        epochs = int(trial.identity["training"]["epochs"])
        self.say(event="start", id=trial_id, attempt=attempt.path.name, epochs=epochs)
        guard = Guard(streams=False, worker=True)
        with printing_to(attempt.path / "log.txt"):
            result = run_trial(
                trial,
                attempt,
                self.host,
                cache=self._cache,
                should_stop=self.stop.is_set,
                on_epoch=lambda record: self.say(event="epoch", id=trial_id, epoch=record["epoch"], epochs=epochs),
                facts=facts,
                guard=guard,
            )
        self.spoiled = bool(guard.beyond_repair) or not self.heard
        left = {"leaving": True} if self.spoiled else {}
        if result is None:
            self.say(event="interrupted", id=trial_id, **left)
        else:
            self.say(event=result["status"], id=trial_id, error=(result["error"] or {}).get("message"), **left)


def _has_file(stream: TextIO) -> bool:
    try:
        stream.fileno()
    except (OSError, ValueError):
        return False
    return True


def serve(results: Path, plugins: list[str]) -> None:
    """The worker's main loop."""
    say = os.fdopen(os.dup(1), "w")
    given = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    logging.captureWarnings(True)
    worker = Worker(results, load_host(plugins), say)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()  # a fatal signal leaves its stack in the trial's log
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, all_threads=False)  # the parent asks where a trial hangs
    orders: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def listen() -> None:
        with contextlib.suppress(OSError, ValueError):  # a plugin may have closed it: no order will come
            for line in given:
                orders.put(json.loads(line))
        worker.stop.set()
        orders.put(None)

    threading.Thread(target=listen, name="orders", daemon=True).start()
    import torch

    from harness.training.trial import warm_up

    torch.set_num_threads(1)
    warm_up()
    worker.say(event="ready", pid=os.getpid())
    while (order := orders.get()) is not None and not worker.stop.is_set():
        worker.run(order["run"], rerun=bool(order.get("rerun")), facts=order.get("facts"), key=order.get("key"))
        if worker.spoiled:
            break


def main() -> None:
    parser = argparse.ArgumentParser(prog="harness.execution.worker")
    parser.add_argument("results", type=Path)
    parser.add_argument("--plugin", action="append", default=[])
    arguments = parser.parse_args()
    serve(arguments.results, arguments.plugin)
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        logging.shutdown()
        os._exit(0)  # a thread that a plugin has left behind keeps no worker


if __name__ == "__main__":
    main()
