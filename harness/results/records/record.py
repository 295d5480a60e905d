"""The record of one trial: read once, checked whole, the same for whoever asks.

What makes a record prove itself (results schema 2):

    done.json           names its trial and the attempt that counts; ``files`` holds the SHA-256 of that attempt's files
    result.json         names its trial
    evaluations.json    the SHA-256 of itself and of the ``done.json`` that it extends
    trial.json          an identity that the trial's id, the name of the folder, is the hash of

Records of schema 1 hold no digests. They are ``unsealed``: checked in their values alone, until ``harness collect --seal``
gives them the digests of what is there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.files import Damage, encoded, read_bytes, whole_lines, write_bytes
from harness.results.quantities import QUANTITIES, find_quantity
from harness.results.records.shapes import ATTEMPT, TRIAL, checked, of_shape
from harness.tasks import TASKS
from harness.trial import Trial, canonical

SEALED_SCHEMA = 2
SEALED_FILES = ("result.json", "epochs.jsonl", "timing.jsonl")
"""What a result rests on, beside the identity, which the trial's id is the hash of. The environment is told anew when a
trial ends, and loses the host's name when it is packed."""
FINISHED = ("done", "diverged")
"""A result, with ``done.json``: it is not run again."""
LAST = {one.name: one.column for one in QUANTITIES.values() if one.column and "last" in one.moments}
"""Metrics whose ``last`` is a number of the last epoch, with its name there."""
OF_THE_RUN = tuple(metric for facts in TASKS.values() for metric in facts.metrics)
"""What is measured while a trial runs and never later."""
OF_ERRORS = TASKS["regression"].metrics

Json = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Past:
    """One attempt: its folder's name and what its small records hold; ``None`` for one that is absent."""

    name: str
    claim: Json | None
    environment: Json | None
    words: Json | None
    result: Json | None
    torn: bool
    """A ``result.json`` that a power cut or a full disk left unfinished: it counts as none."""
    released: bool
    """Whether its owner has let go."""

    @property
    def number(self) -> int:
        return number_of(self.name)


@dataclasses.dataclass(frozen=True)
class Record:
    """What a trial's folder holds.

    Attributes:
        trial: its id, the folder's name.
        words: what ``trial.json`` says of the attempt that counts.
        attempts: oldest first.
        final: the attempt that counts: the one that finished, else the latest.
        marker: ``done.json``, where the attempt that it names has its result.
        epochs, timings: lines of the attempt that counts.
        evaluations: metrics measured later, by name and moment.
        quantities: what plugins said of those that they added.
        forgiven: attempts up to this number no longer count as failures.
        sealed: whether the record holds digests; ``None`` without a result.
    """

    trial: str
    words: Json | None
    attempts: tuple[Past, ...]
    final: Past | None
    marker: Json | None
    epochs: list[Json]
    timings: list[Json]
    evaluations: Mapping[str, Mapping[str, float | None]]
    quantities: Mapping[str, Any]
    forgiven: int
    sealed: bool | None


def number_of(attempt: str) -> int:
    """The number of an attempt, by its folder's name."""
    return int(attempt.removeprefix("attempt-"))


def attempt_names(names: Iterable[str]) -> list[str]:
    """Those of a folder's names that attempts have, oldest first."""
    return sorted((name for name in names if ATTEMPT.fullmatch(name)), key=number_of)


