"""A pool of worker processes on this machine: the engine of the ``local`` executor and of a job on a cluster.

A dead worker costs one trial, which is retried once. A trial that runs past its time limit is failed and its worker
killed. Interrupting stops every trial at its next batch boundary, with a checkpoint.

A worker's end is seen by asking for its exit status, not by the end of its pipe: a process that a plugin has left behind
may hold that for as long as it likes. Events count only with the key of the trial that the worker was given, and a
trial is done only when its record is on disk.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import queue
import re
import secrets
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from harness import faults, running
from harness.errors import ClaimLost, HarnessError, escaped
from harness.execution import nursery
from harness.results.records import (
    ENDED,
    UNFINISHED,
    Attempt,
    cancelled_since,
    read_json,
    standing,
    trial_folder,
)

Event = dict[str, Any]
OnEvent = Callable[[Event], None]
STOP_GRACE_S = 120.0
POLL_BUSY_S = 1.0
STACK_WAIT_S = 3.0
LAST_WORDS_S = 1.0
"""How long what a dead worker had written is waited for while another process holds its pipe."""
START_S = 600.0
"""Seconds from an order to the trial's start, on a machine that is busy importing torch."""
LEAVING_S = 20.0
LONGEST_EVENT = 1 << 16
_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "ready": {},
    "start": {"attempt": str, "epochs": int},
    "epoch": {"epoch": int, "epochs": int},
    **{status: {"error": (str, type(None))} for status in ENDED},
    "interrupted": {},
    "busy": {},
    "error": {"message": str},
}


