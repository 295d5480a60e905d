"""Whether the owner of an attempt is still at work: by its process on the same machine, by its heartbeat elsewhere."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.files import read_json
from harness.paths import CacheFile

HEARTBEAT_S = 15.0
DEAD_AFTER_S = 120.0
LOOK_AGAIN_S = 30.0
"""Between two looks at a heartbeat that no clock dates; two beats fit in."""
MOST_AHEAD_S = 2.0
"""By how much a heartbeat may lie ahead of a file written after it: file systems date to the second."""


@functools.cache
def boot_id() -> str:
    """Identifies this boot and process namespace, so that a pid means the same process."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return ""


def process_start(pid: int) -> float | None:
    """When a live process started, in seconds since boot or the epoch; ``None`` when there is none (or a zombie)."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def is_alive(attempt: Path) -> bool:
    """Whether the owner of an unfinished attempt may still be at work: its process lives (same machine), else its
    heartbeat is young.

    A heartbeat's age is told by the clock of the file system that it lies on. Where that cannot be asked, or the heartbeat
    lies in its future, two looks decide: one that has not moved for :data:`LOOK_AGAIN_S` belongs to nobody.
    """
    if os.path.lexists(attempt / "released"):
        return False
    claim = read_json(attempt / "claim.json")
    if isinstance(claim, Mapping) and claim.get("boot") == boot_id() and boot_id():
        return _lives(claim.get("pid"), claim.get("started"))
    try:
        beat = os.stat(attempt / "heartbeat", follow_symlinks=False)
    except OSError:
        return False
    now = folder_clock(attempt)
    if now is not None and beat.st_mtime <= now + MOST_AHEAD_S:
        return now - beat.st_mtime < DEAD_AFTER_S
    return _has_moved(attempt, beat.st_mtime_ns)


def _lives(pid: Any, started: Any) -> bool:
    if not isinstance(pid, int) or not 0 < pid < 2**31:
        return False
    found = process_start(pid)
    return found is not None and (not isinstance(started, (int, float)) or abs(found - started) < 1.0)


def folder_clock(folder: Path) -> float | None:
    """What time it is by the clock that dates a folder's files, in seconds since the epoch; ``None`` when it cannot be
    written."""
    path = folder / f".clock-{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    try:
        return os.fstat(handle).st_mtime
    finally:
        os.close(handle)
        path.unlink(missing_ok=True)


@functools.cache
def _looks() -> CacheFile:
    return CacheFile("heartbeats")


def _has_moved(attempt: Path, beat: int) -> bool:
    """Whether a heartbeat may have moved since an earlier look, of this process or another of this user's."""
    seen, now = _looks().get(str(attempt)), time.time()
    if isinstance(seen, list) and len(seen) == 2 and seen[0] == beat and now - float(seen[1]) >= 0:
        return bool(now - float(seen[1]) < LOOK_AGAIN_S)
    _looks().put(str(attempt), [beat, now])
    _looks().save()
    return True