class _Reader:
    """Reads each file of one trial's folder once."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.trial = os.path.basename(folder)
        self._raw: dict[str, bytes | None] = {}
        self._parsed: dict[tuple[str, bytes], Any] = {}

    def names(self, within: str = "") -> list[str]:
        """Names in the folder, or in that of an attempt."""
        path = f"{self.folder}/{within}" if within else self.folder
        if within and os.path.islink(path):
            raise Damage("is a link", within)
        try:
            return os.listdir(path)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            raise Damage("is a file where a folder belongs", within) from None
        except OSError as error:
            raise Damage(f"cannot be read ({error.strerror})", within) from None

    def raw(self, name: str) -> bytes | None:
        """The bytes of a file, ``attempt-001/result.json``."""
        if name not in self._raw:
            self._raw[name] = read_bytes(f"{self.folder}/{name}", name)
        return self._raw[name]

    def record(self, name: str) -> Any:
        """A small record, or ``None``."""
        raw = self.raw(name)
        if raw is None:
            return None
        key = (name.rpartition("/")[2], raw)  # an attempt's trial.json is a copy of the trial's
        if key not in self._parsed:
            self._parsed[key] = checked(key[0], raw, name)
        return self._parsed[key]

    def lines(self, name: str, *, whole: bool) -> list[Json]:
        """The lines of a record; where it is ``whole`` the last one must not be torn."""
        raw = self.raw(name) or b""
        if whole and raw and not raw.endswith(b"\n"):
            raise Damage("ends within a line", name)
        complete = whole_lines(raw)
        found: list[Json] = checked(name.rpartition("/")[2], b"[" + b",".join(complete) + b"]", name)
        if len(found) != len(complete):
            raise Damage("has a line of several values", name)
        return found


def read_record(folder: str | Path) -> Record:
    """Read and check the record of one trial.

    Raises:
        Damage: when anything of it is odd: then the trial is in quarantine.
    """
    try:
        return _read(_Reader(str(folder)))
    except Damage:  # a run that goes on may have written between two of the reads; damage stays
        return _read(_Reader(str(folder)))


def _read(reader: _Reader) -> Record:
    names = reader.names()
    small = {name: reader.record(name) for name in ("done.json", "retry.json", "cancel.json") if name in names}
    marker = small.get("done.json")
    past = tuple(_past(reader, name) for name in attempt_names(names))
    by_name = {attempt.name: attempt for attempt in past}
    if marker is not None:
        if marker["attempt"] not in by_name:
            raise Damage(f"names {marker['attempt']}, which is not there", "done.json")
        if by_name[marker["attempt"]].result is None:  # its owner died between the two
            marker = None
    final = by_name[marker["attempt"]] if marker is not None else past[-1] if past else None
    words = _words(reader, names, past)
    forgiven = int(small["retry.json"]["upto"]) if "retry.json" in small else 0
    if final is None:
        return Record(reader.trial, words, (), None, None, [], [], {}, {}, forgiven, None)
    words = final.words or words
    finished = marker is not None and final.result is not None
    epochs = reader.lines(f"{final.name}/epochs.jsonl", whole=finished)
    timings = reader.lines(f"{final.name}/timing.jsonl", whole=finished)
    evaluations: dict[str, dict[str, float | None]] = {}
    quantities: dict[str, Any] = {}
    sealed = None
    if marker is not None and final.result is not None:
        sealed = _check_chain(reader, marker, final)
        if words is None and TRIAL.fullmatch(reader.trial):
            raise Damage("is missing", "trial.json")
        _check_result(final.result, marker, words, epochs, final.name)
        if "evaluations.json" in names:
            evaluations, quantities = _evaluations(reader, marker, past)
    elif final.result is not None and final.result["status"] in FINISHED:
        raise Damage(f"says {final.result['status']}, and done.json is missing", f"{final.name}/result.json")
    return Record(reader.trial, words, past, final, marker, epochs, timings, evaluations, quantities, forgiven, sealed)


def _past(reader: _Reader, name: str) -> Past:
    names = set(reader.names(name))
    claim, environment, words = (
        reader.record(f"{name}/{record}") if record in names else None
        for record in ("claim.json", "environment.json", "trial.json")
    )
    raw = reader.raw(f"{name}/result.json") if "result.json" in names else None
    ends = (raw or b"").strip()
    torn = raw is not None and (not ends or (ends.startswith(b"{") and not ends.endswith(b"}")))
    result = reader.record(f"{name}/result.json") if raw is not None and not torn else None
    of = result.get("trial") if result is not None else None
    if result is not None and of != reader.trial and (of is not None or result.get("schema", 1) >= SEALED_SCHEMA):
        raise Damage(f"is of trial {of}" if of else "names no trial", f"{name}/result.json")
    return Past(name, claim, environment, words, result, torn, "released" in names)


def _words(reader: _Reader, names: Iterable[str], past: Iterable[Past]) -> Json | None:
    """What was asked for, by the trial's own ``trial.json`` or its latest attempt's; each must be of this trial."""
    own = reader.record("trial.json") if "trial.json" in names else None
    found = None
    for words, place in ((own, ""), *((attempt.words, f"{attempt.name}/") for attempt in past)):
        if words is None:
            continue
        if words != found and not is_own(words, reader.trial):
            raise Damage("is of another trial, or has been changed", f"{place}trial.json")
        found = words
    return found


def is_own(words: Json, trial: str) -> bool:
    """Whether an identity is the one that a trial's id is the hash of. Words without an id tell of no trial."""
    named = words.get("id")
    if named is None or not TRIAL.fullmatch(trial):
        return named in (None, trial)
    return named == trial and Trial(words["identity"], {}).id == trial


