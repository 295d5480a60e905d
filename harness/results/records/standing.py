"""Where a trial stands: said once, for the plan, the commands, the store, the pages and the executors."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.files import Damage, read_json, read_lines
from harness.paths import CacheFile
from harness.results.records.folder import latest_attempt, trial_folder
from harness.results.records.liveness import is_alive
from harness.results.records.record import FINISHED, Record, attempt_names, number_of, read_record

Status = Literal["done", "diverged", "failed", "running", "queued", "lost", "missing", "stale", "quarantined"]
STATUSES: tuple[Status, ...] = (
    *("done", "diverged", "failed", "running", "queued", "lost", "missing", "stale", "quarantined"),
)
UNFINISHED: tuple[Status, ...] = ("missing", "running", "queued", "lost")
"""Without a result, and none is in the way of one."""
RULES = 2
"""Raised when a check of records changes, so that all are read again."""
FRESH_NS = 2 * 10**9
"""A file younger than this may change once more without its times telling."""
_TOP = frozenset({"trial.json", "done.json", "evaluations.json", "retry.json", "cancel.json"})
_OF_ATTEMPT = (
    *("result.json", "claim.json", "trial.json", "environment.json", "epochs.jsonl", "timing.jsonl", "released"),
)


class Verdict(NamedTuple):
    """What a record says by itself: no clock, no process and no source is looked at.

    Attributes:
        kind: ``done``, ``diverged``, ``failed``, ``quarantined``, or ``open``: without a result that stands.
        attempt: the attempt that counts; ``None`` before the first.
        latest: the latest attempt where it has no result: its owner may be at work.
        digests: of the components that a result was computed with.
        failed_again: a later attempt than the one that counts has failed for good.
        sealed: whether the record holds digests; ``None`` without a result.
        reason: why it is in quarantine, or what is odd about it.
    """

    kind: str
    attempt: str | None = None
    latest: str | None = None
    digests: Mapping[str, str] = {}
    failed_again: bool = False
    sealed: bool | None = None
    reason: str = ""


NOTHING = Verdict("open")
"""The verdict on a trial without a folder."""


def judge(folder: str | Path) -> Verdict:
    """Read a trial's record and say what it is worth."""
    try:
        return verdict_of(read_record(folder))
    except Damage as damage:
        return Verdict("quarantined", reason=str(damage))


def verdict_of(record: Record) -> Verdict:
    """What a record that is in order says."""
    if record.final is None:
        return Verdict("open")
    last = record.attempts[-1]
    result = last.result
    latest = last.name if result is None else None
    failed = result is not None and result["status"] == "failed" and last.number > record.forgiven
    if record.marker is not None:
        kind, digests = record.marker.get("status", "done"), record.marker.get("digests", {})
        return Verdict(kind, record.final.name, latest, digests, failed, record.sealed)
    reason = f"{last.name}/result.json: a power cut or a full disk has left a part of it" if last.torn else ""
    return Verdict("failed" if failed else "open", last.name, latest, reason=reason)


