"""Collecting: a new snapshot from the previous one and the records that have changed since."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.errors import ResultsError, writing
from harness.files import Damage
from harness.results.quantities import find_quantity
from harness.results.records import FINISHED, is_alive, known_trials, standing
from harness.results.records.manifests import read_manifests
from harness.results.records.record import Past, Record, read_record
from harness.results.records.standing import Look, Verdicts, verdict_of
from harness.results.store.schema import (
    BY_TRIAL,
    STORE_SCHEMA,
    TABLES,
    Columns,
    Rows,
    count_rows,
    create_tables,
    insert,
    transfer,
)
from harness.results.store.snapshot import is_of_another_version, is_whole
from harness.trial import canonical

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("harness.store")
KEPT_SNAPSHOTS = 3
BUILDING = ".building-"
LEFTOVER_S = 3600.0
"""After which what a collector that died was building is removed."""
REMEDY = "`harness retry SUITE --quarantined` moves its records aside, so that it runs again"


def current_snapshot(results: Path) -> Path | None:
    """The real path of the newest snapshot, or ``None`` before the first collection. One that is damaged or gone is built
    anew from the records.

    Raises:
        ResultsError: when it cannot be built.
    """
    link = results / "store" / "current"
    path = Path(os.path.realpath(link))
    if is_whole(path):
        return path
    if not os.path.lexists(link) or is_of_another_version(path):
        return path if path.is_file() else None
    log.warning("%s: is damaged; the store is built anew from the records", path)
    return collect(results, rebuild=True)


def collect(results: Path, *, rebuild: bool = False, looks: Mapping[str, Look] = MappingProxyType({})) -> Path:
    """Bring the store up to date with the records and return the newest snapshot.

    Idempotent and incremental: only trials whose records changed are read again, and when nothing changed the snapshot
    stays the same. A snapshot gets its name when all that was meant to be there is on the disk: where there is no room for
    it, the old one stays.

    Args:
        results: the results folder.
        rebuild: read every record anew.
        looks: at trials, from a moment ago, as a plan has them.

    Raises:
        ResultsError: when the store cannot be written.
    """
    folder = results / "store"
    with writing(folder, "mend its permissions"):
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
    previous = None if rebuild else _linked(folder)
    known, old_suites = _known(previous) if previous is not None else ({}, None)
    if old_suites is None:  # damaged, or of another version
        previous = None
    signatures = dict(_signatures(results, looks))
    changed = [trial for trial, signature in signatures.items() if known.get(trial) != signature]
    gone = [trial for trial in known if trial not in signatures]
    manifests = _manifests(results)
    suites = hashlib.sha256(canonical([[m["suite"], m["digest"], m["newest"]] for m in manifests]).encode()).hexdigest()
    if previous is not None and not changed and not gone and suites == old_suites:
        return previous
    content = hashlib.sha256(canonical([STORE_SCHEMA, suites, sorted(signatures.items())]).encode()).hexdigest()[:16]
    made = None if rebuild else next((path for path in folder.glob(f"{content}*.duckdb") if is_whole(path)), None)
    if made is None:
        change = _Change(results, changed, gone, signatures, manifests, suites)
        made = _make(folder, content, change, previous)
    with writing(folder, "free some space, or mend its permissions"):
        _point_to(folder, made)
        _tidy(folder, made)
    return made


@dataclasses.dataclass(frozen=True)
class _Change:
    """What a new snapshot is to hold that the previous one does not."""

    results: Path
    changed: list[str]
    gone: list[str]
    signatures: Mapping[str, str]
    manifests: list[dict[str, Any]]
    suites: str


def _linked(folder: Path) -> Path | None:
    path = Path(os.path.realpath(folder / "current"))
    return path if path.parent == Path(os.path.realpath(folder)) and is_whole(path) else None


def _known(snapshot: Path) -> tuple[dict[str, str], str | None]:
    """The signatures of a snapshot's trials, and what tells of its suites; ``None`` when it cannot be built upon."""
    import duckdb

    try:
        with duckdb.connect(str(snapshot), read_only=True) as connection:
            meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
            if meta.get("schema") == str(STORE_SCHEMA):
                known = dict(connection.execute("SELECT trial, signature FROM sources").fetchall())
                return known, meta.get("suites", "")
    except duckdb.Error as error:
        log.warning("%s: is damaged (%s); the store is built anew", snapshot, str(error).splitlines()[0])
    return {}, None


