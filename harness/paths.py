"""Where data sets and caches lie, by environment variable, and what ``~`` stands for."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from harness.errors import HarnessError


def expanded(path: str | Path) -> Path:
    """The path with its ``~``; that of a user whom the system does not know stays as it is written.

    Raises:
        HarnessError: for a path with a NUL character, which no system has, or of no UTF-8, which DuckDB cannot open.
    """
    if "\0" in str(path):
        raise HarnessError("holds a NUL character", str(path), "give the path of a file or folder")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise HarnessError("is no UTF-8", str(path), "give the path of a file or folder") from None
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def existing_file(path: str | Path, what: str, remedy: str) -> Path:
    """The file at the end of all links, absolute.

    Args:
        path: as the user wrote it.
        what: how an error calls it, such as ``plugin file``.
        remedy: what to do when it is not there.

    Raises:
        HarnessError: when it is not there, is no regular file, or cannot be looked at: a loop of links, a name too long.
    """
    try:
        found = expanded(path).resolve(strict=True)
        regular = found.is_file()
    except FileNotFoundError:
        raise HarnessError(f"no such {what}", str(path), remedy) from None
    except RuntimeError:  # how Python calls a loop, up to 3.12
        raise HarnessError("cannot be read (it is a loop of links)", str(path), remedy) from None
    except OSError as error:
        raise HarnessError(f"cannot be read ({error.strerror})", str(path), remedy) from None
    if not regular:
        raise HarnessError(f"is no {what}", str(path), remedy)
    return found


def data_folder() -> Path:
    """``$HARNESS_DATA``, else ``./data``: data sets in torchvision's layout."""
    return expanded(os.environ.get("HARNESS_DATA") or "data")


def own_path(name: str) -> Path | None:
    """A file or folder of the user's that a data set names: absolute, else under the data folder, else under the working
    directory; ``None`` when there is none."""
    path = expanded(name)
    places = (path,) if path.is_absolute() else (data_folder() / path, path)
    return next((place.absolute() for place in places if place.exists()), None)


def cache_folder() -> Path:
    """``$HARNESS_CACHE``, else ``$XDG_CACHE_HOME/noisy-label-harness``, else ``~/.cache/noisy-label-harness``."""
    if folder := os.environ.get("HARNESS_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "noisy-label-harness"


class CacheFile:
    """A JSON object in the cache folder, entry by entry. Losing it, or not being able to write it, only costs time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._entries: dict[str, Any] | None = None
        self._new: dict[str, Any] = {}

    @property
    def path(self) -> Path:
        return cache_folder() / f"{self._name}.json"

    def get(self, key: str) -> Any:
        """The entry, or ``None``."""
        if self._entries is None:
            self._entries = self._read()
        return self._new.get(key, self._entries.get(key))

    def put(self, key: str, entry: Any) -> None:
        """Remember an entry; :meth:`save` writes it."""
        self._new[key] = entry

    def save(self) -> None:
        """Add what is new to the file as it is now: other processes may have added to it since it was read."""
        if not self._new:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            merged = {**self._read(), **self._new}
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, delete=False, suffix=".tmp") as file:
                json.dump(merged, file)
            os.replace(file.name, self.path)
        except OSError:
            return
        self._entries, self._new = merged, {}

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