@dataclasses.dataclass
class _Process:
    number: int
    popen: nursery.Process
    stderr: IO[bytes]
    current: str | None = None
    key: str = ""
    since: float = 0.0
    attempt: str | None = None
    leaving: bool = False
    listener: threading.Thread | None = None
    dead_since: float | None = None

    @property
    def told_all(self) -> bool:
        """Whether nothing more is to be heard of a dead worker."""
        if self.dead_since is None:
            self.dead_since = time.monotonic()
        late = time.monotonic() - self.dead_since > LAST_WORDS_S
        return late or self.listener is None or not self.listener.is_alive()


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
                event = self._next_event(0.2)
                if event is not None:
                    self._handle(*event, pending, later, unfinished)
                self._enforce(limits)
            if self._stopping.is_set():
                unfinished |= self._drain(pending, later)
        finally:
            self._shut_down()
        return unfinished

    # --- processes -----------------------------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        arguments = [str(self.results), *(word for plugin in self._plugins for word in ("--plugin", plugin))]
        environment = {**os.environ, **self._environments[number % len(self._environments)]}
        environment.setdefault("OMP_NUM_THREADS", "1")
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 -- lives as long as the worker
        told, said = os.pipe()
        try:
            popen = nursery.start(arguments, environment, said, stderr)
        except BaseException:
            os.close(told)
            stderr.close()
            raise
        finally:
            os.close(said)
        process = _Process(number, popen, stderr)
        self._processes[number] = process
        process.listener = threading.Thread(
            target=self._listen, args=(process, told), name=f"worker {number}", daemon=True
        )
        process.listener.start()

    def _listen(self, process: _Process, pipe: int) -> None:
        """Put a worker's events into the queue until nobody holds its pipe."""
        rest = b""
        while chunk := os.read(pipe, LONGEST_EVENT):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-LONGEST_EVENT:]
            for line in lines:
                event = read_event(line)
                if event is not None and (event["event"] == "ready" or event.pop("key", "") == process.key):
                    self._events.put((process, event))
        os.close(pipe)

    def _next_event(self, timeout_s: float) -> tuple[_Process, Event] | None:
        """What a worker says next, or that one has ended, once all that it had said is heard."""
        with contextlib.suppress(queue.Empty):
            return self._events.get(timeout=timeout_s)
        for process in self._processes.values():
            if process.popen.poll() is not None and process.told_all and self._events.empty():
                return process, {"event": "exit", "code": process.popen.returncode}
        return None

    def _hand_out(self, pending: collections.deque[str], reruns: set[str], unfinished: set[str]) -> None:
        for process in list(self._processes.values()):
            if process.current is not None or process.leaving or process.popen.poll() is not None:
                continue
            while pending and self._is_cancelled(pending[0]):
                unfinished.add(pending.popleft())
            if not pending:
                return
            trial_id = pending.popleft()
            process.current, process.since, process.attempt = trial_id, time.monotonic(), None
            process.key = secrets.token_hex(8)
            order = {"run": trial_id, "rerun": trial_id in reruns, "facts": {**self._facts, "worker": process.number}}
            with contextlib.suppress(OSError):  # a worker that has just died is seen to have ended
                assert process.popen.stdin is not None
                process.popen.stdin.write(json.dumps({**order, "key": process.key}).encode() + b"\n")
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
        if kind == "exit":
            self._bury(process, event, pending)
            return
        if not self._counts(process, event):
            return
        if event.pop("leaving", None) is True:
            process.leaving, process.since = True, time.monotonic()
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
        self._on_event(event)

    def _counts(self, process: _Process, event: Event) -> bool:
        """Whether an event is of the trial that the worker was given; a result has to be on disk."""
        if event["event"] == "ready":
            return True
        if event.get("id") != process.current:
            return False
        if event["event"] in ENDED:
            return (record := self._record(process)) is not None and record.get("status") == event["event"]
        return True

    def _record(self, process: _Process) -> Mapping[str, Any] | None:
        """What the attempt under way has left as its result."""
        if process.current is None or process.attempt is None:
            return None
        found = read_json(trial_folder(self.results, process.current) / process.attempt / "result.json")
        return found if isinstance(found, Mapping) else None

    def _settle(self, process: _Process) -> bool:
        """Whether a worker that is gone had written its trial's result before, which then counts."""
        record, trial_id = self._record(process), process.current
        if record is None:
            return False
        process.current = None
        error = record.get("error")
        words = error.get("message") if isinstance(error, Mapping) else None
        self._on_event({"event": str(record.get("status")), "id": trial_id, "error": words})
        return True

    def _bury(self, process: _Process, event: Event, pending: collections.deque[str]) -> None:
        """A worker has ended: put its trial back once, then fail it; start another worker if there is work."""
        self._processes.pop(process.number, None)
        words = _tail(process.stderr)
        _close(process)
        ending = describe_exit(int(event["code"] or 0))
        if process.current is not None and not self._settle(process):
            if process.attempt is None:  # it had not come to the trial
                pending.appendleft(process.current)
            else:
                self._mourn(process, f"the worker died ({ending})", words, pending)
        if not pending or self._stopping.is_set():
            return
        if process.attempt is None:
            self._barren += 1
            if self._barren > 2 + self.workers:
                raise HarnessError(
                    f"workers die at their start: {words or ending}",
                    "harness.execution.worker",
                    "mend what that line names, then run again",
                )
        self._start(process.number)

    def _mourn(self, process: _Process, message: str, words: str, pending: collections.deque[str]) -> None:
        """A worker has died in a trial, which is tried once more."""
        trial_id = process.current
        assert trial_id is not None and process.attempt is not None
        self._deaths[trial_id] += 1
        place = self._place(trial_id, process.attempt)
        message += (f" in {place.words()}" if place is not None else "") + (f": {words}" if words else "")
        if self._deaths[trial_id] > 1:
            self._fail(trial_id, process.attempt, "WorkerDied", f"{message}, twice", place)
            self._on_event({"event": "failed", "id": trial_id, "error": message})
        else:
            pending.appendleft(trial_id)
            self._on_event({"event": "died", "id": trial_id, "error": message})

    def _place(self, trial_id: str, attempt: str) -> running.Place | None:
        """Where a worker was when it ended; its note goes."""
        path = trial_folder(self.results, trial_id) / attempt / running.FILE
        place = running.last_place(path)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return place

    def _enforce(self, limits: Mapping[str, float]) -> None:
        """Kill workers whose trial runs past its time limit, and fail the trial; and such as do not come to theirs."""
        for process in list(self._processes.values()):
            trial_id, waited = process.current, time.monotonic() - process.since
            if process.popen.poll() is not None:
                continue
            if trial_id is None:
                if process.leaving and waited > LEAVING_S:
                    _kill(process.popen)
            elif process.attempt is None:
                if waited > START_S:
                    _kill(process.popen)
            elif trial_id in limits and waited > limits[trial_id]:
                self._end_hang(process, trial_id, process.attempt, limits[trial_id])

    def _end_hang(self, process: _Process, trial_id: str, attempt: str, limit: float) -> None:
        _ask_for_stack(process.popen, trial_folder(self.results, trial_id) / attempt / "log.txt")
        place = self._place(trial_id, attempt)
        _kill(process.popen)
        if self._settle(process):
            return
        where = ""
        if place is not None:
            file = f" ({Path(place.source.file).name})" if place.source.file else ""
            where = f", in {place.hook}{file}"
            if place.source.file:
                faults.note(Path(place.source.file), place.hook, "still running when its trial's timeout_s was over")
        message = f"still running after timeout_s = {limit:g}{where}"
        self._fail(trial_id, attempt, "TrialTimeout", message, place)
        process.current = None
        self._on_event({"event": "failed", "id": trial_id, "error": message})

    def _fail(self, trial_id: str, attempt_name: str, kind: str, message: str, place: running.Place | None) -> None:
        """Write the failed result of a trial whose worker cannot."""
        path = trial_folder(self.results, trial_id) / attempt_name
        if (path / "result.json").exists():
            return
        attempt = Attempt(self.results, trial_id, path, int(path.name.removeprefix("attempt-")))
        error = {"type": kind, "message": message, "traceback": "", **(place.record() if place is not None else {})}
        with contextlib.suppress(ClaimLost):
            attempt.finish({"status": "failed", "metrics": {}, "error": error}, {})

    def _drain(self, pending: collections.deque[str], later: list[tuple[float, str]]) -> set[str]:
        """Stop the running trials at their next batch boundary and wait for them."""
        left = {*pending, *(trial_id for _, trial_id in later)}
        busy = {p.number: p for p in self._processes.values() if p.current is not None}
        for process in busy.values():
            with contextlib.suppress(OSError):
                process.popen.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_GRACE_S
        while busy and time.monotonic() < deadline:
            found = self._next_event(0.5)
            if found is None:
                continue
            process, event = found
            kind = event["event"]
            if kind == "exit":
                self._processes.pop(process.number, None)
                _close(process)
                self._settle(process)
            elif not self._counts(process, event):
                continue
            if kind in (*ENDED, "interrupted", "exit", "busy", "error"):
                if process.current is not None and kind not in ENDED:
                    left.add(process.current)
                process.current = None
                busy.pop(process.number, None)
            if kind != "exit":
                event.pop("leaving", None)
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
                _kill(process.popen)
            _close(process)
        self._processes.clear()


