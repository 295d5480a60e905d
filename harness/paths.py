"""Where data sets and caches lie, by environment variable, and what ``~`` stands for."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def expanded(path: str | Path) -> Path:
    """The path with its ``~``; that of a user whom the system does not know stays as it is written."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def data_folder() -> Path:
    """``$HARNESS_DATA``, else ``./data``: data sets in torchvision's layout."""
    return expanded(os.environ.get("HARNESS_DATA") or "data")


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
