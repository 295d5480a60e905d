"""What a data set of the user's own consists of: a digest of its files, kept by their sizes and times of change.

A trial's id holds it, so that data in which a label or a file has changed are other data. Reading every file again
(``exact``) finds also what has changed without changing its size or time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from harness.paths import CacheFile

ABSENT = "absent"
"""Stands for the content of data that cannot be read where a plan is made; nothing is run on them."""


def content_of(root: Path, names: Iterable[str], *, exact: bool = False) -> str:
    """The digest of files by name and content.

    Args:
        root: the folder that names are relative to. It is not in the digest: a folder may be moved.
        names: of the files; their order does not matter.
        exact: read every file, whatever is kept of it.

    Returns:
        16 hex digits.

    Raises:
        FileNotFoundError: for a name without a file, which is its ``filename``.
        OSError: for a file that cannot be read, likewise.
    """
    ordered = sorted(set(names))
    states = [_state(root, name) for name in ordered]
    lines = "\n".join(f"{name}\0{size}\0{time}" for name, (size, time) in zip(ordered, states, strict=True))
    place = str(root.absolute())
    key = hashlib.sha256(f"{place}\n{lines}".encode(errors="surrogatepass")).hexdigest()[:32]
    whole = CacheFile("contents-1")
    if not exact and isinstance(kept := whole.get(key), str):
        return kept
    files = CacheFile(f"files-{hashlib.sha256(place.encode(errors='surrogatepass')).hexdigest()[:16]}")
    content = hashlib.sha256()
    for name, (size, time) in zip(ordered, states, strict=True):
        entry = files.get(name)
        if exact or not isinstance(entry, list) or entry[:2] != [size, time]:
            entry = [size, time, _digest(root, name)]
            files.put(name, entry)
        content.update(f"{name}\0{entry[2]}\n".encode(errors="surrogatepass"))
    whole.put(key, found := content.hexdigest()[:16])
    files.save()
    whole.save()
    return found


def _state(root: Path, name: str) -> tuple[int, int]:
    try:
        found = (root / name).stat()
    except OSError as error:
        raise type(error)(error.errno, error.strerror, name) from None
    return found.st_size, found.st_mtime_ns


def _digest(root: Path, name: str) -> str:
    try:
        with (root / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise type(error)(error.errno, error.strerror, name) from None