def read_event(line: bytes) -> Event | None:
    """An event as a worker writes it, also after what something else has left on the line; ``None`` for all else."""
    start = line.rfind(b'{"event"')
    if start < 0:
        return None
    try:
        found = json.loads(line[start:])
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("event"), str):
        return None
    fields = _FIELDS.get(found["event"])
    if fields is None or not all(isinstance(found.get(name), kind) for name, kind in fields.items()):
        return None
    if found["event"] != "ready" and not isinstance(found.get("id"), str):
        return None
    if found["event"] == "start" and not re.fullmatch(r"attempt-\d+", found["attempt"]):
        return None
    return found


def _ask_for_stack(popen: nursery.Process, log: Path) -> None:
    """Let a worker that hangs write its stack into the trial's log."""
    if not hasattr(signal, "SIGUSR1"):
        return
    with contextlib.suppress(OSError):
        before = log.stat().st_size
        popen.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + STACK_WAIT_S
        while log.stat().st_size == before and time.monotonic() < deadline and popen.poll() is None:
            time.sleep(0.02)
        time.sleep(0.05)


def _kill(popen: nursery.Process) -> None:
    """End a worker and the processes that it has started."""
    import psutil

    started: list[Any] = []
    with contextlib.suppress(psutil.Error):
        started = psutil.Process(popen.pid).children(recursive=True) if popen.pid is not None else []
    popen.kill()
    popen.wait()
    for child in started:
        with contextlib.suppress(psutil.Error):
            child.kill()


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
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - 2000))
        lines = stderr.read().decode(errors="replace").strip().splitlines()
    except (OSError, ValueError):
        return ""
    return escaped(lines[-1]) if lines else ""


def _still_running(results: Path, trial_id: str) -> bool:
    """Whether a trial has no result yet: its owner is at work, or is gone and the next claim takes its place."""
    return standing(trial_folder(results, trial_id)).status in UNFINISHED
