"""What plugins did wrong while they ran: noted under the source file at fault, listed by ``harness plugins``.

A fault is kept in the cache folder as long as that file is unchanged; editing it, or removing it, makes it forgotten.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import time
import traceback
from collections.abc import Collection, Iterable
from pathlib import Path

from harness.hookspecs import HOST_HOOKS, TRAINING_HOOKS
from harness.paths import cache_folder

HOOKS = frozenset({*HOST_HOOKS, *TRAINING_HOOKS, "__call__", "__init__", "state_dict", "load_state_dict"})


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that went wrong in a plugin: where (a hook or function) and what was said."""

    file: Path
    where: str
    error: str
    when: float

    @property
    def words(self) -> str:
        """``ValueError in after_losses: ...``, with the date."""
        return f"{self.where}: {self.error} (seen {time.strftime('%Y-%m-%d %H:%M', time.localtime(self.when))})"


def note(file: Path, where: str, error: str) -> None:
    """Remember a fault of the code in ``file``; a cache that cannot be written forgets it."""
    entry = {"file": str(file), "digest": _digest(file), "where": where, "error": error[:500], "when": time.time()}
    folder = cache_folder() / "faults"
    path = folder / f"{hashlib.sha256(f'{file}:{where}'.encode()).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{time.time_ns()}.tmp")
        temporary.write_text(json.dumps(entry))
        temporary.replace(path)


def noted() -> list[Fault]:
    """The remembered faults of files that have not changed since; others are forgotten."""
    found: list[Fault] = []
    for path in sorted((cache_folder() / "faults").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            entry = json.loads(path.read_text())
            file = Path(entry["file"])
            if _digest(file) != entry["digest"]:
                path.unlink(missing_ok=True)
                continue
            found.append(Fault(file, entry["where"], entry["error"], float(entry["when"])))
    return found


def blame(error: BaseException, files: Collection[Path]) -> tuple[Path, str] | None:
    """Which of ``files`` an exception came from, and in which hook or function: the innermost such frame decides."""
    frames = traceback.extract_tb(error.__traceback__)
    return _innermost(((Path(frame.filename), frame.name) for frame in reversed(frames)), files)


def blame_stack(dump: str, files: Collection[Path] | None = None) -> tuple[Path, str] | None:
    """The same for a stack that ``faulthandler`` printed (innermost frame first); without ``files``, of any file but
    the training loop's and torch's."""
    frames = [
        (Path(file), name) for file, name in re.findall(r'^  File "(.+)", line \d+ in (\S+)$', dump, re.MULTILINE)
    ]
    if files is None:
        files = {
            file for file, _ in frames if "torch" not in file.parts and file.parts[-3:-1] != ("harness", "training")
        }
    return _innermost(frames, files)


def _innermost(frames: Iterable[tuple[Path, str]], files: Collection[Path]) -> tuple[Path, str] | None:
    """The frame of a hook in one of the files, else the first frame in one of them."""
    known = {file.resolve() for file in files}
    mine = [(file, name) for file, name in frames if file.resolve() in known]
    hooks = [(file, name) for file, name in mine if name in HOOKS]
    found = hooks or mine
    return found[0] if found else None


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""
