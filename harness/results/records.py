"""Records: what an attempt leaves on disk, how it is claimed, and what a trial's folder says of its status.

    results/trials/<trial id>/
        trial.json                       what the submitter asked for
        attempt-001/{claim.json, heartbeat, trial.json, environment.json, epochs.jsonl, timing.jsonl, result.json,
                     log.txt, checkpoint.pt}
        done.json                        which attempt finished the trial, done or diverged; written once, by whoever
                                         finishes first
        evaluations.json                 what `harness evaluate` measured later, and of which attempt
        retry.json                       attempts up to this number no longer count as failures

Workers write records and nothing else. Whole files appear by rename, lines by appending; a torn last line is ignored.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import platform
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from harness.errors import ClaimLost, ResultsError
from harness.paths import expanded
from harness.source import code_commit as code_commit
from harness.suite.trial import Trial

RESULTS_SCHEMA = 1
HEARTBEAT_S = 15.0
DEAD_AFTER_S = 120.0
Status = Literal["done", "diverged", "failed", "running", "missing", "stale"]
STATUSES: tuple[Status, ...] = ("done", "diverged", "failed", "running", "missing", "stale")
FINISHED: tuple[Status, ...] = ("done", "diverged")
"""A result, with ``done.json``: it is not run again."""
ENDED: tuple[Status, ...] = (*FINISHED, "failed")


# --- files -------------------------------------------------------------------------------------------------------------


def write_json(path: Path, value: Any, *, indent: int | None = 1, durable: bool = False) -> None:
    """Write a JSON file in one step: a reader sees the old content or the new, never a part.

    Without ``indent`` it is written five times as fast, which tells where there are many or long ones. A ``durable`` file
    is on the disk before its name is: a power cut leaves the whole of it or nothing.
    """
    write_bytes(path, json.dumps(value, indent=indent, allow_nan=False).encode() + b"\n", durable=durable)


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file in one step, through a temporary name in the same folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)


def read_json(path: str | Path) -> Any:
    """A JSON file, or ``None`` when it is absent or unreadable."""
    try:
        with open(path, "rb") as file:
            return json.loads(file.read())
    except (OSError, ValueError):
        return None


def append_line(path: Path, value: Any) -> None:
    """Append one JSON line with a single write."""
    with open(path, "ab", buffering=0) as file:
        file.write(json.dumps(value, allow_nan=False).encode() + b"\n")


def read_lines(path: str | Path) -> list[Any]:
    """The complete JSON lines of a file; a torn last one is ignored."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except OSError:
        return []
    complete = raw.split(b"\n")[:-1]
    try:
        whole = json.loads(b"[" + b",".join(complete) + b"]")  # one call reads them all; a damaged line needs a look
        if len(whole) == len(complete):
            return list(whole)
    except ValueError:
        whole = None
    lines = []
    for line in complete:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


# --- the results folder ------------------------------------------------------------------------------------------------


