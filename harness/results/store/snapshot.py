"""One snapshot: whether it is as it was written, and a connection to it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ResultsError
from harness.results.store.schema import STORE_SCHEMA

if TYPE_CHECKING:
    import duckdb

SNAPSHOT = re.compile(r"[0-9a-f]{16}(?P<digest>[0-9a-f]{16})\.duckdb")
"""What it was built from, and a digest of its bytes."""


def is_whole(snapshot: Path) -> bool:
    """Whether a snapshot is as it was written: its name ends with a digest of its bytes."""
    try:
        facts = os.stat(snapshot)
    except OSError:
        return False
    if not stat.S_ISREG(facts.st_mode):
        return False
    named = SNAPSHOT.fullmatch(snapshot.name)
    times = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return named is None or _file_digest(str(snapshot), times) == named["digest"]


def is_of_another_version(snapshot: Path) -> bool:
    """Whether a snapshot that is not what its name says can be read, and is of another version of the harness."""
    import duckdb

    if not snapshot.is_file():
        return False
    try:
        with duckdb.connect(str(snapshot), read_only=True) as connection:
            found = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    except duckdb.Error:
        return False
    return found != (str(STORE_SCHEMA),)


@functools.lru_cache(maxsize=64)
def _file_digest(path: str, times: tuple[int, ...]) -> str:
    """The digest in a snapshot's name; a file is read again when its times have changed."""
    del times
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError:
        return ""


def connect(snapshot: Path) -> duckdb.DuckDBPyConnection:
    """A read-only connection to a snapshot.

    Raises:
        ResultsError: it is damaged, or another version of the harness has built it.
    """
    import duckdb

    try:
        if not is_whole(snapshot) and not is_of_another_version(snapshot):
            raise duckdb.IOException("its content is not what its name says")
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


def odd_trials(snapshot: Path) -> tuple[dict[str, str], int]:
    """Why trials are in quarantine, by trial; and how many results hold no digests."""
    with connect(snapshot) as connection:
        rows = connection.execute("SELECT trial, reason FROM quarantine ORDER BY trial").fetchall()
        unsealed = connection.execute("SELECT count(*) FROM trials WHERE sealed = false").fetchone()
    return dict(rows), int(unsealed[0]) if unsealed is not None else 0
