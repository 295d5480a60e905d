"""The plans of suites that a results folder keeps: one manifest for each, of which the newest counts."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.files import Damage, read_bytes
from harness.results.records.shapes import checked
from harness.trial import canonical

log = logging.getLogger(__name__)
MANIFEST = re.compile(r"[0-9a-f]{16}\.json")


def read_manifests(results: Path, suite: str | None = None) -> tuple[dict[Path, Mapping[str, Any]], dict[str, Path]]:
    """All suite manifests by file, and the file of each suite's newest plan by the suite's own name: names that differ
    in signs alone share a folder. One that is damaged is left out with a warning; the suite's next run writes it anew.
    With ``suite`` those that do not have its name anywhere are passed over, which spares their reading."""
    named = b"" if suite is None else canonical(suite).encode()
    found: dict[Path, Mapping[str, Any]] = {}
    stamps: dict[Path, int] = {}
    for path in manifest_files(results / "suites"):
        try:
            raw = read_bytes(path)
            if raw is not None and named in raw:
                stamps[path] = path.stat().st_mtime_ns
                found[path] = checked("manifest", raw, path.name)
        except (Damage, OSError) as error:
            log.warning("%s: is left out (%s); the suite's next run writes it anew", path, error)
    order = sorted(found, key=lambda path: (stamps[path], path.name))
    return {path: found[path] for path in order}, {found[path]["suite"]: path for path in order}


def manifest_files(folder: Path) -> Iterator[Path]:
    """``suites/<suite>/<digest>.json``; other names are not followed."""
    for suite in _folders(folder):
        with contextlib.suppress(OSError):
            yield from (Path(suite, name) for name in os.listdir(suite) if MANIFEST.fullmatch(name))


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name.isprintable()]
    except OSError:
        return []
