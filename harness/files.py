"""Files that several processes read and write: whole ones appear by rename, lines by appending; a torn last line is ignored."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any, *, indent: int | None = 1, durable: bool = False) -> None:
    """Write a JSON file in one step: a reader sees the old content or the new, never a part.

    Without ``indent`` it is written five times as fast, which tells where there are many or long ones. A ``durable`` file
    is on the disk before its name is: a power cut leaves the whole of it or nothing.
    """
    write_bytes(path, json.dumps(value, indent=indent, allow_nan=False).encode() + b"\n", durable=durable)


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file in one step, through a temporary name in the same folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)


def read_json(path: str | Path) -> Any:
    """A JSON file, or ``None`` when it is absent or unreadable."""
    try:
        with open(path, "rb") as file:
            return json.loads(file.read())
    except (OSError, ValueError):
        return None


def append_line(path: Path, value: Any) -> None:
    """Append one JSON line with a single write."""
    with open(path, "ab", buffering=0) as file:
        file.write(json.dumps(value, allow_nan=False).encode() + b"\n")


def read_lines(path: str | Path) -> list[Any]:
    """The complete JSON lines of a file; a torn last one is ignored."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except OSError:
        return []
    complete = raw.split(b"\n")[:-1]
    try:
        whole = json.loads(b"[" + b",".join(complete) + b"]")  # one call reads them all; a damaged line needs a look
        if len(whole) == len(complete):
            return list(whole)
    except ValueError:
        whole = None
    lines = []
    for line in complete:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
