"""Samples whose labels seem to be wrong: the list that is kept in the results folder, the same as CSV, and the corrections of
a person who has looked at them. It imports no torch, so that a page can read it."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, ResultsError, writing
from harness.files import Damage, read_bytes, write_bytes
from harness.foreign import csv_cell, file_name, uncelled

COLUMNS = ("id", "given", "suggested", "score", "p_wrong", "seeds", "methods")
CORRECTION_COLUMNS = ("id", "given", "label", "mark")
MARKS = ("confirm", "keep", "relabel")
FOLDER = "suspects"
ABOUT = b"harness_suspects"
MOST_BYTES = 1 << 31


@dataclasses.dataclass(frozen=True)
class Suspect:
    """One sample.

    Attributes:
        id: its file, or the number of its row.
        given, suggested: names of classes; the suggested one is the likeliest.
        score: 1 less the probability of the given class, a mean over methods and seeds, in [0, 1].
        p_wrong: calibrated probability that the given label is wrong; ``None`` where too few true labels are known.
        seeds, methods: how many of each expect another class.
    """

    id: str
    given: str
    suggested: str
    score: float
    p_wrong: float | None
    seeds: int
    methods: int


@dataclasses.dataclass(frozen=True)
class Showing:
    """What a person looks at to judge the labels of suspects.

    Attributes:
        folder: where the files lie that their ids name; empty where ids are numbers of rows.
        words: the text or row of each of the first suspects; empty where there is none.
        pictures: the same as JPEG files.
    """

    folder: str = ""
    words: Sequence[str] = ()
    pictures: Sequence[bytes] = ()


@dataclasses.dataclass(frozen=True)
class About:
    """What a list is of.

    Attributes:
        suite: the suite's name.
        file: the suite as commands take it.
        classes: names of all classes.
        folder: as in :class:`Showing`.
        corrected: whether ``harness suspects --apply`` can write the data with other labels.
    """

    suite: str
    file: str
    classes: tuple[str, ...]
    folder: str = ""
    corrected: bool = False


@dataclasses.dataclass(frozen=True)
class KeptList:
    """A list from the disk: ``table`` is an Arrow table of N rows, the most suspicious first, with :data:`COLUMNS`, ``words`` and
    ``picture``, of which the last two and ``p_wrong`` may be null."""

    about: About
    table: Any


def list_file(results: Path, suite: str) -> Path:
    """Where the list of a suite is kept. Names that differ in signs alone have files of their own."""
    return results / FOLDER / f"{file_name(suite)}-{hashlib.sha256(suite.encode()).hexdigest()[:8]}.parquet"


def write_list(results: Path, about: About, suspects: Sequence[Suspect], showing: Showing) -> Path:
    """Keep a list, in place of the suite's former one; :func:`read_list` reads it.

    Raises:
        ResultsError: when it cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema().with_metadata({ABOUT: json.dumps(dataclasses.asdict(about)).encode()})
    columns = [[getattr(one, name) for one in suspects] for name in COLUMNS]
    columns += [[*shown, *[None] * (len(suspects) - len(shown))] for shown in (showing.words, showing.pictures)]
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), sink, compression="zstd")
    path = list_file(results, about.suite)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, sink.getvalue())
    return path


def read_list(path: Path) -> KeptList:
    """The list that :func:`write_list` kept.

    Raises:
        ResultsError: for a file that is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        raw = read_bytes(path, most=MOST_BYTES)
        if raw is None:
            raise ValueError("it is not there")
        table = pq.read_table(pa.BufferReader(raw))
        about = _about(table.schema.metadata)
        table = table.select(_schema().names).cast(_schema())
        if gaps := [name for name in COLUMNS if name != "p_wrong" and table.column(name).null_count]:
            raise ValueError(f"column {gaps[0]!r} has gaps")
    except (Damage, OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        what = f"cannot be read as a list of suspects ({' '.join(str(error).split())[:200]})"
        raise ResultsError(what, str(path), "run `harness suspects` again") from None
    return KeptList(about, table)


def kept_suites(results: Path) -> list[str]:
    """The suites of which a list is kept, by name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = []
    for path in (results / FOLDER).glob("[!.]*.parquet"):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            name = _about(pq.read_schema(path).metadata).suite
        except (OSError, ValueError, TypeError, KeyError, pa.ArrowException):
            continue  # whoever asks for the suite by its name is told that its file is damaged
        if path == list_file(results, name):
            found.append(name)
    return sorted(found)


