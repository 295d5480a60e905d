"""The store: immutable DuckDB snapshots built from records by the collector.

DuckDB allows one writing process or many readers, never both, so nobody opens a snapshot for writing once it has its
name: the collector copies the newest one, brings it up to date under a temporary name, renames it to its digest and
swaps the link ``current``. Readers open the real path read-only and reopen when the link has moved.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ResultsError, writing
from harness.results.quantities import epoch_columns, find_quantity
from harness.results.records import (
    FINISHED,
    attempts,
    done_marker,
    evaluated_quantities,
    is_alive,
    read_evaluations,
    read_json,
    read_lines,
)
from harness.trial import canonical

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

STORE_SCHEMA = 6
log = logging.getLogger("harness.store")
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
KEPT_SNAPSHOTS = 3

TABLES: dict[str, dict[str, str]] = {
    "trials": {
        "trial": "VARCHAR", "dataset": "VARCHAR", "noise": "VARCHAR", "rate": "DOUBLE", "model": "VARCHAR",
        "loss": "VARCHAR", "transforms": "VARCHAR", "algorithms": "VARCHAR", "seed": "BIGINT", "epochs": "BIGINT",
        "batch_size": "BIGINT", "threads": "BIGINT", "num_classes": "BIGINT", "test_samples": "BIGINT",
        "status": "VARCHAR", "attempt": "VARCHAR", "attempts": "BIGINT", "label_digest": "VARCHAR",
        "corrupted": "DOUBLE", "selected_epoch": "BIGINT", "error_type": "VARCHAR", "error": "VARCHAR",
        "traceback": "VARCHAR", "identity": "VARCHAR", "options": "VARCHAR", "histograms": "VARCHAR",
        "transitions": "VARCHAR",
    },
    "suite_trials": {
        "suite": "VARCHAR", "digest": "VARCHAR", "newest": "BOOLEAN", "trial": "VARCHAR", "method": "VARCHAR",
        "setting": "VARCHAR", "seed": "BIGINT", "oracle": "BOOLEAN", "tuning": "BOOLEAN", "candidate": "VARCHAR",
        "tries": "BIGINT", "search_over": "VARCHAR", "comparable": "BOOLEAN", "method_position": "BIGINT", "setting_position": "BIGINT",
    },
    "attempts": {
        "trial": "VARCHAR", "attempt": "VARCHAR", "number": "BIGINT", "status": "VARCHAR", "host": "VARCHAR",
        "device": "VARCHAR", "device_name": "VARCHAR", "executor": "VARCHAR", "job": "VARCHAR", "started": "DOUBLE",
        "finished": "DOUBLE", "seconds": "DOUBLE", "resumes": "BIGINT", "commit": "VARCHAR", "harness": "VARCHAR",
        "final": "BOOLEAN",
    },
    "epochs": {
        "trial": "VARCHAR", "epoch": "BIGINT", **dict.fromkeys(epoch_columns(), "DOUBLE"),
    },
    "metrics": {"trial": "VARCHAR", "metric": "VARCHAR", "at": "VARCHAR", "value": "DOUBLE"},
    "quantities": {"trial": "VARCHAR", "name": "VARCHAR", "facts": "VARCHAR"},
    "diagnostics": {"trial": "VARCHAR", "epoch": "BIGINT", "name": "VARCHAR", "value": "DOUBLE"},
    "environments": {"trial": "VARCHAR", "attempt": "VARCHAR", "environment": "VARCHAR"},
    "published": {
        "paper": "VARCHAR", "table": "VARCHAR", "page": "BIGINT", "label": "VARCHAR", "method": "VARCHAR",
        "column": "VARCHAR", "dataset": "VARCHAR", "noise": "VARCHAR", "rate": "DOUBLE", "model": "VARCHAR",
        "extra": "VARCHAR", "metric": "VARCHAR", "at": "VARCHAR", "unit": "VARCHAR", "mean": "DOUBLE", "std": "DOUBLE",
        "n": "BIGINT", "flag": "VARCHAR", "decimals": "BIGINT", "comparable": "BOOLEAN", "ordered": "BOOLEAN",
    },
    "claims": {
        "paper": "VARCHAR", "id": "VARCHAR", "page": "BIGINT", "place": "VARCHAR", "says": "VARCHAR", "table": "VARCHAR",
        "kind": "VARCHAR", "unit": "VARCHAR", "value": "DOUBLE", "decimals": "BIGINT", "flag": "VARCHAR",
    },
    "sources": {"trial": "VARCHAR", "signature": "VARCHAR"},
    "meta": {"key": "VARCHAR", "value": "VARCHAR"},
}  # fmt: skip
VIEWS: dict[str, str] = {"compared": "SELECT * FROM suite_trials WHERE newest AND NOT tuning"}
"""``compared``: the trials that boards, plots and pages are about, those of the newest plan of each suite."""
BY_TRIAL = ("trials", "attempts", "epochs", "metrics", "quantities", "diagnostics", "environments", "sources")
Rows = dict[str, list[dict[str, Any]]]


# --- reading -----------------------------------------------------------------------------------------------------------


def current_snapshot(results: Path) -> Path | None:
    """The real path of the newest snapshot, or ``None`` before the first collection."""
    link = results / "store" / "current"
    path = Path(os.path.realpath(link))
    return path if path.is_file() else None


def connect(snapshot: Path) -> duckdb.DuckDBPyConnection:
    """A read-only connection to a snapshot.

    Raises:
        ResultsError: it is damaged, or another version of the harness has built it.
    """
    import duckdb

    try:
        connection = duckdb.connect(str(snapshot), read_only=True)
        with contextlib.closing(connection.cursor()) as cursor:  # a result left open would bar `connection.sql`
            found = cursor.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    except duckdb.Error as error:
        raise ResultsError(
            f"cannot be opened ({str(error).splitlines()[0]})", str(snapshot), "`harness collect --rebuild`"
        ) from None
    if found != (str(STORE_SCHEMA),):
        connection.close()
        raise ResultsError("was built by another version of the harness", str(snapshot), "`harness collect`")
    return connection


# --- collecting --------------------------------------------------------------------------------------------------------


def collect(results: Path, *, rebuild: bool = False) -> Path:
    """Bring the store up to date with the records and return the newest snapshot.

    Idempotent and incremental: only trials whose records changed are read again, and when nothing changed the snapshot
    stays the same.

    Raises:
        ResultsError: when the store cannot be written.
    """
    import duckdb

    folder = results / "store"
    previous = None if rebuild else current_snapshot(results)
    with writing(folder, "mend its permissions"):
        folder.mkdir(parents=True, exist_ok=True)
    known: dict[str, str] = {}
    old_suites = ""
    if previous is not None:
        try:
            with duckdb.connect(str(previous), read_only=True) as connection:
                meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
                if meta.get("schema") == str(STORE_SCHEMA):
                    known = dict(connection.execute("SELECT trial, signature FROM sources").fetchall())
                    old_suites = meta.get("suites", "")
                else:
                    previous, rebuild = None, True
        except duckdb.Error:
            previous, rebuild = None, True  # a damaged file is not pointed to again
    signatures = dict(_signatures(results))
    changed = [trial for trial, signature in signatures.items() if known.get(trial) != signature]
    gone = [trial for trial in known if trial not in signatures]
    manifests = _manifests(results)
    suites = hashlib.sha256(canonical([[m["suite"], m["digest"], m["newest"]] for m in manifests]).encode()).hexdigest()
    if previous is not None and not changed and not gone and suites == old_suites:
        return previous
    content = hashlib.sha256(canonical([STORE_SCHEMA, suites, sorted(signatures.items())]).encode()).hexdigest()[:16]
    final = folder / f"{content}.duckdb"
    if final.exists() and not rebuild:
        _point_to(folder, final)
        return final
    with writing(folder, "mend its permissions"):
        handle, name = tempfile.mkstemp(prefix=".building-", suffix=".duckdb", dir=folder)
    os.close(handle)
    temporary = Path(name)
    try:
        if previous is not None:
            shutil.copyfile(previous, temporary)
        else:
            temporary.unlink()
        _build(temporary, results, changed, gone, signatures, manifests, suites, fresh=previous is None)
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
        Path(f"{temporary}.wal").unlink(missing_ok=True)
    _point_to(folder, final)
    _tidy(folder, final)
    return final


def _build(
    path: Path,
    results: Path,
    changed: list[str],
    gone: list[str],
    signatures: Mapping[str, str],
    manifests: list[dict[str, Any]],
    suites: str,
    *,
    fresh: bool,
) -> None:
    import duckdb

    with duckdb.connect(str(path)) as connection:
        if fresh:
            create_tables(connection)
            for table, rows in _printed().items():
                insert(connection, table, rows)
        connection.execute("BEGIN")
        stale = [*changed, *gone]
        if not fresh and stale:
            connection.execute("CREATE TEMP TABLE stale AS SELECT unnest(?) AS trial", [stale])
            for table in BY_TRIAL:
                connection.execute(f"DELETE FROM {table} WHERE trial IN (SELECT trial FROM stale)")
        for table, arrow in _read_changed(results, changed, signatures).items():
            _transfer(connection, table, arrow)
        connection.execute("DELETE FROM suite_trials")
        for manifest in manifests:
            try:
                insert(connection, "suite_trials", _suite_rows(manifest))
            except _DAMAGE as error:
                _warn(manifest["file"], error, "remove the file and run the suite again")
        connection.execute("DELETE FROM meta")
        insert(connection, "meta", [{"key": "schema", "value": str(STORE_SCHEMA)}, {"key": "suites", "value": suites}])
        connection.execute("COMMIT")


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Every table and view of a store, empty."""
    for table, columns in TABLES.items():
        spelled = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
        connection.execute(f"CREATE TABLE {table} ({spelled})")
    for view, query in VIEWS.items():
        connection.execute(f"CREATE VIEW {view} AS {query}")


