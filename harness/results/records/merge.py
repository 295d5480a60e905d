"""Merging machines is copying ``trials/``: whole trials, never over one that is further, and nothing that is no record."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from harness.errors import ResultsError, writing
from harness.files import Damage, encoded, read_bytes, write_bytes
from harness.results.records.folder import attempts, known_trials
from harness.results.records.liveness import is_alive, process_start
from harness.results.records.manifests import manifest_files
from harness.results.records.record import (
    FINISHED,
    digests_of,
    evaluations_record,
    marker_record,
    number_of,
    read_record,
)
from harness.results.records.shapes import checked
from harness.results.records.standing import Verdict, judge
from harness.trial import Trial

MERGING, REPLACED = ".merging-", ".replaced"
MOST_BYTES = 1 << 36
"""Bytes of one file that is copied: states of large models are long."""
OF_ATTEMPT = (
    *("claim.json", "heartbeat", "released", "trial.json", "environment.json", "epochs.jsonl", "timing.jsonl"),
    *("result.json", "log.txt", "checkpoint.pt", "last.pt", "selected.pt"),
)
"""The files of an attempt; others are not copied."""
OF_TRIAL = ("trial.json", "done.json", "evaluations.json", "retry.json")
log = logging.getLogger("harness.merge")


@dataclasses.dataclass(frozen=True)
class _Side:
    """One of the two trials: what its record says, and how far it is."""

    folder: Path
    verdict: Verdict
    stale: bool

    @property
    def busy(self) -> bool:
        return self.verdict.latest is not None and is_alive(self.folder / self.verdict.latest)

    @property
    def rank(self) -> tuple[int, int]:
        """How much it counts: a result, one of changed sources, a failure, an attempt."""
        if self.verdict.kind in FINISHED:
            return (2 if self.stale else 3), 0
        return (1 if self.verdict.kind == "failed" else 0), len(attempts(self.folder))


def merge_results(
    source: Path,
    target: Path,
    *,
    stale: Callable[[Mapping[str, str]], bool] = lambda digests: False,
    ids_checked: bool = False,
) -> tuple[int, int]:
    """Copy the trials and suites of ``source`` that ``target`` lacks or holds unfinished.

    A trial that is done in ``target`` and not stale stays; what another gives way to is kept as its older attempts. One
    that is at work on either side, or whose record is damaged, is left alone. Links are not followed.

    Args:
        stale: whether component digests that a result was computed with are no longer those of the components.
        ids_checked: the caller has seen that each id is the hash of its trial's identity.

    Returns:
        Trials taken, and trials left as they were.

    Raises:
        ResultsError: when ``source`` is no results folder, or ``target`` cannot be written.
    """
    for folder in (source, source / "trials"):
        if folder.is_symlink():
            raise ResultsError("is a link", str(folder), "name the folder itself")
    if not (source / "trials").is_dir():
        raise ResultsError("is no results folder (it has no trials/)", str(source))
    if source.resolve() == target.resolve():
        raise ResultsError("cannot be merged into itself", str(source))
    taken = kept = 0
    with writing(target / "trials", "free some space, or mend its permissions"):
        _sweep(target / "trials")
        for trial in sorted(known_trials(source)):
            theirs = _side(source / "trials" / trial, stale)
            mine = _side(target / "trials" / trial, stale)
            odd = theirs.verdict.reason if theirs.verdict.kind == "quarantined" else ""
            if not odd and not _has_own_words(theirs.folder, ids_checked):
                odd = "its id is not the hash of what it says"
            if odd:
                log.warning("%s: is left out (%s)", theirs.folder, odd)
            if not odd and _goes(theirs, mine):
                _take(theirs, mine)
                taken += 1
            else:
                kept += 1
        _copy_manifests(source / "suites", target / "suites")
    return taken, kept


def _side(folder: Path, stale: Callable[[Mapping[str, str]], bool]) -> _Side:
    if folder.is_symlink():
        return _Side(folder, Verdict("quarantined", reason="is a link"), False)
    verdict = judge(folder)
    return _Side(folder, verdict, verdict.kind in FINISHED and stale(verdict.digests))


def _sweep(trials: Path) -> None:
    """Remove what merges that died have left, and put back what they had not yet replaced."""
    for leftover in trials.glob(f"{MERGING}*"):
        trial, _, rest = leftover.name.removeprefix(MERGING).partition("-")
        pid, replaced = rest.removesuffix(REPLACED), rest.endswith(REPLACED)
        if pid.isdigit() and process_start(int(pid)) is not None:
            continue
        if replaced and not os.path.lexists(trials / trial):
            os.rename(leftover, trials / trial)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def _goes(theirs: _Side, mine: _Side) -> bool:
    """Whether their trial, which is in order, is taken."""
    if mine.verdict.kind == "quarantined" or theirs.busy or mine.busy:
        return False
    return not os.path.lexists(mine.folder) or theirs.rank > mine.rank


def _has_own_words(folder: Path, ids_checked: bool) -> bool:
    """Whether a trial says what it is, and that its id is the hash of that."""
    with contextlib.suppress(Damage):
        words = read_record(folder).words
        return words is not None and (ids_checked or Trial(words["identity"], {}).id == folder.name)
    return False


def _take(theirs: _Side, mine: _Side) -> None:
    """Put their trial in the place of mine, whose attempts stay as older ones."""
    before = attempts(mine.folder)
    shift = number_of(before[-1].name) if before else 0
    aside = mine.folder.with_name(f"{MERGING}{mine.folder.name}-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        for attempt in before:
            with os.scandir(attempt) as entries:
                mine_all = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
            _copy_files(attempt, aside / attempt.name, mine_all)
        _copy_files(theirs.folder, aside, OF_TRIAL)
        for attempt in attempts(theirs.folder):
            _copy_files(attempt, aside / f"attempt-{number_of(attempt.name) + shift:03d}", OF_ATTEMPT)
        if shift:
            _rename_attempts(theirs, aside, shift)
        if mine.folder.exists():
            replaced = aside.with_name(f"{aside.name}{REPLACED}")
            os.rename(mine.folder, replaced)
            os.rename(aside, mine.folder)
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            os.rename(aside, mine.folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _rename_attempts(theirs: _Side, aside: Path, shift: int) -> None:
    """Say in ``done.json`` what their attempt is called now, and in the records that name it."""
    record = read_record(theirs.folder)
    retry = aside / "retry.json"
    if record.forgiven:
        write_bytes(retry, encoded({"upto": record.forgiven + shift}, 1))
    if record.marker is None or record.final is None:
        return
    name = f"attempt-{record.final.number + shift:03d}"
    content = {**record.marker, "attempt": name}
    if record.sealed:
        result = read_bytes(aside / name / "result.json") or b""
        digests, status = record.marker.get("digests", {}), record.marker.get("status", "done")
        content = marker_record(record.trial, name, digests, digests_of(aside / name, result), status)
    done = encoded(content, 1)
    write_bytes(aside / "done.json", done)
    if record.evaluations:
        evaluated = evaluations_record(name, record.evaluations, done, record.quantities)
        write_bytes(aside / "evaluations.json", encoded(evaluated, 1))


def _copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy regular files of known names, with their times; links, fifos and everything else stay where they are."""
    target.mkdir(exist_ok=True)
    for name in names:
        with contextlib.suppress(Damage):  # what counts has been read already
            raw = read_bytes(source / name, most=MOST_BYTES)
            if raw is not None:
                (target / name).write_bytes(raw)
                facts = os.lstat(source / name)
                os.utime(target / name, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _copy_manifests(source: Path, target: Path) -> None:
    for manifest in manifest_files(source):
        copy = target / manifest.parent.name / manifest.name
        try:
            raw = read_bytes(manifest)
            if raw is None or copy.exists():
                continue
            checked("manifest", raw, manifest.name)
        except Damage as damage:
            log.warning("%s: is left out (%s)", manifest, damage)
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(copy, raw)
        times = os.lstat(manifest)
        os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
