"""A trial's ``log.txt``: what the harness, plugins (through ``logging``) and warnings say, and in a worker what is printed.

It holds at most :data:`MOST_BYTES`; what is said beyond is left out, and the log says so.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

MOST_BYTES = 10_000_000
LOOK_S = 0.1


def _full() -> str:
    return f"\n... log.txt has reached its limit of {MOST_BYTES:,} bytes; what follows is left out\n"


class _Limited(logging.FileHandler):
    """Writes until the file has reached the limit."""

    def emit(self, record: logging.LogRecord) -> None:
        if self.stream is not None and os.fstat(self.stream.fileno()).st_size < MOST_BYTES:
            super().emit(record)


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """What is said through ``logging`` into a trial's log."""
    handler = _Limited(path, errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    ours = logging.getLogger("harness")
    level = ours.level
    ours.setLevel(min(logging.INFO, level) if level else logging.INFO)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        ours.setLevel(level)
        handler.close()
        with contextlib.suppress(OSError):
            cut(path)


def cut(path: Path) -> None:
    """Cut a log that has outgrown its limit, and say so in it."""
    if path.stat().st_size <= MOST_BYTES + len(_full()):
        return
    os.truncate(path, MOST_BYTES)
    with open(path, "ab") as file:
        file.write(_full().encode())


@contextlib.contextmanager
def printing_to(path: Path) -> Iterator[None]:
    """Standard output and error of the process into a trial's log, also from C code; once it is full, into nothing."""
    saved = [os.dup(1), os.dup(2)]
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_S):
            with contextlib.suppress(OSError):
                if os.fstat(log).st_size > MOST_BYTES:
                    _onto(os.devnull)
                    cut(path)
                    return

    try:
        for stream in (1, 2):
            os.dup2(log, stream)
        watcher = threading.Thread(target=watch, name="log", daemon=True)
        watcher.start()
        yield
    finally:
        over.set()
        watcher.join()
        for printed in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # a plugin may have closed or replaced it
                printed.flush()
        for stream, fd in zip((1, 2), saved, strict=True):
            os.dup2(fd, stream)
            os.close(fd)
        os.close(log)
        with contextlib.suppress(OSError):
            cut(path)


def _onto(path: str) -> None:
    """Standard output and error onto a file."""
    file = os.open(path, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