def _read_changed(results: Path, changed: Iterable[str], signatures: Mapping[str, str]) -> dict[str, pa.Table]:
    """The rows of changed trials, by table. A trial whose record holds what no record does gives none and is named in a
    warning: it must not keep the others from the board."""
    parts: dict[str, Rows] = {}
    for trial in changed:
        part: Rows = {table: [] for table in BY_TRIAL}
        try:
            read_record(results / "trials" / trial, part)
        except _DAMAGE as error:
            _warn(results / "trials" / trial, error)
        else:
            part["sources"].append({"trial": trial, "signature": signatures[trial]})
            parts[trial] = part

    def merged() -> dict[str, pa.Table]:
        return {table: to_arrow(table, [row for part in parts.values() for row in part[table]]) for table in BY_TRIAL}

    try:
        return merged()
    except _DAMAGE:  # some value is none of its column's
        for trial, part in list(parts.items()):
            try:
                for table, rows in part.items():
                    to_arrow(table, rows)
            except _DAMAGE as error:
                _warn(results / "trials" / trial, error)
                del parts[trial]
        return merged()


def _warn(path: Path, error: Exception, remedy: str = "move the folder away and run the trial again") -> None:
    log.warning("%s: cannot be read (%s: %s) and is left out; %s", path, type(error).__name__, error, remedy)