def file_digest(raw: bytes) -> str:
    """SHA-256 of a record, in hexadecimal."""
    return hashlib.sha256(raw).hexdigest()


def _is(raw: bytes, digest: str) -> bool:
    """Whether a file is that of a digest; an editor or a transfer may have changed the line end at its end."""
    return file_digest(raw) == digest or file_digest(raw.rstrip() + b"\n") == digest


def _check_chain(reader: _Reader, marker: Json, final: Past) -> bool:
    """Whether ``done.json`` holds digests; then those are compared with the files that they are of."""
    schema = final.result.get("schema", 1) if final.result is not None else 1
    listed: Mapping[str, str] = marker.get("files", {})
    if marker.get("schema", 1) < SEALED_SCHEMA and schema < SEALED_SCHEMA and not listed:
        return False
    if "result.json" not in listed or marker.get("schema", 1) < SEALED_SCHEMA:
        raise Damage("holds no digests, which results of schema 2 have", "done.json")
    if marker.get("trial") != reader.trial:
        raise Damage(f"is of trial {marker.get('trial')}", "done.json")
    for name in {*SEALED_FILES, *listed}:
        where = f"{final.name}/{name}"
        raw = reader.raw(where) if name in SEALED_FILES else None
        if raw is None and name in listed:
            raise Damage("is missing", where)
        if raw is not None and name not in listed:
            raise Damage("is not among the files that done.json lists", where)
        if raw is not None and not _is(raw, listed[name]):
            raise Damage("has been changed since the trial ended", where)
    return True


def _check_result(result: Json, marker: Json, words: Json | None, epochs: list[Json], attempt: str) -> None:
    """That a result's numbers are such as a run can have, and those of its epochs."""
    where = f"{attempt}/result.json"
    status = result["status"]
    if status != marker.get("status", "done"):
        raise Damage(f"says {status}, and done.json {marker.get('status', 'done')}", where)
    for name, values in (
        *result["metrics"].items(),
        ("accuracy", {"chance": result.get("chance", {}).get("accuracy")}),
    ):
        check_range(name, values, where)
    trained = [line for line in epochs if line["epoch"] > 0]
    if [line["epoch"] for line in trained] != list(range(1, len(trained) + 1)):
        raise Damage("its epochs are not numbered one after the other", f"{attempt}/epochs.jsonl")
    if words is None:
        return
    planned = int(words["identity"]["training"]["epochs"])
    if len(trained) != planned and (status == "done" or len(trained) > planned):
        raise Damage(f"holds {len(trained)} of {planned} epochs", f"{attempt}/epochs.jsonl")
    for metric, key in LAST.items():
        summarised = metric in result["metrics"] or metric in OF_THE_RUN  # an earlier harness summed up fewer
        if not trained or key not in trained[-1] or not summarised:
            continue
        told, seen = result["metrics"].get(metric, {}).get("last"), trained[-1][key]
        if not _equal(told, seen):
            raise Damage(f"its {metric} at the last epoch is {told}, and epochs.jsonl has {seen}", where)


def _equal(one: float | None, other: float | None) -> bool:
    return one is other or (one is not None and other is not None and math.isclose(one, other, abs_tol=1e-12))


def check_range(metric: str, values: Mapping[str, float | None], where: str) -> None:
    """Refuse a share outside of [0, 1] and an error below 0.

    Raises:
        Damage: naming the metric.
    """
    share, error = find_quantity(metric).percent, metric in OF_ERRORS
    if not share and not error:
        return
    for at, value in values.items():
        if value is not None and (
            (value > 1.0 and share) or (value < 0.0 and at != "best_minus_last") or (value < -1.0 and share)
        ):
            raise Damage(f"its {metric} ({at}) is {value:g}, out of range", where)


