"""The results folder: where the records of a trial lie, and which of its attempts counts.

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
import json
import os
import stat
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.errors import ResultsError, writing
from harness.files import Damage, read_bytes, read_json, write_json
from harness.paths import expanded
from harness.results.records.record import (
    FINISHED,
    SEALED_SCHEMA,
    Record,
    attempt_names,
    evaluations_record,
    number_of,
    read_record,
)
from harness.results.records.shapes import TRIAL, checked
from harness.trial import Trial

RESULTS_SCHEMA = SEALED_SCHEMA
ENDED = (*FINISHED, "failed")


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
            if found is None or schema < RESULTS_SCHEMA:
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


def remove_unused(results: Path) -> None:
    """Remove a results folder that was made for results which did not come; one that holds anything stays."""
    with contextlib.suppress(OSError):
        for name in ("trials", "suites"):
            os.rmdir(results / name)
        os.unlink(results / "version.json")
        os.rmdir(results)


def trial_folder(results: Path, trial_id: str) -> Path:
    """The folder of one trial."""
    return results / "trials" / trial_id


def submit_trials(results: Path, trials: Iterable[Trial]) -> None:
    """Write ``trial.json`` for trials about to run, so that a worker needs nothing but their ids."""
    existing = known_trials(results)
    root = str(results / "trials")
    suffix = f"{os.getpid()}.{threading.get_ident()}.tmp"
    with writing(results / "trials", "free some space, or mend its permissions"):
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
        return read_bytes(path) == content
    except Damage:
        return False


def read_trial(results: Path, trial_id: str) -> Trial:
    """The trial that was submitted.

    Raises:
        ResultsError: when it is absent or its content does not match its id.
    """
    path = trial_folder(results, trial_id) / "trial.json"
    try:
        raw = read_bytes(path)
        if raw is None:
            raise ResultsError("no such trial", str(path), "submit it with `harness run`")
        return Trial.from_json(checked("trial.json", raw))
    except (Damage, KeyError, ValueError) as error:
        raise ResultsError(str(error), str(path), "remove the folder and run again") from None


def attempts(folder: Path) -> list[Path]:
    """A trial's attempts, oldest first."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in attempt_names(names)]


def done_marker(folder: str | Path) -> dict[str, Any] | None:
    """Which attempt finished a trial, with which sources, by ``done.json``; ``None`` unless that attempt has its result."""
    with contextlib.suppress(Damage):
        raw = read_bytes(f"{folder}/done.json")
        if raw is None:
            return None
        found = checked("done.json", raw)
        if has_result(f"{folder}/{found['attempt']}"):
            said = {"status": found["status"]} if found.get("status", "done") != "done" else {}
            return {"attempt": found["attempt"], "digests": found.get("digests", {}), **said}
    return None


def has_result(attempt: str | Path) -> bool:
    """Whether an attempt has its whole ``result.json``: what a full disk or a power cut left of one counts as none."""
    return isinstance(read_json(f"{attempt}/result.json"), Mapping)


def known_trials(results: Path) -> set[str]:
    """Ids that have a folder."""
    try:
        return {name for name in os.listdir(results / "trials") if TRIAL.fullmatch(name)}
    except (FileNotFoundError, NotADirectoryError):
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


def _in_order(folder: Path) -> Record:
    try:
        return read_record(folder)
    except Damage as damage:
        raise ResultsError(f"is in quarantine ({damage})", str(folder), "`harness status` says what to do") from None


def read_evaluations(folder: Path, attempt: Path) -> dict[str, Any]:
    """Metrics measured later on an attempt's kept states; none when they are those of another attempt.

    Raises:
        ResultsError: when the trial's record is in quarantine.
    """
    record = _in_order(folder)
    mine = record.final is not None and record.final.name == attempt.name
    return {name: dict(values) for name, values in record.evaluations.items()} if mine else {}


def evaluated_quantities(folder: Path, attempt: Path) -> dict[str, Any]:
    """What plugins said of the metrics that were measured later on an attempt's kept states, by name."""
    record = _in_order(folder)
    return dict(record.quantities) if record.final is not None and record.final.name == attempt.name else {}


def write_evaluations(
    folder: Path, attempt: Path, metrics: Mapping[str, Any], quantities: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Keep what :func:`read_evaluations` and :func:`evaluated_quantities` read."""
    done = read_bytes(folder / "done.json") or b""
    write_json(folder / "evaluations.json", evaluations_record(attempt.name, metrics, done, quantities))


def drop_checkpoints(folder: Path) -> None:
    """Remove what earlier attempts of a done trial had kept to go on from, half-written files included."""
    for attempt in attempts(folder):
        for pattern in ("checkpoint.*", ".*.tmp"):
            for path in attempt.glob(pattern):
                path.unlink(missing_ok=True)


def latest_checkpoint(folder: Path, before: int) -> tuple[Path, Path] | None:
    """(attempt, checkpoint) of the newest earlier attempt that has one and did not finish."""
    for attempt in reversed(attempts(folder)):
        if number_of(attempt.name) >= before:
            continue
        if (attempt / "result.json").exists():
            return None
        if (attempt / "checkpoint.pt").exists():
            return attempt, attempt / "checkpoint.pt"
    return None
