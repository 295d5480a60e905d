"""Collecting on a disk that is full: all results are in the new snapshot, or the old one stays and one line says so.

    python tests/torture/disk_full.py --count 60

As root on a file system of its own (tmpfs), in which other files leave just so much room; else under a limit of the size
of files, which fails as a full disk does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from fuzz import outcome, scratch

GOOD = ("all there", "one line, the old store stays")
BAD = ("results are missing", "no old store", "leftovers", "not one line", "not mended")
SIZE = 64 << 20


@contextlib.contextmanager
def small_disk() -> Iterator[tuple[Path, Callable[[int], contextlib.AbstractContextManager[None]]]]:
    """A folder, and what leaves it so many bytes of room for a while."""
    with tempfile.TemporaryDirectory() as place:
        mounted = os.geteuid() == 0 and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", place], capture_output=True, check=False
        ).returncode  # fmt: skip
        try:
            yield Path(place), (lambda room: _ballast(Path(place), room)) if mounted else _limit
        finally:
            if mounted:
                subprocess.run(["umount", place], check=True)


@contextlib.contextmanager
def _ballast(place: Path, room: int) -> Iterator[None]:
    ballast = place / "ballast"
    with open(ballast, "wb") as file:
        free = os.statvfs(place)
        os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - room))
    try:
        yield
    finally:
        ballast.unlink()


@contextlib.contextmanager
def _limit(room: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def trials_in(results: Path) -> int | None:
    """How many finished trials the current snapshot holds, with all of their metrics; ``None`` without a snapshot."""
    import harness
    from harness.errors import HarnessError

    try:
        with harness.open_store(results) as connection:
            found = connection.execute(
                "SELECT count(DISTINCT trial) FROM metrics JOIN trials USING (trial) JOIN epochs USING (trial)"
            ).fetchone()
    except HarnessError:
        return None
    return int(found[0]) if found else 0


def collected_at(
    room: int, full: Path, place: Path, limited: Callable[[int], contextlib.AbstractContextManager[None]]
) -> str:
    """Collect a folder of which the store knows one trial less, with so many bytes of room, and say how it ended."""
    results = place / "results"
    shutil.rmtree(results, ignore_errors=True)
    shutil.copytree(full, results, symlinks=True)
    trial = sorted((results / "trials").iterdir())[0]
    aside = place / trial.name
    trial.rename(aside)
    outcome(["collect", "--results", str(results)])
    old, everything = trials_in(results), len(list((results / "trials").iterdir())) + 1
    aside.rename(trial)
    assert old == everything - 1
    with limited(room):
        ended = outcome(["collect", "--results", str(results)])
        left = list((results / "store").glob(".building*"))
    now = trials_in(results)
    if left:
        return "leftovers"
    if ended.kind == "done" and now != everything:
        return "results are missing"
    if ended.kind not in ("done", "one line"):
        return "not one line"
    if ended.kind == "one line" and now != old:
        return "no old store"
    if outcome(["collect", "--results", str(results)]).kind != "done" or trials_in(results) != everything:
        return "not mended"
    return GOOD[0] if ended.kind == "done" else GOOD[1]


def torture(count: int, full: Path, told: Callable[[int, str], None] = lambda *_: None) -> Counter[str]:
    """Collect with ``count`` amounts of room, from none to twice what a snapshot takes."""
    table: Counter[str] = Counter()
    with scratch(), small_disk() as (place, limited):
        shutil.copytree(full, place / "results")
        outcome(["collect", "--results", str(place / "results")], patience=10.0)
        most = 2 * max(path.stat().st_size for path in (place / "results" / "store").glob("*.duckdb"))
        for number in range(count):
            room = most * number // max(1, count - 1)
            kind = collected_at(max(room, 4096), full, place, limited)
            table[kind] += 1
            told(room, kind)
    return table


def main() -> int:
    from damages import make_healthy

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        healthy = make_healthy(Path(folder))
        shutil.rmtree(healthy.results / "trials" / healthy.open)
        table = torture(arguments.count, healthy.results, lambda room, kind: print(room, kind, flush=True))
    print("\n".join(f"{kind:32}{table[kind]:>6}" for kind in (*GOOD, *BAD)))
    return any(table[kind] for kind in BAD)


if __name__ == "__main__":
    sys.exit(main())
