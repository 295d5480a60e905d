"""Files that several processes read and write.

Whole files appear by rename, lines by appending; a torn last line is ignored. What is read may have been damaged, or put
there by a stranger: a record is a regular file, no link, of a limited size, and reading it neither waits nor recurses.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import stat
import threading
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 26
"""Bytes of a record; the longest that a run writes are far below."""
MANY_DIGITS = re.compile(rb"\d[eE]\+?\d{3,}\s*[,}\]]|\d{300}")
"""A number that may be beyond the range of floats."""


class Damage(Exception):
    """Why a record cannot be used, in a few words that begin with its name where that is known."""

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(f"{where}: {what}" if where else what)


def write_json(path: Path, value: Any, *, indent: int | None = 1, durable: bool = False) -> None:
    """Write a JSON file in one step: a reader sees the old content or the new, never a part.

    Without ``indent`` it is written five times as fast, which tells where there are many or long ones. A ``durable`` file
    is on the disk before its name is: a power cut leaves the whole of it or nothing.
    """
    write_bytes(path, encoded(value, indent), durable=durable)


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file in one step, through a temporary name in the same folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):  # a full disk keeps nothing half-written
            temporary.unlink(missing_ok=True)
        raise


def read_bytes(path: str | Path, where: str = "", most: int = MOST_BYTES) -> bytes | None:
    """The content of a regular file, or ``None`` when there is none.

    Args:
        path: the file; a link is not followed, a fifo is not waited for.
        where: how the reason calls it; by default its name.
        most: bytes beyond which it is not read.

    Raises:
        Damage: when it is no regular file, is too long or cannot be read.
    """
    where = where or os.path.basename(path)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        known = {errno.ELOOP: "is a link", errno.ENOTDIR: "lies in a file, not in a folder", errno.ENXIO: "is no file"}
        raise Damage(known.get(error.errno or 0, f"cannot be read ({error.strerror})"), where) from None
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise Damage("is no regular file", where)
        if facts.st_size > most:
            raise Damage(f"is longer than {most} bytes", where)
        raw = os.read(handle, facts.st_size + 1)
        while len(raw) != facts.st_size and len(raw) < most and (more := os.read(handle, 1 << 20)):
            raw += more  # it has grown, or came in parts
        return raw
    except OSError as error:
        raise Damage(f"cannot be read ({error.strerror})", where) from None
    finally:
        os.close(handle)


def parsed(raw: bytes) -> Any:
    """JSON of a limited depth, without ``NaN``, ``Infinity`` and numbers beyond the range of floats.

    Raises:
        ValueError: when it is none.
    """
    from pydantic_core import from_json

    found = from_json(raw, allow_inf_nan=False)
    if MANY_DIGITS.search(raw) is not None:
        check_finite(found)
    return found


def check_finite(value: Any) -> None:
    """Refuse JSON with an infinite number: ``1e400`` reads as one.

    Raises:
        ValueError: when there is one.
    """
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, float) and not math.isfinite(one):
            raise ValueError("holds a number that is not finite")
        waiting.extend(one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())


def read_json(path: str | Path) -> Any:
    """A JSON file, or ``None`` when it is absent or unreadable: for what may be lost without harm."""
    with contextlib.suppress(Damage, ValueError):
        raw = read_bytes(path)
        return parsed(raw) if raw is not None else None
    return None


def encoded(value: Any, indent: int | None = None) -> bytes:
    """JSON with a line end, as it is written."""
    return json.dumps(value, indent=indent, allow_nan=False).encode() + b"\n"


def append_line(path: Path, value: Any) -> None:
    """Append one JSON line with a single write."""
    append_bytes(path, encoded(value))


def append_bytes(path: Path, line: bytes) -> None:
    """Append a line with a single write.

    Raises:
        OSError: also where a full disk took a part of it.
    """
    with open(path, "ab", buffering=0) as file:
        if file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def whole_lines(raw: bytes) -> list[bytes]:
    """The complete lines of a file that grows by appending."""
    return raw.split(b"\n")[:-1]


def read_lines(path: str | Path) -> list[Any]:
    """The complete JSON lines of a file; a torn last one is ignored, and what follows a damaged one."""
    try:
        complete = whole_lines(read_bytes(path) or b"")
    except Damage:
        return []
    with contextlib.suppress(ValueError):  # one call reads them all; a damaged line needs a look
        whole = parsed(b"[" + b",".join(complete) + b"]")
        if len(whole) == len(complete):
            return list(whole)
    lines = []
    for line in complete:
        try:
            lines.append(parsed(line))
        except ValueError:
            break
    return lines