@dataclasses.dataclass(frozen=True)
class Standing:
    """Where a trial stands.

    Attributes:
        status: one of :data:`STATUSES`.
        attempt: the attempt that counts, or that is at work; ``None`` before the first.
        reason: why it is in quarantine, or what is odd about it.
        sealed: whether the record of a result holds digests; ``None`` without a result.
        queued: what an executor's queue says of it.

    What its attempt tells beyond that (epoch, host, job, error) is read when it is asked for.
    """

    status: Status
    folder: Path = dataclasses.field(repr=False)
    attempt: str | None = None
    reason: str = ""
    sealed: bool | None = None
    queued: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def _read(self, name: str) -> Mapping[str, Any]:
        found = read_json(self.folder / self.attempt / name) if self.attempt is not None else None
        return found if isinstance(found, Mapping) else {}

    @functools.cached_property
    def _claim(self) -> Mapping[str, Any]:
        return self._read("claim.json") if self.status != "quarantined" else {}

    @functools.cached_property
    def _environment(self) -> Mapping[str, Any]:
        return self._read("environment.json") if self.status != "quarantined" else {}

    @functools.cached_property
    def _timings(self) -> list[Any]:
        known = self.attempt is not None and self.status != "quarantined"
        return read_lines(self.folder / str(self.attempt) / "timing.jsonl") if known else []

    @property
    def epoch(self) -> int:
        """Epochs that its attempt has trained."""
        return len(self._timings)

    @functools.cached_property
    def epochs(self) -> int | None:
        """Epochs that it is to train, where a record tells."""
        words = self._read("trial.json") or read_json(self.folder / "trial.json")
        try:
            return int(words["identity"]["training"]["epochs"])
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def host(self) -> str | None:
        """The machine that claimed it."""
        return self._claim.get("host")

    @property
    def node(self) -> str | None:
        """The node of a cluster, by the cluster's name."""
        return self._environment.get("node")

    @property
    def pid(self) -> int | None:
        """The process that claimed it."""
        return self._claim.get("pid")

    @property
    def job(self) -> str | None:
        """The job that claimed it, or that it is queued in."""
        return self._claim.get("job") or self.queued.get("job")

    @property
    def running_for(self) -> float | None:
        """Seconds since it was claimed."""
        claimed = self._claim.get("claimed")
        return time.time() - claimed if claimed is not None else None

    @property
    def seconds(self) -> float | None:
        """What its attempt took."""
        return self._environment.get("seconds")

    @property
    def eta(self) -> float | None:
        """Seconds to its last epoch, at the pace so far."""
        if not self._timings or self.epochs is None:
            return None
        spent = sum(line["train_seconds"] + line["evaluation_seconds"] for line in self._timings)
        return float(spent / self.epoch * max(0, self.epochs - self.epoch))

    @functools.cached_property
    def error(self) -> str:
        """Why it failed, ``ValueError: no such thing``, or why it is in quarantine."""
        if self.status == "quarantined":
            return self.reason
        error = self._read("result.json").get("error") or {}
        return f"{error.get('type')}: {error.get('message')}" if error else ""


def standing(
    folder: Path,
    digests: Mapping[str, str] | None = None,
    queue: Mapping[str, Any] | None = None,
    *,
    renew: Callable[[Mapping[str, str]], Mapping[str, str]] = dict,
    verdict: Verdict | None = None,
) -> Standing:
    """Where a trial stands.

    Args:
        folder: of the trial; it need not exist.
        digests: of the components as they are now, by ``kind:name``; a result of other ones is stale.
        queue: what an executor's queue has of it, ``{"state": "queued" | "running" | "gone", "job": ...}``.
        renew: puts recorded digests of the old rule into the present one (``Registry.renewed``); asked only where they
            differ.
        verdict: what its record says, where that is known; it is read otherwise.
    """
    found = verdict if verdict is not None else judge(folder)
    queued = queue or {}

    def is_(status: Status, attempt: str | None = found.attempt) -> Standing:
        return Standing(status, folder, attempt, found.reason, found.sealed, queued)

    if found.kind == "quarantined":
        return is_("quarantined")
    if found.latest is not None and is_alive(folder / found.latest):
        running = is_("running", found.latest)
        return is_("lost", found.latest) if _gone(queued, running) else running
    if found.kind in FINISHED:
        if digests is not None and differ(found.digests, digests) and differ(renew(found.digests), digests):
            return is_(
                "failed" if found.failed_again else "stale", _latest(folder) if found.failed_again else found.attempt
            )
        return is_("diverged" if found.kind == "diverged" else "done")
    if found.kind == "failed":
        return is_("failed")
    if queued:
        return is_("lost" if queued["state"] == "gone" else "queued")
    released = found.latest is None or os.path.lexists(folder / found.latest / "released")
    return is_("missing" if released else "lost")


def _latest(folder: Path) -> str | None:
    attempt = latest_attempt(folder)
    return attempt.name if attempt is not None else None


def _gone(queued: Mapping[str, Any], running: Standing) -> bool:
    """Whether the job that claimed a trial is none that its queue knows, however young its heartbeat is."""
    return bool(queued) and queued["state"] == "gone" and queued["job"] == running._claim.get("job")


def differ(recorded: Mapping[str, str], digests: Mapping[str, str]) -> bool:
    """Whether a component's source is another than the recorded one."""
    return recorded != digests and any(recorded.get(key, value) != value for key, value in digests.items())


def rerun_failed(folder: Path) -> bool:
    """Whether a trial that had finished was run again and failed; its earlier result still stands."""
    return (verdict := judge(folder)).kind in FINISHED and verdict.failed_again


