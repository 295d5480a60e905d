"""Records of many trials as one Parquet file: what a reviewer is sent, and what ``reference/`` keeps.

One row per record file, ``path`` and ``text``, compressed. Nothing is computed on the way, so what comes out of the file
is what the workers wrote: identity, metrics, curves, times, versions and commit. Logs, checkpoints and the name of the
host stay where they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from harness.errors import ResultsError, writing
from harness.files import Damage, read_bytes
from harness.paths import cache_folder
from harness.results.records.folder import open_results
from harness.results.records.manifests import read_manifests
from harness.results.records.merge import merge_results
from harness.results.records.record import read_record
from harness.trial import Trial, digest

_RECORD = re.compile(
    r"trials/(?P<trial>[0-9a-f]{16})/((trial|done|evaluations)\.json"
    r"|attempt-\d{3,6}/((trial|environment|result)\.json|(epochs|timing)\.jsonl))"
    r"|suites/(?P<suite>[^/\\\0]{1,200})/[0-9a-f]{16}\.json"
)
_KEPT = ("trial.json", "environment.json", "epochs.jsonl", "timing.jsonl", "result.json")
_PRIVATE = ("host", "pid", "job")
LEAST_UNPACKED, MOST_PACKED = 1 << 26, 1000
"""Bytes that every file may unpack to, and how many times its size: records are packed to about a twentieth."""
log = logging.getLogger("harness.archive")


def pack(results: Path, file: Path, suites: Iterable[str] = ()) -> int:
    """Write the finished trials of a results folder, done and failed, into one Parquet file.

    Args:
        suites: names of suites whose newest plan is taken; all of them by default. Tuning trials come along.

    Returns:
        The number of trials in the file.

    Raises:
        ResultsError: when a suite is not there, nothing is finished, or the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    manifests = _manifests(results, set(suites))
    wanted = sorted({line["id"] for _, content in manifests for line in content["trials"]})
    rows = [(f"suites/{path.parent.name}/{path.name}", json.dumps(content)) for path, content in manifests]
    packed = 0
    for trial in wanted:
        found = list(_records(results / "trials" / trial))
        packed += bool(found)
        rows += [(f"trials/{trial}/{name}", text) for name, text in found]
    if not packed:
        raise ResultsError("has no finished trial to pack", str(results))
    table = pa.table({"path": [path for path, _ in rows], "text": [text for _, text in rows]})
    with writing(file):
        pq.write_table(table, file, compression="zstd", compression_level=19)
    return packed


def unpack(
    file: Path, results: Path, *, stale: Callable[[Mapping[str, str]], bool] = lambda digests: False
) -> tuple[int, int]:
    """Merge the records of a packed file into a results folder.

    Args:
        stale: as :func:`~harness.results.records.merge.merge_results` takes it.

    Returns:
        Trials taken, and trials left because the folder holds them already.

    Raises:
        ResultsError: when the file is no packed records, or a record is not what its path says.
    """
    target = open_results(results)
    with writing(target, "free some space, or mend its permissions"):
        aside = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=target))
        try:
            (aside / "trials").mkdir()
            for path, text in _checked(file):
                place = aside / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(text.encode())
            return merge_results(aside, target, stale=stale, ids_checked=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def reference_files() -> list[Path]:
    """The packed reference results that come with this distribution, or with a checkout of it."""
    package = Path(str(files("harness")))
    for folder in (package / "reference", package.parent / "reference"):
        if folder.is_dir():
            return sorted(folder.glob("*.parquet"))
    return []


def reference_results() -> Path:
    """The reference results as a results folder in the cache, made when first asked for."""
    packed = reference_files()
    mark = digest([hashlib.sha256(file.read_bytes()).hexdigest() for file in packed])
    folder = cache_folder() / "reference" / mark
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
        try:
            for file in packed:
                unpack(file, aside)
            with contextlib.suppress(OSError):  # another process was first
                os.rename(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def _manifests(results: Path, suites: set[str]) -> list[tuple[Path, Mapping[str, Any]]]:
    """The newest plan of each suite, with its file."""
    found, newest = read_manifests(results)
    if missing := suites - set(newest):
        raise ResultsError(f"has no suite {sorted(missing)[0]!r}", str(results))
    return [(path, found[path]) for path in sorted(newest[name] for name in suites or newest)]


def _records(folder: Path) -> Iterator[tuple[str, str]]:
    """Record files of one trial's final attempt; none when it has not finished, or when its record is damaged."""
    try:
        record = read_record(folder)
    except Damage as damage:
        log.warning("%s: is in quarantine (%s) and is not packed", folder, damage)
        return
    final = record.final
    if final is None or final.result is None:
        return
    names = ["trial.json", *(["done.json"] if record.marker is not None else [])]
    names += ["evaluations.json"] if record.evaluations else []  # of another attempt they would count there
    for name in (*names, *(f"{final.name}/{kept}" for kept in _KEPT)):
        raw = read_bytes(folder / name)
        if raw is None:
            continue
        text = raw.decode()
        if name.endswith("/environment.json"):
            text = json.dumps({key: value for key, value in json.loads(text).items() if key not in _PRIVATE})
        yield name, text


def _checked(file: Path) -> Iterator[tuple[str, str]]:
    """The rows of a packed file, each with a path that records have and an identity that its id is the hash of."""
    for path, text in _rows(file):
        match = _RECORD.fullmatch(path) if isinstance(path, str) else None
        if match is None or match["suite"] in (".", "..") or not isinstance(text, str):
            raise ResultsError(f"holds a row that is no record ({str(path)[:80]!r})", str(file))
        if path.endswith("/trial.json") and not _is_own(text, match["trial"]):
            raise ResultsError(f"its trial {match['trial']} is not what its id says", str(file), "ask for a fresh copy")
        yield path, text


def _rows(file: Path) -> Iterator[tuple[Any, Any]]:
    """Paths and texts, a few at a time. A file of repeated text can hold what no disk does: one that unpacks to more
    than records ever do is refused."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    most = max(LEAST_UNPACKED, MOST_PACKED * os.stat(file).st_size) if os.path.exists(file) else 0
    try:
        with pq.ParquetFile(file, read_dictionary=["path", "text"]) as packed:
            groups = [packed.metadata.row_group(number) for number in range(packed.num_row_groups)]
            declared = max(sum(group.total_byte_size for group in groups), packed.metadata.num_rows)
            unpacked = 0 if declared <= most else declared
            for batch in packed.iter_batches(batch_size=256, columns=["path", "text"]) if unpacked <= most else ():
                for path, text in zip(batch["path"], batch["text"], strict=True):
                    row = (path.as_py(), text.as_py())
                    unpacked += len(row[1] or "")
                    if unpacked > most:
                        break
                    yield row
                if unpacked > most:
                    break
    except FileNotFoundError:
        raise ResultsError("no such file", str(file)) from None
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        why = str(error).splitlines()[0]
        raise ResultsError(
            f"holds no packed records ({why})", str(file), "`harness export --format records` makes such a file"
        ) from None
    if unpacked > most:
        raise ResultsError(
            f"unpacks to more than {most >> 20} MiB, which no packed records do", str(file), "ask for a fresh copy"
        )


def _is_own(text: str, trial_id: str) -> bool:
    try:
        return Trial.from_json(json.loads(text)).id == trial_id
    except (ValueError, KeyError, TypeError):
        return False