# --- evaluations -------------------------------------------------------------------------------------------------------


def _evaluations(
    reader: _Reader, marker: Json, past: tuple[Past, ...]
) -> tuple[dict[str, dict[str, float | None]], dict[str, Any]]:
    """What ``harness evaluate`` has added to the attempt that counts, and what plugins said of it; none when it is another
    attempt's."""
    where = "evaluations.json"
    found = reader.record(where) or {}
    sealed = marker.get("schema", 1) >= SEALED_SCHEMA
    if sealed or "digest" in found:
        rest = {key: value for key, value in found.items() if key != "digest"}
        if found.get("digest") != _own_digest(rest):
            raise Damage("has been changed, or holds no digest", where)
    if "attempt" in found:
        if found["attempt"] != marker["attempt"]:
            return {}, {}
        if sealed and found.get("done") != file_digest(reader.raw("done.json") or b""):
            raise Damage("extends another done.json", where)
        metrics = found.get("metrics", {})
    else:  # as they once were: it counts where it can be of one attempt only
        finished = [attempt for attempt in past if attempt.result and attempt.result["status"] in FINISHED]
        metrics = found if len(finished) == 1 else {}
    added: dict[str, dict[str, float | None]] = of_shape("metrics of evaluations.json", metrics, where)
    for name, values in added.items():
        if name in OF_THE_RUN:
            raise Damage(f"{name} is not measured later", where)
        check_range(name, values, where)
    quantities = found.get("quantities", {}) if "attempt" in found else {}
    return added, of_shape("quantities of evaluations.json", quantities, where)


def _own_digest(rest: Json) -> str:
    try:
        return file_digest(canonical(rest).encode())
    except (ValueError, RecursionError):
        return ""


def evaluations_record(attempt: str, metrics: Json, done: bytes, quantities: Json) -> dict[str, Any]:
    """The content of ``evaluations.json``."""
    said = {"quantities": dict(quantities)} if quantities else {}
    rest = {"attempt": attempt, "metrics": dict(metrics), **said, "done": file_digest(done)}
    return {**rest, "digest": _own_digest(rest)}


# --- sealing -----------------------------------------------------------------------------------------------------------


def digests_of(attempt: Path, result: bytes) -> dict[str, str]:
    """The digests that ``done.json`` holds under ``files``, of an attempt whose ``result.json`` is about to be written."""
    found = {"result.json": file_digest(result)}
    for name in SEALED_FILES[1:]:
        raw = read_bytes(attempt / name)
        if raw is not None:
            found[name] = file_digest(raw)
    return found


def marker_record(trial: str, attempt: str, digests: Mapping[str, str], files: Mapping[str, str], status: str) -> Any:
    """The content of ``done.json``."""
    said = {} if status == "done" else {"status": status}
    return {
        "schema": SEALED_SCHEMA,
        "trial": trial,
        "attempt": attempt,
        "digests": dict(digests),
        "files": dict(files),
        **said,
    }


def seal(folder: Path) -> bool:
    """Give an unsealed record the digests of what is there; whether it was one.

    Raises:
        Damage: when the record is not valid: nobody vouches for it then.
        HarnessError: when it cannot be written.
    """
    record = read_record(folder)
    if record.sealed is not False or record.final is None or record.marker is None:
        return False
    attempt = folder / record.final.name
    files = digests_of(attempt, read_bytes(attempt / "result.json") or b"")
    status = record.marker.get("status", "done")
    done = encoded(marker_record(record.trial, record.final.name, record.marker.get("digests", {}), files, status), 1)
    try:
        if record.evaluations:  # first: a crash between the two leaves what still counts
            written = evaluations_record(record.final.name, record.evaluations, done, record.quantities)
            write_bytes(folder / "evaluations.json", encoded(written, 1), durable=True)
        write_bytes(folder / "done.json", done, durable=True)
    except OSError as error:
        raise HarnessError(f"cannot be sealed ({error.strerror})", str(folder), "mend its permissions") from None
    return True
