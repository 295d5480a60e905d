"""A guard around a trial: what belongs to the process and not to the trial is saved, put back, and told with its author.

Torch's defaults and modes that other components compute under (type of numbers, gradient, device, autocast) are put back
right after the hook that has left them otherwise, so that the next hook does not stumble; everything else after the
trial. What cannot be put back, such as a thread that goes on, is in :attr:`Guard.beyond_repair`: a worker then ends and
another one goes on; in a user's own process the run stops, and nothing is killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import faults
from harness.errors import said
from harness.running import Marker, Place, ignore, nothing
from harness.training.data import LOADERS
from harness.training.process import everything, reading, same

log = logging.getLogger("harness.guard")
ENDING_S = 1.0
"""How long a thread that a trial has started may take to end after it."""


class Guard:
    """Saves on entry, restores on exit. One guard serves one trial.

    Args:
        streams: whether the file descriptors of the standard streams are looked at; a worker puts them back by itself.
        worker: whether the process is a worker, which may be ended: any thread that is left behind then counts.

    Attributes:
        beyond_repair: what could not be put back, in words with its author.
        left: all that was changed, with the component and hook where they are known, for the environment record.
    """

    def __init__(self, *, streams: bool = True, worker: bool = False) -> None:
        self.beyond_repair: list[str] = []
        self.left: list[dict[str, str]] = []
        self._worker = worker
        self._marker: Marker | None = None
        self._kept = everything()
        self._at_once = [number for number, kept in enumerate(self._kept) if kept.at_once]
        self._later = [number for number, kept in enumerate(self._kept) if not kept.at_once]
        self._streams = _Streams() if streams else None
        self._saved: list[Any] = []
        self._known: list[Any] = []
        self._normal: list[Any] = []
        self._places: dict[str, Place | None] = {}
        self._threads: set[threading.Thread] = set()
        self._mine: frozenset[int] = frozenset()
        self._children: dict[int, Place | None] = {}

    def enter(self, marker: Marker) -> None:
        """Save everything; from now on the marker's places are looked at as they are left."""
        self._marker = marker
        self._places = {}
        self._saved = [kept.read() for kept in self._kept]
        self._known, self._normal = list(self._saved), list(self._saved)
        self._threads = set(threading.enumerate())
        self._children = dict.fromkeys(_children())
        self._mine = frozenset(self._children)
        if self._streams is not None:
            self._streams.save()
        marker.look, marker.moment = self.look, self.moment

    def moment(self) -> list[Any]:
        """What others compute under, as it is now: a hook may be called under ``no_grad`` and has to leave that."""
        return [reading(self._kept[number]) for number in self._at_once]

    def look(self, place: Place | None, entry: list[Any] | None = None) -> None:
        """Find what has changed since the last look, and remember whose it is.

        Args:
            place: what was called since.
            entry: :meth:`moment` when it was called; by default when the trial began.
        """
        if entry is None:
            entry = [self._saved[number] for number in self._at_once]
        for number, before in zip(self._at_once, entry, strict=True):
            kept = self._kept[number]
            if not same(reading(kept), before):
                self._places.setdefault(kept.name, place)
                self._restore(number, before)
        for number in self._later:
            kept, now = self._kept[number], reading(self._kept[number])
            if same(now, self._known[number]):
                continue
            self._known[number] = now
            if kept.told and not same(now, self._normal[number]):
                self._places.setdefault(kept.name, place)
        for name in self._new_threads():
            self._places.setdefault(name, place)
        for child in _children():
            self._children.setdefault(child, place)
        if self._streams is not None:
            for name in self._streams.changed():
                self._places.setdefault(name, place)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """What the harness itself changes in this context is nobody's doing."""
        self.look(None)
        yield
        self._known = [reading(kept) for kept in self._kept]
        self._normal = list(self._known)

    def suspect(self) -> Place | None:
        """Who has changed what others compute under, if anybody: what fails without an author may be its doing."""
        self.look(None)
        at_once = {kept.name for kept in self._kept if kept.at_once}
        return next((place for name, place in self._places.items() if name in at_once and place is not None), None)

    def leave(self) -> None:
        """Put everything back, tell what was changed, and note what could not be put back."""
        self.look(None)
        if self._marker is not None:
            self._marker.look, self._marker.moment = ignore, nothing
        pairs = zip(self._kept, self._saved, strict=True)
        broken = [s.name for number, (s, saved) in enumerate(pairs) if not self._restore(number, saved)]
        if self._streams is not None:
            broken += self._streams.restore()
        ended = time.monotonic() + ENDING_S
        for thread in self._started():
            thread.join(max(0.0, ended - time.monotonic()))
        broken += [_thread_name(t) for t in self._started() if self._worker or not t.daemon]
        for name in broken:
            self._places.setdefault(name, None)
        for child in sorted(_children() - self._mine):
            self._end_child(child)
        for name, place in self._places.items():
            self._tell(name, place, beyond=name in broken)

    # --- restoring -----------------------------------------------------------------------------------------------------

    def _restore(self, number: int, saved: Any) -> bool:
        """Put one thing back and see that it is."""
        kept = self._kept[number]
        if same(reading(kept), saved):
            return True
        try:
            kept.restore(saved)
        except Exception as error:  # whatever it is, it stays as it is, which is what is told
            log.debug("%s: %s", kept.name, said(error))
        self._known[number] = reading(kept)
        return same(self._known[number], saved)

    def _started(self) -> list[threading.Thread]:
        now = set(threading.enumerate()) - self._threads
        return [t for t in now if t.is_alive() and t is not threading.current_thread() and not _own(t)]

    def _new_threads(self) -> list[str]:
        return [_thread_name(thread) for thread in self._started()]

    def _end_child(self, pid: int) -> None:
        """A process that the trial has left behind: a worker ends it, a user's process only tells."""
        import psutil

        try:
            child = psutil.Process(pid)
            words = " ".join(child.cmdline())
            if child.status() == psutil.STATUS_ZOMBIE or "multiprocessing.resource_tracker" in words:
                return
            if self._worker:
                for one in (*child.children(recursive=True), child):
                    one.kill()
        except psutil.Error:
            return
        self._places.setdefault("a process that goes on", self._children.get(pid))

    def _tell(self, name: str, place: Place | None, *, beyond: bool) -> None:
        who = place.words() if place is not None else "a component of the trial"
        outcome = "cannot be put back" if beyond else "is put back"
        log.warning("%s: changed or left behind by %s; it %s", name, who, outcome)
        self.left.append({"what": name, **(place.record() if place is not None else {})})
        if beyond:
            self.beyond_repair.append(f"{name}, changed or left behind by {who}")
        if place is not None and place.source.file:
            faults.note(Path(place.source.file), place.hook, f"it leaves {name} changed or behind")


