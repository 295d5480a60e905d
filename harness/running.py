"""Who is running: the component and hook that a trial is in, written down while it runs.

A trial's process keeps the number of the place that it is in on a page of the attempt's file ``running``, which is
mapped into memory: to write it costs one store, and the system keeps the page when the process is killed. The file's
further lines say what the numbers mean. So an exception, a death and a hang are told with the component at fault, also
where several components share one source file. The process has one marker, that of the trial under way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import mmap
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FILE = "running"
_LINES_AT = mmap.PAGESIZE
_MOST_BYTES = 1 << 20
_ORIGIN = "_harness_origin"


@dataclasses.dataclass(frozen=True)
class Source:
    """A component as errors name it: ``losses.gce``, the distribution or file that it is from, and its source file."""

    component: str
    owner: str = ""
    file: str = ""


@dataclasses.dataclass(frozen=True)
class TrialPart:
    """A component of a trial, for reading a traceback: its source, kind, and the qualified name of its factory."""

    source: Source
    kind: str
    qualname: str


@dataclasses.dataclass(frozen=True)
class Place:
    """A component and the hook or function of it that is called."""

    source: Source
    hook: str

    def words(self) -> str:
        """``after_step of algorithms.mine``."""
        return f"{self.hook} of {self.source.component}"

    def record(self) -> dict[str, str]:
        """What a failed trial's error says of it."""
        return {"component": self.source.component, "owner": self.source.owner, "hook": self.hook}


NOBODY = 0


def nothing() -> Any:
    """No moment."""


def ignore(place: Place, entry: Any) -> None:
    """No look."""


class Marker:
    """The places of one trial, and which of them it is in.

    Attributes:
        page: its first number is that of the place, 0 for none: ``page[0] = number`` is all that a hook costs.
        places: places by their number; the first is ``None``.
        watching: whether what a transform's layers give is looked at.
        gave: what such layers gave in a forward pass, and their places.
        broke: the place of the first that gave numbers which are not finite.
        layers: the places of such layers, by their ``id``.
        moment: asked as a place is entered, outside of the hot path, for what others compute under.
        look: told of a place that was just left, and of that: what has it changed?
    """

    def __init__(self, path: Path | None = None) -> None:
        self.places: list[Place | None] = [None]
        self._numbers: dict[Place, int] = {}
        self._path = path
        self._file: int | None = None
        self._end = _LINES_AT
        self._memory: mmap.mmap | bytearray = bytearray(8)
        if path is not None:
            self._open(path)
        self.page = memoryview(self._memory).cast("H")
        self.watching = False
        self.gave: list[tuple[Any, int]] = []
        self.broke = NOBODY
        self.layers: dict[int, int] = {}
        self.moment: Callable[[], Any] = nothing
        self.look: Callable[[Place, Any], None] = ignore
        self._trial = object()

    def _open(self, path: Path) -> None:
        """Map the file; where that cannot be, the places are known in this process only."""
        with contextlib.suppress(OSError):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            os.write(self._file, bytes(_LINES_AT))  # a page that is not on the disk would end the process on a full one
            self._memory = mmap.mmap(self._file, _LINES_AT)

    def number(self, source: Source, hook: str) -> int:
        """The number of a place, a new one where it is not known yet."""
        place = Place(source, hook)
        if place not in self._numbers:
            if len(self.places) > 0xFFFF:
                return NOBODY
            self._numbers[place] = len(self.places)
            self.places.append(place)
            self._write(place)
        return self._numbers[place]

    def _write(self, place: Place) -> None:
        if isinstance(self._memory, mmap.mmap) and self._file is not None:
            line = json.dumps([*dataclasses.astuple(place.source), place.hook]).encode() + b"\n"
            with contextlib.suppress(OSError):
                self._end += os.pwrite(self._file, line, self._end)

    @property
    def place(self) -> Place | None:
        """Where the process is now."""
        return self.places[self.page[0]]

    def note(self, error: BaseException, number: int) -> None:
        """Remember where an exception came from: the innermost place says so first.

        The exception carries it. Were it kept here, a run would lead through its frames to the clean labels.
        """
        place = self.places[number]
        if place is not None and self.origin(error) is None:
            object.__setattr__(error, _ORIGIN, (self._trial, place))  # past methods of the plugin's own

    def origin(self, error: BaseException) -> Place | None:
        """The place that an exception came from."""
        try:
            trial, place = object.__getattribute__(error, _ORIGIN)
        except AttributeError:
            return None
        return place if trial is self._trial else None

    def at(self, source: Source, hook: str) -> At:
        """A context in which the process is in a place."""
        return At(self, self.number(source, hook))

    def close(self) -> None:
        """The trial is over: nobody runs, and the file goes."""
        self.page[0] = NOBODY  # the page stays mapped as long as a hook holds it
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


class At:
    """``with marker.at(source, hook)``: an exception that leaves it is remembered with its place."""

    def __init__(self, marker: Marker, number: int) -> None:
        self._marker, self._number, self._before, self._entry = marker, number, NOBODY, None

    def __enter__(self) -> None:
        self._before, self._entry = self._marker.page[0], self._marker.moment()
        self._marker.page[0] = self._number

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._marker.note(error, self._number)
        self._marker.page[0] = self._before
        place = self._marker.places[self._number]
        if place is not None:
            self._marker.look(place, self._entry)


_current = Marker()


def current() -> Marker:
    """The marker of the trial under way; one that nobody reads when there is none."""
    return _current


@contextlib.contextmanager
def following(path: Path | None) -> Iterator[Marker]:
    """A marker for a trial, written to ``path``."""
    global _current
    before, made = _current, Marker(path)
    _current = made
    try:
        yield made
    finally:
        _current = before
        made.close()


_methods_at_work = 0


@contextlib.contextmanager
def method_working() -> Iterator[None]:
    """From the making of a method's parts to the end of its trial: no data set and no noise is made in between."""
    global _methods_at_work
    _methods_at_work += 1
    try:
        yield
    finally:
        _methods_at_work -= 1


def method_at_work() -> bool:
    """Whether a method is being made, trained or measured in this process."""
    return _methods_at_work > 0


def last_place(path: Path) -> Place | None:
    """Where the process was that wrote ``path``: asked by its parent, of one that died or hangs."""
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES)
    except OSError:
        return None
    number = int.from_bytes(content[:2], sys.byteorder)
    lines = content[_LINES_AT:].split(b"\n")
    if not 0 < number < len(lines):
        return None
    try:
        component, owner, source, hook = json.loads(lines[number - 1])
    except (ValueError, TypeError):
        return None
    if not all(isinstance(word, str) for word in (component, owner, source, hook)):
        return None
    return Place(Source(component, owner, source), hook)