def _schema() -> Any:
    import pyarrow as pa

    kinds = {"score": pa.float64(), "p_wrong": pa.float64(), "seeds": pa.int64(), "methods": pa.int64()}
    fields = [(name, kinds.get(name, pa.string())) for name in COLUMNS]
    return pa.schema([*fields, ("words", pa.string()), ("picture", pa.binary())])


def _about(metadata: Mapping[bytes, bytes] | None) -> About:
    """What a file says of itself, which a stranger may have written.

    Raises:
        ValueError, KeyError, TypeError: where it is something else.
    """
    if not metadata or ABOUT not in metadata:
        raise ValueError("it does not say of what suite it is")
    said = About(**json.loads(metadata[ABOUT]))
    words = (said.suite, said.file, said.folder, *said.classes)
    if not (all(isinstance(word, str) for word in words) and isinstance(said.corrected, bool)):
        raise ValueError("it says of itself what cannot be")
    return dataclasses.replace(said, classes=tuple(said.classes))


# --- as CSV -----------------------------------------------------------------------------------------------------------


def to_csv(suspects: Iterable[Suspect]) -> str:
    """The list as a CSV file with the columns :data:`COLUMNS`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in suspects:
        chance = "" if one.p_wrong is None else f"{one.p_wrong:.4f}"
        words = (csv_cell(word) for word in (one.id, one.given, one.suggested))
        writer.writerow([*words, f"{one.score:.6f}", chance, one.seeds, one.methods])
    return out.getvalue()


# --- corrections ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Correction:
    """What a person says of a sample: ``mark`` is one of :data:`MARKS`, ``label`` the right class."""

    id: str
    given: str
    label: str
    mark: str


def corrections_csv(corrections: Iterable[Correction]) -> str:
    """A corrections file, which :func:`read_corrections` reads."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CORRECTION_COLUMNS)
    writer.writerows(map(csv_cell, dataclasses.astuple(one)) for one in corrections)
    return out.getvalue()


def read_corrections(path: Path) -> dict[str, tuple[str, str]]:
    """Given and corrected labels by sample, of a file with the columns ``id``, ``given``, ``label`` and ``mark``: ``relabel``
    and ``confirm`` give a sample the label, ``keep`` leaves it as it is. The apostrophe that keeps a spreadsheet from running a
    word as a formula (``'-1``) is no part of the word.

    Raises:
        HarnessError: naming the row that is none.
    """
    where = str(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HarnessError(f"cannot be read: {error}", where, "give a CSV file: id,given,label,mark") from None
    found: dict[str, tuple[str, str]] = {}
    for number, row in enumerate(rows, 2):
        for column in CORRECTION_COLUMNS:
            if row.get(column) is None:
                raise HarnessError(f"has no column {column!r}", where, "write the columns id,given,label,mark")
        if row["mark"] not in MARKS:
            raise HarnessError(f"line {number}: mark {row['mark']!r}", where, "write confirm, keep or relabel")
        if uncelled(row["id"]) in found:
            raise HarnessError(f"line {number}: {row['id']} is there twice", where, "remove one of them")
        if row["mark"] != "keep":
            if not row["label"]:
                raise HarnessError(f"line {number} lacks a label", where, "write the right one, or mark it keep")
            found[uncelled(row["id"])] = (uncelled(row["given"]), uncelled(row["label"]))
    return found
