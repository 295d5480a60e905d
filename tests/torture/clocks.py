"""Clocks that are wrong: whether the owner of an attempt on another machine is told to be alive.

python tests/torture/clocks.py
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from harness.results.records import claim, is_alive, liveness, read_json, write_json


@dataclasses.dataclass(frozen=True)
class Case:
    """One attempt of another machine, and one reader.

    Attributes:
        name: in words.
        beat: when its heartbeat was, in seconds from now by the file system's clock.
        reader: by how much the reader's own clock is ahead.
        moves: whether its owner is at work.
        writable: whether the reader may write beside it.
        alive: what the reader must find, at first and at a second look half a minute later.
    """

    name: str
    beat: float
    reader: float
    moves: bool
    writable: bool
    alive: tuple[bool, bool]


CASES = (
    Case("the reader is two minutes ahead", -5, 120, True, True, (True, True)),
    Case("the reader is a day ahead", -100, 86_400, True, True, (True, True)),
    Case("the reader is a day behind", -100, -86_400, True, True, (True, True)),
    Case("dead, and the reader is right", -121, 0, False, True, (False, False)),
    Case("dead, and the reader is ten minutes behind", -121, -600, False, True, (False, False)),
    Case("dead since a day, and the reader is two days behind", -86_400, -172_800, False, True, (False, False)),
    Case("dead, with a heartbeat of next week", 950_400, 0, False, True, (True, False)),
    Case("at work, with a heartbeat of next week", 950_400, 0, True, True, (True, True)),
    Case("dead, in a folder that cannot be written", -5, 0, False, False, (True, False)),
    Case("at work, in a folder that cannot be written, the reader a day ahead", -5, 86_400, True, False, (True, True)),
)


def found(case: Case, results: Path, between_s: float = 0.3) -> tuple[bool, bool]:
    """What two looks find; half a minute is ``between_s`` long."""
    attempt = claim(results, "t")
    assert attempt is not None
    path = attempt.path
    write_json(path / "claim.json", {**read_json(path / "claim.json"), "boot": "another machine"})
    clock = time.time
    start = clock() + case.beat
    os.utime(path / "heartbeat", (start, start))
    unwritable = mock.patch.object(liveness, "folder_clock", return_value=None)
    with (
        mock.patch.object(time, "time", lambda: clock() + case.reader),
        mock.patch.object(liveness, "LOOK_AGAIN_S", between_s),
    ):
        if not case.writable:
            unwritable.start()
        try:
            first = is_alive(path)
            time.sleep(1.2 * between_s)
            if case.moves:
                os.utime(path / "heartbeat", (start + 15, start + 15))
            return first, is_alive(path)
        finally:
            if not case.writable:
                unwritable.stop()


def main() -> int:
    wrong = 0
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            result = found(case, Path(folder))
        wrong += result != case.alive
        print(f"{'right' if result == case.alive else 'WRONG':6}{case.name}: {result}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