def status_of(
    results: Path,
    trial_id: str,
    digests: Mapping[str, str] | None = None,
    *,
    exists: bool = True,
    renew: Callable[[Mapping[str, str]], Mapping[str, str]] = dict,
) -> Status:
    """The word of :func:`standing` for one trial of a results folder."""
    return standing(trial_folder(results, trial_id), digests, renew=renew).status if exists else "missing"


# --- what has been read before -----------------------------------------------------------------------------------------


class Look(NamedTuple):
    """What tells whether a trial's records have changed: inodes, sizes and times of change, which nobody can set back.

    Attributes:
        mark: a digest of them.
        newest: the newest time among them, in nanoseconds since the epoch.
        unfinished: the latest attempt, where it has no result.
        paths: what was looked at, within the trial's folder. With the times of the folders, that nothing else has come.
    """

    mark: str
    newest: int
    unfinished: str | None
    paths: tuple[str, ...]


def look(folder: str) -> Look:
    """Look at a trial's records without reading them."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        names = []
    paths, latest = _paths_of(tuple(names))
    found = _facts(folder, paths)
    finished = latest is not None and f"{latest}/result.json" in found
    return _look(found, None if finished else latest)


def looks_the_same(folder: str, mark: str, paths: tuple[str, ...]) -> Look | None:
    """:func:`look` at a trial that was finished when it gave ``mark`` and ``paths``; ``None`` where it has changed."""
    found = _facts(folder, paths)
    seen = _look(found, None) if len(found) == len(paths) else None
    return seen if seen is not None and seen.mark == mark else None


@functools.lru_cache(256)
def _paths_of(names: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    """What to look at in a folder with these names, and the latest attempt."""
    attempts = attempt_names(names)
    top = [".", *(name for name in names if name in _TOP), *attempts]
    return (*top, *(f"{name}/{record}" for name in attempts for record in _OF_ATTEMPT)), max(
        attempts, key=number_of, default=None
    )


def _facts(folder: str, paths: Iterable[str]) -> dict[str, os.stat_result]:
    """What the file system says of those paths that are there."""
    found, prefix, lstat = {}, f"{folder}/", os.lstat
    for path in paths:
        try:
            found[path] = lstat(prefix + path)
        except OSError:
            continue
    return found


def _look(found: Mapping[str, os.stat_result], unfinished: str | None) -> Look:
    """A folder's times tell what has come or gone in it; in that of an unfinished trial heartbeats come and go."""
    newest, parts = 0, []
    for path, facts in found.items():
        changed = facts.st_ctime_ns
        if changed > newest:
            newest = changed
        if unfinished is not None and stat.S_ISDIR(facts.st_mode):
            parts.append(f"{path} {facts.st_ino}")
        else:
            parts.append(f"{path} {facts.st_ino} {facts.st_size} {changed}")
    mark = hashlib.blake2b("\n".join(parts).encode(), digest_size=12).hexdigest()
    return Look(mark, newest, unfinished, tuple(found))


class Verdicts:
    """The verdicts on a results folder's records. One that has not changed since it was read whole is not read again.

    They are kept in the user's cache folder, so that they neither travel with results nor can be given with them.
    """

    def __init__(self, results: Path) -> None:
        mark = hashlib.sha256(os.fsencode(os.path.realpath(results))).hexdigest()[:16]
        self.results = results
        self.looks: dict[str, Look] = {}
        self._file = CacheFile(f"records-{RULES}/{mark}")

    def look(self, trial_id: str) -> tuple[Look, Verdict | None]:
        """A look at one trial, and the verdict where it is known; both are remembered by this object alone."""
        folder = f"{self.results}/trials/{trial_id}"
        known = self._file.get(trial_id)
        if isinstance(known, list) and len(known) == 9:
            same = looks_the_same(folder, known[0], tuple(known[1]))
            if same is not None:
                self.looks[trial_id] = same
                return same, Verdict(*known[2:])
        self.looks[trial_id] = seen = look(folder)
        return seen, None

    def of(self, trial_id: str) -> Verdict:
        """The verdict on one trial."""
        seen, known = self.look(trial_id)
        if known is not None:
            return known
        verdict = judge(f"{self.results}/trials/{trial_id}")
        settled = verdict.latest is None and seen.unfinished is None and abs(time.time_ns() - seen.newest) > FRESH_NS
        if settled and seen.paths:  # of a trial without a folder nothing would tell that it has come
            self._file.put(trial_id, [seen.mark, seen.paths, *verdict])
        return verdict

    def save(self) -> None:
        """Keep what was read for the next process."""
        self._file.save()
