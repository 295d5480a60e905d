"""Claims: which process is at work on a trial. An attempt is claimed by making its folder, in one atomic step."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import ClaimLost, ResultsError, writing
from harness.files import encoded, read_json, write_bytes, write_json
from harness.results.records.folder import RESULTS_SCHEMA, attempts, done_marker, trial_folder
from harness.results.records.liveness import DEAD_AFTER_S, HEARTBEAT_S, boot_id, is_alive, process_start
from harness.results.records.record import FINISHED, digests_of, marker_record, number_of
from harness.results.records.standing import judge


def make_claim(job: str | None = None) -> dict[str, Any]:
    """Who claims: host, process, start of the process, job."""
    return {
        "host": socket.gethostname(),
        "boot": boot_id(),
        "pid": os.getpid(),
        "started": process_start(os.getpid()),
        "job": job,
        "claimed": time.time(),
    }


class Heartbeat:
    """The sign of life of a claimed folder's owner: its file ``heartbeat`` is touched in the background.

    Args:
        folder: the claimed one.
        told: called after each beat with whether the file could be touched.
    """

    def __init__(self, folder: Path, told: Callable[[bool], None] = lambda touched: None) -> None:
        self._folder, self._told = folder, told
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Beat until it is released or the process ends."""
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat {self._folder.name}", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            touched = True
            try:
                os.utime(self._folder / "heartbeat")
            except OSError:
                touched = False
            self._told(touched)

    def release(self) -> None:
        """Stop, and say that the owner has let go."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError):
            (self._folder / "released").touch()


def take(target: Path, facts: Mapping[str, Any]) -> bool:
    """Take the name of a folder by renaming one that holds a claim to it, in one atomic step.

    Args:
        target: the folder; the one above it exists.
        facts: what its ``claim.json`` says.

    Returns:
        ``False`` when another claim, never empty, has the name.
    """
    temporary = target.with_name(f".claim-{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    write_json(temporary / "claim.json", facts)
    (temporary / "heartbeat").touch()
    try:
        os.rename(temporary, target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if target.exists():
            return False
        raise
    return True


@dataclasses.dataclass
class Attempt:
    """One claimed execution of a trial. The folder is this process's own; everything else is read only."""

    results: Path
    trial_id: str
    path: Path
    number: int

    def __post_init__(self) -> None:
        self.lost = threading.Event()
        self._heartbeat = Heartbeat(self.path, self._watch)

    def start_heartbeat(self) -> None:
        """Touch the heartbeat in the background and watch for a later attempt."""
        self._heartbeat.start()

    def _watch(self, touched: bool) -> None:
        if not touched or self.superseded():
            self.lost.set()

    def superseded(self) -> bool:
        """Whether a later attempt exists: then this one yields."""
        return (self.path.parent / f"attempt-{self.number + 1:03d}").exists()

    def release(self) -> None:
        """Stop the heartbeat and say that the owner has let go."""
        self._heartbeat.release()

    def check(self) -> None:
        """Raise :class:`ClaimLost` when a later attempt has taken over."""
        if self.lost.is_set() or self.superseded():
            self.lost.set()
            raise ClaimLost(self.trial_id)

    def finish(self, result: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
        """Write ``result.json``, with the trial it is of; a result, done or diverged, is written by one attempt of a trial
        only, with the digests of the attempt's files in ``done.json``.

        Returns:
            What ``result.json`` holds.

        Raises:
            ClaimLost: when another attempt has finished the trial or taken it over.
        """
        self.check()
        record = {**result, "schema": RESULTS_SCHEMA, "trial": self.trial_id}
        content = encoded(record, 1)
        if result["status"] in FINISHED:
            marker = self.path.parent / "done.json"
            temporary = self.path / "done.tmp"
            files = digests_of(self.path, content)
            said = marker_record(self.trial_id, self.path.name, digests, files, result["status"])
            try:
                write_json(temporary, said, durable=True)
                os.link(temporary, marker)
            except FileExistsError:
                held = done_marker(self.path.parent)
                if held is not None and not self._reruns(held["attempt"]):
                    raise ClaimLost(self.trial_id) from None
                os.replace(temporary, marker)
            finally:
                temporary.unlink(missing_ok=True)
        write_bytes(self.path / "result.json", content, durable=True)
        return record

    def _reruns(self, owner: str) -> bool:
        """Whether this attempt was claimed knowing that ``owner`` had finished (a stale trial run again)."""
        claimed = read_json(self.path / "claim.json") or {}
        return bool(claimed.get("after") == owner)


def claim(results: Path, trial_id: str, *, job: str | None = None, rerun: bool = False) -> Attempt | None:
    """Claim a trial by making its next attempt, in one atomic step.

    Returns:
        The attempt, or ``None`` when the trial is finished, failed for good, or somebody is at work on it.

    Raises:
        ResultsError: when its record is in quarantine.
    """
    folder = trial_folder(results, trial_id)
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        found = judge(folder)
        if found.kind == "quarantined":
            raise ResultsError(f"is in quarantine ({found.reason})", str(folder), "`harness status` says what to do")
        finished = found.kind in FINISHED
        if (finished and not rerun) or found.kind == "failed" or (finished and found.failed_again):
            return None
        if found.latest is not None and is_alive(folder / found.latest):
            return None
        past = attempts(folder)
        number = number_of(past[-1].name) + 1 if past else 1
        target = folder / f"attempt-{number:03d}"
        if not take(target, {**make_claim(job), "after": found.attempt if finished else None}):
            continue
        now = (target / "heartbeat").stat().st_mtime
        for leftover in folder.glob(f".claim-{socket.gethostname()}-*"):
            if now - leftover.stat().st_mtime > DEAD_AFTER_S:
                shutil.rmtree(leftover, ignore_errors=True)
        return Attempt(results, trial_id, target, number)


def forgive(results: Path, trial_id: str) -> None:
    """Let a failed trial run again (``harness retry``)."""
    folder = trial_folder(results, trial_id)
    past = attempts(folder)
    if past:
        write_json(folder / "retry.json", {"upto": number_of(past[-1].name)})


def let_go(results: Path, trial_id: str) -> None:
    """Say in the name of an owner that is gone that it has let go (``harness retry --lost``)."""
    for attempt in attempts(trial_folder(results, trial_id))[-1:]:
        (attempt / "released").touch()


def set_aside(results: Path, trial_id: str) -> Path:
    """Move the record of a trial in quarantine to ``quarantine/``, so that it runs anew (``harness retry --quarantined``).

    Returns:
        Where it lies now.

    Raises:
        ResultsError: when it cannot be moved.
    """
    aside = results / "quarantine"
    with writing(aside, "mend its permissions"):
        aside.mkdir(exist_ok=True)
        number = 1
        while os.path.lexists(target := aside / f"{trial_id}-{number}"):
            number += 1
        os.rename(trial_folder(results, trial_id), target)
    return target


def cancel(results: Path, trial_id: str) -> None:
    """Note that a trial shall not be started by a run that is under way (``harness cancel``); a later run may."""
    folder = trial_folder(results, trial_id)
    if folder.is_dir():
        write_json(folder / "cancel.json", {"at": time.time()})


def cancelled_since(results: Path, trial_id: str, since: float) -> bool:
    """Whether a trial was cancelled after a moment, in seconds since the epoch."""
    noted = read_json(f"{results}/trials/{trial_id}/cancel.json")
    at = noted.get("at") if isinstance(noted, Mapping) else None
    return isinstance(at, (int, float)) and at >= since
