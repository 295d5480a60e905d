"""A pool of worker processes on this machine: the engine of the ``local`` executor and of a job on a cluster.

A dead worker costs one trial, which is retried once. A trial that runs past its time limit is failed and its worker
killed. Interrupting stops every trial at its next batch boundary, with a checkpoint.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from harness import faults
from harness.errors import ClaimLost
from harness.results.records import ENDED, Attempt, attempts, cancelled_since, is_alive, read_json, trial_folder

Event = dict[str, Any]
OnEvent = Callable[[Event], None]
STOP_GRACE_S = 120.0
POLL_BUSY_S = 1.0
STACK_WAIT_S = 3.0


@dataclasses.dataclass
class _Process:
    number: int
    popen: subprocess.Popen[str]
    stderr: IO[bytes]
    current: str | None = None
    since: float = 0.0
    attempt: str | None = None


class Pool:
    """Runs trials on worker processes and reports every event.

    Args:
        results: the results folder, where the trials have been submitted.
        workers: number of processes.
        plugins: single-file plugins that the workers load.
        environments: environment variables of worker ``i % len(environments)``, such as ``CUDA_VISIBLE_DEVICES``.
        on_event: told of ``start``, ``epoch``, ``done``, ``failed``, ``interrupted``, ``busy`` and ``died``.
        facts: what goes into the environment record of each trial.
    """

    def __init__(
        self,
        results: Path,
        workers: int,
        *,
        plugins: Sequence[str] = (),
        environments: Sequence[Mapping[str, str]] = ({},),
        on_event: OnEvent = lambda event: None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.results = results
        self.workers = workers
        self._plugins = plugins
        self._environments = environments
        self._on_event = on_event
        self._facts = dict(facts or {})
        self._events: queue.Queue[tuple[_Process, Event]] = queue.Queue()
        self._processes: dict[int, _Process] = {}
        self._stopping = threading.Event()
        self._cancelled: set[str] = set()
        self._deaths: collections.Counter[str] = collections.Counter()
        self._barren = 0
        self._began = 0.0

    def interrupt(self) -> None:
        """Ask every trial to stop at its next batch boundary; :meth:`run` returns when all have."""
        self._stopping.set()

    def cancel(self, ids: set[str]) -> None:
        """Leave out trials that have not started."""
        self._cancelled |= ids

    def run(
        self, ids: Sequence[str], *, timeouts: Mapping[str, float] | None = None, rerun: set[str] | None = None
    ) -> set[str]:
        """Run trials to their end.

        Args:
            ids: submitted trials, in order.
            timeouts: seconds after which a trial is failed.
            rerun: trials to run although they are done.

        Returns:
            The ids that did not reach a result: interrupted, cancelled, or at work elsewhere.
        """
        self._began = time.time()
        pending = collections.deque(ids)
        later: list[tuple[float, str]] = []
        unfinished: set[str] = set()
        limits = timeouts or {}
        reruns = rerun or set()
        try:
            for number in range(min(self.workers, len(pending))):
                self._start(number)
            while True:
                now = time.monotonic()
                for due, trial_id in [item for item in later if item[0] <= now]:
                    later.remove((due, trial_id))
                    pending.append(trial_id)
                if not self._stopping.is_set():
                    self._hand_out(pending, reruns, unfinished)
                busy = [process for process in self._processes.values() if process.current is not None]
                if self._stopping.is_set() or (not pending and not busy and not later):
                    break
                if not self._processes and pending:
                    self._start(0)
                try:
                    process, event = self._events.get(timeout=0.2)
                except queue.Empty:
                    self._enforce(limits)
                    continue
                self._handle(process, event, pending, later, unfinished)
                self._enforce(limits)
            if self._stopping.is_set():
                unfinished |= self._drain(pending, later)
        finally:
            self._shut_down()
        return unfinished

    # --- processes -----------------------------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        command = [sys.executable, "-m", "harness.execution.worker", str(self.results)]
        for plugin in self._plugins:
            command += ["--plugin", plugin]
        environment = {**os.environ, **self._environments[number % len(self._environments)]}
        environment.setdefault("OMP_NUM_THREADS", "1")
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 -- lives as long as the worker
        popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, bufsize=1, env=environment
        )
        process = _Process(number, popen, stderr)
        self._processes[number] = process

        def listen() -> None:
            assert popen.stdout is not None
            for line in popen.stdout:
                with contextlib.suppress(ValueError):
                    self._events.put((process, json.loads(line)))
            popen.wait()
            popen.stdout.close()
            self._events.put((process, {"event": "exit", "code": popen.returncode}))

        threading.Thread(target=listen, name=f"worker {number}", daemon=True).start()

    def _hand_out(self, pending: collections.deque[str], reruns: set[str], unfinished: set[str]) -> None:
        for process in list(self._processes.values()):
            if process.current is not None or process.popen.poll() is not None:
                continue
            while pending and self._is_cancelled(pending[0]):
                unfinished.add(pending.popleft())
            if not pending:
                return
            trial_id = pending.popleft()
            process.current, process.since, process.attempt = trial_id, time.monotonic(), None
            order = {"run": trial_id, "rerun": trial_id in reruns, "facts": {**self._facts, "worker": process.number}}
            with contextlib.suppress(OSError):  # a worker that has just died says so by its exit event
                assert process.popen.stdin is not None
                process.popen.stdin.write(json.dumps(order) + "\n")
                process.popen.stdin.flush()

    def _is_cancelled(self, trial_id: str) -> bool:
        return trial_id in self._cancelled or cancelled_since(self.results, trial_id, self._began)

    def _handle(
        self,
        process: _Process,
        event: Event,
        pending: collections.deque[str],
        later: list[tuple[float, str]],
        unfinished: set[str],
    ) -> None:
        kind = event["event"]
        if kind == "start":
            process.since, process.attempt = time.monotonic(), event["attempt"]
            self._barren = 0
        elif kind in (*ENDED, "interrupted", "error"):
            process.current = None
            if kind in ("interrupted", "error"):
                unfinished.add(event["id"])
        elif kind == "busy":
            process.current = None
            if _still_running(self.results, event["id"]):
                later.append((time.monotonic() + POLL_BUSY_S, event["id"]))
        elif kind == "exit":
            self._bury(process, event, pending)
            return
        self._on_event(event)

    def _bury(self, process: _Process, event: Event, pending: collections.deque[str]) -> None:
        """A worker has died: put its trial back once, then fail it; start another worker if there is work."""
        self._processes.pop(process.number, None)
        trial_id, code = process.current, int(event["code"] or 0)
        words = _tail(process.stderr)
        _close(process)
        if trial_id is None:
            if pending and not self._stopping.is_set():
                self._barren += 1
                if self._barren > 2 + self.workers:
                    raise RuntimeError(f"workers die at their start: {words or describe_exit(code)}")
                self._start(process.number)
            return
        self._deaths[trial_id] += 1
        message = f"the worker died ({describe_exit(code)})" + (f": {words}" if words else "")
        if self._deaths[trial_id] > 1:
            self._fail(trial_id, process.attempt, "WorkerDied", f"{message}, twice")
            self._on_event({"event": "failed", "id": trial_id, "error": message})
        else:
            pending.appendleft(trial_id)
            self._on_event({"event": "died", "id": trial_id, "error": message})
        if pending and not self._stopping.is_set():
            self._start(process.number)

    def _enforce(self, limits: Mapping[str, float]) -> None:
        """Kill workers whose trial runs past its time limit, and fail the trial."""
        for process in list(self._processes.values()):
            trial_id = process.current
            if trial_id is None or process.attempt is None or trial_id not in limits:
                continue
            if time.monotonic() - process.since > limits[trial_id]:
                where = _where_it_hangs(
                    process.popen, trial_folder(self.results, trial_id) / process.attempt / "log.txt"
                )
                process.popen.kill()
                process.popen.wait()
                message = f"still running after timeout_s = {limits[trial_id]:g}{where}"
                self._fail(trial_id, process.attempt, "TrialTimeout", message)
                process.current = None
                self._on_event({"event": "failed", "id": trial_id, "error": message})

    def _fail(self, trial_id: str, attempt_name: str | None, kind: str, message: str) -> None:
        """Write the failed result of a trial whose worker cannot."""
        past = attempts(trial_folder(self.results, trial_id))
        if not past:
            return
        path = past[-1] if attempt_name is None else past[-1].parent / attempt_name
        if (path / "result.json").exists():
            return
        attempt = Attempt(self.results, trial_id, path, int(path.name.removeprefix("attempt-")))
        error = {"type": kind, "message": message, "traceback": ""}
        with contextlib.suppress(ClaimLost):
            attempt.finish({"schema": 1, "status": "failed", "metrics": {}, "error": error}, {})

    def _drain(self, pending: collections.deque[str], later: list[tuple[float, str]]) -> set[str]:
        """Stop the running trials at their next batch boundary and wait for them."""
        left = {*pending, *(trial_id for _, trial_id in later)}
        busy = {p.number: p for p in self._processes.values() if p.current is not None}
        for process in busy.values():
            with contextlib.suppress(OSError):
                process.popen.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_GRACE_S
        while busy and time.monotonic() < deadline:
            try:
                process, event = self._events.get(timeout=0.5)
            except queue.Empty:
                continue
            kind = event["event"]
            if kind in (*ENDED, "interrupted", "exit", "busy", "error"):
                if process.current is not None and kind not in ENDED:
                    left.add(process.current)
                process.current = None
                busy.pop(process.number, None)
            if kind != "exit":
                self._on_event(event)
        left |= {process.current for process in busy.values() if process.current is not None}
        return left

    def _shut_down(self) -> None:
        for process in self._processes.values():
            with contextlib.suppress(OSError):
                assert process.popen.stdin is not None
                process.popen.stdin.close()
        for process in self._processes.values():
            try:
                process.popen.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()
            _close(process)
        self._processes.clear()


def _where_it_hangs(popen: subprocess.Popen[str], log: Path) -> str:
    """Ask a worker for its stack, which it writes into the trial's log, and name the hook or function it is in."""
    if not hasattr(signal, "SIGUSR1"):
        return ""
    with contextlib.suppress(OSError):
        before = log.stat().st_size
        popen.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + STACK_WAIT_S
        while log.stat().st_size == before and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.05)
        if (found := faults.blame_stack(log.read_bytes()[before:].decode(errors="replace"))) is not None:
            file, where = found
            faults.note(file, where, "still running when its trial's timeout_s was over")
            return f", in {where} ({file.name})"
    return ""


def _close(process: _Process) -> None:
    with contextlib.suppress(OSError):  # what is left in the pipe of a dead worker is lost
        assert process.popen.stdin is not None
        process.popen.stdin.close()
    process.stderr.close()


def describe_exit(code: int) -> str:
    """``signal SIGKILL`` or ``exit status 3``."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit status {code}"


def _tail(stderr: IO[bytes]) -> str:
    try:
        stderr.seek(0)
        lines = stderr.read()[-2000:].decode(errors="replace").strip().splitlines()
    except (OSError, ValueError):
        return ""
    return lines[-1] if lines else ""


def _still_running(results: Path, trial_id: str) -> bool:
    past = attempts(trial_folder(results, trial_id))
    return bool(past) and read_json(past[-1] / "result.json") is None and is_alive(past[-1])
