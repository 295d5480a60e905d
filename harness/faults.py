"""What plugins did wrong while they ran: noted under the source file at fault, listed by ``harness plugins``.

A fault is kept in the cache folder as long as that file is unchanged; editing it, or removing it, makes it forgotten.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
import types
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from harness.hookspecs import HOST_HOOKS, TRAINING_HOOKS
from harness.paths import cache_folder
from harness.running import Place, TrialPart

HOOKS = frozenset({*HOST_HOOKS, *TRAINING_HOOKS, "__call__", "__init__", "forward", "state_dict", "load_state_dict"})


@dataclasses.dataclass(frozen=True)
class NotedError:
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


def noted() -> list[NotedError]:
    """The remembered faults of files that have not changed since; others are forgotten."""
    found: list[NotedError] = []
    for path in sorted((cache_folder() / "faults").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            entry = json.loads(path.read_text())
            file = Path(entry["file"])
            if _digest(file) != entry["digest"]:
                path.unlink(missing_ok=True)
                continue
            found.append(NotedError(file, entry["where"], entry["error"], float(entry["when"])))
    return found


def refine(error: BaseException, origin: Place | None, parts: Collection[TrialPart]) -> Place | None:
    """The place that an exception came from, of what was running and what its traceback says.

    Args:
        error: the exception.
        origin: the innermost place that it left, ``None`` when none was running.
        parts: the components of the trial.

    Returns:
        ``origin``, unless the traceback's innermost component is another that may be called without being marked:
        a model or a data set, a transform's layer in a model, a loss that a method calls by itself. One that a
        method has called counts where the exception was raised in its own file, else the method, which gave it
        what it was called with. ``None`` when nobody is known for sure.
    """
    frames = [(Path(tb.tb_frame.f_code.co_filename), tb.tb_frame.f_code) for tb in _tracebacks(error)]
    for depth, (file, code) in enumerate(reversed(frames)):
        part = _owner(file, code.co_qualname, parts)
        if part is None:
            continue
        if origin is None:
            return Place(part.source, _hook(frames, part, parts))
        if part.source == origin.source or part.kind not in _UNMARKED:
            return origin
        kind = next((other.kind for other in parts if other.source == origin.source), "")
        if depth == 0 or kind in ("model", "dataset"):
            return Place(part.source, _hook(frames, part, parts))
        return origin
    return origin


_UNMARKED = ("model", "transform", "dataset", "loss")


def _tracebacks(error: BaseException) -> Iterator[types.TracebackType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _owner(file: Path, qualname: str, parts: Collection[TrialPart]) -> TrialPart | None:
    """Whose code it is; of several components in one file the one whose factory it belongs to."""
    mine = [part for part in parts if part.source.file and Path(part.source.file) == file]
    if len({part.source for part in mine}) > 1:
        mine = [p for p in mine if qualname == p.qualname or qualname.startswith(f"{p.qualname}.")]
    return mine[0] if len({part.source for part in mine}) == 1 else None


def _hook(frames: Sequence[tuple[Path, types.CodeType]], part: TrialPart, parts: Collection[TrialPart]) -> str:
    """The innermost hook of a component in a traceback, else its innermost function."""
    names = [code.co_name for file, code in reversed(frames) if _owner(file, code.co_qualname, parts) == part]
    return next((name for name in names if name in HOOKS), names[0])


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""