def _own(thread: threading.Thread) -> bool:
    """Threads of the harness itself, and those of libraries that idle between uses."""
    idle = type(thread).__name__ in ("TMonitor", "_DummyThread") or hasattr(thread, LOADERS)
    return idle or thread.name == "collector" or thread.name.startswith("heartbeat ")


def _thread_name(thread: threading.Thread) -> str:
    return f"thread {str(thread.name)[:60]!r}"


def _children() -> set[int]:
    """Processes that this one has started, where the system tells without a search."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):
            found |= {int(word) for word in path.read_text().split()}
    return found


class _Streams:
    """File descriptors 0, 1 and 2, kept by copies."""

    def __init__(self) -> None:
        self._copies: dict[int, int] = {}
        self._files: dict[int, tuple[int, int] | None] = {}

    def save(self) -> None:
        for number in (0, 1, 2):
            self._files[number] = _file_of(number)
            if self._files[number] is not None:
                self._copies[number] = os.dup(number)

    def changed(self) -> list[str]:
        names = ("standard input", "standard output", "standard error")
        return [names[number] for number, file in self._files.items() if _file_of(number) != file]

    def restore(self) -> list[str]:
        """Put them back; what could not be is returned in words."""
        for number, copy in self._copies.items():
            with contextlib.suppress(OSError):
                if _file_of(number) != self._files[number]:
                    os.dup2(copy, number)
            with contextlib.suppress(OSError):
                os.close(copy)
        self._copies.clear()
        return self.changed()


def _file_of(number: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino
