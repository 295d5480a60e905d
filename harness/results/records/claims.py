"""Claims: which process is at work on a trial. An attempt is claimed by making its folder, in one atomic step."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import ClaimLost
from harness.files import read_json, write_json
from harness.results.records.folder import (
    FINISHED,
    attempts,
    done_marker,
    failed_for_good,
    has_result,
    rerun_failed,
    trial_folder,
)

HEARTBEAT_S = 15.0
DEAD_AFTER_S = 120.0


@functools.cache
def boot_id() -> str:
    """Identifies this boot and process namespace, so that a pid means the same process."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return ""


def process_start(pid: int) -> float | None:
    """When a live process started, in seconds since boot or the epoch; ``None`` when there is none (or a zombie)."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


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


def is_alive(attempt: Path) -> bool:
    """Whether the owner of an unfinished attempt may still be at work: its process lives (same machine), else its
    heartbeat is young."""
    if (attempt / "released").exists():
        return False
    claim = read_json(attempt / "claim.json")
    if isinstance(claim, Mapping) and claim.get("boot") == boot_id() and boot_id():
        started = process_start(int(claim["pid"]))
        return started is not None and abs(started - float(claim["started"] or started)) < 1.0
    try:
        return time.time() - (attempt / "heartbeat").stat().st_mtime < DEAD_AFTER_S
    except OSError:
        return False


@dataclasses.dataclass
class Attempt:
    """One claimed execution of a trial. The folder is this process's own; everything else is read only."""

    results: Path
    trial_id: str
    path: Path
    number: int

    def __post_init__(self) -> None:
        self.lost = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start_heartbeat(self) -> None:
        """Touch the heartbeat in the background and watch for a later attempt."""

        def beat() -> None:
            while not self._stop.wait(HEARTBEAT_S):
                try:
                    os.utime(self.path / "heartbeat")
                except OSError:
                    self.lost.set()
                if self.superseded():
                    self.lost.set()

        self._thread = threading.Thread(target=beat, name=f"heartbeat {self.trial_id}", daemon=True)
        self._thread.start()

    def superseded(self) -> bool:
        """Whether a later attempt exists: then this one yields."""
        return (self.path.parent / f"attempt-{self.number + 1:03d}").exists()

    def release(self) -> None:
        """Stop the heartbeat and say that the owner has let go."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError):
            (self.path / "released").touch()

    def check(self) -> None:
        """Raise :class:`ClaimLost` when a later attempt has taken over."""
        if self.lost.is_set() or self.superseded():
            self.lost.set()
            raise ClaimLost(self.trial_id)

    def finish(self, result: Mapping[str, Any], digests: Mapping[str, str]) -> None:
        """Write ``result.json``; a result, done or diverged, is written by one attempt of a trial only.

        Raises:
            ClaimLost: when another attempt has finished the trial or taken it over.
        """
        self.check()
        if result["status"] in FINISHED:
            marker = self.path.parent / "done.json"
            temporary = self.path / "done.tmp"
            said = {} if result["status"] == "done" else {"status": result["status"]}
            write_json(temporary, {"attempt": self.path.name, "digests": dict(digests), **said}, durable=True)
            try:
                os.link(temporary, marker)
            except FileExistsError:
                held = read_json(marker)
                owner = held.get("attempt") if isinstance(held, Mapping) else None
                if owner is not None and has_result(self.path.parent / owner) and not self._reruns(owner):
                    raise ClaimLost(self.trial_id) from None
                os.replace(temporary, marker)
            finally:
                temporary.unlink(missing_ok=True)
        write_json(self.path / "result.json", result, durable=True)

    def _reruns(self, owner: str) -> bool:
        """Whether this attempt was claimed knowing that ``owner`` had finished (a stale trial run again)."""
        claimed = read_json(self.path / "claim.json") or {}
        return bool(claimed.get("after") == owner)


def claim(results: Path, trial_id: str, *, job: str | None = None, rerun: bool = False) -> Attempt | None:
    """Claim a trial by making its next attempt, in one atomic step.

    Returns:
        The attempt, or ``None`` when the trial is finished, failed for good, or somebody is at work on it.
    """
    folder = trial_folder(results, trial_id)
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        past = attempts(folder)
        finished = done_marker(folder)
        if finished is not None and not rerun:
            return None
        if past and not (past[-1] / "result.json").exists() and is_alive(past[-1]):
            return None
        if past and (rerun_failed(folder) if finished is not None else failed_for_good(folder, past)):
            return None
        number = int(past[-1].name.removeprefix("attempt-")) + 1 if past else 1
        temporary = folder / f".claim-{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        facts = {**make_claim(job), "after": finished["attempt"] if finished is not None else None}
        write_json(temporary / "claim.json", facts)
        (temporary / "heartbeat").touch()
        target = folder / f"attempt-{number:03d}"
        try:
            os.rename(temporary, target)  # fails when another claim, never empty, has taken the name
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            if target.exists():
                continue
            raise
        for leftover in folder.glob(f".claim-{socket.gethostname()}-*"):
            if time.time() - leftover.stat().st_mtime > DEAD_AFTER_S:
                shutil.rmtree(leftover, ignore_errors=True)
        return Attempt(results, trial_id, target, number)


def forgive(results: Path, trial_id: str) -> None:
    """Let a failed trial run again (``harness retry``)."""
    folder = trial_folder(results, trial_id)
    past = attempts(folder)
    if past:
        write_json(folder / "retry.json", {"upto": int(past[-1].name.removeprefix("attempt-"))})


def cancel(results: Path, trial_id: str) -> None:
    """Note that a trial shall not be started by a run that is under way (``harness cancel``); a later run may."""
    folder = trial_folder(results, trial_id)
    if folder.is_dir():
        write_json(folder / "cancel.json", {"at": time.time()})


def cancelled_since(results: Path, trial_id: str, since: float) -> bool:
    """Whether a trial was cancelled after a moment, in seconds since the epoch."""
    noted = read_json(f"{results}/trials/{trial_id}/cancel.json")
    return isinstance(noted, Mapping) and float(noted.get("at", 0.0)) >= since
