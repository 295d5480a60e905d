"""Where data sets and caches lie, by environment variable, and what ``~`` stands for."""

from __future__ import annotations

import os
from pathlib import Path


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