def open_results(folder: str | Path, *, create: bool = True, there: bool = False) -> Path:
    """The results folder, made and stamped with its schema when absent.

    Args:
        folder: as the user wrote it.
        create: make it; without, one that is absent is as good as an empty one.
        there: refuse one that is absent, for who only works on results that there are.

    Raises:
        ResultsError: when it cannot be made, read or written, is no folder, or was written by a newer schema.
    """
    path = expanded(folder).absolute()
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            raise ResultsError("is no folder", str(path), "give another --results")
        if there and not (path / "trials").is_dir():
            raise ResultsError("is no results folder", str(path), "give the --results of a run")
    except FileNotFoundError:
        if there:
            raise ResultsError("no such folder", str(path), "give the --results of a run") from None
    except OSError as error:
        raise ResultsError(f"cannot be read ({error.strerror})", str(path), "give another --results") from None
    stamp = path / "version.json"
    found = read_json(stamp)
    schema = found.get("schema", 0) if isinstance(found, Mapping) else 0
    if not isinstance(schema, int):
        raise ResultsError(
            f"its schema is {schema!r}, not a number", str(stamp), f'write {{"schema": {RESULTS_SCHEMA}}} into it'
        )
    if schema > RESULTS_SCHEMA:
        raise ResultsError(
            f"written by a newer harness (results schema {schema}, this one knows {RESULTS_SCHEMA})",
            str(path),
            "upgrade noisy-label-harness or give another --results",
        )
    if create:
        try:
            (path / "trials").mkdir(parents=True, exist_ok=True)
            (path / "suites").mkdir(exist_ok=True)
            if found is None:
                write_json(stamp, {"schema": RESULTS_SCHEMA})
            if not os.access(path / "trials", os.W_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise ResultsError(
                f"cannot be written ({error.strerror or error})",
                str(path),
                "mend its permissions or give another --results",
            ) from None
    return path


def trial_folder(results: Path, trial_id: str) -> Path:
    """The folder of one trial."""
    return results / "trials" / trial_id


def submit_trials(results: Path, trials: Iterable[Trial]) -> None:
    """Write ``trial.json`` for trials about to run, so that a worker needs nothing but their ids."""
    existing = known_trials(results)
    root = str(results / "trials")
    suffix = f"{os.getpid()}.{threading.get_ident()}.tmp"
    for trial in trials:
        folder = f"{root}/{trial.id}"
        content = json.dumps(trial.to_json(), allow_nan=False).encode() + b"\n"
        if trial.id not in existing:
            os.makedirs(folder, exist_ok=True)
        elif _holds(f"{folder}/trial.json", content):
            continue
        with open(f"{folder}/.trial.json.{suffix}", "wb") as file:
            file.write(content)
        os.replace(f"{folder}/.trial.json.{suffix}", f"{folder}/trial.json")


def _holds(path: str, content: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read() == content
    except OSError:
        return False


def read_trial(results: Path, trial_id: str) -> Trial:
    """The trial that was submitted.

    Raises:
        ResultsError: when it is absent or its content does not match its id.
    """
    path = trial_folder(results, trial_id) / "trial.json"
    found = read_json(path)
    if found is None:
        raise ResultsError("no such trial", str(path), "submit it with `harness run`")
    try:
        return Trial.from_json(found)
    except (KeyError, ValueError) as error:
        raise ResultsError(str(error), str(path), "remove the folder and run again") from None


def attempts(folder: Path) -> list[Path]:
    """A trial's attempts, oldest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names) if name.startswith("attempt-")]


# --- claims ------------------------------------------------------------------------------------------------------------


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
                if owner is not None and _has_result(self.path.parent / owner) and not self._reruns(owner):
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
        if past and (rerun_failed(folder) if finished is not None else _failed_for_good(folder, past)):
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


def done_marker(folder: str | Path) -> dict[str, Any] | None:
    """What ``done.json`` says, when the attempt it names has its result."""
    try:
        with open(f"{folder}/done.json", "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError):
        return None
    if isinstance(found, dict) and _has_result(f"{folder}/{found.get('attempt')}"):
        return found
    return None


def _has_result(attempt: str | Path) -> bool:
    """Whether an attempt has its whole ``result.json``: what a full disk or a power cut left of one counts as none."""
    try:
        with open(f"{attempt}/result.json", "rb") as file:
            file.seek(-2, os.SEEK_END)
            if file.read() == b"}\n":  # as we write it
                return True
    except OSError:
        return False
    return isinstance(read_json(f"{attempt}/result.json"), Mapping)


def _failed_for_good(folder: Path, past: list[Path]) -> bool:
    result = read_json(past[-1] / "result.json")
    if not isinstance(result, Mapping) or result.get("status") != "failed":
        return False
    forgiven = read_json(folder / "retry.json")
    number = int(past[-1].name.removeprefix("attempt-"))
    return not (isinstance(forgiven, Mapping) and number <= int(forgiven["upto"]))


def rerun_failed(folder: Path) -> bool:
    """Whether a trial that had finished was run again and failed; its earlier result still stands."""
    marker, past = done_marker(folder), attempts(folder)
    return marker is not None and past[-1].name > marker["attempt"] and _failed_for_good(folder, past)


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


def status_of(
    results: Path,
    trial_id: str,
    digests: Mapping[str, str] | None = None,
    *,
    exists: bool = True,
    renew: Callable[[Mapping[str, str]], Mapping[str, str]] = dict,
) -> Status:
    """The status of a trial from its folder; ``stale`` when a component's source differs from the recorded digest.

    Args:
        digests: of the components as they are now, by ``kind:name``.
        exists: whether the trial has a folder, where that is known.
        renew: puts recorded digests of the old rule into the present one (``Registry.renewed``); asked only where they
            differ.
    """
    if not exists:
        return "missing"
    path = f"{results}/trials/{trial_id}"
    try:
        names = os.listdir(path)
    except OSError:
        return "missing"
    latest = max((name for name in names if name.startswith("attempt-")), default=None)
    if latest is None:  # most of a large grid: one system call each, and no Path
        return "missing"
    marker = done_marker(path) if "done.json" in names else None
    folder = trial_folder(results, trial_id)
    if marker is not None:
        if latest > marker["attempt"] and not (folder / latest / "result.json").exists() and is_alive(folder / latest):
            return "running"
        recorded = marker.get("digests", {})
        if digests is not None and _differ(recorded, digests) and _differ(renew(recorded), digests):
            return "failed" if rerun_failed(folder) else "stale"
        return "diverged" if marker.get("status") == "diverged" else "done"
    past = attempts(folder)
    if not past:
        return "missing"
    if (past[-1] / "result.json").exists():
        return "failed" if _failed_for_good(folder, past) else "missing"
    return "running" if is_alive(past[-1]) else "missing"


def _differ(recorded: Mapping[str, str], digests: Mapping[str, str]) -> bool:
    return any(recorded.get(key, value) != value for key, value in digests.items())


def known_trials(results: Path) -> set[str]:
    """Ids that have a folder."""
    try:
        return set(os.listdir(results / "trials"))
    except FileNotFoundError:
        return set()


def latest_attempt(folder: Path) -> Path | None:
    """The latest attempt: what a trial is doing, or why it failed, also where an earlier one had finished."""
    past = attempts(folder)
    return past[-1] if past else None


def final_attempt(folder: Path) -> Path | None:
    """The attempt that counts: the one that finished, else the latest."""
    marker = done_marker(folder)
    if marker is not None:
        return folder / str(marker["attempt"])
    past = attempts(folder)
    return past[-1] if past else None


def read_evaluations(folder: Path, attempt: Path) -> dict[str, Any]:
    """Metrics measured later on an attempt's kept states; none when they are those of another attempt.

    A file that names no attempt, as they once were, counts where it can be of one attempt only.
    """
    found = read_json(folder / "evaluations.json")
    if not isinstance(found, dict):
        return {}
    if "attempt" in found:
        metrics = found.get("metrics")
        return metrics if found["attempt"] == attempt.name and isinstance(metrics, dict) else {}
    results = (read_json(past / "result.json") for past in attempts(folder))
    finished = [result for result in results if isinstance(result, Mapping) and result.get("status") in FINISHED]
    return found if len(finished) == 1 else {}


def write_evaluations(folder: Path, attempt: Path, metrics: Mapping[str, Any]) -> None:
    """Keep what :func:`read_evaluations` reads."""
    write_json(folder / "evaluations.json", {"attempt": attempt.name, "metrics": dict(metrics)})


def drop_checkpoints(folder: Path) -> None:
    """Remove what earlier attempts of a done trial had kept to go on from, half-written files included."""
    for attempt in attempts(folder):
        for pattern in ("checkpoint.*", ".*.tmp"):
            for path in attempt.glob(pattern):
                path.unlink(missing_ok=True)


def latest_checkpoint(folder: Path, before: int) -> tuple[Path, Path] | None:
    """(attempt, checkpoint) of the newest earlier attempt that has one and did not finish."""
    for attempt in reversed(attempts(folder)):
        number = int(attempt.name.removeprefix("attempt-"))
        if number >= before:
            continue
        if (attempt / "result.json").exists():
            return None
        if (attempt / "checkpoint.pt").exists():
            return attempt, attempt / "checkpoint.pt"
    return None


def environment_facts() -> dict[str, Any]:
    """Machine and versions, as far as they need no torch."""
    import importlib.metadata

    versions = {}
    for name in ("noisy-label-harness", "torch", "torchvision", "timm", "numpy", "pluggy", "pydantic"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "versions": versions,
        "commit": code_commit(),
    }


@functools.cache
def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