def to_arrow(table: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as an Arrow table with the columns of a store's table; absent keys are null."""
    import pyarrow as pa

    kinds = {"VARCHAR": pa.string(), "DOUBLE": pa.float64(), "BIGINT": pa.int64(), "BOOLEAN": pa.bool_()}
    return pa.table(
        {name: pa.array([row.get(name) for row in rows], type=kinds[kind]) for name, kind in TABLES[table].items()}
    )


def insert(connection: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    """Insert rows by one columnar transfer; absent keys are null."""
    _transfer(connection, table, to_arrow(table, rows))


def _transfer(connection: duckdb.DuckDBPyConnection, table: str, arrow: pa.Table) -> None:
    if not len(arrow):
        return
    connection.register("incoming", arrow)
    connection.execute(f"INSERT INTO {table} SELECT * FROM incoming")
    connection.unregister("incoming")


def _signatures(results: Path) -> Iterator[tuple[str, str]]:
    """What tells whether a trial's records have changed, from file times and sizes alone."""
    try:
        entries = sorted(os.scandir(results / "trials"), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        if not entry.is_dir():
            continue
        parts = [str(entry.stat().st_mtime_ns)]
        with contextlib.suppress(FileNotFoundError):
            for attempt in sorted(item.path for item in os.scandir(entry.path) if item.name.startswith("attempt-")):
                for name in ("result.json", "environment.json", "epochs.jsonl", "released"):
                    try:
                        stat = os.stat(f"{attempt}/{name}")
                        parts.append(f"{stat.st_mtime_ns}.{stat.st_size}")
                    except FileNotFoundError:
                        parts.append("-")
        yield entry.name, hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def read_record(folder: Path, rows: Rows) -> None:
    """Append all rows of one trial's folder; a folder without a readable ``trial.json`` gives none."""
    past = attempts(folder)
    marker = done_marker(folder)
    final = folder / str(marker["attempt"]) if marker is not None else (past[-1] if past else None)
    words = read_json(f"{final}/trial.json") if final is not None else None
    words = words or read_json(f"{folder}/trial.json")
    if not isinstance(words, Mapping) or "identity" not in words:
        return
    identity = words["identity"]
    trial = folder.name
    result: Mapping[str, Any] = {}
    for attempt in past:
        found = _read_attempt(trial, attempt, attempt == final, rows)
        result = found if attempt == final else result
    status = result.get("status") or ("running" if final is not None and is_alive(final) else "missing")
    error = result.get("error") or {}
    threads = (read_json(f"{final}/environment.json") or {}).get("threads") if final is not None else None
    rows["trials"].append(
        {
            "trial": trial,
            "dataset": identity["dataset"]["name"],
            "noise": identity["noise"]["name"],
            "rate": _number(identity["noise"]["params"].get("rate")),
            "model": identity["model"]["name"],
            "loss": identity["loss"]["name"],
            "transforms": " ".join(part["name"] for part in identity["transforms"]),
            "algorithms": " ".join(part["name"] for part in identity["algorithms"]),
            "seed": identity["seed"],
            "epochs": identity["training"]["epochs"],
            "batch_size": identity["training"].get("batch_size"),
            "threads": threads,
            "num_classes": result.get("num_classes") or len(result.get("transitions") or ()) or None,
            "test_samples": result.get("test_samples"),
            "status": status,
            "attempt": final.name if final is not None else None,
            "attempts": len(past),
            "label_digest": result.get("label_digest"),
            "corrupted": result.get("corrupted"),
            "selected_epoch": result.get("selected_epoch"),
            "error_type": error.get("type"),
            "error": error.get("message"),
            "traceback": error.get("traceback"),
            "identity": json.dumps(identity),
            "options": json.dumps(words.get("options", {})),
            "histograms": json.dumps(result.get("histograms", {})),
            "transitions": json.dumps(result["transitions"]) if result.get("transitions") else None,
        }
    )
    if final is None:
        return
    added = _added_quantities(folder, final, result)
    rows["quantities"] += [{"trial": trial, "name": name, "facts": json.dumps(added[name])} for name in sorted(added)]
    timings = {line["epoch"]: line for line in read_lines(f"{final}/timing.jsonl")}
    for line in read_lines(f"{final}/epochs.jsonl"):
        epoch = line["epoch"]
        for name, value in line.get("diagnostics", {}).items():
            rows["diagnostics"].append({"trial": trial, "epoch": epoch, "name": name, "value": value})
        for name in [name for name in line if name.partition("@")[0] in added or name.startswith("detection_auroc@")]:
            rows["diagnostics"].append({"trial": trial, "epoch": epoch, "name": name, "value": line[name]})
        line["trial"] = trial
        line.update(timings.get(epoch, ()))
        rows["epochs"].append(line)  # keys without a column are left out on insertion
    measured = {(m, at): value for m, values in result.get("metrics", {}).items() for at, value in values.items()}
    if status == "diverged":
        measured.update(_at_chance(result, added))
    if timings and result.get("status") in FINISHED:
        measured["seconds_per_epoch", "last"] = math.fsum(float(t["train_seconds"]) for t in timings.values()) / len(
            timings
        )
        measured["peak_memory", "last"] = max(float(t["peak_memory"]) for t in timings.values())
    later = read_evaluations(folder, final)
    measured.update({(m, at): value for m, values in later.items() for at, value in values.items()})
    for (metric, at), value in measured.items():
        rows["metrics"].append({"trial": trial, "metric": metric, "at": at, "value": _number(value)})


def _added_quantities(folder: Path, attempt: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """What plugins have said of the quantities that they added to a trial, by name."""
    later = evaluated_quantities(folder, attempt)
    return {**result.get("quantities", {}), **later}


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


def _read_attempt(trial: str, attempt: Path, final: bool, rows: Rows) -> Mapping[str, Any]:
    """Append the rows of one attempt, and return what its ``result.json`` holds."""
    environment = read_json(f"{attempt}/environment.json") or {}
    result = read_json(f"{attempt}/result.json")
    result = result if isinstance(result, Mapping) else {}
    claim = read_json(f"{attempt}/claim.json") or {}
    status = result.get("status") or (
        "interrupted" if environment.get("interrupted") else "running" if is_alive(attempt) else "lost"
    )
    rows["attempts"].append(
        {
            "trial": trial,
            "attempt": attempt.name,
            "number": int(attempt.name.removeprefix("attempt-")),
            "status": status,
            "host": environment.get("host") or claim.get("host"),
            "job": environment.get("job") or claim.get("job"),
            "harness": environment.get("versions", {}).get("noisy-label-harness"),
            "final": final,
            "resumes": environment.get("resumes", 0),
            **{
                key: environment.get(key)
                for key in ("device", "device_name", "executor", "started", "finished", "seconds", "commit")
            },
        }
    )
    rows["environments"].append({"trial": trial, "attempt": attempt.name, "environment": json.dumps(environment)})
    return result


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def read_manifests(results: Path) -> tuple[dict[Path, Mapping[str, Any]], dict[str, Path]]:
    """All suite manifests by file, and the file of each suite's newest plan by the suite's own name: names that differ
    in signs alone share a folder."""
    files = sorted((results / "suites").glob("*/*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    read = {path: read_json(path) for path in files}
    found = {
        path: content
        for path, content in read.items()
        if isinstance(content, Mapping) and isinstance(content.get("suite"), str)
    }
    return found, {content["suite"]: path for path, content in found.items()}


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


def _printed() -> Rows:
    """The papers' printed numbers and claims. Papers build on results, so they are looked up only where a store is made."""
    papers = importlib.import_module("harness.papers.printed")
    printed = {"published": papers.load_published(), "claims": papers.load_claims()}
    return {
        name: [{column: getattr(one, column) for column in TABLES[name]} for one in printed[name]] for name in printed
    }


def _point_to(folder: Path, snapshot: Path) -> None:
    """Swap the link ``current`` in one step."""
    temporary = folder / f".current-{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(snapshot.name)
    os.replace(temporary, folder / "current")


def _tidy(folder: Path, keep: Path) -> None:
    """Remove old snapshots but the newest few; a reader that has one open keeps it."""
    snapshots = sorted(folder.glob("*.duckdb"), key=lambda path: path.stat().st_mtime_ns)
    snapshots = [path for path in snapshots if path != keep and not path.name.startswith(".")]
    for path in snapshots[: -(KEPT_SNAPSHOTS - 1)]:
        path.unlink(missing_ok=True)