def _make(folder: Path, content: str, change: _Change, previous: Path | None) -> Path:
    """A new snapshot under its own name, from the previous one or from nothing; the link does not point to it yet."""
    import duckdb

    with writing(folder, "free some space, or mend its permissions"):
        handle, name = tempfile.mkstemp(prefix=BUILDING, suffix=".duckdb", dir=folder)
        os.close(handle)
    temporary = Path(name)
    try:
        if previous is not None:
            shutil.copyfile(previous, temporary)
        else:
            temporary.unlink()
        _build(temporary, change, fresh=previous is None)
        _check_whole(temporary, change)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        final = folder / f"{content}{digest}.duckdb"
        os.replace(temporary, final)
        return final
    except duckdb.Error as error:
        if previous is None:
            why = " ".join(str(error).split())
            raise ResultsError(
                f"cannot be written ({why})",
                str(folder),
                "free some space, or mend its permissions; the old store stays",
            ) from None
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise ResultsError(
            f"cannot be written ({why})", str(folder), "free some space, or mend its permissions; the old store stays"
        ) from None
    finally:
        _remove_building(temporary)
    everything = dataclasses.replace(change, changed=list(change.signatures), gone=[])
    return _make(folder, content, everything, None)  # the previous one cannot be built upon


def _remove_building(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
        Path(f"{temporary}.wal").unlink(missing_ok=True)
        shutil.rmtree(f"{temporary}.tmp", ignore_errors=True)


def _check_whole(path: Path, change: _Change) -> None:
    """Open what was written and count it: a full disk must not pass for fewer results.

    Raises:
        OSError: when something is missing.
    """
    import duckdb

    if os.path.exists(f"{path}.wal"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with duckdb.connect(str(path), read_only=True) as connection:
        meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        trials = [row[0] for row in connection.execute("SELECT trial FROM sources ORDER BY trial").fetchall()]
        if json.loads(meta.get("counts", "{}")) != count_rows(connection) or trials != sorted(change.signatures):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _build(path: Path, change: _Change, *, fresh: bool) -> None:
    import duckdb

    with duckdb.connect(str(path)) as connection:
        if fresh:
            create_tables(connection)
            for table, rows in _printed().items():
                insert(connection, table, rows)
        connection.execute("BEGIN")
        stale = [*change.changed, *change.gone]
        if not fresh and stale:
            connection.execute("CREATE TEMP TABLE stale AS SELECT unnest(?) AS trial", [stale])
            for table in BY_TRIAL:
                connection.execute(f"DELETE FROM {table} WHERE trial IN (SELECT trial FROM stale)")
        for table, arrow in _read_changed(change).items():
            transfer(connection, table, arrow)
        connection.execute("DELETE FROM suite_trials")
        for manifest in change.manifests:
            insert(connection, "suite_trials", _suite_rows(manifest))
        connection.execute("DELETE FROM meta")
        meta = {"schema": str(STORE_SCHEMA), "suites": change.suites, "counts": json.dumps(count_rows(connection))}
        insert(connection, "meta", [{"key": key, "value": value} for key, value in meta.items()])
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT")  # said here: when the file is closed a full disk goes unnoticed


def _read_changed(change: _Change) -> dict[str, pa.Table]:
    """The rows of changed trials, by table. A trial in quarantine gives its reason alone, and is named in a
    warning: it must not keep the others from the board."""
    rows: Rows = {table: Columns(table) for table in BY_TRIAL}
    for trial in change.changed:
        folder = change.results / "trials" / trial
        try:
            add_rows(folder, read_record(folder), rows)
        except Damage as damage:
            log.warning("%s: is in quarantine (%s) and is left out; %s", folder, damage, REMEDY)
            rows["quarantine"].append({"trial": trial, "reason": str(damage)})
        rows["sources"].append({"trial": trial, "signature": change.signatures[trial]})
    return {table: columns.to_arrow() for table, columns in rows.items()}


def _signatures(results: Path, looks: Mapping[str, Look]) -> Iterator[tuple[str, str]]:
    """What tells whether a trial's records have changed, from file times and sizes alone; of an unfinished one also
    whether somebody is at work on it. One that was finished when it was looked at a moment ago is not looked at again."""
    verdicts = Verdicts(results)
    for trial in sorted(known_trials(results)):
        seen = looks.get(trial)
        if seen is None or seen.unfinished is not None:
            seen, _ = verdicts.look(trial)
        alive = seen.unfinished is not None and is_alive(results / "trials" / trial / seen.unfinished)
        yield trial, f"{seen.mark}+" if alive else seen.mark


def add_rows(folder: Path, record: Record, rows: Rows) -> None:
    """Append all rows of one trial; a folder that says of no trial what it is gives none."""
    if record.words is None:
        return
    identity, trial, final = record.words["identity"], record.trial, record.final
    result: Mapping[str, Any] = final.result if final is not None and final.result is not None else {}
    verdict = verdict_of(record)
    where = standing(folder, verdict=verdict)
    status = verdict.kind if verdict.kind in FINISHED else where.status  # a result stands while it is computed anew
    error = (result.get("error") or {}) if status == "failed" else {}
    environment = final.environment if final is not None and final.environment is not None else {}
    rows["trials"].append(
        {
            "trial": trial,
            "dataset": identity["dataset"]["name"],
            "noise": identity["noise"]["name"],
            "rate": _number(identity["noise"].get("params", {}).get("rate")),
            "model": identity["model"]["name"],
            "loss": identity["loss"]["name"],
            "transforms": " ".join(part["name"] for part in identity["transforms"]),
            "algorithms": " ".join(part["name"] for part in identity["algorithms"]),
            "seed": identity["seed"],
            "epochs": identity["training"]["epochs"],
            "batch_size": identity["training"].get("batch_size"),
            "threads": environment.get("threads"),
            "num_classes": result.get("num_classes") or len(result.get("transitions") or ()) or None,
            "test_samples": result.get("test_samples"),
            "status": status,
            "sealed": record.sealed,
            "attempt": final.name if final is not None else None,
            "attempts": len(record.attempts),
            "label_digest": result.get("label_digest"),
            "corrupted": result.get("corrupted"),
            "selected_epoch": result.get("selected_epoch"),
            "error_type": error.get("type"),
            "error": error.get("message"),
            "traceback": error.get("traceback"),
            "identity": json.dumps(identity),
            "options": json.dumps(record.words.get("options", {})),
            "histograms": json.dumps(result.get("histograms", {})),
            "transitions": json.dumps(result["transitions"]) if result.get("transitions") else None,
            "truth_known": result.get("truth", {}).get("known"),
            "test_trusted": result.get("truth", {}).get("test"),
        }
    )
    for attempt in record.attempts:
        _add_attempt(folder, record, attempt, rows)
    if final is None:
        return
    added = {**result.get("quantities", {}), **record.quantities}
    for name in sorted(added):
        rows["quantities"].append({"trial": trial, "name": name, "facts": json.dumps(added[name])})
    timings = {line["epoch"]: line for line in record.timings}
    _add_epochs(record, timings, added, rows)
    measured = {(m, at): value for m, values in record.evaluations.items() for at, value in values.items()}
    measured |= {(m, at): value for m, values in result.get("metrics", {}).items() for at, value in values.items()}
    measured |= _rates(result)
    if status == "diverged":
        measured.update(_at_chance(result, added))
    if timings and result.get("status") in FINISHED:
        spent = math.fsum(line["train_seconds"] for line in timings.values())
        measured["seconds_per_epoch", "last"] = spent / len(timings)
        measured["peak_memory", "last"] = max(line["peak_memory"] for line in timings.values())
    for (metric, at), value in measured.items():
        rows["metrics"].append({"trial": trial, "metric": metric, "at": at, "value": _number(value)})


def _rates(result: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """The share of wrong labels that a trial estimated of its own, and how far it is from the share that there is, where
    that is known."""
    estimated, true = result.get("estimated", {}).get("rate"), result.get("corrupted")
    if estimated is None:
        return {}
    error = {("rate_error", "last"): abs(float(estimated) - float(true))} if true is not None else {}
    return {("estimated_rate", "last"): float(estimated), **error}


def _add_epochs(record: Record, timings: Mapping[int, Any], added: Mapping[str, Any], rows: Rows) -> None:
    """Append the rows of the epochs, and of the numbers in them that have no column of their own."""
    lines, count = record.epochs, len(record.epochs)
    timed = [timings.get(line["epoch"], {}) for line in lines]
    columns = {name: [line.get(name) for line in lines] for name in _keys_of(lines)}
    columns |= {name: [line.get(name) for line in timed] for name in _keys_of(timed) if name != "epoch"}
    rows["epochs"].extend(count, {**columns, "trial": [record.trial] * count})
    more = [name for name in columns if name.partition("@")[0] in added or name.startswith("detection_auroc@")]
    found: list[tuple[int, str, Any]] = []
    for line in lines:
        epoch = line["epoch"]
        found += [(epoch, name, value) for name, value in line.get("diagnostics", {}).items()]
        found += [(epoch, name, line[name]) for name in more if name in line]
    if found:
        epochs, names, values = zip(*found, strict=True)
        told = {"trial": [record.trial] * len(found), "epoch": epochs, "name": names, "value": values}
        rows["diagnostics"].extend(len(found), told)


def _keys_of(lines: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """All keys of records that mostly have the same."""
    if not lines:
        return ()
    first = lines[0].keys()
    return (
        first if all(line.keys() == first for line in lines) else dict.fromkeys(key for line in lines for key in line)
    )


def _at_chance(result: Mapping[str, Any], added: Mapping[str, Any]) -> dict[tuple[str, str], float | None]:
    """What a run that diverged counts as, whoever reads its metrics: chance level, whatever its earlier epochs reached;
    no number for what a plugin's metric is by chance where it does not say."""
    at_chance: dict[tuple[str, str], float | None] = {}
    for base, facts in added.items():
        for metric in (m for m in result.get("metrics", {}) if m.partition("@")[0] == base):
            at_chance |= {(metric, at): None for at in facts.get("moments", ("last",))}
    for metric, level in result.get("chance", {}).items():
        moments = added[metric].get("moments", ("last",)) if metric in added else find_quantity(metric).moments
        at_chance |= {(metric, at): level for at in moments}
        at_chance[metric, "best_minus_last"] = None
    return at_chance


def _add_attempt(folder: Path, record: Record, attempt: Past, rows: Rows) -> None:
    """Append the rows of one attempt."""
    environment, claim = attempt.environment or {}, attempt.claim or {}
    status = "interrupted" if environment.get("interrupted") else "lost"
    if attempt.result is not None:
        status = attempt.result["status"]
    elif is_alive(folder / attempt.name):
        status = "running"
    rows["attempts"].append(
        {
            "trial": record.trial,
            "attempt": attempt.name,
            "number": attempt.number,
            "status": status,
            "host": environment.get("host") or claim.get("host"),
            "job": environment.get("job") or claim.get("job"),
            "harness": environment.get("versions", {}).get("noisy-label-harness"),
            "final": attempt is record.final,
            "resumes": environment.get("resumes", 0),
            **{
                key: environment.get(key)
                for key in ("device", "device_name", "executor", "started", "finished", "seconds", "commit")
            },
        }
    )
    words = json.dumps(environment)
    rows["environments"].append({"trial": record.trial, "attempt": attempt.name, "environment": words})


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _manifests(results: Path) -> list[dict[str, Any]]:
    found, newest = read_manifests(results)
    return [
        {**content, "file": path, "digest": path.stem, "newest": path == newest[content["suite"]]}
        for path, content in sorted(found.items(), key=lambda item: item[0])
    ]


def _suite_rows(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    methods = {name: position for position, name in enumerate(manifest["methods"])}
    settings = {name: position for position, name in enumerate(manifest["settings"])}
    return [
        {
            "suite": manifest["suite"],
            "digest": manifest["digest"],
            "newest": manifest["newest"],
            "trial": line["id"],
            "method": line["method"],
            "setting": line["setting"],
            "seed": line["seed"],
            "oracle": line["oracle"],
            "estimated": bool(line.get("estimated")),
            "tuning": line["tuning"],
            "candidate": json.dumps(line["candidate"]) if line["candidate"] is not None else None,
            "tries": manifest["tries"].get(line["method"], 1),
            "search_over": manifest.get("search_over", "setting"),
            "comparable": manifest["comparable"],
            "method_position": methods.get(line["method"]),
            "setting_position": settings.get(line["setting"]),
        }
        for line in manifest["trials"]
    ]


def _printed() -> dict[str, list[dict[str, Any]]]:
    """The papers' printed numbers and claims; the import is here since only the making of a store needs it."""
    from harness.printed import load_claims, load_published

    printed: dict[str, list[Any]] = {"published": load_published(), "claims": load_claims()}
    return {
        name: [{column: getattr(one, column) for column in TABLES[name]} for one in printed[name]] for name in printed
    }


def _point_to(folder: Path, snapshot: Path) -> None:
    """Swap the link ``current`` in one step."""
    temporary, link = folder / f".current-{os.getpid()}", folder / "current"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(snapshot.name)
    try:
        os.replace(temporary, link)
    except IsADirectoryError:  # somebody's folder of that name
        os.rename(link, folder / f".aside-{time.time_ns()}")
        os.replace(temporary, link)
    finally:
        temporary.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove what collectors that died have left."""
    for path in folder.glob(f"{BUILDING}*.duckdb"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > LEFTOVER_S:
                _remove_building(path)


def _tidy(folder: Path, keep: Path) -> None:
    """Remove old snapshots but the newest few; a reader that has one open keeps it."""
    dated = []
    for path in folder.glob("*.duckdb"):
        with contextlib.suppress(OSError):  # another collector was first
            if path != keep and not path.name.startswith("."):
                dated.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(dated)[: -(KEPT_SNAPSHOTS - 1)]:
        with contextlib.suppress(OSError):
            path.unlink()
